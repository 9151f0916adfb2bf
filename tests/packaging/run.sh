#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs into temporary prefixes and builds programs from a prefix alone, shared and static, with pkg-config and with CMake,
# also after the prefix was moved; runs what the README says about installing; then looks at the library and at the archives
# of `make dist`.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
pass() { passed=$((passed + 1)); echo "ok $*"; }
fail() { echo "packaging: $*" >&2; exit 1; }
quietly() { "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail "$*"; }; }
for tool in cc c++ cmake pkg-config readelf nm strip; do
	command -v $tool >/dev/null || fail "$tool is missing (Debian: gcc g++ cmake pkg-config binutils)"
done
built=${CARGO_TARGET_DIR:-target}/release
# What a caller's environment says about other libraries is nothing to these.
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
unset LD_LIBRARY_PATH PKG_CONFIG_PATH CMAKE_PREFIX_PATH DESTDIR PREFIX LIBDIR PYTHON

# The README's section "Install and link", as it is written: its C example, its CMakeLists.txt, its commands, its output.
block() { # LANGUAGE: the blocks of that language in the section
	awk -v fence="^\`\`\`$1\$" '/^## / {here = /^## Install and link$/} here && $0 ~ fence {on = 1; next} /^```$/ {on = 0} on' README.md
}
mkdir -p "$tmp/readme" "$tmp/home"
block c >"$tmp/readme/example.c"
block cmake >"$tmp/readme/CMakeLists.txt"
block sh >"$tmp/readme/commands.sh"
block text >"$tmp/readme/expected.txt"
for file in example.c CMakeLists.txt commands.sh expected.txt; do
	[ -s "$tmp/readme/$file" ] || fail "README.md: nothing for $file under 'Install and link'"
done
cp examples/data/digits.npy "$tmp/readme/"
cp "$tmp/readme/example.c" "$tmp/example.c"
(
	HOME=$tmp/home
	cd "$tmp/readme"
	# shellcheck disable=SC2317  # the README calls it
	make() { command make --no-print-directory -C "$root" "$@"; }
	set -x
	# shellcheck disable=SC1091
	. ./commands.sh
) >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail "README.md: its commands under 'Install and link' fail"; }
for program in example example-static build/example; do
	LD_LIBRARY_PATH=$tmp/home/.local/lib "$tmp/readme/$program" "$tmp/readme/digits.npy" >"$tmp/output.txt"
	diff "$tmp/output.txt" "$tmp/readme/expected.txt" >&2 || fail "README.md: its $program does not print what it shows"
done
if ldd "$tmp/readme/example-static" | grep -q libmnemo; then fail "README.md: its static program needs libmnemo.so"; fi
pass "README.md: commands, C example, CMake"

quietly make --no-print-directory install PREFIX="$tmp/home/.local"
if grep Compiling "$tmp/log"; then fail "a second make install compiles again"; fi
if command -v cargo >/dev/null; then
	mkdir "$tmp/bin"
	for tool in make sh sed head install realpath ln rm mktemp; do ln -s "$(command -v $tool)" "$tmp/bin/"; done
	quietly env PATH="$tmp/bin" make --no-print-directory install PREFIX="$tmp/without-cargo"
fi
pass "make install builds nothing twice and needs no cargo after make"

# What rustc says the archive needs, for a crate that has nothing but this one in it.
echo 'extern crate mnemo;' | rustc --crate-type staticlib --print native-static-libs -o "$tmp/libempty.a" \
	-L dependency="$built/deps" --extern mnemo="$built/libmnemo.rlib" - >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail rustc; }
said=$(sed -n 's/.*native-static-libs: //p' "$tmp/log")
# Of one that is named twice the last counts: by then everyone who needs it has been seen.
system_libs=$(echo "$said" | tr ' ' '\n' | grep -vx -e -lgcc_s -e -lc | awk '
	{ line[NR] = $0; at[$0] = NR }
	END { for (i = 1; i <= NR; i++) if (at[line[i]] == i) { printf "%s%s", space, line[i]; space = " " } }')

# with_pkg_config PREFIX LIBDIR: three programs of the example: shared, with the archive, without any shared library.
with_pkg_config() {
	export PKG_CONFIG_PATH="$2/pkgconfig"
	private=$(sed -n 's/^Libs.private: //p' "$2/pkgconfig/mnemo.pc")
	[ "$private" = "$system_libs" ] || fail "mnemo.pc: Libs.private is $private, rustc says $said"
	flags=$(pkg-config --cflags --libs mnemo)
	static=$(pkg-config --cflags --libs --static mnemo)
	strict="cc -std=c99 -Wall -Wextra -Werror -pedantic $tmp/example.c -o $tmp/program"
	eval "$strict-shared $flags"
	eval "$strict-archive $(echo "$static" | sed 's/-lmnemo/-l:libmnemo.a/')"
	eval "cc -std=c99 -static $tmp/example.c -o $tmp/program-static $static" 2>"$tmp/log" || { cat "$tmp/log" >&2; fail "cc -static"; }
	unset PKG_CONFIG_PATH
	LD_LIBRARY_PATH=$2 ldd "$tmp/program-shared" | grep -qF "libmnemo.so.$major => $2/" || fail "not linked with $2"
	if ldd "$tmp/program-archive" | grep libmnemo; then fail "the program with the archive needs libmnemo.so"; fi
	for kind in shared archive static; do
		LD_LIBRARY_PATH=$2 "$tmp/program-$kind" "$tmp/readme/digits.npy" | diff - "$tmp/readme/expected.txt" >&2 || fail "$kind: another output"
	done
}

# with_cmake PREFIX LIBDIR [REAL]: CMake is told of the prefix, or of the package's folder where that is none it searches: outside the
# prefix, and lib64 on Debian. REAL is where the library is if LIBDIR is a link.
with_cmake() {
	rm -rf "$tmp/build"
	where=-DCMAKE_PREFIX_PATH=$1
	case $2 in "$1/lib" | "$1/lib/"*) ;; *) where=-Dmnemo_DIR=$2/cmake/mnemo ;; esac
	quietly cmake -S tests/packaging/project -B "$tmp/build" "$where" -DEXAMPLE="$tmp/example.c" \
		-DSYSTEM_LIBS="$(echo "$system_libs" | sed 's/^-l//; s/ -l/;/g')" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF
	grep -qxF -- "-- mnemo in $2/cmake/mnemo" "$tmp/log" || fail "CMake found another mnemo than in $2"
	quietly cmake --build "$tmp/build"
	ldd "$tmp/build/c-mnemo" | grep -qF "libmnemo.so.$major => ${3-$2}/" || fail "CMake's program is not linked with $2"
	for program in c-mnemo c-static; do
		"$tmp/build/$program" "$tmp/readme/digits.npy" | diff - "$tmp/readme/expected.txt" >&2 || fail "CMake's $program: another output"
	done
	for program in cpp-mnemo cpp-static; do
		[ "$("$tmp/build/$program")" = "$version" ] || fail "CMake's $program: another version"
	done
	for program in c-static cpp-static; do
		if ldd "$tmp/build/$program" | grep libmnemo; then fail "CMake's $program needs libmnemo.so"; fi
	done
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
major=$(sed -n 's/^#define MNEMO_ABI_MAJOR //p' include/mnemo.h)
[ "${version%%.*}" = "$major" ] || fail "Cargo.toml: cargo-c would give another SONAME, that of version $version"
moved="$tmp/moved prefix"
for libdir in lib lib64 lib/x86_64-linux-gnu; do
	quietly make --no-print-directory install PREFIX="$tmp/prefix" LIBDIR="$tmp/prefix/$libdir"
	for header in include/*.h*; do cmp "$header" "$tmp/prefix/$header" || fail "$header is not installed"; done
	mv "$tmp/prefix" "$moved"
	if grep -rIl "$tmp" "$moved"; then fail "a file knows where it was installed"; fi
	with_pkg_config "$moved" "$moved/$libdir"
	with_cmake "$moved" "$moved/$libdir"
	pass "$libdir, moved: pkg-config, CMake"
	rm -rf "$moved"
done

# Staged for a system's package: nothing outside DESTDIR, and nothing of DESTDIR in a file.
quietly make --no-print-directory install DESTDIR="$tmp/stage" PREFIX=/usr LIBDIR=/usr/lib64
if grep -rIl "$tmp" "$tmp/stage"; then fail "a file knows DESTDIR"; fi
flags=$(PKG_CONFIG_PATH=$tmp/stage/usr/lib64/pkgconfig PKG_CONFIG_SYSTEM_LIBRARY_PATH=/usr/lib64 pkg-config --cflags --libs mnemo)
[ "${flags% }" = -lmnemo ] || fail "pkg-config does not leave out /usr: $flags"
with_cmake "$tmp/stage/usr" "$tmp/stage/usr/lib64"
quietly make --no-print-directory uninstall DESTDIR="$tmp/stage" PREFIX=/usr LIBDIR=/usr/lib64
left=$(find "$tmp/stage" ! -type d)
[ -z "$left" ] || fail "make uninstall leaves $left"
pass "DESTDIR, uninstall"

# Libraries outside the prefix: found by absolute paths.
quietly make --no-print-directory install PREFIX="$tmp/headers" LIBDIR="$tmp/libraries"
with_pkg_config "$tmp/headers" "$tmp/libraries"
with_cmake "$tmp/headers" "$tmp/libraries"
pass "LIBDIR outside PREFIX"

# A folder reached through a link, as /lib is one to /usr/lib.
quietly make --no-print-directory install PREFIX="$tmp/root/usr"
ln -s usr/lib "$tmp/root/lib"
with_cmake "$tmp/root" "$tmp/root/lib" "$tmp/root/usr/lib"
pass "through a link to the folder"

tests/packaging/library.sh "$tmp/root/usr" "$tmp/root/usr/lib" "$version" "$major"
pass "the library: names, needs, symbols, size, loading"

# What is given away is used as it comes: unpacked somewhere, by programs in C and C++ and by Python.
quietly make --no-print-directory dist
name=mnemo-$version-linux-$(uname -m)
mkdir "$tmp/unpacked"
tar --extract --file "build/dist/$name.tar.gz" --directory "$tmp/unpacked"
unpacked=$tmp/unpacked/$name
if grep -rlF -e "$root" -e "$CARGO_HOME" "$unpacked"; then fail "make dist: a file knows where it was made"; fi
for text in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT LICENSE-THIRD-PARTY.txt LICENSE-RUST-LIBRARY.html; do
	[ -s "$unpacked/share/doc/mnemo/$text" ] || fail "make dist: no $text"
done
glibc=$(sed -n 's/^glibc=//p' packaging/dist.sh)
grep -qF "glibc $glibc " README.md || fail "README.md does not say that the binaries need glibc $glibc"
tests/packaging/library.sh "$unpacked" "$unpacked/lib" "$version" "$major"
tests/c/run.sh "$unpacked/lib" "$unpacked/include" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail "tests/c with the library of make dist"; }
with_pkg_config "$unpacked" "$unpacked/lib"
with_cmake "$unpacked" "$unpacked/lib"
pass "make dist: the binaries"

wheel=build/dist/mnemo-$version-py3-none-manylinux_$(echo "$glibc" | tr . _)_$(uname -m).whl
tests/packaging/wheel.sh "$wheel"
pass "make dist: the wheel"

sha256sum build/dist/* >"$tmp/sums"
quietly make --no-print-directory dist
sha256sum --quiet --check "$tmp/sums" || fail "make dist twice: other bytes"
pass "make dist: the same bytes again"

echo "packaging: $passed passed, 0 failed"
