#!/bin/sh
# Tests the Julia package on CUDA device 0 against the library installed under PREFIX: test-cuda.sh PREFIX
# The driver, libcuda.so.1, is where the loader finds it; LD_LIBRARY_PATH may name a stand-in's folder.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
prefix=$(cd "$1" && pwd)
if [ -z "${JULIA-}" ]; then
  "$here/tools.sh" >&2
  JULIA=$root/build/tools/julia/run
fi
unset MNEMO_LIBRARY JULIA_PROJECT
export LD_LIBRARY_PATH="$prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" JULIA_DEPOT_PATH="$root/build/julia-depot:"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
MNEMO_HEADER=$prefix/include/mnemo.h MNEMO_FOLDER=$prefix/lib JULIA_LOAD_PATH="$here:@stdlib" JULIA_NUM_THREADS=2 \
  "$JULIA" --startup-file=no --color=no -O0 "$here/test/runtests.jl" cuda >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo "julia on CUDA: $(sed -n 's/^passed: //p' "$log") passed, 0 failed"
