# SPDX-License-Identifier: MIT OR Apache-2.0
"""Memory of a CUDA device: the stream of a call, new outputs where PyTorch's inputs are, and what callbacks are lent.

PyTorch is looked for among the modules that the host has imported, never imported here.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from ctypes import POINTER, Structure, byref, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, List, Optional, Tuple

from . import _abi, _errors

DL_CPU, DL_CUDA, DL_CUDA_HOST = 1, 2, 3


class DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class DLManaged(Structure):
    _fields_ = [("tensor", DLTensor), ("manager", c_void_p), ("deleter", c_void_p)]


class DLVersioned(Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    ]


# ----- PyTorch's tensors ----------------------------------------------------------------------------------------------


def torch_of(array: Any) -> Any:
    """PyTorch, if `array` is one of its tensors on a CUDA device."""
    torch = sys.modules.get("torch")
    kind = getattr(torch, "Tensor", None)
    return torch if kind is not None and isinstance(array, kind) and array.is_cuda else None


def empty(shape: Tuple[int, ...], dtype: str, like: Any) -> Any:
    """A new tensor on the device of `like`, a tensor of PyTorch's."""
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, dtype), device=like.device)


def settled(array: Any, dtype: str, stream: int) -> Any:
    """A tensor of PyTorch's without gradient, contiguous, of element type `dtype`, and kept until `stream` has passed what is
    queued there now; anything else as it is."""
    torch = torch_of(array)
    if torch is None:
        return array
    array = array.detach().resolve_neg().to(getattr(torch, dtype)).contiguous()
    if torch.cuda.current_stream(array.device).cuda_stream != stream:
        array.record_stream(external(torch, stream, array.device))
    return array


def external(torch: Any, stream: int, device: Any) -> Any:
    """A stream as PyTorch's."""
    return torch.cuda.ExternalStream(stream, device) if stream != LEGACY else torch.cuda.default_stream(device)


# ----- Streams --------------------------------------------------------------------------------------------------------

LEGACY = 0  # the legacy default stream; 1 in DLPack, where 0 would be ambiguous


def stream_of(stream: Any, *arrays: Any) -> int:
    """The stream of a call: the caller's; else PyTorch's current one, if it is given tensors of PyTorch's on a device."""
    if stream is None:
        for array in arrays:
            torch = torch_of(array)
            if torch is not None:
                return int(torch.cuda.current_stream(array.device).cuda_stream)
        return LEGACY
    handle = getattr(stream, "cuda_stream", stream)
    if not isinstance(handle, int) or isinstance(handle, bool) or not 0 <= handle < 1 << 64:
        raise TypeError(f"stream: a CUDA stream's address or a torch.cuda.Stream, not {stream!r}")
    return LEGACY if handle == 1 else handle


def capsule_of(producer: Any, stream: int) -> Any:
    """The DLPack capsule of an array, whose memory is ready for work on `stream` if it is on a device."""
    of_device = getattr(producer, "__dlpack_device__", None)
    on_cuda = of_device is not None and int(of_device()[0]) == DL_CUDA
    options = {"stream": stream or 1} if on_cuda else {}
    torch = torch_of(producer)
    # PyTorch exports tensors of its current device only.
    with nullcontext() if torch is None else torch.cuda.device(producer.device):
        try:
            return producer.__dlpack__(max_version=(1, 0), **options)
        except TypeError:  # a producer of before DLPack 1.0
            return producer.__dlpack__(**options)


# ----- The driver -----------------------------------------------------------------------------------------------------


def _driver(name: str, *arguments: Any) -> None:
    """Call the driver that the library has loaded, in its context: inside a callback."""
    code = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    if code != 0:
        raise _errors.error(_abi.MNEMO_E_CUDA, code, f"{name}: CUDA error {code}")


def copy(to: int, source: int, size: int, stream: int) -> None:
    """Queue a copy of `size` bytes within the device."""
    if size:
        _driver("cuMemcpyDtoDAsync_v2", c_uint64(to), c_uint64(source), c_size_t(size), c_void_p(stream))


def wait(stream: int) -> None:
    """Wait until the stream has passed."""
    _driver("cuStreamSynchronize", c_void_p(stream))


# ----- What callbacks are lent ----------------------------------------------------------------------------------------

_TYPES = {_abi.MNEMO_F32: ("float32", 2, 32), _abi.MNEMO_F64: ("float64", 2, 64)}

_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = c_void_p, [c_size_t]
_libc.free.restype, _libc.free.argtypes = None, [c_void_p]
_FREE = ctypes.cast(_libc.free, c_void_p).value


def _python(name: str, result: Any, *arguments: Any) -> Any:
    """A function of Python's, of our own: those of `ctypes.pythonapi` are everybody's to set types on."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new_capsule = _python("PyCapsule_New", ctypes.py_object, c_void_p, ctypes.c_char_p, c_void_p)
_set_name = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
is_capsule = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
pointer_of = _python("PyCapsule_GetPointer", c_void_p, ctypes.py_object, ctypes.c_char_p)
# Capsules keep these addresses.
NAME, NAME_VERSIONED, _USED = b"dltensor", b"dltensor_versioned", b"used_dltensor"


class DeviceArray:
    """A matrix or vector in the memory of a CUDA device, lent to a callback until it returns.

    It has ``__dlpack__``: ``torch.from_dlpack(x)`` and ``cupy.from_dlpack(x)`` are views of it, not to be written to, nor
    kept; copy what is to be kept. Its numbers are there for work on `stream`; whoever takes it for another stream waits
    for that one.
    """

    def __init__(self, pointer: Any, axes: int, stream: int) -> None:
        t = pointer.contents
        self._address: Optional[int] = t.data or 0
        self.shape: Tuple[int, ...] = (t.rows, t.cols)[:axes]
        """Lengths of its axes."""
        self.device: int = t.device_id
        """Number of its CUDA device."""
        self.stream: int = stream
        """The CUDA stream of the call, an address; 0 is the legacy default stream."""
        self.dtype: str = _TYPES[t.dtype][0]
        """``"float32"`` or ``"float64"``."""
        self._type = _TYPES[t.dtype][1:]
        self._kind: int = t.device_type
        self._capsules: List[Tuple[Any, bytes, int]] = []

    def _end(self) -> None:
        """The callback has returned: there is no memory any more, neither here nor in capsules that nobody has taken."""
        self._address = None
        while self._capsules:
            capsule, name, block = self._capsules.pop()
            if is_capsule(capsule, name):
                _set_name(capsule, _USED)
                _libc.free(block)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        gone = ", gone" if self._address is None else ""
        return f"<mnemo.DeviceArray {self.shape} {self.dtype} on cuda:{self.device}{gone}>"

    def __dlpack_device__(self) -> Tuple[int, int]:
        return self._kind, self.device

    def __dlpack__(
        self, *, stream: Optional[int] = None, max_version: Any = None, dl_device: Any = None, copy: Optional[bool] = None
    ) -> Any:
        if self._address is None:
            raise BufferError("this array was lent to a callback that has returned: copy what is to be kept")
        if copy or (dl_device is not None and tuple(map(int, dl_device)) != self.__dlpack_device__()):
            raise BufferError("memory that is lent to a callback is not copied: take it where it is")
        if stream != -1 and stream_of(stream) != self.stream:
            wait(self.stream)
        axes = len(self.shape)
        versioned = max_version is not None and max_version[0] >= 1
        kind: Any = DLVersioned if versioned else DLManaged
        # One block of C's memory, which C's `free` gives back: nothing of Python's is needed to let go of it.
        head = ctypes.sizeof(kind)
        block = _libc.malloc(head + 16 * axes)
        if not block:
            raise MemoryError
        sizes = (c_int64 * (2 * axes)).from_address(block + head)
        sizes[:] = [*self.shape, self.shape[1], 1] if axes == 2 else [self.shape[0], 1]
        shape, strides = (ctypes.cast(block + head + 8 * axes * i, POINTER(c_int64)) for i in (0, 1))
        tensor = DLTensor(self._address, self._kind, self.device, axes, *self._type, 1, shape, strides, 0)
        if versioned:
            ctypes.memmove(block, byref(DLVersioned(1, 0, None, _FREE, 0, tensor)), ctypes.sizeof(DLVersioned))
        else:
            ctypes.memmove(block, byref(DLManaged(tensor, None, _FREE)), ctypes.sizeof(DLManaged))
        name = NAME_VERSIONED if versioned else NAME
        capsule = _new_capsule(block, name, None)
        self._capsules.append((capsule, name, block))
        return capsule
