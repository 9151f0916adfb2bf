#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# test-plugins.sh PREFIX - the tests of mnemo.torch and mnemo.jax against the mnemo installed in PREFIX.
# PyTorch and JAX go to build/plugins, if they are not there. PYTHON is honoured.
set -eu
[ $# -eq 1 ] || { echo "usage: test-plugins.sh PREFIX" >&2; exit 2; }
prefix=$(CDPATH='' cd -- "$1" && pwd)
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$here/../../build/plugins
python=$venv/bin/python
for tool in "${CXX:-c++}" pkg-config; do
    command -v "$tool" > /dev/null || { echo "test-plugins.sh: $tool is missing: apt-get install g++ pkg-config" >&2; exit 1; }
done
[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv" || {
    echo "test-plugins.sh: no virtual environment could be made: apt-get install python3-venv" >&2
    exit 1
}
"$python" -c 'import torch, jax, numpy, pytest' 2> /dev/null || "$python" -m pip install --quiet --requirement "$here/requirements-plugins.txt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/jax/build.sh" "$prefix" "$python" "$work/libmnemo_jax.so"
export MNEMO_LIBRARY="$prefix/lib/libmnemo.so" MNEMO_JAX_LIBRARY="$work/libmnemo_jax.so" PYTHONPATH="$here"
export PYTHONDONTWRITEBYTECODE=1 JAX_PLATFORMS=cpu
# Kernels that PyTorch compiled may be kept, its graphs may not: they have the plugin's formulas in them.
export TORCHINDUCTOR_CACHE_DIR="$venv/inductor" TORCHINDUCTOR_COMPILE_THREADS=1
export TORCHINDUCTOR_FX_GRAPH_CACHE=0 TORCHINDUCTOR_AUTOGRAD_CACHE=0
failed=0
"$python" -m pytest -q -p no:cacheprovider --tb=short --show-capture=no "$here/tests_plugins" > "$work/log" || failed=$?
cat "$work/log"
[ "$failed" -eq 0 ] || exit "$failed"
echo "plugins: $(sed -n 's/^\([0-9][0-9]*\) passed.*/\1/p' "$work/log") passed, 0 failed"
