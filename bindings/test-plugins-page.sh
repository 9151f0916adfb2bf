#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# test-plugins-page.sh PREFIX - the C blocks of PLUGINS.md, one after the other, are a program: compiles it against the
# mnemo installed in PREFIX, runs it, and compares what it prints with the text block that follows. CC is honoured.
set -eu
[ $# -eq 1 ] || { echo "usage: test-plugins-page.sh PREFIX" >&2; exit 2; }
prefix=$(CDPATH='' cd -- "$1" && pwd)
page=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/PLUGINS.md
for tool in "${CC:-cc}" pkg-config; do
    command -v "$tool" > /dev/null || { echo "test-plugins-page.sh: $tool is missing: apt-get install gcc pkg-config" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

awk '/^```/ { inside = inside ? 0 : $0 == "```c"; next } inside' "$page" > "$work/plugin.c"
awk '/^```/ { if (inside) exit; c = c || $0 == "```c"; inside = c && $0 == "```text"; next } inside' "$page" > "$work/expected"
for part in plugin.c expected; do
    [ -s "$work/$part" ] || { echo "test-plugins-page.sh: no $part found in $page" >&2; exit 1; }
done

export PKG_CONFIG_PATH="$prefix/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
# shellcheck disable=SC2046
"${CC:-cc}" -std=c99 -Wall -Wextra -Werror -pedantic -O1 "$work/plugin.c" -o "$work/plugin" \
    $(pkg-config --cflags --libs mnemo) -lm -Wl,-rpath,"$prefix/lib"
"$work/plugin" > "$work/printed"
diff -u "$work/expected" "$work/printed"
echo "plugins page: 1 passed, 0 failed"
