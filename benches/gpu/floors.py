"""What no program can beat on a device: the time of its arithmetic, or of reading the rows once.

Two floors. `double` is that of kernels which do all in float64 by differences, which those for long rows may beat: in each of the two sums of a score a
subtraction and a fused multiply-add for every query, row and dimension, and about 20 instructions for a weight (counted
in the PTX; an exponential alone is 16). `matrix` is that of bf16 products on tensor cores, 4 B N d operations, or of one
exponential for each query and row on the special function units (16 a clock and multiprocessor).
"""

from dataclasses import dataclass

OF_A_WEIGHT = 20
# A shorter floor says nothing: launches take longer, milliseconds.
LEAST = 0.005


@dataclass(frozen=True)
class Peak:
    """Of data sheets: 1e12 float64 operations (a fused multiply-add is two) outside of tensor cores, 1e12 dense bf16 operations on
    them with float32 sums, 1e9 bytes, 1e12 exponentials, all a second."""

    double: float
    matrix: float
    bytes: float
    exponentials: float


# By the name that the driver tells, whole: a share of a device has another name.
PEAKS = {
    "NVIDIA H100 80GB HBM3": Peak(33.5, 989, 3350, 3.7),
    "NVIDIA H100 PCIe": Peak(25.6, 756, 2000, 3.2),
    "NVIDIA H200": Peak(33.5, 989, 4800, 3.7),
    "NVIDIA A100-SXM4-40GB": Peak(9.7, 312, 1555, 2.4),
    "NVIDIA A100-SXM4-80GB": Peak(9.7, 312, 2039, 2.4),
    "NVIDIA A100-PCIE-40GB": Peak(9.7, 312, 1555, 2.4),
    "NVIDIA A100 80GB PCIe": Peak(9.7, 312, 1935, 2.4),
    "NVIDIA B200": Peak(37, 2250, 8000, 4.6),
    "NVIDIA GeForce RTX 4090": Peak(1.29, 165, 1008, 5.2),
    "NVIDIA GeForce RTX 5090": Peak(1.64, 209, 1792, 6.5),
}


def peak_of(name):
    return PEAKS.get(name)


def _milliseconds(*parts):
    """Of the slowest part: (how many, how many a second)."""
    longest = max(1e3 * count / rate for count, rate in parts)
    return longest if longest >= LEAST else None


def score(peak, batch, n, d, row_bytes):
    """(double, matrix) of one score, milliseconds; None where it is not known or means nothing."""
    if peak is None:
        return None, None
    read = (n * row_bytes + 8 * batch * d, 1e9 * peak.bytes)
    double = _milliseconds((batch * n * (4 * d + OF_A_WEIGHT), 0.5e12 * peak.double), read)
    matrix = _milliseconds((4 * batch * n * d, 1e12 * peak.matrix), (batch * n, 1e12 * peak.exponentials), read)
    return double, matrix


def nearest(peak, batch, n, d, row_bytes):
    """(double, matrix) of a search: one sum, and no weights."""
    if peak is None:
        return None, None
    read = (n * row_bytes + 4 * batch * d, 1e9 * peak.bytes)
    double = _milliseconds((2 * batch * n * d, 0.5e12 * peak.double), read)
    return double, _milliseconds((2 * batch * n * d, 1e12 * peak.matrix), read)


def shares(floors, ms):
    """How much of the time is the floor's."""
    return tuple(None if floor is None or ms is None else floor / ms for floor in floors)
