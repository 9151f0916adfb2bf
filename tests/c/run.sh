#!/bin/sh
# Compiles the C programs of this folder against a built library and runs them.
#
#   run.sh LIBDIR INCLUDEDIR [--valgrind]
#
# LIBDIR holds libmnemo.so, INCLUDEDIR mnemo.h. Every program is compiled as C99 and as C11, the header as C++11 too, with
# all warnings as errors.
set -eu

[ $# -ge 2 ] || { echo "usage: $0 LIBDIR INCLUDEDIR [--valgrind]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
library=$1/libmnemo.so
include=$2
# 'Possibly lost' is left out: the C library keeps what ended threads had for the next ones, and crossbeam, under the pool,
# lists the records of its ended threads until it has a reason to free them; both hold pointers into the middle of blocks.
# A forked child is silent: it gives up its parent's pool on purpose.
valgrind="valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect
  --error-exitcode=99 --child-silent-after-fork=yes"
run=
tools="gcc g++ readelf"
case ${3-} in
  "") ;;
  --valgrind) run=$valgrind tools="$tools valgrind"; export UNDER_VALGRIND=1 ;;
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
link="-L$work -lmnemo -lm -pthread"

# check NAME [ARGUMENT]: its only output is 'ok NAME'.
check() {
  name=$1
  shift
  output=$(LD_LIBRARY_PATH=$work $run "$work/$name" "$@" 2>&1) || { echo "$name: exit status $?: $output" >&2; exit 1; }
  [ "$output" = "ok ${name%-*}" ] || { echo "$name printed: $output" >&2; exit 1; }
  echo "$output (${name##*-})"
}

for standard in c99 c11; do
  for name in basics custom threads; do
    # shellcheck disable=SC2086
    gcc -std=$standard $warnings -I"$include" "$here/$name.c" -o "$work/$name-$standard" $link
  done
  # Slow under valgrind, which sees the same library whatever the standard.
  [ -n "$run" ] && [ $standard = c99 ] && continue
  check basics-$standard "$work"
  check custom-$standard
  check threads-$standard
done
# shellcheck disable=SC2086
g++ -std=c++11 $warnings -I"$include" "$here/header.cpp" -o "$work/header-c++11" $link
check header-c++11
