#!/bin/sh
# Builds copies.go from an installed prefix and runs it: run.sh PREFIX [DATA]
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [DATA]" >&2; exit 2; }
PREFIX=$(cd "$1" && pwd) data=${2-$here/../data/digits.npy}
# shellcheck source=../../bindings/go/toolchain.sh
. "$root/bindings/go/toolchain.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$here" && go build -o "$work/copies" .)
"$work/copies" "$data"
