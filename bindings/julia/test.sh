#!/bin/sh
# Tests the Julia package, its README and the example against the library installed under PREFIX.
#
#   test.sh PREFIX
#
# JULIA names the Julia to use; without, tools.sh fetches one. SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
prefix=$(cd "$1" && pwd)
for file in lib/libmnemo.so.0 lib/libmnemo.so include/mnemo.h; do
  [ -f "$prefix/$file" ] || { echo "$0: $prefix/$file is missing" >&2; exit 1; }
done
if [ -z "${JULIA-}" ]; then
  "$here/tools.sh" >&2
  JULIA=$root/build/tools/julia/run
fi
export JULIA
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

unset MNEMO_LIBRARY JULIA_PROJECT
export LD_LIBRARY_PATH="$prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export JULIA_DEPOT_PATH="$root/build/julia-depot:"
export JULIA_NUM_THREADS=2

# tests NAME…: those files of test/, with the Julia option before them; adds to `passed`. Where values are compared, compiling
# would take most of the time, and Julia is asked for little of it.
passed=0
tests() {
  option=$1
  shift
  MNEMO_HEADER=$prefix/include/mnemo.h MNEMO_FOLDER=$prefix/lib JULIA_LOAD_PATH="$here:@stdlib" \
    "$JULIA" --startup-file=no --color=no "$option" "$here/test/runtests.jl" "$@" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; echo "julia: the tests failed" >&2; exit 1; }
  cat "$work/log"
  passed=$((passed + $(sed -n 's/^passed: //p' "$work/log")))
}
tests --compile=min abi processes datasets arrays device scores samplers nearest
tests -O0 handles callbacks threads programs

"$root/examples/julia/run.sh" "$prefix" >"$work/copies.txt"
diff "$root/examples/copies.txt" "$work/copies.txt" || { echo "julia: copies.jl printed something else" >&2; exit 1; }

JULIA_LOAD_PATH=@stdlib "$JULIA" --startup-file=no --color=no "$here/test/readme.jl" "$work" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; echo "julia: the README failed" >&2; exit 1; }
passed=$((passed + 1 + $(sed -n 's/^passed: //p' "$work/log")))
echo "julia: $passed passed, 0 failed"
