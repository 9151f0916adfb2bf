# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memorization in diffusion models: exact scores of a training set, samplers, and how much of a result is copied.

A `Dataset` holds training rows y_1 … y_N in R^d, a `Process` says how noise is added, x_t = m(t) y + sigma(t) eps, and a
`Score` is a model of grad log p_t(x): the exact one of the smoothed training set, regularized or conditional, or one of the
caller's own. A score is evaluated and sampled; `nearest` and `memorization` say what of the samples is copied.
"""

from __future__ import annotations

from typing import Tuple

from ._abi import lib
from ._call import Cancel
from ._context import Context, default_context
from ._dataset import Dataset
from ._device import DeviceArray
from ._errors import (
    CallbackError,
    Cancelled,
    DeviceError,
    DtypeError,
    Error,
    FileError,
    InvalidError,
    MissingFileError,
    OutOfMemoryError,
    ShapeError,
    UnsupportedError,
)
from ._memorization import Memorization, Nearest, memorization, nearest
from ._process import Marginal, Process
from ._score import Evaluation, Score

__version__ = "0.1.0"


def abi_version() -> Tuple[int, int]:
    """(major, minor) of the C ABI of the library that is loaded."""
    version = lib.mnemo_abi_version()
    return version >> 16, version & 0xFFFF


def library_version() -> str:
    """The version of the library that is loaded, such as "0.1.0"."""
    return str(lib.mnemo_version().decode())


__all__ = [
    "CallbackError",
    "Cancel",
    "Cancelled",
    "Context",
    "Dataset",
    "DeviceArray",
    "DeviceError",
    "DtypeError",
    "Error",
    "Evaluation",
    "FileError",
    "InvalidError",
    "Marginal",
    "Memorization",
    "MissingFileError",
    "Nearest",
    "OutOfMemoryError",
    "Process",
    "Score",
    "ShapeError",
    "UnsupportedError",
    "abi_version",
    "default_context",
    "lib",
    "library_version",
    "memorization",
    "nearest",
]
