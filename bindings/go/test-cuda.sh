#!/bin/sh
# Tests the Go binding on CUDA device 0 against an installed library: test-cuda.sh PREFIX
# The driver, libcuda.so.1, is where the loader finds it; LD_LIBRARY_PATH may name a stand-in's folder.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# = 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PREFIX=$(cd "$1" && pwd)
driver=${LD_LIBRARY_PATH:-}
# shellcheck source=toolchain.sh
. "$here/toolchain.sh"
export LD_LIBRARY_PATH="$PREFIX/lib${driver:+:$driver}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cd "$here"
go vet -tags mnemo_cuda ./...
go test -count=1 -v -tags mnemo_cuda -run CUDA . >"$log" 2>&1 || { grep -v '^===' "$log" >&2; exit 1; }
echo "go on CUDA: $(grep -c '^--- PASS' "$log") passed, 0 failed"
