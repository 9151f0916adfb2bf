#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Puts the library, its headers and its pkg-config and CMake files into a prefix, or takes them out again. The Makefile calls
# it; run from the root of the project.
#
#   install.sh install|uninstall
#
# Environment: PREFIX, LIBDIR, DESTDIR and PYTHON (one with JAX, for its plugin), which may be empty, BUILT (the folder of
# libmnemo.so), VERSION, MAJOR (the ABI's).
set -eu

# What rustc says that the archive needs (a test asks it), but for -lgcc_s and -lc, which the compiler adds where they are
# wanted: cc -static is possible so.
system_libs="-lutil -lrt -lpthread -lm -ldl"

prefix=$(realpath -ms "${PREFIX:?}")
libdir=$(realpath -ms "${LIBDIR:?}")
lib=${DESTDIR-}$libdir
include=${DESTDIR-}$prefix/include

uninstall() {
	rm -f "$lib/libmnemo_jax.so" "$lib/libmnemo.so" "$lib/libmnemo.so.$MAJOR" "$lib/libmnemo.so.$VERSION" "$lib/libmnemo.a" "$lib/pkgconfig/mnemo.pc"
	rm -rf "$lib/cmake/mnemo"
	for header in include/*.h*; do rm -f "$include/${header#include/}"; done
}

fill() {
	sed -e "s|@VERSION@|$VERSION|g" -e "s|@MAJOR@|$MAJOR|g" -e "s|@PC_PREFIX@|$(quoted "$pc_prefix")|" \
		-e "s|@PC_LIBDIR@|$(quoted "$pc_libdir")|" -e "s|@PREFIX_FROM_CMAKE@|$(quoted "$prefix_from_cmake")|g" \
		-e "s|@SYSTEM_LIBS_PC@|$system_libs|" -e "s|@SYSTEM_LIBS_CMAKE@|$(echo "$system_libs" | sed 's/^-l//; s/ -l/;/g')|" \
		"packaging/$1.in" >"$tmp"
	install -m 644 "$tmp" "$2/$1"
}
quoted() { printf %s "$1" | sed 's/[&|\\]/\\&/g'; }

install_all() {
	pc_prefix=$prefix pc_libdir=$libdir prefix_from_cmake=$prefix
	# A prefix that holds both folders may be moved: its files say how it is reached from where they are. pkg-config has to
	# know /usr by name, to leave out what the compiler searches by itself.
	case $libdir in "${prefix%/}"/*)
		prefix_from_cmake="\${_mnemo_here}/$(realpath -ms --relative-to="$libdir/cmake/mnemo" "$prefix")"
		pc_libdir="\${prefix}${libdir#"${prefix%/}"}"
		[ "$prefix" = /usr ] || pc_prefix="\${pcfiledir}/$(realpath -ms --relative-to="$libdir/pkgconfig" "$prefix")"
		;;
	esac
	tmp=$(mktemp)
	trap 'rm -f "$tmp"' EXIT

	install -d "$lib/pkgconfig" "$lib/cmake/mnemo" "$include"
	install -m 755 "$BUILT/libmnemo.so" "$lib/libmnemo.so.$VERSION"
	ln -sf "libmnemo.so.$VERSION" "$lib/libmnemo.so.$MAJOR"
	ln -sf "libmnemo.so.$MAJOR" "$lib/libmnemo.so"
	install -m 644 "$BUILT/libmnemo.a" "$lib/libmnemo.a"
	install -m 644 include/*.h* "$include"
	fill mnemo.pc "$lib/pkgconfig"
	fill mnemo-config.cmake "$lib/cmake/mnemo"
	fill mnemo-config-version.cmake "$lib/cmake/mnemo"

	# The native half of mnemo.jax needs the headers of a jaxlib.
	if [ -n "${PYTHON-}" ]; then
		if "$PYTHON" -c 'import jax' 2>/dev/null; then
			PKG_CONFIG_PATH="$lib/pkgconfig" CXXFLAGS="-I$include -L$lib ${CXXFLAGS-}" bindings/python/jax/build.sh \
				"${DESTDIR-}$prefix" "$PYTHON" "$lib/libmnemo_jax.so"
		else
			echo "install.sh: $PYTHON has no JAX; libmnemo_jax.so, which mnemo.jax needs, is left out" >&2
		fi
	fi
}

case ${1-} in
	install) install_all ;;
	uninstall) uninstall ;;
	*) echo "usage: $0 install|uninstall" >&2; exit 2 ;;
esac
