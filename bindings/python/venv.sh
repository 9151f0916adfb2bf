#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Prints the path of a Python that has what the tests and the example need: of a virtual environment in build/python, which
# is made if it is missing.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$root/build/python/bin/python
if ! "$python" -c 'import ml_dtypes, mypy, numpy, pytest, setuptools; assert int(setuptools.__version__.split(".")[0]) >= 77' 2>/dev/null; then
  command -v python3 >/dev/null || { echo "$0: python3 is missing: install python3" >&2; exit 1; }
  python3 -m venv "$root/build/python" >&2 || { echo "$0: no virtual environment: install python3-venv" >&2; exit 1; }
  "$python" -m pip install -q --disable-pip-version-check --requirement "$root/bindings/python/requirements-tests.txt" >&2
fi
echo "$python"
