#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs copies.py with the library of an installed prefix: run.sh PREFIX [DATA].
set -eu
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [DATA]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/../../bindings/python/venv.sh")
export MNEMO_LIBRARY="$1/lib/libmnemo.so.0" PYTHONPATH="$here/../../bindings/python" PYTHONDONTWRITEBYTECODE=1
exec "$python" "$here/copies.py" "${2-$here/../data/digits.npy}"
