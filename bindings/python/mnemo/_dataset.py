# SPDX-License-Identifier: MIT OR Apache-2.0
"""Data sets: the training rows."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import DTypeLike

from . import _abi
from ._abi import lib
from ._call import Handle, call, create
from ._context import Context, context_or_default, path_bytes
from ._device import LEGACY
from ._tensor import NAMES, integers, matrix, new_output, output, real

Path = Union[str, "os.PathLike[str]"]


class Dataset(Handle):
    """Training rows y_1 … y_N in R^d, kept in their own element type, and their labels.

    Immutable; may be used by many threads at once.

    Parameters
    ----------
    rows : array [N, d]
        float32, float64, float16, bfloat16 or uint8; a numpy array, or anything with ``__dlpack__`` in the host's memory
        or on the context's device. Axes after the first are taken as one. Copied.
    labels : array [N] of int, optional
        One label per row.
    scale, shift : float
        value = scale * raw + shift, in float64. For 8-bit images in [-1, 1]: 1/127.5 and -1.
    context : Context, optional
        Where to compute; `default_context()` if None.

    Raises
    ------
    InvalidError, ShapeError, DtypeError, DeviceError, OutOfMemoryError
    """

    _release = "mnemo_dataset_release"

    def __init__(
        self,
        rows: Any,
        labels: Any = None,
        scale: float = 1.0,
        shift: float = 0.0,
        context: Optional[Context] = None,
    ) -> None:
        options = _options(scale, shift)
        y = matrix("rows", rows, flatten=True)
        names = None if labels is None else integers("labels", labels)
        where = context_or_default(context)
        named = None if names is None else byref(names.tensor)
        self._open(create(lib.mnemo_dataset_copy, where, byref(y.tensor), named, byref(options)))

    @classmethod
    def open(
        cls,
        path: Path,
        labels: Optional[Path] = None,
        scale: float = 1.0,
        shift: float = 0.0,
        context: Optional[Context] = None,
    ) -> "Dataset":
        """Read a ``.npy`` or IDX file (the MNIST format), plain or gzip-compressed, told by its contents.

        The first dimension is N, the others are taken as one. `labels` is a file of one integer per row. Rows that exceed
        the context's `memory_limit` stay in the file, if it is not compressed, and are read when they are needed: it must
        not change, or every call fails with `FileError`.

        Raises
        ------
        FileError
            A file cannot be read, or is not what its header says; `MissingFileError` if it is not there.
        DtypeError, UnsupportedError, InvalidError, ShapeError, OutOfMemoryError
        """
        options = _options(scale, shift)
        if labels is not None:
            options.labels_path = path_bytes("labels", labels)
        self = cls.__new__(cls)
        where = context_or_default(context)
        self._open(create(lib.mnemo_dataset_open, where, path_bytes("path", path), byref(options)))
        return self

    def _open(self, pointer: ctypes.c_void_p) -> None:
        self._adopt(pointer)
        info = _abi.mnemo_dataset_info()
        lib.mnemo_dataset_info_init(byref(info), ctypes.sizeof(info))
        call(lib.mnemo_dataset_info, self, byref(info))
        self._info = info

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return int(self._info.rows)

    @property
    def dim(self) -> int:
        """Dimension d of a row."""
        return int(self._info.dim)

    @property
    def dtype(self) -> str:
        """Element type of the stored rows, such as ``"float32"`` or ``"bfloat16"``."""
        return NAMES[self._info.dtype]

    @property
    def labels(self) -> int:
        """Number of distinct labels; 0 if there are none."""
        return int(self._info.labels)

    @property
    def min(self) -> float:
        """Smallest value, after scale and shift."""
        return float(self._info.min)

    @property
    def max(self) -> float:
        """Largest value, after scale and shift."""
        return float(self._info.max)

    def __len__(self) -> int:
        return self.rows

    def gather(self, index: Any, dtype: DTypeLike = np.float64, out: Any = None) -> Any:
        """The values of the rows named by `index`.

        Parameters
        ----------
        index : int or array [n] of int
            Rows in [0, N).
        dtype : float64 or float32
            Of the result.
        out : array [n, d], optional
            Written in place instead of a new array.

        Returns
        -------
        array [n, d] (n = 1 for a number), or `out`.

        Raises
        ------
        InvalidError, ShapeError, DtypeError
        """
        which = integers("index", index)
        if out is None:
            result, to = new_output("out", (which.tensor.rows, self.dim), dtype, index, LEGACY)
        else:
            result, to = out, output("out", out)
        call(lib.mnemo_dataset_gather, self, byref(which.tensor), byref(to.tensor))
        return result

    def __repr__(self) -> str:
        return f"<mnemo.Dataset {self.rows} x {self.dim} {self.dtype}{', closed' if self.closed else ''}>"


def _options(scale: float, shift: float) -> _abi.mnemo_dataset_options:
    options = _abi.mnemo_dataset_options()
    lib.mnemo_dataset_options_init(byref(options), ctypes.sizeof(options))
    options.scale, options.shift = real("scale", scale), real("shift", shift)
    return options
