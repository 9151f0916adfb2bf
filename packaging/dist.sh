#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds what is given away: a tarball of a prefix, which may be unpacked anywhere, a Python wheel with the library in it, and,
# in a git checkout, a tarball of the committed sources. The same sources give the same bytes.
#
#   dist.sh OUT
#
# Environment: VERSION, MAJOR (the ABI's), CARGO_TARGET_DIR.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(realpath "$1")
machine=$(uname -m)
# The oldest glibc that the shared library is for; zig links against its symbols whatever this machine has.
glibc=2.17

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# The tools, in an environment of their own that is made again when their versions change.
tools=build/packaging
cmp -s packaging/requirements.txt $tools/requirements.txt || {
	rm -rf $tools
	python3 -m venv $tools
	$tools/bin/pip install --quiet --disable-pip-version-check --requirement packaging/requirements.txt
	cp packaging/requirements.txt $tools/
}
PATH=$PWD/$tools/bin:$PATH

# A target folder of its own: flags that differ from the tests' would build both anew each time. Without the remapping the
# library's panic messages would name folders of this machine.
target=$machine-unknown-linux-gnu
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/dist"
cargo fetch --quiet --locked --target "$target"
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do RUSTFLAGS="${RUSTFLAGS-} --remap-path-prefix=$crates=/crates"; done
RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$PWD=/mnemo" cargo zigbuild --release --locked --lib --target "$target.$glibc"
mkdir "$stage/built"
strip --strip-unneeded -o "$stage/built/libmnemo.so" "$CARGO_TARGET_DIR/$target/release/libmnemo.so"
strip --strip-debug --enable-deterministic-archives -o "$stage/built/libmnemo.a" "$CARGO_TARGET_DIR/$target/release/libmnemo.a"
needs=$(packaging/glibc.sh "$stage/built/libmnemo.so")
[ "$(printf '%s\n' "$needs" $glibc | sort -V | tail -1)" = $glibc ] || { echo "libmnemo.so asks for glibc $needs, it is for $glibc" >&2; exit 1; }

mkdir "$stage/licences"
cp LICENSE LICENSE-APACHE LICENSE-MIT "$stage/licences/"
python3 packaging/third_party.py "$target" >"$stage/licences/LICENSE-THIRD-PARTY.txt"
cp "$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html" "$stage/licences/LICENSE-RUST-LIBRARY.html"

# The same order, owner and time whoever packs.
pack() { # FOLDER, in $stage
	tar --create --directory "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
		--format=gnu "$1" | gzip --best --no-name >"$out/$1.tar.gz"
}

name=mnemo-$VERSION-linux-$machine
PREFIX="$stage/$name" LIBDIR="$stage/$name/lib" DESTDIR="" PYTHON="" BUILT="$stage/built" packaging/install.sh install
install -d "$stage/$name/share/doc/mnemo"
install -m 644 README.md CHANGELOG.md "$stage/licences"/* "$stage/$name/share/doc/mnemo/"
pack "$name"

python=$stage/python
mkdir "$python"
tar --create --directory bindings/python --exclude=__pycache__ pyproject.toml README.md mnemo | tar --extract --directory "$python"
cp "$stage/licences"/* "$python/"
cp packaging/wheel.py "$python/setup.py"
install -m 755 "$stage/built/libmnemo.so" "$python/mnemo/libmnemo.so.$MAJOR"
rm -f "$out"/mnemo-*.whl
pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$out" \
	--config-settings="--build-option=--plat-name=manylinux_$(echo $glibc | tr . _)_$machine" "$python"

if git rev-parse --git-dir >/dev/null 2>&1; then
	git archive --format=tar --prefix="mnemo-$VERSION/" HEAD -- . ':(exclude).ci' | gzip --best --no-name >"$out/mnemo-$VERSION.tar.gz"
fi
ls -l "$out"
