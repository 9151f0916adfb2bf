# SPDX-License-Identifier: MIT OR Apache-2.0
"""Arrays as the library sees them: numpy arrays and DLPack producers without a copy, anything else through numpy."""

from __future__ import annotations

import contextlib
import math
import operator
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from . import _abi, _device, _errors

NAMES = {
    _abi.MNEMO_F32: "float32",
    _abi.MNEMO_F64: "float64",
    _abi.MNEMO_F16: "float16",
    _abi.MNEMO_BF16: "bfloat16",
    _abi.MNEMO_U8: "uint8",
    _abi.MNEMO_I32: "int32",
    _abi.MNEMO_I64: "int64",
}
_CODES = {np.dtype(name): code for code, name in NAMES.items() if name != "bfloat16"}


class View(NamedTuple):
    """A tensor, and what keeps its memory."""

    tensor: _abi.mnemo_tensor
    owner: object


# ----- DLPack ---------------------------------------------------------------------------------------------------------

_DL_READ_ONLY = 1
# (type code, bits) -> our element type, and numpy's for memory of that shape
_DL_TYPES = {
    (2, 32): (_abi.MNEMO_F32, np.float32),
    (2, 64): (_abi.MNEMO_F64, np.float64),
    (2, 16): (_abi.MNEMO_F16, np.float16),
    (4, 16): (_abi.MNEMO_BF16, np.uint16),
    (1, 8): (_abi.MNEMO_U8, np.uint8),
    (0, 32): (_abi.MNEMO_I32, np.int32),
    (0, 64): (_abi.MNEMO_I64, np.int64),
}


class _Strided(NamedTuple):
    """Memory of any device: strides in elements."""

    address: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]
    code: int
    raw: Any
    device: Tuple[int, int]
    read_only: bool
    owner: object


class _Memory:
    """Memory of the host to numpy, whose arrays keep this object and with it the owner."""

    def __init__(self, address: int, shape: Tuple[int, ...], raw: Any, strides: Any, read_only: bool, owner: object) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, read_only),
            "shape": shape,
            "typestr": np.dtype(raw).str,
            "strides": strides,
        }


def _from_dlpack(name: str, producer: Any, stream: int) -> _Strided:
    """The producer's memory. The capsule is not consumed: it is kept, and frees what it holds when it is dropped."""
    try:
        capsule = _device.capsule_of(producer, stream)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: no DLPack view of this {type(producer).__name__}: {error}") from error
    read_only = True  # a capsule of before DLPack 1.0 does not say, and JAX's arrays must not be written to
    if _device.is_capsule(capsule, _device.NAME_VERSIONED):
        versioned = _device.DLVersioned.from_address(_device.pointer_of(capsule, _device.NAME_VERSIONED))
        if versioned.major != 1:
            raise TypeError(f"{name}: DLPack version {versioned.major}; known is 1")
        tensor, read_only = versioned.tensor, bool(versioned.flags & _DL_READ_ONLY)
    elif _device.is_capsule(capsule, _device.NAME):
        tensor = _device.DLTensor.from_address(_device.pointer_of(capsule, _device.NAME))
    else:
        raise TypeError(f"{name}: __dlpack__ of this {type(producer).__name__} returned no DLPack capsule")
    found = _DL_TYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if found is None:
        raise _errors.dtype(f"{name}: DLPack element type ({tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes)")
    device = (tensor.device_type, tensor.device_id)
    if device[0] == _device.DL_CUDA_HOST:
        device = (_device.DL_CPU, 0)
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else _contiguous(shape)
    address = (tensor.data or 0) + tensor.byte_offset
    return _Strided(address, shape, strides, *found, device, read_only, (producer, capsule))


def _contiguous(shape: Sequence[int]) -> Tuple[int, ...]:
    strides, size = [], 1
    for n in reversed(shape):
        strides.append(size)
        size *= n
    return tuple(reversed(strides))


def _array_of(m: _Strided) -> np.ndarray:
    """Memory of the host as an array."""
    if 0 in m.shape:
        return np.empty(m.shape, m.raw)
    strides = tuple(s * np.dtype(m.raw).itemsize for s in m.strides)
    return np.asarray(_Memory(m.address, m.shape, m.raw, strides, m.read_only, m.owner))


# ----- Inputs ---------------------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """An array of the host, and its element type; or memory of another device."""

    array: Optional[np.ndarray]
    code: int
    elsewhere: Optional[_Strided] = None


def _source(name: str, given: Any, default: Any, stream: int = _device.LEGACY) -> _Source:
    if not isinstance(given, np.ndarray) and hasattr(given, "__dlpack__"):
        memory = _from_dlpack(name, given, stream)
        if memory.device[0] == _device.DL_CPU:
            return _Source(_array_of(memory), memory.code)
        return _Source(None, memory.code, memory)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: not an array of numbers: {error}") from error
    if not isinstance(given, (np.ndarray, np.generic)) and array.dtype.kind in "biuf":
        array = array.astype(default, copy=False)  # Python's numbers have no element type of their own
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    code = _CODES.get(array.dtype)
    if code is None and array.dtype.name == "bfloat16":  # numpy has none; the ml_dtypes package gives it one
        array, code = array.view(np.uint16), _abi.MNEMO_BF16
    if code is None:
        raise _errors.dtype(f"{name}: element type {array.dtype}; accepted are some of {', '.join(NAMES.values())}")
    return _Source(array, code)


def _in_place(array: np.ndarray) -> bool:
    """Whether rows of adjacent elements lie one after the other, apart or not."""
    item = array.itemsize
    shape, strides = array.shape, array.strides
    if array.size == 0:
        return True
    if not array.flags.aligned:
        return False
    if len(shape) == 2 and shape[1] > 1 and strides[1] != item:
        return False
    width = item * (shape[1] if len(shape) == 2 else 1)
    return shape[0] < 2 or (strides[0] >= width and strides[0] % item == 0)


def _tensor(array: np.ndarray, code: int) -> _abi.mnemo_tensor:
    shape = array.shape
    return _abi.mnemo_tensor(
        data=array.__array_interface__["data"][0],
        rows=shape[0],
        cols=shape[1] if len(shape) == 2 else 1,
        row_stride=array.strides[0] // array.itemsize if shape[0] > 1 and array.size else 0,
        dtype=code,
        device_type=_abi.MNEMO_CPU,
    )


def _input(name: str, source: _Source, axes: int, what: str) -> View:
    if source.elsewhere is not None:
        return _elsewhere(name, source.elsewhere, axes)
    array = source.array
    assert array is not None
    if axes == 1 and array.ndim == 0:
        array = array.reshape(1)
    if array.ndim != axes:
        raise _errors.shape(f"{name}: {array.ndim} axes; it is {what}")
    if not _in_place(array):
        array = np.array(array, order="C")
    return View(_tensor(array, source.code), array)


def _elsewhere(name: str, m: _Strided, axes: int) -> View:
    if len(m.shape) != axes:
        raise _errors.shape(f"{name}: {len(m.shape)} axes; it has {axes}")
    cols = m.shape[1] if axes == 2 else 1
    some = 0 not in m.shape
    if some and cols > 1 and m.strides[1] != 1:
        raise _errors.shape(f"{name}: elements of a row are apart; on another device they must be adjacent")
    if some and m.shape[0] > 1 and m.strides[0] < cols:
        raise _errors.shape(f"{name}: its rows overlap or run backwards; on another device it is used where it is")
    tensor = _abi.mnemo_tensor(
        data=m.address,
        rows=m.shape[0],
        cols=cols,
        row_stride=m.strides[0] if some and m.shape[0] > 1 else 0,
        dtype=m.code,
        device_type=m.device[0],
        device_id=m.device[1],
    )
    return View(tensor, m.owner)


def _flattened(name: str, m: _Strided) -> _Strided:
    """The axes after the first as one."""
    inner = m.shape[1:]
    if 0 not in m.shape and any(n > 1 and s != c for n, s, c in zip(inner, m.strides[1:], _contiguous(inner))):
        raise _errors.shape(f"{name}: elements of a row are apart; on another device they must be adjacent")
    return m._replace(shape=(m.shape[0], math.prod(inner)), strides=(m.strides[0], 1))


def matrix(name: str, given: Any, flatten: bool = False, stream: int = _device.LEGACY) -> View:
    """An input [rows, cols]. With `flatten`, axes after the first are taken as one."""
    source = _source(name, given, np.float64, stream)
    if flatten and source.array is not None and source.array.ndim > 2:
        array = source.array
        source = _Source(array.reshape(len(array), int(np.prod(array.shape[1:]))), source.code)
    if flatten and source.elsewhere is not None and len(source.elsewhere.shape) > 2:
        source = source._replace(elsewhere=_flattened(name, source.elsewhere))
    return _input(name, source, 2, "a matrix, one row per sample")


def vector(name: str, given: Any, default: Any = np.float64) -> View:
    """An input [n]; a number is a vector of one."""
    return _input(name, _source(name, given, default), 1, "a number or a vector")


def times(given: Any, stream: int = _device.LEGACY) -> View:
    """Times [n]; integers too, which the times of a discrete process are."""
    source = _source("t", given, np.float64, stream)
    if source.array is not None and source.code in (_abi.MNEMO_U8, _abi.MNEMO_I32, _abi.MNEMO_I64):
        source = _Source(source.array.astype(np.float64), _abi.MNEMO_F64)
    return _input("t", source, 1, "a number or a vector, one time per row of x")


def shape_of(name: str, given: Any) -> Tuple[int, ...]:
    """The shape of an array, wherever it is."""
    source = _source(name, given, np.float64, stream=-1)  # nothing is to be ready
    return source.array.shape if source.array is not None else source.elsewhere.shape  # type: ignore[union-attr]


def host_array(name: str, given: Any) -> np.ndarray:
    """An array in the host's memory; of a numpy array or DLPack producer a view."""
    source = _source(name, given, np.float64)
    if source.array is None:
        raise TypeError(f"{name}: on another device; it must be in the host's memory")
    if source.code == _abi.MNEMO_BF16:
        raise _errors.dtype(f"{name}: element type bfloat16; accepted: float32, float64")
    return source.array


def integers(name: str, given: Any) -> View:
    """An input vector of integers; types that the library does not know become int64."""
    if not hasattr(given, "__dlpack__") or isinstance(given, np.ndarray):
        array = np.asarray(given)
        if array.size == 0 and not isinstance(given, np.ndarray):
            array = array.astype(np.int64)
        if array.dtype.kind in "iub" and array.dtype not in _CODES and np.can_cast(array.dtype, np.int64):
            array = array.astype(np.int64)
        given = array
    return vector(name, given, np.int64)


# ----- Outputs --------------------------------------------------------------------------------------------------------


def output(name: str, given: Any, stream: int = _device.LEGACY, new: bool = False) -> View:
    """An output in the caller's memory: written where it is, never a copy. `new`: made by this package."""
    if not isinstance(given, np.ndarray) and not hasattr(given, "__dlpack__"):
        raise TypeError(f"{name}: an output is a numpy array or has __dlpack__, not a {type(given).__name__}")
    source = _source(name, given, None, stream)
    array, elsewhere = source.array, source.elsewhere
    writable = array.flags.writeable if array is not None else new or not elsewhere.read_only  # type: ignore[union-attr]
    if not writable or (isinstance(given, np.ndarray) and not given.dtype.isnative):
        raise _errors.invalid(
            f"{name}: read-only, from a DLPack older than 1.0, or in the other byte order; an output is written where it is"
        )
    axes = len(elsewhere.shape) if array is None else array.ndim  # type: ignore[union-attr]
    if axes not in (1, 2):
        raise _errors.shape(f"{name}: {axes} axes; it is a matrix or a vector")
    if elsewhere is not None:
        return _elsewhere(name, elsewhere, axes)
    assert array is not None
    if not _in_place(array):
        raise _errors.shape(f"{name}: its elements are not adjacent or not aligned; an output is written where it is")
    return View(_tensor(array, source.code), array)


def new_output(name: str, shape: Tuple[int, ...], dtype: Any, like: Any, stream: int) -> Tuple[Any, View]:
    """An array for a result, and its view: of PyTorch's on the device of `like`, if that is one; else of numpy's."""
    if _device.torch_of(like) is None:
        array: Any = np.empty(shape, dtype)
    else:
        array = _device.empty(shape, np.dtype(dtype).name, like)
    return array, output(name, array, stream, new=True)


# ----- Callbacks ------------------------------------------------------------------------------------------------------


def _host(t: _abi.mnemo_tensor, axes: int) -> np.ndarray:
    """The memory of a contiguous matrix of the host's that the library lends to a callback; a vector has one axis."""
    raw, shape = np.float32 if t.dtype == _abi.MNEMO_F32 else np.float64, (t.rows, t.cols)[:axes]
    return np.asarray(_Memory(t.data, shape, raw, None, False, None)) if 0 not in shape else np.empty(shape, raw)


@contextlib.contextmanager
def lent(stream: Optional[int], *tensors: Tuple[Any, int]) -> Iterator[List[Any]]:
    """What a callback is given of tensors and their numbers of axes: copies in the host's memory, on a device views that
    are good until it returns."""
    arrays: List[Any] = []
    for pointer, axes in tensors:
        if pointer.contents.device_type == _abi.MNEMO_CPU:
            arrays.append(_host(pointer.contents, axes).copy())
        else:
            arrays.append(_device.DeviceArray(pointer, axes, stream or _device.LEGACY))
    try:
        yield arrays
    finally:
        for array in arrays:
            if isinstance(array, _device.DeviceArray):
                array._end()


def write(name: str, prediction: Any, pointer: Any, stream: Optional[int]) -> None:
    """Put what a callback returned where the library wants it."""
    t, what = pointer.contents, f"what {name} returned"
    if t.device_type != _abi.MNEMO_CPU:
        _write_elsewhere(name, prediction, t, stream or _device.LEGACY)
        return
    out, source = _host(t, 2), _source(what, prediction, np.float64)
    if source.array is None:
        raise TypeError(f"{what}: on another device; it must be in the host's memory")
    array = source.array
    if source.code == _abi.MNEMO_BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if array.shape != out.shape:
        raise _errors.shape(f"{name} returned an array {array.shape}; it must be {out.shape}, the shape of x")
    np.copyto(out, array, casting="same_kind")


def _write_elsewhere(name: str, prediction: Any, t: _abi.mnemo_tensor, stream: int) -> None:
    what = f"what {name} returned"
    prediction = _device.settled(prediction, NAMES[t.dtype], stream)
    source = _source(what, prediction, np.float64, stream)
    m = source.elsewhere
    if m is None or m.device != (t.device_type, t.device_id):
        where = "in the host's memory" if m is None else f"on CUDA device {m.device[1]}"
        raise TypeError(f"{what}: {where}; on this context x is on CUDA device {t.device_id}, and so must this be")
    if m.shape != (t.rows, t.cols):
        raise _errors.shape(f"{name} returned an array {m.shape}; it must be {(t.rows, t.cols)}, the shape of x")
    if m.code != t.dtype:
        raise _errors.dtype(f"{what}: element type {NAMES[m.code]}; it must be that of x, {NAMES[t.dtype]}")
    if 0 not in m.shape and any(n > 1 and s != c for n, s, c in zip(m.shape, m.strides, _contiguous(m.shape))):
        raise _errors.shape(f"{what}: its elements are not contiguous")
    _device.copy(t.data or 0, m.address, t.rows * t.cols * (4 if t.dtype == _abi.MNEMO_F32 else 8), stream)
    if _device.torch_of(prediction) is None:
        _device.wait(stream)  # its memory may be given back when it is dropped


# ----- Numbers and names ----------------------------------------------------------------------------------------------


def integer(name: str, given: Any, bits: int, signed: bool = True) -> int:
    """An integer that fits: ctypes would take it modulo 2^bits."""
    try:
        value = operator.index(given)
    except TypeError:
        raise TypeError(f"{name}: an integer, not {given!r}") from None
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise _errors.invalid(f"{name} is {value}; it must lie in [{low}, {high}]")
    return value


def real(name: str, given: Any) -> float:
    """A number."""
    try:
        return float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: a number, not {given!r}") from None


def constant(name: str, given: Any, constants: Mapping[str, int]) -> int:
    """A constant of the library by its name."""
    value = constants.get(given) if isinstance(given, str) else None
    if value is None:
        raise _errors.invalid(f"{name} is {given!r}; it is one of {', '.join(map(repr, constants))}")
    return value
