# SPDX-License-Identifier: MIT OR Apache-2.0
"""The Python blocks of PLUGINS.md, each a program of its own, print what the block after them shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "PLUGINS.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
PROGRAMS = [
    (code, output) for (kind, code), (shown, output) in zip(BLOCKS, BLOCKS[1:]) if (kind, shown) == ("python", "text")
]


def test_every_block_is_checked():
    kinds = [kind for kind, _ in BLOCKS]
    assert set(kinds) == {"c", "python", "text"}  # test-plugins-page.sh compiles the C blocks
    assert len(PROGRAMS) == kinds.count("python") == 2 and kinds.count("text") == len(PROGRAMS) + 1


@pytest.mark.parametrize("code, output", PROGRAMS, ids=["torch", "jax"])
def test_program(code, output, tmp_path):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout == output
