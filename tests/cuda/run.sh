#!/bin/sh
# run.sh [--all] - the CUDA path on a machine without a GPU: the interpreter's own tests, the stand-in driver's, and the tests of the
# C ABI on the stand-in, with tensors in the host's memory and in the device's. --all: those too that take minutes each in an
# interpreter. Fails where something that it needs cannot be had. (Kernels by themselves: `cargo test --test kernels`.)
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
case $CARGO_TARGET_DIR in /*) ;; *) CARGO_TARGET_DIR=$root/$CARGO_TARGET_DIR ;; esac
tests/cuda/nvrtc.sh
NVRTC_FOLDER=$root/build/nvrtc/12.9.86
MNEMO_NVRTC=$NVRTC_FOLDER/libnvrtc.so.12
export NVRTC_FOLDER MNEMO_NVRTC
for package in ptx standin; do
  (
    cd "tests/cuda/$package"
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    cargo test --release
  )
done
(cd tests/cuda/standin && cargo build --release)
mkdir -p build/standin
cp "$CARGO_TARGET_DIR/release/libstandin_cuda.so" build/standin/libcuda.so.1
cargo test --release --test cuda --test suite --no-run

LD_LIBRARY_PATH=$root/build/standin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
XDG_CACHE_HOME=$root/build/standin/cache
export LD_LIBRARY_PATH XDG_CACHE_HOME
cargo test --release --test cuda

# Races in kernels are looked for elsewhere, and cost most of the time. What bytes, bits of batches and blocks of samples side by side
# are to the CPU is not the same on a device, and tested there in its own way.
export STANDIN_CHECKS=0
long="--skip bytes:: --skip determinism:: --skip asking_changes_nothing --skip few_of_many_rows --skip copies_go_by_index
  --skip same_bits_by_bounds --skip search_by_bounds --skip sizes_and_noise_levels --skip orders_on_one_row
  --skip small_dimensions --skip blocks_of_samples_can_be_watched"
[ "${1:-}" != --all ] || long=
# Where tensors are is nothing to the sums that the sweep and the marginals are about.
suite() { # host or device, options
  where=$1
  shift
  # One kernel runs at a time: more threads would only wait.
  MNEMO_TEST_DEVICE=$where cargo test --release --test suite -- c_abi:: --test-threads=1 "$@" >"build/standin/$where.log" 2>&1
}
# shellcheck disable=SC2086  # lists of options
suite host $long & host=$!
# shellcheck disable=SC2086
suite device $long ${long:+--skip sweep:: --skip sde_keeps_the_marginal} & device=$!
status=0
wait $host || status=$?
wait $device || status=$?
cat build/standin/host.log build/standin/device.log
exit $status
