# SPDX-License-Identifier: MIT OR Apache-2.0
"""Matrices in the memory of CUDA device 0, by the driver alone: DLPack producers, as CuPy's arrays are."""

import ctypes
from ctypes import POINTER, byref, c_int64, c_size_t, c_uint64, c_void_p

import numpy as np

from mnemo import _device

_driver = ctypes.CDLL("libcuda.so.1")
_TYPES = {"float32": (2, 32), "float64": (2, 64), "int64": (0, 64), "uint8": (1, 8)}


def cuda(name, *arguments):
    code = getattr(_driver, name)(*arguments)
    assert code == 0, f"{name}: {code}"


cuda("cuInit", 0)
_context = c_void_p()
cuda("cuDevicePrimaryCtxRetain", byref(_context), 0)
cuda("cuCtxSetCurrent", _context)


def new_stream():
    """One that does not wait for the legacy stream, nor it for this one."""
    stream = c_void_p()
    cuda("cuStreamCreate", byref(stream), 1)
    return stream.value


def synchronize():
    cuda("cuCtxSynchronize")


class Matrix:
    """A copy of `array` on the device; `numpy()` waits for the device and copies back."""

    def __init__(self, array):
        self.shape, self.dtype = array.shape, array.dtype
        self._address = c_uint64()
        cuda("cuMemAlloc_v2", byref(self._address), c_size_t(max(array.nbytes, 1)))
        host = np.ascontiguousarray(array)
        cuda("cuMemcpyHtoDAsync_v2", self._address, c_void_p(host.ctypes.data), c_size_t(host.nbytes), None)
        synchronize()
        self.asked = []

    def numpy(self):
        synchronize()
        host = np.empty(self.shape, self.dtype)
        cuda("cuMemcpyDtoHAsync_v2", c_void_p(host.ctypes.data), self._address, c_size_t(host.nbytes), None)
        synchronize()
        return host

    def __del__(self):
        _driver.cuMemFree_v2(self._address)

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, max_version=None):
        self.asked.append(stream)
        n = len(self.shape)
        self._shape = (c_int64 * n)(*self.shape)
        shape = ctypes.cast(self._shape, POINTER(c_int64))
        tensor = _device.DLTensor(self._address.value, 2, 0, n, *_TYPES[str(self.dtype)], 1, shape, None, 0)
        self._managed = _device.DLVersioned(1, 0, None, None, 0, tensor)
        return _device._new_capsule(ctypes.addressof(self._managed), _device.NAME_VERSIONED, None)


def lent(array):
    """The numbers of an array that a callback is lent: waits for the stream of the call."""
    capsule = array.__dlpack__(stream=1, max_version=(1, 0))
    name = _device.NAME_VERSIONED
    tensor = _device.DLVersioned.from_address(_device.pointer_of(capsule, name)).tensor
    assert (tensor.device_type, tensor.device_id) == (2, 0)
    host = np.empty(array.shape, array.dtype)
    cuda("cuStreamSynchronize", c_void_p(array.stream))
    cuda("cuMemcpyDtoHAsync_v2", c_void_p(host.ctypes.data), c_uint64(tensor.data), c_size_t(host.nbytes), c_void_p(array.stream))
    cuda("cuStreamSynchronize", c_void_p(array.stream))
    return host
