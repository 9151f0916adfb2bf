#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes the files that the target `files` starts from: one small valid file of each kind that the library reads.

    seeds.py corpus/files
"""

import gzip
import pathlib
import struct
import sys

ROWS_GZIP, LABELS_GZIP, LABELS, LIMITED = 1, 2, 4, 8  # the first byte of an input, see src/bin/files.rs


def npy(descr, shape, data, version=1, fortran=False, pad=True):
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    if pad:
        header += b" " * (-(len(header) + 11) % 16) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def idx(code, shape, data):
    return bytes([0, 0, code, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


def seed(rows, labels=b"", choices=0):
    return bytes([choices | (LABELS if labels else 0)]) + struct.pack("<H", len(rows)) + rows + labels


U1 = npy("|u1", (3, 2), bytes([1, 2, 3, 4, 5, 6]))
THREE = npy("<i8", (3,), struct.pack("<3q", 7, -1, 7))
PACKED = gzip.compress(U1, mtime=0)

SEEDS = {
    "npy-u1": seed(U1),
    "npy-f2": seed(npy("<f2", (2, 1), struct.pack("<2e", 0.5, -2))),
    "npy-f4": seed(npy("<f4", (2, 2), struct.pack("<4f", 0, 1, -1, 1e30))),
    "npy-f8": seed(npy("<f8", (1, 2), struct.pack("<2d", 1e100, -1e100))),
    "npy-f8-big-endian": seed(npy(">f8", (2, 1), struct.pack(">2d", 1, 2))),
    "npy-f4-infinite": seed(npy("<f4", (1,), struct.pack("<f", float("inf")))),
    "npy-version-2": seed(npy("<f4", (1, 1, 2), struct.pack("<2f", 1, 2), version=2)),
    "npy-version-3": seed(npy("=f4", (2,), struct.pack("<2f", 1, 2), version=3)),
    "npy-fortran-vector": seed(npy("<f4", (2, 1), struct.pack("<2f", 1, 2), fortran=True)),
    "npy-fortran-matrix": seed(npy("<f4", (2, 2), struct.pack("<4f", 1, 2, 3, 4), fortran=True)),
    "npy-not-padded": seed(npy("|u1", (1, 1), b"\x01", pad=False)),
    "npy-scalar": seed(npy("|u1", "()", b"\x01")),
    "npy-empty": seed(npy("|u1", (0, 2), b"")),
    "npy-enormous": seed(npy("|u1", (2**62, 4), b"")),
    "npy-short": seed(U1[:-1]),
    "npy-long": seed(U1 + b"\x00"),
    "npy-complex": seed(npy("<c8", (1, 1), bytes(8))),
    "idx-u8": seed(idx(0x08, (2, 1, 2), bytes([1, 2, 3, 4]))),
    "idx-f4": seed(idx(0x0D, (1, 2), struct.pack(">2f", 1, 2))),
    "idx-f8": seed(idx(0x0E, (1, 1), struct.pack(">d", 1))),
    "idx-i4-rows": seed(idx(0x0C, (1, 1), bytes(4))),
    "gzip-npy": seed(PACKED),
    "gzip-two-members": seed(gzip.compress(U1[:50], mtime=0) + gzip.compress(U1[50:], mtime=0)),
    "gzip-trailing-garbage": seed(PACKED + b"\x00\x00"),
    "gzip-truncated": seed(PACKED[:-9]),
    "gzip-wrong-checksum": seed(PACKED[:-8] + bytes(4) + PACKED[-4:]),
    "gzip-bomb": seed(gzip.compress(npy("|u1", (1, 100000), bytes(100000)), mtime=0)),
    "gzip-made-by-target": seed(U1, choices=ROWS_GZIP),
    "limited": seed(npy("<f8", (3, 3), bytes(72)), choices=LIMITED),
    "labels-i8": seed(U1, THREE),
    "labels-column": seed(U1, npy("<i4", (3, 1), struct.pack("<3i", 1, 2, 3))),
    "labels-u8-too-large": seed(U1, npy("<u8", (3,), b"\xff" * 24)),
    "labels-u2": seed(U1, npy("<u2", (3,), struct.pack("<3H", 1, 2, 65535))),
    "labels-i1": seed(U1, npy("|i1", (3,), b"\x80\x00\x7f")),
    "labels-u4": seed(U1, npy(">u4", (3,), struct.pack(">3I", 1, 2, 2**32 - 1))),
    "labels-idx": seed(U1, idx(0x08, (3,), bytes([9, 8, 9]))),
    "labels-idx-i2": seed(U1, idx(0x0B, (3,), struct.pack(">3h", -1, 0, 1))),
    "labels-gzip": seed(U1, gzip.compress(THREE, mtime=0)),
    "labels-gzip-made-by-target": seed(U1, THREE, choices=ROWS_GZIP | LABELS_GZIP | LIMITED),
    "labels-too-few": seed(U1, npy("<i8", (2,), bytes(16))),
    "labels-of-floats": seed(U1, npy("<f4", (3,), bytes(12))),
    "neither": seed(b"PK\x03\x04"),
    "nothing": seed(b""),
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, content in SEEDS.items():
    (folder / name).write_bytes(content)
