# SPDX-License-Identifier: MIT OR Apache-2.0
"""A DLPack producer that owns its memory and counts: any shape, strides, element type, device and protocol version."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

import numpy as np


class DLTensor(ctypes.Structure):
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


class Managed(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("manager", c_void_p), ("deleter", c_void_p)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    ]


TYPES = {"float32": (2, 32), "float64": (2, 64), "float16": (2, 16), "bfloat16": (4, 16), "uint8": (1, 8), "int64": (0, 64)}
TYPES.update({"int32": (0, 32), "bool": (6, 8), "complex64": (5, 64)})
DESTRUCTOR = CFUNCTYPE(None, c_void_p)
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype, new_capsule.argtypes = ctypes.py_object, [c_void_p, ctypes.c_char_p, c_void_p]
alive = {}


@DESTRUCTOR
def destroy(capsule):
    alive.pop(capsule, None)


class Producer:
    """Shares `array`; bfloat16 is an array of uint16. The memory is valid while a capsule of it lives."""

    def __init__(self, array, dtype=None, device=(1, 0), version=None, read_only=False, strides=True, offset=0, ndim=None):
        self.array, self.device, self.version, self.read_only = array, device, version, read_only
        self.type = TYPES[dtype or str(array.dtype)]
        self.with_strides, self.offset = strides, offset
        self.asked = []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **options):
        if "max_version" in options and self.version is None:
            raise TypeError("unexpected keyword argument 'max_version'")
        if "stream" in options and self.device[0] == 1:
            raise TypeError("the host's memory has no stream")
        self.asked.append(options.get("stream"))
        array, n = self.array, self.array.ndim
        shape = (c_int64 * n)(*array.shape)
        strides = (c_int64 * n)(*(s // array.itemsize for s in array.strides))
        tensor = DLTensor(
            array.ctypes.data - self.offset,
            *self.device,
            n,
            *self.type,
            1,
            ctypes.cast(shape, POINTER(c_int64)),
            ctypes.cast(strides, POINTER(c_int64)) if self.with_strides else None,
            self.offset,
        )
        if self.version is None:
            managed, name = Managed(tensor, None, None), b"dltensor"
        else:
            managed, name = Versioned(*self.version, None, None, int(self.read_only), tensor), b"dltensor_versioned"
        capsule = new_capsule(ctypes.addressof(managed), name, ctypes.cast(destroy, c_void_p).value)
        alive[id(capsule)] = (managed, shape, strides, array)
        return capsule


def bfloat16(array):
    """Round toward zero to bfloat16: the words, and their values as float32."""
    words = (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return words, (words.astype(np.uint32) << 16).view(np.float32)
