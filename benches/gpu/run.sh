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
#   score nearest sampler graph   bench.py
# The exit status is 0 if every step that was asked for passed. Each has a time limit, and none stops the others.
# Environment: PYTHON (python3; one with PyTorch and CUDA), MNEMO_NVRTC (a file; else looked for), FILTER (of tests; c_abi).
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-gpu-results}
[ $# -eq 0 ] || shift
all="machine tests-host tests-device tests-ptx score nearest sampler graph"
steps=${*:-$all}
for step in $steps; do
	case " $all " in *" $step "*) ;; *) echo "run.sh: no step $step; steps are $all" >&2; exit 2 ;; esac
done
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
log=$out/log.txt
python=${PYTHON:-python3}
filter=${FILTER:-c_abi}
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
	ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1' || say "libcuda.so.1 is not in the loader's cache"
	limited 120 "$python" "$here/bench.py" --describe >"$parts/machine.md" 2>>"$log" || bad="$bad; bench.py --describe fails, see log.txt"
	[ -s "$parts/machine.md" ] || echo "## $(date +%F), no description" >"$parts/machine.md"
	printf '\nnvidia-smi: %s. glibc %s. NVRTC: %s. Pack: %s.\n' "${smi:-none}" "$has" "${MNEMO_NVRTC:-none}" \
		"$(sed -n 's/^from //p' "$here/CONTENTS")" >>"$parts/machine.md"
	[ -z "$bad" ] && echo passed || echo "FAILED: ${bad#; }"
}

# The suite; what fails is run once more by itself, since a device that has failed fails every test after.
tests() { # STEP SECONDS VARIABLE=VALUE ...
	step=$1 seconds=$2
	shift 2
	said=$parts/$step.txt
	limited "$seconds" env "$@" "$here/suite" "$filter" >"$said" 2>&1
	status=$?
	cat "$said" >>"$log"
	result=$(sed -n 's/^test result: //p' "$said")
	ran=$(printf %s "$result" | sed -n 's/.* \([0-9]*\) passed.*/\1/p')
	end=$(why $status "$seconds")
	# No tests is no success.
	[ "$status" -ne 0 ] || [ "${ran:-0}" -gt 0 ] || end="FAILED: no test ran"
	failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$said")
	alone="" count=0
	for name in $failed; do
		count=$((count + 1))
		[ $count -le 20 ] || { alone="$alone ..."; break; }
		limited 30 env "$@" "$here/suite" --exact "$name" >>"$log" 2>&1 || alone="$alone $name"
	done
	echo "| ${step#tests-} | ${result:-none} | ${alone:-none} |" >"$parts/$step.md"
	echo "$end"
}

bench() { # GROUP SECONDS, of which the last rows may leave out some
	limited $(($2 + 30)) "$python" "$here/bench.py" "$1" --seconds "$2" >"$parts/$1.md" 2>>"$log"
	status=$?
	[ $status -eq 0 ] || printf '\n**%s: %s**\n' "$1" "$(why $status $(($2 + 30)))" >>"$parts/$1.md"
	why $status $(($2 + 30))
}

[ -n "${MNEMO_NVRTC:-}" ] || MNEMO_NVRTC=$(find_nvrtc)
# Where none is found the library looks for itself.
[ -z "$MNEMO_NVRTC" ] && unset MNEMO_NVRTC || export MNEMO_NVRTC
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
	printf '\n| tests | result | fail by themselves too |\n|---|---|---|\n'
	for step in tests-host tests-device tests-ptx; do cat "$parts/$step.md" 2>/dev/null; done
	for step in score nearest sampler graph; do cat "$parts/$step.md" 2>/dev/null; done
} >"$out/table.md"
cat "$out/table.md"
exit $well
