#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Prints how large a shared library is without its symbol table, and how long dlopen takes: the median over new processes, in
# each of which it is the first thing that happens.
#
#   measure.sh LIBRARY [PROCESSES]
set -eu
library=$(realpath "$1")
processes=${2:-201}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cat >"$tmp/load.c" <<'END'
#define _POSIX_C_SOURCE 199309L
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
int main(int argc, char **argv) {
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  if (argc != 2 || !dlopen(argv[1], RTLD_NOW)) return fprintf(stderr, "%s\n", dlerror()), 1;
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%.4f\n", (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6);
}
END
cc -std=c99 -O1 "$tmp/load.c" -o "$tmp/load" -ldl
strip -o "$tmp/stripped.so" "$library"
i=0
while [ $i -lt "$processes" ]; do
	"$tmp/load" "$library"
	i=$((i + 1))
done | sort -n >"$tmp/times"

stat -c %s "$tmp/stripped.so" | awk '{printf "size without symbols  %.2f MiB\n", $1 / 1048576}'
awk '{t[NR] = $1} END {printf "dlopen                %.2f ms (median of %d processes; slowest %.2f ms)\n", t[int((NR + 1) / 2)], NR, t[NR]}' "$tmp/times"
