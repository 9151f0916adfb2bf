# SPDX-License-Identifier: MIT OR Apache-2.0
"""README.md and the example, from an installed copy of the package that brings its own library."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HERE = ROOT / "bindings/python"
README = (HERE / "README.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that pip has installed the package into, with the native library beside its modules."""
    source, site = tmp_path_factory.mktemp("source") / "python", tmp_path_factory.mktemp("site")
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__", "tests*", "*.egg-info", "build"))
    shutil.copy(os.environ["MNEMO_LIBRARY"], source / "mnemo/libmnemo.so.0")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--no-build-isolation", "--target", site, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


def run(program, site, folder):
    env = {k: v for k, v in os.environ.items() if k not in ("MNEMO_LIBRARY", "LD_LIBRARY_PATH")}
    env["PYTHONPATH"] = str(site)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], env=env, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_is_installed(installed, tmp_path):
    files = {file.name for file in (installed / "mnemo").iterdir()}
    assert {"py.typed", "libmnemo.so.0", "__init__.py"} <= files
    program = "import mnemo, importlib.metadata as m; print(mnemo.lib._name); print(m.version('mnemo') == mnemo.__version__)"
    assert run(program, installed, tmp_path).split() == [str(installed / "mnemo/libmnemo.so.0"), "True"]


def test_every_block_of_the_readme(installed, tmp_path):
    """The blocks are one program: each prints what the block of text after it shows."""
    shutil.copy(ROOT / "examples/data/digits.npy", tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
    assert [kind for kind, _ in blocks] == ["python", "text"] * (len(blocks) // 2) and len(blocks) >= 8
    mark = "---- a block ends ----\n"
    program = "".join(f"{text}\nprint({mark[:-1]!r})\n" for kind, text in blocks if kind == "python")
    printed = run(program, installed, tmp_path).split(mark)
    assert printed == [*(text for kind, text in blocks if kind == "text"), ""]


def test_the_readme_names_every_exception():
    import mnemo

    for name in mnemo.__all__:
        assert name in README or name in ("Error", "Evaluation", "Marginal", "Memorization", "Nearest", "abi_version",
                                          "default_context", "library_version"), name  # fmt: skip


def test_the_example(tmp_path):
    done = subprocess.run(
        [ROOT / "examples/python/run.sh", os.environ["MNEMO_PREFIX"]], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "examples/copies.txt").read_text()
    assert not list(Path(tmp_path).iterdir())
