# SPDX-License-Identifier: MIT OR Apache-2.0
"""How to sample: the options of `Score.sample` as the library takes them."""

from __future__ import annotations

import ctypes
import operator
from ctypes import byref
from typing import Any, Callable, Optional

import numpy as np

from . import _abi, _errors
from ._abi import lib
from ._call import current_observer, guarded
from ._device import torch_of
from ._tensor import constant, host_array, integer, lent, output, real, shape_of

Observer = Callable[[int, float, Any], object]

_SOLVERS = {
    "euler": _abi.MNEMO_SOLVER_EULER,
    "heun": _abi.MNEMO_SOLVER_HEUN,
    "exponential": _abi.MNEMO_SOLVER_EXPONENTIAL,
    "dpmpp_2m": _abi.MNEMO_SOLVER_DPMPP_2M,
    "rk45": _abi.MNEMO_SOLVER_RK45,
    "euler_maruyama": _abi.MNEMO_SOLVER_EULER_MARUYAMA,
    "ancestral": _abi.MNEMO_SOLVER_ANCESTRAL,
    "edm_stochastic": _abi.MNEMO_SOLVER_EDM_STOCHASTIC,
}
_GRIDS = {
    "karras": _abi.MNEMO_GRID_KARRAS,
    "uniform_t": _abi.MNEMO_GRID_UNIFORM_T,
    "uniform_s": _abi.MNEMO_GRID_UNIFORM_S,
    "custom": _abi.MNEMO_GRID_CUSTOM,
}


class SamplerOptions:
    """`native` is the struct; what it points to lives as long as this object."""

    def __init__(
        self,
        *,
        solver: str,
        grid: Optional[str],
        steps: int,
        times: Any,
        denoise_last: bool,
        first_sample: int,
        observer: Optional[Observer],
        **numbers: Optional[float],
    ) -> None:
        native = _abi.mnemo_sampler_options()
        lib.mnemo_sampler_options_init(byref(native), ctypes.sizeof(native))
        native.solver = constant("solver", solver, _SOLVERS)
        if grid is None:
            grid = "karras" if times is None else "custom"
        native.grid = constant("grid", grid, _GRIDS)
        if (grid == "custom") != (times is not None):
            raise _errors.invalid(f"grid is {grid!r} {'without' if times is None else 'with'} times, a custom grid's nodes")
        if times is not None:
            self._times = np.array(host_array("times", times), np.float64, order="C").reshape(-1)
            native.times, native.times_count = self._times.ctypes.data, len(self._times)
        native.steps = integer("steps", steps, 64)
        native.first_sample = integer("first_sample", first_sample, 64)
        native.denoise_last = bool(denoise_last)
        for name, value in numbers.items():
            if value is not None:
                setattr(native, name, real(name, value))
        if observer is not None:
            if not callable(observer):
                raise TypeError("observer: not callable; it is a function of (step, t, x) or None")
            native.observer = _observe
        self.native = native

    def start(self, x: Any, dim: int, dtype: Any, out: Any) -> Any:
        """The array to sample in: `out`, or a new one, with the initial states in it unless x is their number.

        Where both are arrays of a device, and not the same, they are PyTorch's: no other's can be copied from here.
        """
        try:
            count = operator.index(x) if not hasattr(x, "__dlpack__") else None
        except TypeError:
            count = None
        if count is not None:
            if count < 0:
                raise _errors.invalid(f"x is {count}; a number of samples must not be negative")
            self.native.from_prior = 1
            if out is None:
                return np.empty((count, dim), dtype)
            if shape_of("out", out) != (count, dim):
                raise _errors.shape(f"out: shape {shape_of('out', out)}; it must be {(count, dim)}")
            return out
        if len(shape_of("x", x)) != 2:
            raise _errors.shape(f"x: {len(shape_of('x', x))} axes; it is a number of samples or a matrix, one row per sample")
        if out is x:
            return out
        torch = torch_of(x)
        if torch is not None:
            return self._start_elsewhere(torch, x, out)
        states = host_array("x", x)
        if out is None:
            return np.array(states, order="C")
        to = host_array("out", out)
        if to.shape != states.shape:
            raise _errors.shape(f"out: shape {to.shape}; it must be {states.shape}, the shape of x")
        output("out", out)
        np.copyto(to, states, casting="same_kind")
        return out

    def _start_elsewhere(self, torch: Any, x: Any, out: Any) -> Any:
        """The same for a tensor of PyTorch's on a device."""
        if out is None:
            return x.detach().clone(memory_format=torch.contiguous_format)
        if torch_of(out) is None or out.device != x.device:
            raise TypeError(f"out: it must be a tensor on {x.device}, as x is")
        if out.shape != x.shape or out.dtype != x.dtype:
            raise _errors.shape(f"out: {out.dtype} {tuple(out.shape)}; it must be as x, {x.dtype} {tuple(x.shape)}")
        out.copy_(x.detach())
        return out


def _run_observer(observer: Observer, stream: int, step: int, t: float, x: Any) -> None:
    with lent(stream, (x, 2)) as (state,):
        observer(step, t, state)


@_abi.OBSERVER
def _observe(user: Any, step: int, t: float, x: Any) -> int:
    return guarded(_run_observer, *current_observer(), step, t, x)
