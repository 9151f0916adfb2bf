#!/bin/sh
# Builds copies.c from an installed prefix and runs it: run.sh PREFIX [DATA]
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=$1 data=${2-$here/../data/digits.npy}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
# shellcheck disable=SC2046  # the flags are words
cc -std=c99 -Wall -Wextra -Werror -pedantic -O2 "$here/copies.c" -o "$work/copies" $(pkg-config --cflags --libs mnemo) "-Wl,-rpath,$prefix/lib"
"$work/copies" "$data"
