#!/bin/sh
# Installs the tools the tests use, by Debian package name; fails where it cannot.
set -eu
command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.91 or later with rustup" >&2; exit 1; }
missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need_file() { [ -f "$1" ] || missing="$missing $2"; }
need cc gcc
need c++ g++
need nm binutils
need pkg-config pkg-config
need valgrind valgrind
need cmake cmake
need abidiff abigail-tools
need clang++ clang
need python3 python3
need pip3 python3-pip
need_file /usr/include/dlpack/dlpack.h libdlpack-dev
need_file /usr/include/eigen3/Eigen/Dense libeigen3-dev
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
[ -z "$missing" ] && exit 0
echo "installing:$missing"
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $missing
