"""The empirical score: mnemo against numpy, in one process, on an IDX image set. Prints a Markdown table.

Errors are against float64 by differences: the relative L2 error of the score (median over the batch) and the largest error
of the log density in nats. Times are medians of interleaved runs.
"""

import ctypes as c
import gzip
import statistics
import sys
import time

import numpy as np

RUNS = 7
# OpenBLAS's threads go on spinning for a while after a product; the next measurement should not pay for it.
PAUSE = 0.15


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("rows", c.c_int64), ("cols", c.c_int64), ("row_stride", c.c_int64),
                ("dtype", c.c_uint32), ("device_type", c.c_uint32), ("device_id", c.c_int32), ("reserved", c.c_uint32)]


class DatasetOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_uint32), ("scale", c.c_double), ("shift", c.c_double),
                ("labels_path", c.c_char_p)]


class Outputs(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_uint32)] + [
        (name, c.POINTER(Tensor)) for name in ("score", "denoised", "log_density", "divergence", "entropy",
                                               "nearest_index", "nearest_distance")]


class Error(c.Structure):
    _fields_ = [("code", c.c_int32), ("native", c.c_int32), ("len", c.c_uint32), ("reserved", c.c_uint32),
                ("message", c.c_char * 496)]


def tensor(a):
    dtype = {np.dtype("f4"): 1, np.dtype("f8"): 2}[a.dtype]
    rows, cols = a.shape if a.ndim == 2 else (a.shape[0], 1)
    return Tensor(a.ctypes.data, rows, cols, 0, dtype, 1, 0, 0)


class Mnemo:
    def __init__(self, library, path, scale, shift):
        self.lib = c.CDLL(library)
        self.lib.mnemo_process_ve_power.argtypes = [c.c_double] * 3 + [c.c_void_p] * 2
        self.err = Error()
        context, process, dataset, self.score = (c.c_void_p() for _ in range(4))
        options = DatasetOptions(c.sizeof(DatasetOptions), 0, scale, shift, None)
        self.call("context_create", None, c.byref(context))
        self.call("process_ve_power", 2.0, 1.0, 80.0, c.byref(process))
        self.call("dataset_open", context, path.encode(), c.byref(options), c.byref(dataset))
        self.call("score_empirical", dataset, process, None, c.byref(self.score))

    def call(self, name, *args):
        if getattr(self.lib, "mnemo_" + name)(*args, c.byref(self.err)) != 0:
            raise RuntimeError(self.err.message.decode())

    def eval(self, x, sigma, log_density=False):
        s, t, log_p = np.empty_like(x), np.array([sigma]), np.empty(len(x))
        tensors = {"score": tensor(s)} | ({"log_density": tensor(log_p)} if log_density else {})
        outputs = Outputs(c.sizeof(Outputs), 0, **{k: c.pointer(v) for k, v in tensors.items()})
        self.call("score_eval", self.score, c.byref(tensor(x)), c.byref(tensor(t)), c.byref(outputs), None)
        return (s, log_p) if log_density else s


class Numpy:
    """The usual way: expanded squares, one matrix product each for logits and mean, float32."""

    def __init__(self, y):
        self.y, self.squares = y, (y * y).sum(1)

    def eval(self, x, sigma, log_density=False):
        logits = x @ self.y.T
        logits *= 2
        logits -= self.squares
        logits *= 1 / (2 * sigma * sigma)
        top = logits.max(1, keepdims=True)
        logits -= top
        np.exp(logits, out=logits)
        z = logits.sum(1, keepdims=True)
        logits /= z
        s = (logits @ self.y - x) / (sigma * sigma)
        if not log_density:
            return s
        d = x.shape[1]
        log_p = top + np.log(z) - (x * x).sum(1, keepdims=True) / (2 * sigma * sigma)
        return s, log_p[:, 0] - np.log(len(self.y)) - d / 2 * np.log(2 * np.pi * sigma * sigma)


def exact(y, x, sigma):
    """float64, by differences, a block of rows at a time."""
    x = x.astype(np.float64)
    d2 = np.empty((len(x), len(y)))
    for i in range(0, len(y), 500):
        block = y[i:i + 500].astype(np.float64)
        for b in range(len(x)):
            d2[b, i:i + 500] = ((x[b] - block) ** 2).sum(1)
    logits = -d2 / (2 * sigma * sigma)
    top = logits.max(1, keepdims=True)
    w = np.exp(logits - top)
    z = w.sum(1, keepdims=True)
    w /= z
    mean = np.zeros_like(x)
    for i in range(0, len(y), 500):
        mean += w[:, i:i + 500] @ y[i:i + 500].astype(np.float64)
    d = x.shape[1]
    log_p = (top + np.log(z))[:, 0] - np.log(len(y)) - d / 2 * np.log(2 * np.pi * sigma * sigma)
    return (mean - x) / (sigma * sigma), log_p


def main(library, path):
    with gzip.open(path) as f:
        raw = np.frombuffer(f.read()[16:], np.uint8).reshape(-1, 784)
    scale, shift = 1 / 127.5, -1.0
    y64 = raw * scale + shift
    ours, numpy = Mnemo(library, path, scale, shift), Numpy(y64.astype(np.float32))
    rng = np.random.default_rng(0)
    print("| B | sigma | mnemo ms | numpy ms | numpy / mnemo | score error: mnemo | numpy | log p error (nats): mnemo | numpy |")
    print("|---|---|---|---|---|---|---|---|---|")
    for batch in (1, 16, 64, 256):
        for sigma in (10.0, 3.0, 1.0, 0.5, 0.05, 0.002):
            x = y64[rng.integers(0, len(y64), batch)] + sigma * rng.standard_normal((batch, 784))
            x = x.astype(np.float32)
            times = {ours: [], numpy: []}
            for _ in range(RUNS):
                for model in times:
                    time.sleep(PAUSE)
                    start = time.perf_counter()
                    model.eval(x, sigma)
                    times[model].append(1e3 * (time.perf_counter() - start))
            a, b = (statistics.median(times[m]) for m in (ours, numpy))
            few = x[:8]
            reference, log_p = exact(y64, few, sigma)
            errors = []
            for model in (ours, numpy):
                s, l = model.eval(few, sigma, log_density=True)
                errors.append((np.median(np.linalg.norm(s - reference, axis=1) / np.linalg.norm(reference, axis=1)),
                               np.abs(l - log_p).max()))
            (es, el), (ns, nl) = errors
            print(f"| {batch} | {sigma:g} | {a:.1f} | {b:.1f} | {b / a:.2f} | {es:.1e} | {ns:.1e} | {el:.1e} | {nl:.1e} |",
                  flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
