# SPDX-License-Identifier: MIT OR Apache-2.0
"""The C ABI as ctypes sees it: constants, structs and prototypes of mnemo.h, and the library that is loaded."""

from __future__ import annotations

import ctypes
import os
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32
from ctypes import c_uint64, c_void_p
from pathlib import Path

MNEMO_OK = 0
MNEMO_E_INVALID = 1
MNEMO_E_SHAPE = 2
MNEMO_E_DTYPE = 3
MNEMO_E_DEVICE = 4
MNEMO_E_NOMEM = 5
MNEMO_E_IO = 6
MNEMO_E_CUDA = 7
MNEMO_E_COMPILE = 8
MNEMO_E_CANCELLED = 9
MNEMO_E_CALLBACK = 10
MNEMO_E_UNSUPPORTED = 11
MNEMO_E_POISONED = 12
MNEMO_E_PANIC = 13

MNEMO_ABI_MAJOR = 0
MNEMO_ABI_MINOR = 2

MNEMO_F32 = 1
MNEMO_F64 = 2
MNEMO_F16 = 3
MNEMO_BF16 = 4
MNEMO_U8 = 5
MNEMO_I32 = 6
MNEMO_I64 = 7

MNEMO_CPU = 1
MNEMO_CUDA = 2

MNEMO_EXEC_CHECK = 1

MNEMO_ISA_BEST = 0
MNEMO_ISA_PORTABLE = 1
MNEMO_ISA_AVX2 = 2
MNEMO_ISA_AVX512 = 3
MNEMO_ISA_AMX = 4

MNEMO_REG_NONE = 0
MNEMO_REG_TIKHONOV = 1
MNEMO_REG_BAYES_DENSITY = 2
MNEMO_REG_BAYES_WEIGHT = 3

MNEMO_PREDICT_SCORE = 0
MNEMO_PREDICT_EPS = 1
MNEMO_PREDICT_X0 = 2
MNEMO_PREDICT_V = 3
MNEMO_PREDICT_FLOW = 4

MNEMO_SOLVER_EULER = 0
MNEMO_SOLVER_HEUN = 1
MNEMO_SOLVER_EXPONENTIAL = 2
MNEMO_SOLVER_DPMPP_2M = 3
MNEMO_SOLVER_RK45 = 4
MNEMO_SOLVER_EULER_MARUYAMA = 5
MNEMO_SOLVER_ANCESTRAL = 6
MNEMO_SOLVER_EDM_STOCHASTIC = 7

MNEMO_GRID_UNIFORM_T = 0
MNEMO_GRID_UNIFORM_S = 1
MNEMO_GRID_KARRAS = 2
MNEMO_GRID_CUSTOM = 3

MNEMO_METRIC_L2 = 0
MNEMO_METRIC_COSINE = 1


class mnemo_error(Structure):
    _fields_ = [
        ("code", c_int32),
        ("native", c_int32),
        ("len", c_uint32),
        ("reserved", c_uint32),
        ("message", c_char * 496),
    ]


class mnemo_tensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("rows", c_int64),
        ("cols", c_int64),
        ("row_stride", c_int64),
        ("dtype", c_uint32),
        ("device_type", c_uint32),
        ("device_id", c_int32),
        ("reserved", c_uint32),
    ]


Tensor = POINTER(mnemo_tensor)
PROGRESS = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)
OBSERVER = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_double, Tensor)
EVAL = CFUNCTYPE(c_int32, c_void_p, Tensor, Tensor, Tensor, c_void_p)
JVP = CFUNCTYPE(c_int32, c_void_p, Tensor, Tensor, Tensor, Tensor, c_void_p)
DROP = CFUNCTYPE(None, c_void_p)


class mnemo_exec(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("stream", c_void_p),
        ("seed", c_uint64),
        ("cancel", c_void_p),
        ("progress", PROGRESS),
        ("progress_user", c_void_p),
    ]


class mnemo_context_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device_type", c_uint32),
        ("device_id", c_int32),
        ("num_threads", c_uint32),
        ("memory_limit", c_uint64),
        ("kernel_cache_dir", c_char_p),
        ("instruction_set", c_uint32),
        ("reserved", c_uint32),
    ]


class mnemo_dataset_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("scale", c_double),
        ("shift", c_double),
        ("labels_path", c_char_p),
    ]


class mnemo_dataset_info(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dtype", c_uint32),
        ("rows", c_int64),
        ("dim", c_int64),
        ("labels", c_int64),
        ("min", c_double),
        ("max", c_double),
    ]


class mnemo_empirical_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("regularizer", c_uint32),
        ("strength", c_double),
        ("tolerance", c_double),
        ("label", c_int64),
        ("conditional", c_uint32),
        ("reserved", c_uint32),
        ("log_strength", c_double),
    ]


class mnemo_score_ops(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("prediction", c_uint32),
        ("eval", EVAL),
        ("jvp", JVP),
        ("drop", DROP),
    ]


class mnemo_score_outputs(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("score", Tensor),
        ("denoised", Tensor),
        ("log_density", Tensor),
        ("divergence", Tensor),
        ("entropy", Tensor),
        ("nearest_index", Tensor),
        ("nearest_distance", Tensor),
        ("denoised_error_bound", Tensor),
        ("log_density_error_bound", Tensor),
    ]


class mnemo_sampler_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("solver", c_uint32),
        ("grid", c_uint32),
        ("from_prior", c_uint32),
        ("denoise_last", c_uint32),
        ("reserved", c_uint32),
        ("steps", c_int64),
        ("first_sample", c_int64),
        ("t_start", c_double),
        ("t_end", c_double),
        ("alpha2", c_double),
        ("eta", c_double),
        ("rtol", c_double),
        ("atol", c_double),
        ("rho", c_double),
        ("s_churn", c_double),
        ("s_min", c_double),
        ("s_max", c_double),
        ("s_noise", c_double),
        ("times", c_void_p),
        ("times_count", c_int64),
        ("observer", OBSERVER),
        ("observer_user", c_void_p),
    ]


class mnemo_memorization_options(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("threshold", c_double),
    ]


class mnemo_memorization_report(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("samples", c_int64),
        ("copied", c_int64),
        ("fraction_copied", c_double),
        ("min_distance", c_double),
        ("median_distance", c_double),
        ("max_distance", c_double),
    ]


STRUCTS = (
    mnemo_error,
    mnemo_tensor,
    mnemo_exec,
    mnemo_context_options,
    mnemo_dataset_options,
    mnemo_dataset_info,
    mnemo_empirical_options,
    mnemo_score_ops,
    mnemo_score_outputs,
    mnemo_sampler_options,
    mnemo_memorization_options,
    mnemo_memorization_report,
)

_handle = c_void_p
_out = POINTER(c_void_p)
_error = POINTER(mnemo_error)
_exec = POINTER(mnemo_exec)

# Every function of the header: (result, arguments). Arrays of double are addresses.
PROTOTYPES = {
    "mnemo_abi_version": (c_uint32, []),
    "mnemo_version": (c_char_p, []),
    "mnemo_status_name": (c_char_p, [c_int32]),
    "mnemo_exec_init": (None, [_exec, c_size_t]),
    "mnemo_cancel_create": (c_int32, [_out, _error]),
    "mnemo_cancel_request": (c_int32, [_handle]),
    "mnemo_cancel_reset": (c_int32, [_handle]),
    "mnemo_cancel_release": (None, [_handle]),
    "mnemo_context_options_init": (None, [POINTER(mnemo_context_options), c_size_t]),
    "mnemo_context_create": (c_int32, [POINTER(mnemo_context_options), _out, _error]),
    "mnemo_context_describe": (c_int32, [_handle, c_char_p, c_size_t, POINTER(c_size_t), _error]),
    "mnemo_context_release": (None, [_handle]),
    "mnemo_context_warm_up": (c_int32, [_handle, _error]),
    "mnemo_process_vp_linear": (c_int32, [c_double, c_double, c_double, _out, _error]),
    "mnemo_process_sub_vp": (c_int32, [c_double, c_double, _out, _error]),
    "mnemo_process_ve_power": (c_int32, [c_double, c_double, c_double, _out, _error]),
    "mnemo_process_ve_exponential": (c_int32, [c_double, c_double, _out, _error]),
    "mnemo_process_ve_geometric": (c_int32, [c_double, c_double, _out, _error]),
    "mnemo_process_discrete": (c_int32, [c_void_p, c_int64, _out, _error]),
    "mnemo_process_flow": (c_int32, [_out, _error]),
    "mnemo_process_eval": (c_int32, [_handle, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, _error]),
    "mnemo_process_time_of_sigma": (c_int32, [_handle, c_void_p, c_int64, c_void_p, _error]),
    "mnemo_process_release": (None, [_handle]),
    "mnemo_dataset_options_init": (None, [POINTER(mnemo_dataset_options), c_size_t]),
    "mnemo_dataset_info_init": (None, [POINTER(mnemo_dataset_info), c_size_t]),
    "mnemo_dataset_copy": (c_int32, [_handle, Tensor, Tensor, POINTER(mnemo_dataset_options), _out, _error]),
    "mnemo_dataset_open": (c_int32, [_handle, c_char_p, POINTER(mnemo_dataset_options), _out, _error]),
    "mnemo_dataset_info": (c_int32, [_handle, POINTER(mnemo_dataset_info), _error]),
    "mnemo_dataset_gather": (c_int32, [_handle, Tensor, Tensor, _error]),
    "mnemo_dataset_release": (None, [_handle]),
    "mnemo_empirical_options_init": (None, [POINTER(mnemo_empirical_options), c_size_t]),
    "mnemo_score_ops_init": (None, [POINTER(mnemo_score_ops), c_size_t]),
    "mnemo_score_outputs_init": (None, [POINTER(mnemo_score_outputs), c_size_t]),
    "mnemo_score_empirical": (c_int32, [_handle, _handle, POINTER(mnemo_empirical_options), _out, _error]),
    "mnemo_score_custom": (c_int32, [_handle, _handle, c_int64, POINTER(mnemo_score_ops), c_void_p, _out, _error]),
    "mnemo_score_eval": (c_int32, [_handle, Tensor, Tensor, POINTER(mnemo_score_outputs), _exec, _error]),
    "mnemo_score_jvp": (c_int32, [_handle, Tensor, Tensor, Tensor, Tensor, _exec, _error]),
    "mnemo_score_release": (None, [_handle]),
    "mnemo_sampler_options_init": (None, [POINTER(mnemo_sampler_options), c_size_t]),
    "mnemo_sample": (c_int32, [_handle, POINTER(mnemo_sampler_options), Tensor, _exec, _error]),
    "mnemo_memorization_options_init": (None, [POINTER(mnemo_memorization_options), c_size_t]),
    "mnemo_memorization_report_init": (None, [POINTER(mnemo_memorization_report), c_size_t]),
    "mnemo_nearest": (c_int32, [_handle, Tensor, c_uint32, c_int64, Tensor, Tensor, _exec, _error]),
    "mnemo_memorization": (
        c_int32,
        [_handle, Tensor, POINTER(mnemo_memorization_options), POINTER(mnemo_memorization_report), _exec, _error],
    ),
}


def _path() -> str:
    given = os.environ.get("MNEMO_LIBRARY")
    if given:
        return given
    name = f"libmnemo.so.{MNEMO_ABI_MAJOR}"
    bundled = Path(__file__).with_name(name)
    return str(bundled) if bundled.exists() else name


def _load() -> ctypes.CDLL:
    path = _path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"mnemo: its native library could not be loaded: {error}. It is looked for in the environment variable "
            "MNEMO_LIBRARY (the library's path), then in this package, then where the system's loader looks."
        ) from None
    for name in ("mnemo_abi_version", "mnemo_version"):
        if not hasattr(library, name):
            raise ImportError(f"mnemo: {path} is not a mnemo library: it has no {name}")
    version = library.mnemo_abi_version()
    major, minor = version >> 16, version & 0xFFFF
    if major != MNEMO_ABI_MAJOR or minor < MNEMO_ABI_MINOR:
        raise ImportError(
            f"mnemo: {path} has ABI {major}.{minor}; this package needs {MNEMO_ABI_MAJOR}.{MNEMO_ABI_MINOR} "
            f"or a later {MNEMO_ABI_MAJOR}.x"
        )
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"mnemo: {path} says ABI {major}.{minor} but has no {name}") from None
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()
