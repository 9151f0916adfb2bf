#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Looks at an installed library: its names, what it needs, what it exports, its size, and what loading it does.
#
#   library.sh PREFIX LIBDIR VERSION MAJOR
set -eu
cd "$(dirname "$0")/../.."
prefix=$1 lib=$2 version=$3 major=$4
so=$lib/libmnemo.so.$version
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "library: $*" >&2; exit 1; }

[ "$(readlink "$lib/libmnemo.so")" = "libmnemo.so.$major" ] || fail "libmnemo.so is not a link to libmnemo.so.$major"
[ "$(readlink "$lib/libmnemo.so.$major")" = "libmnemo.so.$version" ] || fail "libmnemo.so.$major is not a link to libmnemo.so.$version"
if [ -L "$so" ] || [ ! -f "$so" ]; then fail "$so is not a file"; fi

readelf --dynamic --wide "$so" >"$tmp/dynamic"
soname=$(sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' "$tmp/dynamic")
[ "$soname" = "libmnemo.so.$major" ] || fail "the SONAME is $soname"
sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$tmp/dynamic" >"$tmp/needed"
grep -qx libc.so.6 "$tmp/needed" || fail "it does not need libc.so.6: $(cat "$tmp/needed")"
if grep -Evx 'lib(c|m)\.so\.6|lib(pthread\.so\.0|dl\.so\.2)|libgcc_s\.so\.1|ld-linux-[a-z0-9-]+\.so\.[12]' "$tmp/needed"; then fail "it needs more than glibc and libgcc_s"; fi
if grep -E 'RPATH|RUNPATH|TEXTREL' "$tmp/dynamic"; then fail "a path of this machine, or code that is written to when it is loaded"; fi
# Two: the C runtime's frame_dummy, and the Rust standard library's, which keeps argc and argv.
size=$(sed -n 's/.*(INIT_ARRAYSZ) *\([0-9]*\).*/\1/p' "$tmp/dynamic")
[ "$size" -le 16 ] || fail "$((size / 8)) functions run when it is loaded, 2 are known"
if readelf --program-headers --wide "$so" | grep GNU_STACK | grep -q E; then fail "the stack is executable"; fi

nm -D --defined-only "$so" | awk '{print $NF}' | LC_ALL=C sort >"$tmp/symbols"
LC_ALL=C sort tests/abi/symbols.txt | diff - "$tmp/symbols" >&2 || fail "it exports other symbols than tests/abi/symbols.txt"
if grep -v '^mnemo_' "$tmp/symbols"; then fail "a symbol without the prefix mnemo_"; fi

strip -o "$tmp/stripped" "$so"
bytes=$(stat -c %s "$tmp/stripped")
[ "$bytes" -le 8388608 ] || fail "$bytes bytes stripped, more than 8 MiB"

cc -std=c99 -Wall -Wextra -Werror -O1 -I"$prefix/include" tests/packaging/load.c -o "$tmp/load" -ldl
"$tmp/load" "$so" >"$tmp/load.txt" 2>&1 || fail "loading: $(cat "$tmp/load.txt")"
[ ! -s "$tmp/load.txt" ] || fail "loading prints: $(cat "$tmp/load.txt")"
