#!/bin/sh
# Fetches the compilers of CUDA kernels that the tests use, from PyPI and by checksum, into build/nvrtc/VERSION. Fails where it
# cannot. Needs no GPU and no CUDA toolkit; x86-64 Linux only.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
to=$root/build/nvrtc
mkdir -p "$to"

fetch() { # package version sha256
  [ ! -f "$to/$2/complete" ] || return 0
  work=$(mktemp -d "$to/new-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "$1==$2 --hash=sha256:$3" >"$work/requirement"
  python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --require-hashes \
    --dest "$work" --requirement "$work/requirement"
  python3 - "$work" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
libraries = folder / "libraries"
libraries.mkdir()
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        name = pathlib.PurePosixPath(member).name
        if name.startswith("libnvrtc") and ".so" in name and ".alt." not in name:
            (libraries / name).write_bytes(archive.read(member))
PYTHON
  touch "$work/libraries/complete"
  # Someone else may have been quicker: what is there is as good.
  mv -T "$work/libraries" "$to/$2" 2>/dev/null || [ -f "$to/$2/complete" ]
  rm -rf "$work"
  trap - EXIT
}

# 12.0 makes the PTX that the library falls back on: the older the compiler, the older the drivers that take it. The others make
# the code of each architecture.
fetch nvidia-cuda-nvrtc-cu12 12.0.140 8e94e991d85c422de4da87bdc7472fdc1364367bd4aace7000b559cd33122071
fetch nvidia-cuda-nvrtc-cu12 12.9.86 210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4
fetch nvidia-cuda-nvrtc 13.0.88 ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
