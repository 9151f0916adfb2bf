#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Tests all bindings on CUDA device 0 with the library of an installed prefix: test-cuda.sh PREFIX
# The driver, libcuda.so.1, is where the loader finds it; LD_LIBRARY_PATH may name a stand-in's folder.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
"$here/../tests/cpp/cuda.sh" "$1"
for binding in go julia python; do
  "$here/$binding/test-cuda.sh" "$1"
done
