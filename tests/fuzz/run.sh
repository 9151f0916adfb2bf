#!/bin/sh
# Builds the fuzz targets and runs each: what is in corpus/ first, then inputs derived from it.
#
#   run.sh [--runs N] [--keep FOLDER] [--fast] [TARGET...]
#
#   --runs N       executions of each target (30000); the same N gives the same inputs
#   --keep FOLDER  keep the inputs that reached something new in FOLDER/TARGET, and start from them too
#   --fast         without the address sanitizer: several times as many executions a second, for long runs that look for new
#                  paths; give what they keep to a run without it
#
# The targets call the C ABI from Rust, so that both sides of the boundary are instrumented: libFuzzer's coverage, the address
# sanitizer, overflow checks and the checks of the standard library's unsafe functions. RUSTC_BOOTSTRAP lets a stable compiler
# take -Zsanitizer; everything else is stable. An input that fails is left in build/fuzz.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
runs=30000 keep='' sanitize=1
while [ $# -gt 0 ]; do
  case $1 in
    --runs) runs=$2; shift 2 ;;
    --keep) keep=$2; shift 2 ;;
    --fast) sanitize=; shift ;;
    -*) echo "$0: unknown option $1" >&2; exit 2 ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || set -- options tensors files
for tool in cargo c++; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is missing" >&2; exit 1; }
done

triple=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$root/build/fuzz-target}/fuzz${sanitize:+-sanitized}
case $target in /*) ;; *) target=$PWD/$target ;; esac
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# Calls in place of inlined checks: otherwise the coverage of the checks drowns that of the library.
[ -z "$sanitize" ] || flags="$flags -Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0"
(cd "$here" && RUSTC_BOOTSTRAP=1 RUSTFLAGS=$(echo "$flags" | tr -s '\n ' ' ') CARGO_TARGET_DIR=$target \
  cargo build --quiet --locked --release --target "$triple")

export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0:malloc_context_size=4:quarantine_size_mb=8
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$root/build/fuzz"
passed=0 failed=0
for name in "$@"; do
  found=${keep:-$work}/$name
  mkdir -p "$found"
  # A single input may take 10 seconds and 2 GiB; a longer one is a hang.
  if "$target/$triple/release/$name" "$found" "$here/corpus/$name" -runs="$runs" -seed=1 -max_len=512 -timeout=10 \
    -rss_limit_mb=2048 -artifact_prefix="$root/build/fuzz/$name-" >"$work/$name.log" 2>&1; then
    echo "$name: $(grep -o 'DONE *cov: [0-9]*' "$work/$name.log" | tr -s ' ' | sed 's/DONE cov:/edges/'), $(sed -n 's/^Done //p' "$work/$name.log")"
    passed=$((passed + 1))
  else
    grep -v -e '^#' -e NEW_FUNC "$work/$name.log" | head -60
    echo "$name: failed; run $target/$triple/release/$name with the input named above"
    failed=$((failed + 1))
  fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" = 0 ]
