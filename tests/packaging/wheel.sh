#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs a wheel into a new environment and runs the example of examples/python there, far from this folder and with no
# library path: it uses the library in the wheel.
#
#   wheel.sh WHEEL
set -eu
wheel=$(realpath "$1")
cd "$(dirname "$0")/../.."
root=$PWD
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "wheel: $*" >&2; exit 1; }
unset LD_LIBRARY_PATH PYTHONPATH MNEMO_LIBRARY

# The tag is what auditwheel finds, too, in the symbols that the library asks for.
tag=$(basename "$wheel" .whl | sed 's/.*-//')
build/packaging/bin/auditwheel show "$wheel" >"$tmp/audit.txt"
tr '\n' ' ' <"$tmp/audit.txt" | grep -qF "is consistent with the following platform tag: \"$tag\"" || { cat "$tmp/audit.txt" >&2; fail "the tag is $tag"; }

# numpy is had once and kept.
kept=build/packaging/wheels
python3 -m venv "$tmp/venv"
pip="$tmp/venv/bin/pip --quiet --disable-pip-version-check"
$pip install --no-index --find-links $kept numpy 2>/dev/null || {
	$pip download --dest $kept --only-binary :all: numpy
	$pip install --no-index --find-links $kept numpy
}
$pip install --no-index --no-deps "$wheel"
$pip check

cp examples/python/copies.py examples/data/digits.npy "$tmp/"
cd "$tmp"
venv/bin/python copies.py digits.npy >copies.txt
diff "$root/examples/copies.txt" copies.txt >&2 || fail "copies.py prints something else than examples/copies.txt"
venv/bin/python -c 'import mnemo
mnemo.Context()
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libmnemo" in line})' >loaded.txt
case $(cat loaded.txt) in
	"$tmp"/venv/lib/python*/site-packages/mnemo/libmnemo.so.[0-9]*) ;;
	*) fail "it loads $(cat loaded.txt)" ;;
esac
