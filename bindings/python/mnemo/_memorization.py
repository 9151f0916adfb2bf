# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memorization: what of the generated is copied."""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from . import _abi
from ._abi import lib
from ._call import Cancel, Progress, run
from ._context import expect
from ._dataset import Dataset
from ._device import stream_of
from ._tensor import View, constant, integer, matrix, new_output, output, real

_METRICS = {"l2": _abi.MNEMO_METRIC_L2, "cosine": _abi.MNEMO_METRIC_COSINE}


class Nearest(NamedTuple):
    """The nearest training rows of each query, nearest first, ties to the lower index."""

    distance: Any
    """[queries, k]: distances."""
    index: Any
    """[queries, k] of int64: row numbers."""


class Memorization(NamedTuple):
    """How near generated samples come to the training rows."""

    samples: int
    """Number of samples."""
    copied: int
    """Samples within the threshold of their nearest training row."""
    fraction_copied: float
    """copied / samples."""
    min_distance: float
    """Smallest Euclidean distance of a sample to its nearest training row."""
    median_distance: float
    """Median of these distances (mean of the middle two)."""
    max_distance: float
    """Largest of these distances."""


def nearest(
    data: Dataset,
    queries: Any,
    k: int = 1,
    metric: str = "l2",
    *,
    out: Optional[Tuple[Any, Any]] = None,
    cancel: Optional[Cancel] = None,
    progress: Optional[Progress] = None,
    stream: Any = None,
) -> Nearest:
    """The `k` nearest training rows of each query, exact.

    A training row's nearest row is itself: for its neighbours ask for one more and leave out the first.

    Parameters
    ----------
    data : Dataset
    queries : array [queries, dim]
        float32 or float64.
    k : int
        In [1, N].
    metric : {"l2", "cosine"}
        Euclidean distance, or 1 - cos: in [0, 2], and 1 from a training row of zeros. A query of zeros has no cosine.
    out : (array, array), optional
        Distances [queries, k] (float64 or float32) and indices [queries, k] (int64), written in place; either may be
        None and is then not returned.
    cancel, progress, stream
        As for `Score`.

    Returns
    -------
    Nearest
        (distance, index)

    Raises
    ------
    InvalidError, ShapeError, DtypeError, DeviceError, OutOfMemoryError, Cancelled
    """
    stream = stream_of(stream, queries)
    view, k = matrix("queries", queries, stream=stream), integer("k", k, 64)
    kind = constant("metric", metric, _METRICS)
    expect("data", data, Dataset)
    views: List[Optional[View]]
    if out is None:
        shape = (view.tensor.rows, max(0, min(k, data.rows)))
        distance, to_distance = new_output("distance", shape, np.float64, queries, stream)
        index, to_index = new_output("index", shape, np.int64, queries, stream)
        views = [to_distance, to_index]
    else:
        distance, index = out
        named = (("out: distance", distance), ("out: index", index))
        views = [None if array is None else output(name, array, stream) for name, array in named]
    where = [None if v is None else byref(v.tensor) for v in views]
    run(lib.mnemo_nearest, data, byref(view.tensor), kind, k, *where, cancel=cancel, progress=progress, stream=stream)
    return Nearest(distance, index)


def memorization(
    data: Dataset,
    generated: Any,
    threshold: float,
    *,
    cancel: Optional[Cancel] = None,
    progress: Optional[Progress] = None,
    stream: Any = None,
) -> Memorization:
    """How many of the `generated` samples are copies of training rows, and how near the samples come.

    Parameters
    ----------
    data : Dataset
    generated : array [any > 0, dim]
        float32 or float64.
    threshold : float
        A sample within this Euclidean distance of a training row is a copy. Half the median distance of training rows to
        their nearest neighbours is a scale-free choice.
    cancel, progress, stream
        As for `Score`.

    Returns
    -------
    Memorization

    Raises
    ------
    InvalidError, ShapeError, DtypeError, DeviceError, OutOfMemoryError, Cancelled
    """
    stream = stream_of(stream, generated)
    view = matrix("generated", generated, stream=stream)
    options, report = _abi.mnemo_memorization_options(), _abi.mnemo_memorization_report()
    lib.mnemo_memorization_options_init(byref(options), ctypes.sizeof(options))
    lib.mnemo_memorization_report_init(byref(report), ctypes.sizeof(report))
    options.threshold = real("threshold", threshold)
    expect("data", data, Dataset)
    run(
        lib.mnemo_memorization,
        data,
        byref(view.tensor),
        byref(options),
        byref(report),
        cancel=cancel,
        progress=progress,
        stream=stream,
    )
    return Memorization(*(getattr(report, name) for name in Memorization._fields))
