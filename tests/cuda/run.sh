#!/bin/sh
# The CUDA path on a machine without a GPU: the interpreter's own tests, the stand-in driver's, and the tests of the C ABI on the
# stand-in, with tensors in the host's memory and in the device's. Fails where something that it needs cannot be had.
set -eu
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
case $CARGO_TARGET_DIR in /*) ;; *) CARGO_TARGET_DIR=$(pwd)/$CARGO_TARGET_DIR ;; esac
tests/cuda/nvrtc.sh
for package in ptx standin; do
  (
    cd "tests/cuda/$package"
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
    cargo test --release
  )
done
(cd tests/cuda/standin && cargo build --release)
mkdir -p build/standin
cp "$CARGO_TARGET_DIR/release/libstandin_cuda.so" build/standin/libcuda.so.1

LD_LIBRARY_PATH=$(pwd)/build/standin${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
MNEMO_NVRTC=$(pwd)/build/nvrtc/12.9.86/libnvrtc.so.12
XDG_CACHE_HOME=$(pwd)/build/standin/cache
STANDIN_REPORT=$(pwd)/build/standin/faults.txt
export LD_LIBRARY_PATH MNEMO_NVRTC XDG_CACHE_HOME STANDIN_REPORT
rm -f "$STANDIN_REPORT"
cargo test --release --test cuda
# What tests bytes for the CPU's integer kernels, and bounds over 100 000 queries, is about the CPU; the rest is the same there.
for tensors in host device; do
  MNEMO_TEST_DEVICE=$tensors cargo test --release --test suite -- c_abi:: --skip bytes::
done
