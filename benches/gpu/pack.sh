#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Packs what run.sh needs on a machine with a GPU and nothing else of ours, into OUT and OUT.tar.gz: see README.md.
#
#   pack.sh OUT
#
# Environment: CARGO_TARGET_DIR; FASHION_MNIST, a folder with train-images-idx3-ubyte.gz, which is taken along if it is there.
set -eu
out=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
images=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}/train-images-idx3-ubyte.gz

cargo build --release --lib
suite=$(cargo test --release --test suite --no-run --message-format=json |
	sed -n 's/.*"executable":"\([^"]*\/suite-[^"]*\)".*/\1/p' | tail -1)
[ -x "$suite" ] || { echo "pack.sh: cargo names no executable of the suite" >&2; exit 1; }

rm -rf "$out" "$out.tar.gz"
mkdir -p "$out"
strip --strip-unneeded -o "$out/libmnemo.so" "$CARGO_TARGET_DIR/release/libmnemo.so"
strip --strip-unneeded -o "$out/suite" "$suite"
chmod 755 "$out/libmnemo.so" "$out/suite"
cp benches/gpu/*.py benches/gpu/run.sh benches/gpu/README.md "$out/"
tar --create --directory bindings/python --exclude=__pycache__ mnemo | tar --extract --directory "$out"
carried="no images: bench.py makes some"
if [ -f "$images" ]; then
	cp "$images" "$out/"
	carried="Fashion-MNIST's training images"
fi

needs=$(for file in libmnemo.so suite; do packaging/glibc.sh "$out/$file"; done | sort -V | tail -1)
from=$(git describe --always --dirty 2>/dev/null || echo "no commit")
cat >"$out/CONTENTS" <<END
from $from
glibc $needs or later, $(uname -m)
$carried
END
# The suite needs none of the sources: a list of its tests comes out of any folder.
(cd / && "$out/suite" --list c_abi) | grep -q ': test$' || { echo "pack.sh: the suite has no tests of the C ABI" >&2; exit 1; }

tar --create --directory "$(dirname "$out")" --sort=name --owner=0 --group=0 --numeric-owner "$(basename "$out")" |
	gzip --no-name >"$out.tar.gz"
cat "$out/CONTENTS"
ls -l "$out" "$out.tar.gz"
