#!/bin/sh
# Compiles the C programs of this folder against a built library and runs them.
#
#   run.sh LIBDIR INCLUDEDIR [--valgrind | --sanitize]
#
# LIBDIR holds libmnemo.so, INCLUDEDIR mnemo.h. Every program is compiled as C99 and as C11, the header as C++11 too, with
# all warnings as errors. --valgrind runs them under valgrind. --sanitize compiles them with the address and undefined-
# behaviour sanitizers; the library must have been built with the first as well, in a target folder of its own:
#
#   RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo build --release --lib --target x86_64-unknown-linux-gnu
set -eu

[ $# -ge 2 ] || { echo "usage: $0 LIBDIR INCLUDEDIR [--valgrind | --sanitize]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
library=$1/libmnemo.so
include=$2
# 'Possibly lost' is left out: the C library keeps what ended threads had for the next ones, and crossbeam, under the pool,
# lists the records of its ended threads until it has a reason to free them; both hold pointers into the middle of blocks.
# A forked child is silent: it gives up its parent's pool on purpose. Valgrind runs one thread at a time; unless it is fair,
# busy threads can keep the others from their turn for minutes.
valgrind="valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect
  --error-exitcode=99 --child-silent-after-fork=yes --fair-sched=yes"
run=
sanitize=
tools="gcc g++ readelf nm"
case ${3-} in
  "") ;;
  --valgrind) run=$valgrind tools="$tools valgrind"; export UNDER_VALGRIND=1 ;;
  --sanitize) sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" ;;
  *) echo "$0: unknown option $3" >&2; exit 2 ;;
esac
for tool in $tools; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is missing" >&2; exit 1; }
done
for file in "$library" "$include/mnemo.h"; do
  [ -f "$file" ] || { echo "$0: $file is missing" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$library" "$work/libmnemo.so"
soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ -n "$soname" ] && [ "$soname" != libmnemo.so ] && ln -s libmnemo.so "$work/$soname"

warnings="-pedantic -Wall -Wextra -Werror -O1 -g"
link="-lm -pthread -ldl"
if [ -n "$sanitize" ]; then
  nm -D "$library" | grep -q ' U __asan_init$' || { echo "$0: $library is not built with the address sanitizer" >&2; exit 1; }
  # The runtime of the library's compiler: gcc's own can deadlock in the child of a process with threads.
  runtime=$(echo "$(rustc --print target-libdir)"/librustc*_rt.asan.a)
  [ -f "$runtime" ] || { echo "$0: $runtime is missing: this Rust toolchain has no address sanitizer" >&2; exit 1; }
  link="-rdynamic -Wl,--whole-archive $runtime -Wl,--no-whole-archive -lubsan $link -lrt -lgcc_s"
fi

# build COMPILER SOURCE STANDARD [LIBRARY]
build() {
  name=${2%.*}
  # shellcheck disable=SC2086
  "$1" -std="$3" $warnings $sanitize -I"$include" -c "$here/$2" -o "$work/$name.o"
  # shellcheck disable=SC2086
  "$1" "$work/$name.o" -o "$work/$name-$3" -L"$work" ${4-} $link
}

# check NAME [ARGUMENT]: its only output is 'ok NAME'.
check() {
  name=$1
  shift
  output=$(LD_LIBRARY_PATH=$work $run "$work/$name" "$@" 2>&1) || { echo "$name: exit status $?: $output" >&2; exit 1; }
  [ "$output" = "ok ${name%-*}" ] || { echo "$name printed: $output" >&2; exit 1; }
  echo "$output (${name##*-})"
}

for standard in c99 c11; do
  # Slow when every instruction is watched, and it is the same library whatever the standard.
  [ -n "$run$sanitize" ] && [ $standard = c99 ] && continue
  for name in basics custom threads boundary foreign forks starved; do
    build gcc $name.c $standard -lmnemo
  done
  build gcc unload.c $standard
  check basics-$standard "$work"
  check custom-$standard
  # The forked children of threads.c end with exit, where the parent's pool, given up on purpose, would count as a leak.
  ASAN_OPTIONS=detect_leaks=0 check threads-$standard
  check boundary-$standard
  check foreign-$standard "$work"
  check forks-$standard
  # These two ask the allocator itself.
  [ -n "$run$sanitize" ] && continue
  check starved-$standard "$work"
  check unload-$standard "$work/libmnemo.so"
done
build g++ header.cpp c++11 -lmnemo
check header-c++11
