# SPDX-License-Identifier: MIT OR Apache-2.0
"""Scores: models of grad log p_t(x)."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import byref, pointer
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import _abi, _errors
from ._abi import lib
from ._call import Cancel, Handle, Progress, create, guarded, run
from ._context import Context, context_or_default, expect
from ._dataset import Dataset
from ._device import stream_of
from ._process import Process
from ._sampler import Observer, SamplerOptions
from ._tensor import View, constant, integer, lent, matrix, new_output, output, real, times as times_of, write

Model = Callable[[Any, Any], Any]
Tangent = Callable[[Any, Any, Any], Any]

_REGULARIZERS = {
    "none": _abi.MNEMO_REG_NONE,
    "tikhonov": _abi.MNEMO_REG_TIKHONOV,
    "bayes_density": _abi.MNEMO_REG_BAYES_DENSITY,
    "bayes_weight": _abi.MNEMO_REG_BAYES_WEIGHT,
}
_PREDICTIONS = {
    "score": _abi.MNEMO_PREDICT_SCORE,
    "eps": _abi.MNEMO_PREDICT_EPS,
    "x0": _abi.MNEMO_PREDICT_X0,
    "v": _abi.MNEMO_PREDICT_V,
    "flow": _abi.MNEMO_PREDICT_FLOW,
}


class Evaluation(NamedTuple):
    """What `Score.eval` computed; None for what was not asked for."""

    score: Any = None
    """[batch, dim]: s(x, t), with its regularizer."""
    denoised: Any = None
    """[batch, dim]: (x + sigma^2 s) / m of that score."""
    log_density: Any = None
    """[batch]: ln p_t(x) of the unregularized mixture, nats."""
    divergence: Any = None
    """[batch]: div s."""
    entropy: Any = None
    """[batch]: entropy of the weights of the training rows, nats."""
    nearest_index: Any = None
    """[batch] of int64: argmin_n |x - m y_n|, ties to the lowest index."""
    nearest_distance: Any = None
    """[batch]: min_n |x - m y_n|."""
    denoised_error_bound: Any = None
    """[batch]: upper bound on the length of the error of `denoised` in the type of x, by what was left out and rounded.

    Rigorous but for the roundings of products where many rows have weight: these are taken as independent, and eight
    standard deviations of their sum as its most. It may be asked for without `denoised`."""
    log_density_error_bound: Any = None
    """[batch]: the same for `log_density`."""


_MATRICES = ("score", "denoised")


class Score(Handle):
    """A model of the score grad log p_t(x); made by `Score.empirical` or `Score.custom`.

    Immutable; may be used by many threads at once. It keeps what it needs of its data set, process and context.

    Wherever a method takes `x` [batch, dim], it is float32 or float64 and the result has the same type: a numpy array or
    anything with ``__dlpack__`` in the host's memory. Rows may be apart; elements of a row that are apart are copied. `t`
    is a number, or a vector of one time per row. `cancel` stops the call from any thread; ``progress(done, total)`` is
    called now and then, and a true result stops the call: both raise `Cancelled`. On failure outputs are untouched.

    On a CUDA context arrays of its device are used where they are (elements of a row adjacent). New results are tensors there
    if `x` is a tensor of PyTorch's there, else arrays of numpy's. Work is queued on `stream`: the address of a CUDA stream or
    a ``torch.cuda.Stream``; if None, PyTorch's current one where `x` is its tensor, else the legacy default stream. Producers
    are told of it, so what they have queued elsewhere is done first. A call waits for its work where an array of the host's
    takes part (times apart), and where ``mnemo.h`` says so; `check` waits too, and reports NaN and Inf in arrays on the
    device, whose rows are NaN without it.
    """

    _release = "mnemo_score_release"
    _dim: int
    _process: Process
    _text: str

    def __init__(self) -> None:
        raise TypeError("a Score is made by Score.empirical or Score.custom")

    @classmethod
    def empirical(
        cls,
        data: Dataset,
        process: Process,
        regularizer: str = "none",
        *,
        strength: Optional[float] = None,
        log_strength: Optional[float] = None,
        tolerance: float = 1e-12,
        label: Optional[int] = None,
    ) -> "Score":
        """The exact score of the training set smoothed by `process`.

        With l_n = -|x - m y_n|^2 / (2 sigma^2), w = softmax(l) and ybar = sum_n w_n y_n it is s = (m ybar - x) / sigma^2.

        Parameters
        ----------
        data : Dataset
        process : Process
        regularizer : {"none", "tikhonov", "bayes_density", "bayes_weight"}
            (m ybar - x) / (sigma^2 + c); s min(1, p(x)/c); s min(1, sum_n exp(l_n)/c).
        strength : float
            The regularizer's c.
        log_strength : float, optional
            ln c, for empirical Bayes, whose c is beyond the range of float64 in high dimension.
        tolerance : float
            Training rows whose summed weight is below this may be left out of ybar.
        label : int, optional
            The label whose rows alone form the score.

        Raises
        ------
        InvalidError
            Also for a label that is not in the data.
        """
        options = _abi.mnemo_empirical_options()
        lib.mnemo_empirical_options_init(byref(options), ctypes.sizeof(options))
        options.regularizer = constant("regularizer", regularizer, _REGULARIZERS)
        if strength is not None:
            options.strength = real("strength", strength)
        elif regularizer != "none" and log_strength is None:
            raise _errors.invalid(f"strength is missing: the constant c of the regularizer {regularizer!r}")
        if log_strength is not None:
            options.log_strength = real("log_strength", log_strength)
        options.tolerance = real("tolerance", tolerance)
        if label is not None:
            options.label, options.conditional = integer("label", label, 64), 1
        self = cls.__new__(cls)
        expect("data", data, Dataset), expect("process", process, Process)
        self._adopt(create(lib.mnemo_score_empirical, data, process, byref(options)))
        self._dim, self._process, self._text = data.dim, process, f"empirical, {regularizer}"
        return self

    @classmethod
    def custom(
        cls,
        process: Process,
        dim: int,
        eval: Model,
        jvp: Optional[Tangent] = None,
        prediction: str = "score",
        context: Optional[Context] = None,
    ) -> "Score":
        """A model of the caller's own.

        Its functions run on the thread that uses the score, once per evaluation for the whole batch. They may use this
        package. What they raise is raised to the caller when the call has ended.

        Parameters
        ----------
        process : Process
        dim : int
            Dimension of x.
        eval : callable
            ``eval(x, t)`` returns the prediction at x [batch, dim] and t [batch]: an array [batch, dim] of real numbers of
            any type, from numpy or by ``__dlpack__``. x has the caller's element type, t is float64; both are the
            callback's own, to keep or to change. On a CUDA context both are `DeviceArray`, and it returns an array on the
            device, contiguous and of the element type of x; of PyTorch's any tensor there. For PyTorch's models see
            `mnemo.torch.custom_score`.
        jvp : callable, optional
            ``jvp(x, t, v)`` returns the derivative of the prediction along v [batch, dim].
        prediction : {"score", "eps", "x0", "v", "flow"}
            What `eval` returns: s; eps = -sigma s; x0 = (x + sigma^2 s) / m; v = m eps - sigma x0; u = eps - x0.
        context : Context, optional
            `default_context()` if None.

        Raises
        ------
        InvalidError
        """
        ops = _abi.mnemo_score_ops()
        lib.mnemo_score_ops_init(byref(ops), ctypes.sizeof(ops))
        ops.prediction = constant("prediction", prediction, _PREDICTIONS)
        if not callable(eval) or not (jvp is None or callable(jvp)):
            raise TypeError(f"{'jvp' if callable(eval) else 'eval'}: not callable; it is a function")
        ops.eval, ops.drop = _eval, _drop
        if jvp is not None:
            ops.jvp = _jvp
        size = integer("dim", dim, 64)
        expect("process", process, Process)
        where = context_or_default(context)
        self = cls.__new__(cls)
        key = next(_keys)
        _models[key] = _Callbacks(eval, jvp)
        try:
            self._adopt(create(lib.mnemo_score_custom, where, process, size, byref(ops), key))
        except BaseException:
            _models.pop(key, None)
            raise
        self._calls_back = True
        self._dim, self._process, self._text = size, process, f"custom, {prediction}"
        return self

    @property
    def dim(self) -> int:
        """Dimension of x."""
        return self._dim

    @property
    def process(self) -> Process:
        """The process whose score this is."""
        return self._process

    def eval(
        self,
        x: Any,
        t: Any,
        outputs: Union[str, Sequence[str]] = ("score",),
        *,
        out: Optional[Mapping[str, Any]] = None,
        cancel: Optional[Cancel] = None,
        progress: Optional[Progress] = None,
        stream: Any = None,
        check: bool = False,
    ) -> Evaluation:
        """Evaluate the score, all outputs in one pass over the data.

        Parameters
        ----------
        x : array [batch, dim]
        t : float or array [batch]
        outputs : sequence of str
            Fields of `Evaluation` to compute; a custom score has "score" and "denoised" only.
        out : mapping of str to array, optional
            Outputs to compute into the caller's memory: matrices of the element type of x, vectors of float64 or
            float32, "nearest_index" of int64. They need not be named in `outputs`.
        cancel, progress, stream, check
            As for `Score`.

        Returns
        -------
        Evaluation
            New arrays, and those of `out`.

        Raises
        ------
        InvalidError
            NaN or Inf in x; t outside the process or where sigma = 0; a result beyond the range of float32.
        ShapeError, DtypeError, DeviceError, OutOfMemoryError, Cancelled, CallbackError, UnsupportedError
        """
        stream = stream_of(stream, x)
        place, time = matrix("x", x, stream=stream), times_of(t, stream)
        dtype = np.float32 if place.tensor.dtype == _abi.MNEMO_F32 else np.float64
        given: Dict[str, Any] = dict(out) if out is not None else {}
        views: Dict[str, View] = {}
        for name, array in given.items():
            if name not in Evaluation._fields:
                raise _errors.invalid(f"out has {name!r}; outputs are {', '.join(Evaluation._fields)}")
            views[name] = output(f"out[{name!r}]", array, stream)
        for name in (outputs,) if isinstance(outputs, str) else outputs:
            if name not in given:
                shape, kind = _shape_of(name, place.tensor.rows, self._dim, dtype)
                given[name], views[name] = new_output(name, shape, kind, x, stream)
        table = _abi.mnemo_score_outputs()
        lib.mnemo_score_outputs_init(byref(table), ctypes.sizeof(table))
        for name, view in views.items():
            setattr(table, name, pointer(view.tensor))
        run(
            lib.mnemo_score_eval,
            self,
            byref(place.tensor),
            byref(time.tensor),
            byref(table),
            cancel=cancel,
            progress=progress,
            stream=stream,
            check=check,
        )
        return Evaluation(**given)

    def score(self, x: Any, t: Any, out: Any = None) -> Any:
        """s(x, t) [batch, dim], new or in `out`; see `eval`."""
        return self._one("score", x, t, out)

    def denoised(self, x: Any, t: Any, out: Any = None) -> Any:
        """(x + sigma^2 s) / m [batch, dim], new or in `out`; see `eval`."""
        return self._one("denoised", x, t, out)

    def log_density(self, x: Any, t: Any, out: Any = None) -> Any:
        """ln p_t(x) [batch] of the unregularized mixture in nats, new or in `out`; see `eval`."""
        return self._one("log_density", x, t, out)

    def _one(self, name: str, x: Any, t: Any, out: Any) -> Any:
        return getattr(self.eval(x, t, (name,), out=None if out is None else {name: out}), name)

    def jvp(
        self,
        x: Any,
        t: Any,
        v: Any,
        *,
        out: Any = None,
        cancel: Optional[Cancel] = None,
        progress: Optional[Progress] = None,
        stream: Any = None,
        check: bool = False,
    ) -> Any:
        """The derivative of the score along `v`, J v [batch, dim], new or in `out`.

        `v` has the shape and the element type of x.

        Raises
        ------
        UnsupportedError
            A custom score without jvp.
        InvalidError, ShapeError, DtypeError, DeviceError, OutOfMemoryError, Cancelled, CallbackError
        """
        stream = stream_of(stream, x)
        place, time, along = matrix("x", x, stream=stream), times_of(t, stream), matrix("v", v, stream=stream)
        if out is None:
            dtype = np.float32 if place.tensor.dtype == _abi.MNEMO_F32 else np.float64
            result, to = new_output("out", (place.tensor.rows, self._dim), dtype, x, stream)
        else:
            result, to = out, output("out", out, stream)
        tensors = (byref(place.tensor), byref(time.tensor), byref(along.tensor), byref(to.tensor))
        run(lib.mnemo_score_jvp, self, *tensors, cancel=cancel, progress=progress, stream=stream, check=check)
        return result

    def sample(
        self,
        x: Any,
        solver: str = "heun",
        grid: Optional[str] = None,
        steps: int = 18,
        seed: int = 0,
        *,
        times: Any = None,
        t_start: Optional[float] = None,
        t_end: Optional[float] = None,
        alpha2: Optional[float] = None,
        eta: Optional[float] = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        rho: float = 7.0,
        s_churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = float("inf"),
        s_noise: float = 1.0,
        denoise_last: bool = False,
        first_sample: int = 0,
        dtype: Any = np.float64,
        out: Any = None,
        observer: Optional[Observer] = None,
        cancel: Optional[Cancel] = None,
        progress: Optional[Progress] = None,
        stream: Any = None,
        check: bool = False,
    ) -> Any:
        """Draw samples by integrating the reverse process from `t_start` to `t_end`.

        The default is EDM's deterministic sampler. A sample's bits depend on its initial state, its index
        (`first_sample` + row), `seed` and the options, not on the batch it is in nor on the number of threads.

        Parameters
        ----------
        x : int or array [batch, dim]
            How many samples to draw from the prior sigma(t_start) z; or initial states, which are not changed.
        solver : {"heun", "euler", "exponential", "dpmpp_2m", "rk45", "euler_maruyama", "ancestral", "edm_stochastic"}
            Heun's rule (Karras et al. 2022); explicit Euler; DDIM; DPM-Solver++(2M); Dormand-Prince 5(4) with an error
            test per sample; Euler-Maruyama on the SDE; DDPM; Karras et al. 2022, Alg. 2.
        grid : {"karras", "uniform_t", "uniform_s", "custom"}, optional
            Steps equal in (sigma/m)^(1/rho), in t, in log sigma; or `times`. "karras" if None and there are no `times`.
        steps : int
            Number of steps, the denoising one included; not looked at by "rk45" or with a custom grid.
        seed : int
            In [0, 2^64): of every random number of the call.
        times : array, optional
            Nodes of a custom grid, strictly falling; a last 0, where sigma is 0, means a denoising step.
        t_start, t_end : float, optional
            First time, the process's last if None; last time at which the score is evaluated, that of sigma = 0.002 or
            the process's first if None.
        alpha2 : float, optional
            Of the SDE, for "euler_maruyama": 1 if None. The ODE solvers accept 0 only.
        eta : float, optional
            In [0, 1]: share of the noise, of "exponential" (0 if None) and "ancestral" (1 if None).
        rtol, atol : float
            Tolerances of "rk45".
        rho : float
            Of the Karras grid.
        s_churn, s_min, s_max, s_noise : float
            Of "edm_stochastic".
        denoise_last : bool
            End with x <- denoised(x, last time).
        first_sample : int
            Index in the random stream of the first row: a batch that is split continues with the index of its part.
        dtype : float64 or float32
            Of new samples, where x is a number.
        out : array [batch, dim], optional
            Written in place and returned instead of a new array; may be `x`. If another array than `x`, it holds the initial
            states when the call fails. On a device, `x` and `out` are tensors of PyTorch's, or one array.
        observer : callable, optional
            ``observer(step, t, x)``, called after each step, and before the first with step = 0, with the time reached
            and a copy of the state [batch, dim], a `DeviceArray` if `x` is on a device; to stop the call it raises.
        cancel, progress, stream, check
            As for `Score`.

        Returns
        -------
        array [batch, dim], or `out`.

        Raises
        ------
        InvalidError, ShapeError, DtypeError, DeviceError, OutOfMemoryError, Cancelled, CallbackError, UnsupportedError
        """
        options = SamplerOptions(
            solver=solver, grid=grid, steps=steps, times=times, t_start=t_start, t_end=t_end, alpha2=alpha2, eta=eta,
            rtol=rtol, atol=atol, rho=rho, s_churn=s_churn, s_min=s_min, s_max=s_max, s_noise=s_noise,
            denoise_last=denoise_last, first_sample=first_sample, observer=observer,
        )  # fmt: skip
        seed = integer("seed", seed, 64, signed=False)
        stream = stream_of(stream, x, out)
        result = options.start(x, self._dim, dtype, out)
        to = output("x" if out is None else "out", result, stream, new=out is None)
        run(
            lib.mnemo_sample,
            self,
            byref(options.native),
            byref(to.tensor),
            seed=seed,
            cancel=cancel,
            progress=progress,
            observer=observer,
            stream=stream,
            check=check,
        )
        return result

    def __repr__(self) -> str:
        return f"<mnemo.Score of dimension {self._dim}, {self._text}{', closed' if self.closed else ''}>"


def _shape_of(name: str, batch: int, dim: int, dtype: Any) -> Tuple[Tuple[int, ...], Any]:
    """Shape and element type of an output that is not given."""
    if name not in Evaluation._fields:
        raise _errors.invalid(f"outputs has {name!r}; it has some of {', '.join(Evaluation._fields)}")
    if name in _MATRICES:
        return (batch, dim), dtype
    return (batch,), np.int64 if name == "nearest_index" else np.float64


# ----- Custom scores --------------------------------------------------------------------------------------------------


class _Callbacks(NamedTuple):
    eval: Model
    jvp: Optional[Tangent]


# The library holds a key in this table and drops it with the last user of the score.
_models: Dict[int, _Callbacks] = {}
_keys = itertools.count(1)


def _run_eval(function: Model, x: Any, t: Any, out: Any, stream: Optional[int]) -> None:
    with lent(stream, (x, 2), (t, 1)) as arrays:
        write("eval", function(*arrays), out, stream)


def _run_jvp(function: Tangent, x: Any, t: Any, v: Any, out: Any, stream: Optional[int]) -> None:
    with lent(stream, (x, 2), (t, 1), (v, 2)) as arrays:
        write("jvp", function(*arrays), out, stream)


@_abi.EVAL
def _eval(user: int, x: Any, t: Any, out: Any, stream: Any) -> int:
    return guarded(_run_eval, _models[user].eval, x, t, out, stream)


@_abi.JVP
def _jvp(user: int, x: Any, t: Any, v: Any, out: Any, stream: Any) -> int:
    return guarded(_run_jvp, _models[user].jvp, x, t, v, out, stream)


# Not a function of Python's, into which a signal handler could raise.
_drop = _abi.DROP(_models.pop)
