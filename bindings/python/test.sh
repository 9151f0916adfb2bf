#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests the Python package with the library of an installed prefix: test.sh PREFIX.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/venv.sh")
command -v cc >/dev/null || { echo "$0: cc is missing: install gcc" >&2; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

unset LD_LIBRARY_PATH
export MNEMO_PREFIX="$prefix" MNEMO_LIBRARY="$prefix/lib/libmnemo.so.0" PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
cd "$here"
"$python" -m mypy --cache-dir="$here/../../build/mypy"
"$python" -m pytest tests >"$log" 2>&1 || { cat "$log"; exit 1; }
cat "$log"
# Nothing may be left out: the summary has passed tests only.
passed=$(sed -n 's/^\([0-9][0-9]*\) passed in .*$/\1/p' "$log")
[ -n "$passed" ] || { echo "$0: not all tests were run" >&2; exit 1; }
echo "python: $passed passed, 0 failed"
