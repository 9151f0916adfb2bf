#!/bin/sh
# Runs copies.jl with the library installed under PREFIX.
#
#   run.sh PREFIX [DATA]
#
# JULIA names the Julia to use; without, bindings/julia/tools.sh fetches one. SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [DATA]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
prefix=$(cd "$1" && pwd)
julia=${JULIA-}
if [ -z "$julia" ]; then
  "$root/bindings/julia/tools.sh" >&2
  julia=$root/build/tools/julia/run
fi
unset MNEMO_LIBRARY
export LD_LIBRARY_PATH="$prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export JULIA_LOAD_PATH="$root/bindings/julia:@stdlib"
export JULIA_DEPOT_PATH="$root/build/julia-depot:"
exec "$julia" --startup-file=no "$here/copies.jl" "${2-"$root/examples/data/digits.npy"}"
