#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests the Python package on CUDA device 0 with the library of an installed prefix: test-cuda.sh PREFIX.
# The driver, libcuda.so.1, is where the loader finds it; LD_LIBRARY_PATH may name a stand-in's folder.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/venv.sh")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export MNEMO_LIBRARY="$prefix/lib/libmnemo.so.0" PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1
cd "$here"
"$python" -m pytest tests_cuda >"$log" 2>&1 || { cat "$log"; exit 1; }
passed=$(sed -n 's/^\([0-9][0-9]*\) passed in .*$/\1/p' "$log")
[ -n "$passed" ] || { cat "$log"; echo "$0: not all tests were run" >&2; exit 1; }
echo "python on CUDA: $passed passed, 0 failed"
