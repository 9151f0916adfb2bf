# SPDX-License-Identifier: MIT OR Apache-2.0
"""The binding against the header, and how the library is found."""

import ast
import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import mnemo
from mnemo import _abi

PACKAGE = Path(mnemo.__file__).parent
HEADER = (ROOT / "include/mnemo.h").read_text()


def test_layout_of_every_struct():
    lines = []
    for struct in _abi.STRUCTS:
        lines.append(f"{struct.__name__} {ctypes.sizeof(struct)}")
        for name, _ in struct._fields_:
            field = getattr(struct, name)
            lines.append(f"  {name} {field.offset} {field.size}")
    expected = (ROOT / "tests/abi/layout.txt").read_text()
    assert "\n".join(lines) + "\n" == expected, "run `make abi`, then mend mnemo/_abi.py"


def test_every_constant_of_the_header():
    constants = re.findall(r"^#define (MNEMO_\w+) (\d+)$", HEADER, re.M)
    assert len(constants) > 50
    assert {name: getattr(_abi, name, None) for name, _ in constants} == {n: int(v) for n, v in constants}


def test_every_function_of_the_header():
    symbols = (ROOT / "tests/abi/symbols.txt").read_text().split()
    assert sorted(_abi.PROTOTYPES) == sorted(symbols)
    for name, (_, arguments) in _abi.PROTOTYPES.items():
        declared = re.search(rf"\b{name}\(([^;]*?)\);", HEADER).group(1)
        count = 0 if declared == "void" else declared.count(",") + 1
        assert len(arguments) == count, name


def test_versions():
    cargo = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    assert mnemo.__version__ == mnemo.library_version() == cargo
    assert mnemo.abi_version() == (_abi.MNEMO_ABI_MAJOR, _abi.MNEMO_ABI_MINOR)


def test_the_sources_are_python_3_9():
    for file in sorted(PACKAGE.glob("_*.py")):
        ast.parse(file.read_text(), feature_version=(3, 9))


def test_every_public_name_has_a_docstring():
    for name in mnemo.__all__:
        thing = getattr(mnemo, name)
        if name == "lib":
            continue
        assert thing.__doc__, name
        for member, value in vars(thing).items() if isinstance(thing, type) else ():
            if not member.startswith("_") and callable(getattr(value, "__func__", value)):
                assert (getattr(value, "__func__", value)).__doc__, f"{name}.{member}"


# ----- Finding the library --------------------------------------------------------------------------------------------

LOADED = "import mnemo; print(mnemo.lib._name)"
REFUSED = """
try:
    import mnemo
except ImportError as error:
    print(error)
"""


def test_the_variable_comes_first(python):
    assert python(LOADED).strip() == os.environ["MNEMO_LIBRARY"]
    assert "/nowhere/libmnemo.so" in python(REFUSED, {"MNEMO_LIBRARY": "/nowhere/libmnemo.so"})


def test_the_copy_in_the_package_comes_second(python, tmp_path):
    package = tmp_path / "mnemo"
    package.mkdir()
    for file in PACKAGE.glob("*.py"):
        (package / file.name).write_bytes(file.read_bytes())
    env = {"MNEMO_LIBRARY": "", "PYTHONPATH": str(tmp_path), "LD_LIBRARY_PATH": ""}
    (package / "libmnemo.so.0").write_bytes(Path(os.environ["MNEMO_LIBRARY"]).read_bytes())
    assert python(LOADED, env).strip() == str(package / "libmnemo.so.0")


def test_the_loader_comes_last(python, tmp_path):
    soname = tmp_path / "libmnemo.so.0"
    soname.symlink_to(os.environ["MNEMO_LIBRARY"])
    assert python(LOADED, {"MNEMO_LIBRARY": "", "LD_LIBRARY_PATH": str(tmp_path)}).strip() == "libmnemo.so.0"
    assert "MNEMO_LIBRARY" in python(REFUSED, {"MNEMO_LIBRARY": "", "LD_LIBRARY_PATH": "/nowhere"})


@pytest.mark.parametrize(
    "source, message",
    [
        ("int nothing;", "is not a mnemo library"),
        ("unsigned mnemo_abi_version(void) { return 1 << 16 | 2; } int mnemo_version;", "has ABI 1.2"),
        ("unsigned mnemo_abi_version(void) { return 1; } int mnemo_version;", "has ABI 0.1"),
        ("unsigned mnemo_abi_version(void) { return 7; } int mnemo_version;", "says ABI 0.7 but has no mnemo_"),
    ],
)
def test_another_library_is_refused(python, tmp_path, source, message):
    library = tmp_path / "other.so"
    (tmp_path / "other.c").write_text(source)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "other.c"], check=True)
    except FileNotFoundError:
        pytest.fail("cc is missing: install gcc")
    assert message in python(REFUSED, {"MNEMO_LIBRARY": str(library)})


def test_nothing_is_started_by_importing(python):
    program = "import os, numpy; n = len(os.listdir('/proc/self/task')); import mnemo; print(len(os.listdir('/proc/self/task')) - n)"
    assert python(program) == "0\n"
