#!/bin/sh
# The same program, "copies", in every language, from an installed prefix: run.sh PREFIX [LANGUAGE...]
# All must print what copies.txt holds, byte for byte.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [LANGUAGE...]" >&2; exit 2; }
prefix=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- c cpp go julia python
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
cat "$here/copies.txt"
passed=0
for language; do
	"$here/$language/run.sh" "$prefix" "$here/data/digits.npy" >"$printed" || { echo "examples/$language: failed" >&2; exit 1; }
	diff "$printed" "$here/copies.txt" >&2 || { echo "examples/$language: prints something else than examples/copies.txt" >&2; exit 1; }
	echo "$language: the same"
	passed=$((passed + 1))
done
echo "examples: $passed passed, 0 failed"
