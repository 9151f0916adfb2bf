#!/bin/sh
# Installs into a temporary prefix and builds programs from the prefix alone, shared and static: the README's example, whose
# output must be what the README shows.
set -eu
cd "$(dirname "$0")/../.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
make --no-print-directory install PREFIX="$tmp/prefix" >"$tmp/install.log" 2>&1 || { cat "$tmp/install.log"; exit 1; }

# The first C block of the README and the text block after it.
awk '/^```c$/ && !seen {on = 1; seen = 1; next} /^```$/ {on = 0} on' README.md >"$tmp/example.c"
awk '/^```c$/ {after = 1} /^```text$/ && after && !seen {on = 1; seen = 1; next} /^```$/ {on = 0} on' README.md >"$tmp/expected.txt"
[ -s "$tmp/example.c" ] && [ -s "$tmp/expected.txt" ] || { echo "README.md: no C example with its output"; exit 1; }

cp examples/data/digits.npy "$tmp/"
cd "$tmp"
export PKG_CONFIG_PATH="$tmp/prefix/lib/pkgconfig"
[ "$(pkg-config --modversion mnemo)" ] || exit 1
# Every word of the flags matters and none holds a space.
# shellcheck disable=SC2046
{
	cc -std=c99 -Wall -Wextra -Werror -pedantic example.c -o shared $(pkg-config --cflags --libs mnemo)
	cc -std=c99 example.c -o static $(pkg-config --cflags mnemo) -L"$tmp/prefix/lib" -Wl,-Bstatic -lmnemo -Wl,-Bdynamic \
		$(pkg-config --libs-only-l --static mnemo | sed 's/-lmnemo//')
}
LD_LIBRARY_PATH="$tmp/prefix/lib" ldd ./shared | grep -q 'libmnemo.so.[0-9]* => .*/prefix/lib/' || { echo "not linked with the prefix"; exit 1; }
if ldd ./static | grep -q libmnemo; then echo "the static program needs libmnemo.so"; exit 1; fi
LD_LIBRARY_PATH="$tmp/prefix/lib" ./shared digits.npy >shared.txt
./static digits.npy >static.txt
for f in shared static; do
	diff "$f.txt" expected.txt >&2 || { echo "README.md: its example, $f, does not print what it shows"; exit 1; }
done
echo "packaging: 2 passed, 0 failed"
