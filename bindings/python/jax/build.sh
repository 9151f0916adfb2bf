#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# build.sh PREFIX PYTHON OUT - compiles the JAX plugin's native half against the mnemo installed in PREFIX and the
# headers of the jaxlib that PYTHON has, into the file OUT. CXX and CXXFLAGS are honoured.
set -eu
[ $# -eq 3 ] || { echo "usage: build.sh PREFIX PYTHON OUT" >&2; exit 2; }
prefix=$1 python=$2 out=$3
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
jax=$("$python" -c 'import jax; print(jax.ffi.include_dir())') || { echo "build.sh: $python has no jax" >&2; exit 1; }
export PKG_CONFIG_PATH="${PKG_CONFIG_PATH:+$PKG_CONFIG_PATH:}$prefix/lib/pkgconfig"
mkdir -p "$(dirname -- "$out")"
# The library itself is found by its SONAME: the mnemo package has loaded it before. jaxlib's headers are not held to
# our warnings.
# shellcheck disable=SC2046,SC2086
"${CXX:-c++}" -std=c++17 -O2 -fPIC -shared -fvisibility=hidden -Wall -Wextra ${CXXFLAGS:-} -isystem "$jax" \
    "$here/mnemo_jax.cc" -o "$out" $(pkg-config --cflags --libs mnemo)
