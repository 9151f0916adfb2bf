#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Prints the oldest glibc, such as 2.34, that a shared library can be loaded with: the newest symbol version it asks for.
#
#   glibc.sh LIBRARY
set -eu
readelf --version-info --wide "$1" | sed -n 's/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort -uV | tail -1 | grep .
