#!/bin/sh
# Builds copies.cpp from an installed prefix and runs it: run.sh PREFIX [DATA]
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [DATA]" >&2; exit 2; }
prefix=$(cd "$1" && pwd) data=${2-$here/../data/digits.npy}
[ -f "$prefix/include/mnemo.hpp" ] ||
	{ echo "$0: $prefix/include/mnemo.hpp is missing: make install puts it there" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
# shellcheck disable=SC2046  # the flags are words
c++ -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -O2 "$here/copies.cpp" -o "$work/copies" \
	$(pkg-config --cflags --libs mnemo) "-Wl,-rpath,$prefix/lib"
"$work/copies" "$data"
