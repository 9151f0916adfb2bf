#!/bin/sh
# Tests mnemo.hpp on CUDA device 0 against an installed library: cuda.sh PREFIX
#
# The driver, libcuda.so.1, is where the loader finds it; LD_LIBRARY_PATH may name a stand-in's folder.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
prefix=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
# shellcheck disable=SC2046  # flags are words
"${CXX:-c++}" -std=c++17 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror $(pkg-config --cflags mnemo) "$here/cuda.cpp" \
	-o "$work/cuda" $(pkg-config --libs mnemo) "-Wl,-rpath,$prefix/lib" -ldl
count=$("$work/cuda" 2>"$work/log") || { cat "$work/log" >&2; exit 1; }
echo "cpp on CUDA: $count passed, 0 failed"
