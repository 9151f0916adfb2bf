#!/bin/sh
# Tests the C++ headers against an installed library: run.sh PREFIX
#
# PREFIX is what `make install` made; its headers must be those of this checkout. Everything is compiled with all warnings as
# errors, by GCC as C++17 under the address and undefined-behaviour sanitizers, and by Clang as C++20.
# SPDX-License-Identifier: MIT OR Apache-2.0
set -eu

[ $# -eq 1 ] || { echo "usage: $0 PREFIX" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
prefix=$(cd "$1" && pwd)
unset LD_LIBRARY_PATH

missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need g++ g++
need clang++ clang
need pkg-config pkg-config
need python3 python3
need cmake cmake
need make make
[ -f /usr/include/eigen3/Eigen/Core ] || missing="$missing libeigen3-dev"
[ -f /usr/include/dlpack/dlpack.h ] || missing="$missing libdlpack-dev"
if [ -n "$missing" ]; then
	echo "installing:$missing" >&2
	as_root=
	[ "$(id -u)" = 0 ] || as_root=sudo
	# shellcheck disable=SC2086  # a list of package names
	{
		$as_root apt-get update -q &&
			$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $missing
	} >&2 || { echo "$0: these Debian packages are missing:$missing" >&2; exit 1; }
fi
for header in mnemo.h mnemo.hpp mnemo_dlpack.h; do
	cmp "$root/include/$header" "$prefix/include/$header" >&2 ||
		{ echo "$0: $prefix/include/$header is not that of this checkout: install again" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'wait; rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=halt_on_error=1
warnings="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all"
flags="$(pkg-config --cflags mnemo) -isystem /usr/include/eigen3"
link="$(pkg-config --libs mnemo) -Wl,-rpath,$prefix/lib -pthread"
data=$root/examples/data
passed=0

# check NAME [ARGUMENT...]: a program whose output is the number of its tests.
check() {
	checked=$1
	shift
	count=$("$work/$checked" "$@" 2>"$work/log") || { cat "$work/log" >&2; echo "$checked: failed" >&2; exit 1; }
	[ "$count" -gt 0 ] || { echo "$checked ran no test" >&2; exit 1; }
	echo "$checked: $count"
	passed=$((passed + count))
}

# built NAME COMPILER FLAG... FILE...
built() {
	output=$1
	shift
	# shellcheck disable=SC2086  # flags are words
	"$@" $warnings $flags -o "$work/$output" $link || { echo "$output does not compile" >&2; exit 1; }
}

# The header alone, as every standard, by both compilers, with more warnings than the tests are held to.
echo '#include <mnemo.hpp>' >"$work/alone.cpp"
for compiler in g++ clang++; do
	for mode in -std=c++17 -std=c++20 -std=c++2b "-std=c++17 -DMNEMO_USE_EXPECTED" \
		"-std=c++2b -DMNEMO_USE_EXPECTED -fno-exceptions -fno-rtti"; do
		# shellcheck disable=SC2086
		$compiler $mode $warnings -Wsign-conversion -Wold-style-cast $flags -fsyntax-only "$work/alone.cpp"
		passed=$((passed + 1))
	done
done
echo "the header alone: $passed"

gcc="g++ -std=c++17 $sanitizers" clang="clang++ -std=c++20"
# Two compilers at a time, as most machines have two processors.
# shellcheck disable=SC2086
{
	{
		built callbacks-gcc $gcc "$here/callbacks.cpp"
		built expected-gcc $gcc "$here/expected.cpp"
		built expected-noexcept-gcc g++ -std=c++20 -fno-exceptions -fno-rtti "$here/expected.cpp"
		built libplugin.so $gcc -fvisibility=hidden -fvisibility-inlines-hidden -fPIC -shared "$here/plugin.cpp"
		built mixed $gcc -fvisibility=hidden "$here/mixed.cpp" "$here/mixed_values.cpp" \
			-L"$work" -lplugin "-Wl,-rpath,$work"
		built dlpack-c99 gcc -std=c99 $sanitizers "$here/dlpack.c"
		built dlpack-c++17 $gcc -x c++ "$here/dlpack.c" -x none
	} &
	built basics-gcc $gcc "$here/basics.cpp"
	built basics-clang $clang "$here/basics.cpp"
	built views-gcc $gcc "$here/views.cpp"
	built views-clang $clang "$here/views.cpp"
	built callbacks-clang $clang "$here/callbacks.cpp"
	built expected-noexcept-clang clang++ -std=c++2b -fno-exceptions -fno-rtti "$here/expected.cpp"
	built abi-minor g++ -std=c++20 -DABI_MAJOR=0 -DABI_MINOR=999 "$here/abi.cpp"
	built abi-major clang++ -std=c++2b -DABI_MAJOR=999 -DABI_MINOR=0 "$here/abi.cpp"
	built dlpack1-c99 gcc -std=c99 $sanitizers -DDLPACK_1 "$here/dlpack.c"
	built dlpack1-c++20 $clang -x c++ -DDLPACK_1 "$here/dlpack.c" -x none
	wait $!
}
for name in basics-gcc basics-clang views-gcc views-clang callbacks-gcc callbacks-clang \
	expected-gcc expected-noexcept-gcc expected-noexcept-clang mixed abi-minor abi-major \
	dlpack-c99 dlpack-c++17 dlpack1-c99 dlpack1-c++20; do
	check "$name" "$data"
done

# What must not compile.
sed -n '/^#include/p' "$here/refused.cpp" >"$work/prelude.hpp"
# shellcheck disable=SC2086
g++ -std=c++17 $flags -x c++-header "$work/prelude.hpp" -o "$work/prelude.hpp.gch"
case_number=0
while
	says=$(sed -n "s|^#elif CASE == $case_number  // says: ||p" "$here/refused.cpp")
	[ $case_number -eq 0 ] || [ -n "$says" ]
do
	# shellcheck disable=SC2086
	if g++ -std=c++17 -Wunused-result -Werror $flags -include "$work/prelude.hpp" -DCASE=$case_number \
		-fsyntax-only "$here/refused.cpp" 2>"$work/log"; then
		[ $case_number -eq 0 ] || { echo "refused.cpp: case $case_number compiles" >&2; exit 1; }
	elif [ $case_number -eq 0 ] || ! grep -Eq "$says" "$work/log"; then
		cat "$work/log" >&2
		echo "refused.cpp: case $case_number: the compiler does not say '$says'" >&2
		exit 1
	fi
	case_number=$((case_number + 1))
done
[ $case_number -eq "$(grep -Ec '^#(if|elif) CASE == ' "$here/refused.cpp")" ] ||
	{ echo "refused.cpp: a case has no number or no message" >&2; exit 1; }
echo "refused: $case_number"
passed=$((passed + case_number))

# Every code block of the page: whole programs, their output where it is shown, fragments, and both ways to build.
mkdir "$work/page"
cp "$data/digits.npy" "$work/page"
blocks=$(python3 "$here/readme.py" "$root/bindings/cpp/README.md" "$work/page")
cd "$work/page"
for program in program_*.cpp; do
	program=${program%.cpp}
	built "page/$program" g++ -std=c++17 "$program.cpp"
	"./$program" digits.npy >printed.txt
	[ ! -f "$program.txt" ] || diff "$program.txt" printed.txt >&2 ||
		{ echo "README.md: $program prints something else" >&2; exit 1; }
	[ ! -f "$program.txt" ] || cp "$program.cpp" example.cpp
done
for standard in 17 20; do
	built "page/fragments_$standard" g++ "-std=c++$standard" "fragments_$standard.cpp"
	"./fragments_$standard" digits.npy >printed.txt
done
LD_LIBRARY_PATH=$prefix/lib sh -e build.sh >printed.txt
diff program_*.txt printed.txt >&2
rm example
{ cmake -S . -B cmake "-DCMAKE_PREFIX_PATH=$prefix" && cmake --build cmake; } >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
cmake/example digits.npy | diff program_*.txt - >&2
echo "README.md: $blocks"
passed=$((passed + blocks))

"$root/examples/cpp/run.sh" "$prefix" | diff - "$root/examples/copies.txt" >&2 ||
	{ echo "examples/cpp prints something else than copies.txt" >&2; exit 1; }
echo "examples/cpp: 1"
passed=$((passed + 1))

echo "cpp: $passed passed, 0 failed"
