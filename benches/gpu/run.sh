#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run.sh [FOLDER [STEP ...]] - tests and times mnemo on this machine's GPU, into FOLDER (./gpu-results):
#   table.md   what goes into benches/RESULTS.md
#   log.txt    all that was printed
# Steps, all if none is given, in this order; those of earlier runs into the same FOLDER stay in the table:
#   machine              driver, GPU, versions
#   tests-host           the tests of the C ABI, CUDA contexts with tensors in the host's memory
#   tests-device         the same with tensors in the device's memory
#   tests-ptx            the same without NVRTC, with the kernels that are in the library
#   package score nearest sampler graph   bench.py
# The exit status is 0 if every step that was asked for passed. Each has a time limit, and none stops the others.
# Environment: PYTHON (python3; one with PyTorch and CUDA), MNEMO_NVRTC (a file; else looked for), FILTER and SKIP (names of tests, or
# parts of them, that run and do not: c_abi:: and bytes::, which is about the CPU's integer kernels).
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-gpu-results}
[ $# -eq 0 ] || shift
all="machine tests-host tests-device tests-ptx package score nearest sampler graph"
steps=${*:-$all}
for step in $steps; do
	case " $all " in *" $step "*) ;; *) echo "run.sh: no step $step; steps are $all" >&2; exit 2 ;; esac
done
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
log=$out/log.txt
python=${PYTHON:-python3}
filter=${FILTER:-c_abi::} skip=${SKIP:-bytes::}
cache=$(mktemp -d) || exit 2
trap 'rm -rf "$cache"' EXIT
# Kernels are compiled here and now, and nothing stays behind.
export XDG_CACHE_HOME="$cache" TORCHINDUCTOR_CACHE_DIR="$cache/inductor" TRITON_CACHE_DIR="$cache/triton" PYTHONDONTWRITEBYTECODE=1
export MNEMO_LIBRARY="$here/libmnemo.so"

say() { echo "$*" | tee -a "$log"; }
# What a step writes: FOLDER/parts/STEP.md for the table, and one line, FOLDER/parts/STEP.end, "passed" or what is wrong.
parts=$out/parts
mkdir -p "$parts" || exit 2

# NVRTC: the file that was named, or what PyTorch's wheels, the loader or CUDA's installer have; else the library's own kernels run.
find_nvrtc() {
	"$python" - 2>>"$log" <<'PYTHON' && return
import glob, importlib.util, sys
spec = importlib.util.find_spec("nvidia")
folders = list(spec.submodule_search_locations) if spec else []
found = [f for d in folders for part in ("cu13", "cuda_nvrtc") for f in sorted(glob.glob(f"{d}/{part}/lib/libnvrtc.so.1[23]"))]
print(found[0]) if found else sys.exit(1)
PYTHON
	for found in $(ldconfig -p 2>/dev/null | sed -n 's/.*libnvrtc\.so\.1[23] .*=> //p') /usr/local/cuda/lib64/libnvrtc.so.1[23]; do
		[ ! -e "$found" ] || { echo "$found"; return; }
	done
}

limited() { # SECONDS COMMAND ...
	timeout -k 10 "$@"
}

why() { # STATUS SECONDS
	case $1 in 0) echo passed ;; 124 | 137) echo "FAILED: more than $2 s" ;; *) echo "FAILED: status $1" ;; esac
}

machine() {
	bad=""
	{
		uname -srm
		getconf GNU_LIBC_VERSION
		cat "$here/CONTENTS"
		nvidia-smi
	} >>"$log" 2>&1
	needs=$(sed -n 's/^glibc \([0-9.]*\) .*/\1/p' "$here/CONTENTS")
	has=$(getconf GNU_LIBC_VERSION | sed 's/.* //')
	[ "$(printf '%s\n' "$needs" "$has" | sort -V | tail -1)" = "$has" ] || bad="$bad; glibc $has, of at least $needs"
	smi=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>>"$log") || bad="$bad; nvidia-smi fails"
	limited 120 "$python" "$here/bench.py" --describe >"$parts/machine.md" 2>>"$log" || bad="$bad; bench.py --describe fails, see log.txt"
	[ -s "$parts/machine.md" ] || echo "## $(date +%F), no description" >"$parts/machine.md"
	printf '\nnvidia-smi: %s. glibc %s. NVRTC: %s. Pack: %s.\n' "${smi:-none}" "$has" "${MNEMO_NVRTC:-none}" \
		"$(sed -n 's/^from //p' "$here/CONTENTS")" >>"$parts/machine.md"
	[ -z "$bad" ] && echo passed || echo "FAILED: ${bad#; }"
}

# The suite. If not all tests pass, those that did not, or were not reached, run once more, each in a process of its own: a device that
# has failed fails every test after, and a test that aborts ends the others.
tests() { # STEP SECONDS VARIABLE=VALUE ...
	step=$1 seconds=$2
	shift 2
	said=$parts/$step.txt
	"$here/suite" --list "$filter" --skip "$skip" 2>>"$log" | sed -n 's/: test$//p' >"$parts/$step.all"
	count=$(wc -l <"$parts/$step.all")
	begin=$(date +%s)
	limited "$seconds" env "$@" "$here/suite" "$filter" --skip "$skip" >"$said" 2>&1
	status=$?
	took=$(($(date +%s) - begin))
	cat "$said" >>"$log"
	sed -n 's/^test \(.*\) \.\.\. ok$/\1/p' "$said" >"$parts/$step.passed"
	passed=$(wc -l <"$parts/$step.passed")
	end=$(why $status "$seconds")
	[ "$end" != passed ] || { [ "$count" -gt 0 ] && [ "$passed" -eq "$count" ]; } || end="FAILED: $passed of $count tests passed"
	well=0 bad="" left=0 begin=$(date +%s)
	if [ "$end" != passed ]; then
		# Names of tests have no blanks.
		# shellcheck disable=SC2013
		for name in $(grep -vxFf "$parts/$step.passed" "$parts/$step.all"); do
			if [ $(($(date +%s) - begin)) -ge "$AGAIN" ]; then
				left=$((left + 1))
			elif limited 30 env "$@" "$here/suite" --exact "$name" >>"$log" 2>&1; then
				well=$((well + 1))
			else
				bad="$bad $name"
			fi
		done
	fi
	echo "| ${step#tests-} | $passed of $count | $took | $well | ${bad:-none} | $left |" >"$parts/$step.md"
	echo "$end"
}
# Seconds for that.
AGAIN=150

bench() { # GROUP SECONDS, of which the last rows may leave out some
	limited $(($2 + 30)) "$python" "$here/bench.py" "$1" --seconds "$2" >"$parts/$1.md" 2>>"$log"
	status=$?
	[ $status -eq 0 ] || printf '\n**%s: %s**\n' "$1" "$(why $status $(($2 + 30)))" >>"$parts/$1.md"
	why $status $(($2 + 30))
}

[ -n "${MNEMO_NVRTC:-}" ] || MNEMO_NVRTC=$(find_nvrtc)
# Where none is found the library looks for itself.
if [ -n "$MNEMO_NVRTC" ]; then export MNEMO_NVRTC; else unset MNEMO_NVRTC; fi
say "--- $(date) run.sh $out: $steps; NVRTC ${MNEMO_NVRTC:-none found}"

well=0
for step in $steps; do
	say "--- $(date +%T) $step"
	rm -f "$parts/$step".*
	case $step in
	machine) end=$(machine) ;;
	tests-host) end=$(tests "$step" 200 MNEMO_TEST_DEVICE=host) ;;
	tests-device) end=$(tests "$step" 200 MNEMO_TEST_DEVICE=device) ;;
	# A file that is named is the only one that is tried.
	tests-ptx) end=$(tests "$step" 200 MNEMO_TEST_DEVICE=device MNEMO_NVRTC=/none) ;;
	package) end=$(bench package 60) ;;
	score) end=$(bench score 190) ;;
	nearest) end=$(bench nearest 50) ;;
	sampler) end=$(bench sampler 80) ;;
	graph) end=$(bench graph 30) ;;
	esac
	echo "$end" >"$parts/$step.end"
	say "$step: $end"
	[ "$end" = passed ] || well=1
done

{
	cat "$parts/machine.md" 2>/dev/null || echo "## $(date +%F), no description"
	printf '\n| step | |\n|---|---|\n'
	for step in $all; do echo "| $step | $(cat "$parts/$step.end" 2>/dev/null || echo "not run") |"; done
	printf '\nTests of the suite: %s, without %s.\n' "$filter" "$skip"
	printf '\n| tests | passed | s | passed only by themselves | failed by themselves | not tried by themselves |\n|---|---|---|---|---|---|\n'
	for step in tests-host tests-device tests-ptx; do cat "$parts/$step.md" 2>/dev/null; done
	for step in package score nearest sampler graph; do cat "$parts/$step.md" 2>/dev/null; done
} >"$out/table.md"
cat "$out/table.md"
exit $well
