#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run.sh [GROUP ...] [OPTION ...] - prints tables of mnemo against numpy, PyTorch, FAISS, scipy and torchdiffeq, as they stand in
# RESULTS.md. Groups: score, bisector, nearest, toy, sampler, memory. Options: --quick, --batch 1,16, --sigma 10,.5, --data fashion,
# --runs N, --help. The peers go to build/bench, if they are not there: PyPI's torch takes 5 GB.
set -eu
cd "$(dirname "$0")/.."
export MNEMO_LIBRARY="${MNEMO_LIBRARY:-$(realpath "${CARGO_TARGET_DIR:-target}")/release/libmnemo.so}"
export FASHION_MNIST="${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}"
[ -e "$MNEMO_LIBRARY" ] || { echo "run.sh: $MNEMO_LIBRARY is missing: make build" >&2; exit 1; }
[ -e "$FASHION_MNIST/train-images-idx3-ubyte.gz" ] || {
    echo "run.sh: no Fashion-MNIST in $FASHION_MNIST: apt-get install dataset-fashion-mnist, or set FASHION_MNIST" >&2
    exit 1
}
venv=build/bench
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv" || {
    echo "run.sh: no virtual environment could be made: apt-get install python3-venv" >&2
    exit 1
}
cmp -s benches/requirements.txt "$venv/requirements.txt" || {
    "$venv/bin/python" -m pip install --quiet --requirement benches/requirements.txt
    cp benches/requirements.txt "$venv/requirements.txt"
}
# Everyone uses all processors. Nobody's threads spin after their work, on the time of whoever is timed next: it costs the one
# who sleeps a wake-up of microseconds in a call of milliseconds.
export OMP_WAIT_POLICY=PASSIVE KMP_BLOCKTIME=0 OPENBLAS_THREAD_TIMEOUT=4
export PYTHONPATH=bindings/python PYTHONDONTWRITEBYTECODE=1 TORCHINDUCTOR_COMPILE_THREADS=1
exec "$venv/bin/python" benches/bench.py "$@"
