# SPDX-License-Identifier: MIT OR Apache-2.0
"""Forward processes: how noise is added."""

from __future__ import annotations

from typing import Any, NamedTuple, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike

from ._abi import lib
from ._call import Handle, call, create
from ._tensor import real

Values = Union[float, np.ndarray]


class Marginal(NamedTuple):
    """A process at some times: floats for a number, arrays of the times' shape otherwise."""

    m: Values
    """Factor of the training row."""
    sigma: Values
    """Standard deviation of the noise."""
    beta: Values
    """Rate of the drift, -beta/2 x."""
    g: Values
    """Rate of the noise's variance."""


class Process(Handle):
    """A forward process dx = -beta/2 x dt + sqrt(g) dW: x_t given a training row y is N(m(t) y, sigma(t)^2 I).

    Made by its class methods. Immutable; may be used by many threads at once. Values that are not accepted raise
    `InvalidError`.
    """

    _release = "mnemo_process_release"
    _text: str

    def __init__(self) -> None:
        raise TypeError("a Process is made by one of its class methods, such as Process.vp_linear(0.1, 20)")

    @classmethod
    def _make(cls, name: str, *arguments: Any, shown: Tuple[Any, ...]) -> "Process":
        self = cls.__new__(cls)
        self._adopt(create(getattr(lib, "mnemo_process_" + name), *arguments))
        self._text = f"{name}({', '.join(map(str, shown))})"
        return self

    @classmethod
    def _of_numbers(cls, name: str, **numbers: Any) -> "Process":
        values = tuple(real(key, value) for key, value in numbers.items())
        return cls._make(name, *values, shown=values)

    @classmethod
    def vp_linear(cls, beta_min: float, beta_max: float, t_end: float = 1.0) -> "Process":
        """Variance preserving, linear: beta = g = beta_min + (t/T)(beta_max - beta_min), 0 <= t <= T = t_end.

        m = exp(-B/2) and sigma^2 = 1 - exp(-B), B the integral of beta. Song et al.: 0.1, 20, 1.
        """
        return cls._of_numbers("vp_linear", beta_min=beta_min, beta_max=beta_max, t_end=t_end)

    @classmethod
    def sub_vp(cls, beta_min: float, beta_max: float) -> "Process":
        """Sub-VP (Song et al. 2021): m and beta as `vp_linear` with T = 1, sigma = 1 - exp(-B)."""
        return cls._of_numbers("sub_vp", beta_min=beta_min, beta_max=beta_max)

    @classmethod
    def ve_power(cls, k: float, a: float, t_end: float) -> "Process":
        """Variance exploding, power: g = k t^a, sigma^2 = k t^(a+1) / (a+1). EDM (sigma = t): k = 2, a = 1, t_end = 80."""
        return cls._of_numbers("ve_power", k=k, a=a, t_end=t_end)

    @classmethod
    def ve_exponential(cls, rate_base: float, t_end: float) -> "Process":
        """Variance exploding, exponential: g = r^t, sigma^2 = (r^t - 1) / ln r, r = rate_base."""
        return cls._of_numbers("ve_exponential", rate_base=rate_base, t_end=t_end)

    @classmethod
    def ve_geometric(cls, sigma_min: float, sigma_max: float) -> "Process":
        """Variance exploding, geometric: sigma = sigma_min (sigma_max / sigma_min)^t, 0 <= t <= 1."""
        return cls._of_numbers("ve_geometric", sigma_min=sigma_min, sigma_max=sigma_max)

    @classmethod
    def discrete(cls, alpha_bar: ArrayLike) -> "Process":
        """Discrete variance preserving (DDPM): alpha_bar, a strictly falling vector in (0, 1), belongs to t = 1 … steps.

        m = sqrt(alpha_bar) and sigma^2 = 1 - alpha_bar; between steps log(sigma/m) is linear in t. The table is copied.
        """
        table = _times("alpha_bar", alpha_bar).reshape(-1)
        return cls._make("discrete", table.ctypes.data, len(table), shown=(f"{len(table)} steps",))

    @classmethod
    def flow(cls) -> "Process":
        """Flow matching: x_t = (1 - t) y + t eps, so m = 1 - t and sigma = t, 0 <= t <= 1."""
        return cls._make("flow", shown=())

    def eval(self, t: ArrayLike) -> Marginal:
        """m, sigma, beta and g at `t`, a number or an array of any shape.

        Raises
        ------
        InvalidError
            A time is outside the process.
        """
        times = _times("t", t)
        found = np.empty((4, *times.shape))
        addresses = [row.ctypes.data for row in found.reshape(4, -1)]
        call(lib.mnemo_process_eval, self, times.ctypes.data, times.size, *addresses)
        if times.ndim == 0:
            return Marginal(*found.tolist())
        return Marginal(*found)

    def time_of_sigma(self, sigma: ArrayLike) -> Values:
        """The inverse of sigma(t): the times of these noise levels, a number or an array of any shape.

        Raises
        ------
        InvalidError
            A level is outside the process.
        """
        levels = _times("sigma", sigma)
        found = np.empty_like(levels)
        call(lib.mnemo_process_time_of_sigma, self, levels.ctypes.data, levels.size, found.ctypes.data)
        return float(found) if found.ndim == 0 else found

    def __repr__(self) -> str:
        return f"mnemo.Process.{self._text}"


def _times(name: str, given: Any) -> np.ndarray:
    try:
        return np.array(given, np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: a number or an array of numbers: {error}") from error
