#!/bin/sh
# Prepares a Python environment and prints one table: mnemo against numpy, in one process, on Fashion-MNIST.
set -eu
cd "$(dirname "$0")/.."
data=${DATA:-/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz}
[ -e "$data" ] || { echo "$data is missing: apt-get install dataset-fashion-mnist, or set DATA" >&2; exit 1; }
[ -d build/venv ] || python3 -m venv build/venv
build/venv/bin/pip install -q numpy
exec build/venv/bin/python benches/score.py "${CARGO_TARGET_DIR:-target}/release/libmnemo.so" "$data"
