# SPDX-License-Identifier: MIT OR Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mnemo

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def rows(rng):
    return rng.normal(size=(40, 5))


@pytest.fixture
def process():
    return mnemo.Process.vp_linear(0.1, 20)


@pytest.fixture
def score(rows, process):
    return mnemo.Score.empirical(mnemo.Dataset(rows), process)


@pytest.fixture
def python():
    """Runs a program in an interpreter of its own; returns its standard output. What it prints as an error is one."""

    def run(program, env=None, code=0, timeout=60):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(Path(mnemo.__file__).parents[1]), **(env or {})},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert (done.returncode, done.stderr) == (code, ""), done.stderr or done.stdout
        return done.stdout

    return run
