"""mnemo through its C ABI, on PyTorch's tensors: in their memory, and on PyTorch's current stream."""

import ctypes
import importlib.util
import json
import os
import sys
from ctypes import byref, sizeof
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
# In a pack, or in the source tree.
DECLARATIONS = (HERE / "mnemo/_abi.py", HERE / "../../bindings/python/mnemo/_abi.py")
LIBRARIES = (HERE / "libmnemo.so", HERE / "../../target/release/libmnemo.so")


def declarations():
    """The module of structs and prototypes, by itself: it needs nothing else of its package."""
    first = lambda paths: next((path for path in paths if path.exists()), paths[0])
    os.environ.setdefault("MNEMO_LIBRARY", str(first(LIBRARIES)))
    # For package.py.
    sys.path.append(str(first(DECLARATIONS).parent.parent))
    spec = importlib.util.spec_from_file_location("mnemo_abi", first(DECLARATIONS))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


abi = declarations()
lib = abi.lib
HAS_STREAMS = torch.cuda.is_available()

DTYPES = {
    torch.float32: abi.MNEMO_F32,
    torch.float64: abi.MNEMO_F64,
    torch.float16: abi.MNEMO_F16,
    torch.bfloat16: abi.MNEMO_BF16,
    torch.uint8: abi.MNEMO_U8,
    torch.int32: abi.MNEMO_I32,
    torch.int64: abi.MNEMO_I64,
}


class Failure(Exception):
    """What the library says."""


def call(function, *arguments):
    """Makes a call that ends with an error struct."""
    error = abi.mnemo_error()
    status = function(*arguments, byref(error))
    if status != abi.MNEMO_OK:
        name, message = lib.mnemo_status_name(status).decode(), error.message.decode()
        raise Failure(f"{name} ({error.native}): {message}" if error.native else f"{name}: {message}")


def initial(struct, init):
    """A struct with its initial values."""
    value = struct()
    init(byref(value), sizeof(value))
    return value


def view(x):
    """A matrix, or a vector as one column, as the library sees it. The memory stays the tensor's."""
    rows, cols = x.shape if x.ndim == 2 else (*x.shape, 1)
    if x.ndim == 2 and cols > 1 and x.stride(1) != 1:
        raise ValueError("the elements of a row are apart")
    apart = x.stride(0) if rows > 1 else cols
    place, number = (abi.MNEMO_CUDA, x.device.index) if x.is_cuda else (abi.MNEMO_CPU, 0)
    return abi.mnemo_tensor(x.data_ptr(), rows, cols, apart, DTYPES[x.dtype], place, number, 0)


def execution():
    return initial(abi.mnemo_exec, lib.mnemo_exec_init)


def on_current_stream(run):
    if HAS_STREAMS:
        run.stream = torch.cuda.current_stream().cuda_stream
    return byref(run)


class Handle:
    """An object of the library."""

    def __init__(self, release, make, *arguments):
        self.release, self.object = release, ctypes.c_void_p()
        call(make, *arguments, byref(self.object))

    def __del__(self):
        if self.object:
            self.release(self.object)


class Context(Handle):
    """On the first CUDA device, or on the CPU."""

    def __init__(self, cuda):
        options = initial(abi.mnemo_context_options, lib.mnemo_context_options_init)
        options.device_type = abi.MNEMO_CUDA if cuda else abi.MNEMO_CPU
        super().__init__(lib.mnemo_context_release, lib.mnemo_context_create, byref(options))

    def warm_up(self):
        """Loads all kernels."""
        call(lib.mnemo_context_warm_up, self.object)

    def describe(self):
        needed = ctypes.c_size_t()
        call(lib.mnemo_context_describe, self.object, None, 0, byref(needed))
        text = ctypes.create_string_buffer(needed.value)
        call(lib.mnemo_context_describe, self.object, text, needed, None)
        return json.loads(text.value)


class Dataset(Handle):
    def __init__(self, context, rows, scale=1.0, shift=0.0):
        options = initial(abi.mnemo_dataset_options, lib.mnemo_dataset_options_init)
        options.scale, options.shift = scale, shift
        super().__init__(
            lib.mnemo_dataset_release, lib.mnemo_dataset_copy, context.object, byref(view(rows)), None, byref(options)
        )

    def search(self, x, k):
        """A function that finds the k nearest rows of each of x, into (distance, index), whenever it is called."""
        distance = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
        index = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
        of_x, of_distance, of_index, run = view(x), view(distance), view(index), execution()

        def search():
            call(lib.mnemo_nearest, self.object, byref(of_x), abi.MNEMO_METRIC_L2, k, byref(of_distance), byref(of_index),
                 on_current_stream(run))
            return distance, index

        # Structs hold addresses only: what they point to must live as long.
        search.keeps = x, self
        return search


class Score(Handle):
    """The exact score where sigma = t, up to 80."""

    def __init__(self, dataset):
        process = Handle(lib.mnemo_process_release, lib.mnemo_process_ve_power, 2.0, 1.0, 80.0)
        super().__init__(lib.mnemo_score_release, lib.mnemo_score_empirical, dataset.object, process.object, None)

    def evaluation(self, x, t, log_density=False):
        """A function that computes the score, or ln p instead, at x and t whenever it is called."""
        to = torch.empty(len(x), dtype=torch.float64, device=x.device) if log_density else torch.empty_like(x)
        outputs = initial(abi.mnemo_score_outputs, lib.mnemo_score_outputs_init)
        of_x, of_to, run = view(x), view(to), execution()
        setattr(outputs, "log_density" if log_density else "score", ctypes.pointer(of_to))
        time = (ctypes.c_double * 1)(t)
        of_t = abi.mnemo_tensor(ctypes.addressof(time), 1, 1, 0, abi.MNEMO_F64, abi.MNEMO_CPU, 0, 0)

        def evaluate():
            call(lib.mnemo_score_eval, self.object, byref(of_x), byref(of_t), byref(outputs), on_current_stream(run))
            return to

        evaluate.keeps = x, time, self
        return evaluate

    def sampler(self, start, solver, grid, steps, t_start, t_end, denoise_last):
        """A function that takes copies of the states `start` to their end whenever it is called."""
        options = initial(abi.mnemo_sampler_options, lib.mnemo_sampler_options_init)
        options.solver, options.grid, options.steps = solver, grid, steps
        options.t_start, options.t_end, options.denoise_last = t_start, t_end, int(denoise_last)
        x, run = torch.empty_like(start), execution()
        of_x = view(x)

        def sample():
            x.copy_(start)
            call(lib.mnemo_sample, self.object, byref(options), byref(of_x), on_current_stream(run))
            return x

        sample.keeps = self
        return sample
