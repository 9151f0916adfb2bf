# SPDX-License-Identifier: MIT OR Apache-2.0
"""The empirical score as PyTorch operators: differentiated exactly, and a part of graphs that ``torch.compile`` makes.

`Empirical` is a ``torch.nn.Module`` without parameters. It computes where its data set's context does, in float32 or float64:
on the CPU, or on a CUDA device with that device's tensors in place and on PyTorch's current stream. `custom_score` makes a
`mnemo.Score` of a PyTorch model.
"""

from __future__ import annotations

import math
import secrets
import weakref
from contextlib import nullcontext
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from . import _abi, _errors
from ._abi import lib
from ._call import call
from ._context import Context
from ._dataset import Dataset
from ._device import external
from ._process import Process
from ._score import Evaluation, Score

__all__ = ["Empirical", "custom_score"]

# Error bounds have no derivatives to be used with.
_OUTPUTS = tuple(name for name in Evaluation._fields if not name.endswith("_error_bound"))
_MATRICES = ("score", "denoised")


class Empirical(torch.nn.Module):
    """The exact score of the training set smoothed by a process. Called with (x, t) it is `denoised`.

    Parameters
    ----------
    data, process, regularizer, **options
        As of `mnemo.Score.empirical`: `regularizer`, `strength`, `log_strength`, `tolerance`, `label`.
    shape : sequence of int, optional
        Shape of one sample, such as ``(3, 32, 32)``; its product is the data's dimension d. Initially ``(d,)``.

    Every method takes `x` of shape ``(*batch, *shape)``, float32 or float64, with any strides, and times `t`, a number or a
    tensor that broadcasts to `batch`; it computes in the element type of `x`. `x` is in the host's memory, or on the CUDA
    device of the data set's context; results are where `x` is. `t` is there too or in the host's memory, which is better: one
    on the device is copied to the host, and waited for.

    `x` is differentiated, backward and forward, and by ``torch.func``; `t` is not: one that requires grad is a TypeError.
    The first derivative of `score` and `denoised` exists, and the first and second of `log_density`; others are a
    NotImplementedError. Bad values, such as NaN in `x` or a time outside the process, raise as in `mnemo.Score.eval`; in an `x`
    on a device NaN is no error, and gives NaN.

    Copies share the score. The rows are kept until the last of them, and of the graphs that need it to go backward, is
    gone. It cannot be pickled; as a part of a module it adds nothing to the state_dict.
    """

    def __init__(
        self,
        data: Dataset,
        process: Process,
        regularizer: str = "none",
        *,
        shape: Optional[Sequence[int]] = None,
        **options: Any,
    ) -> None:
        super().__init__()
        score = Score.empirical(data, process, regularizer, **options)
        kept = {name: value for name, value in options.items() if name in ("label", "tolerance")}
        mixture = score if regularizer == "none" else Score.empirical(data, process, **kept)
        self.dim = score.dim
        self.shape: Tuple[int, ...] = (self.dim,) if shape is None else tuple(int(n) for n in shape)
        if math.prod(self.shape) != self.dim or any(n < 1 for n in self.shape):
            raise _errors.shape(f"shape is {self.shape}; its product must be the data's dimension, {self.dim}")
        self._lease = _Lease(_Model(score, mixture, process))

    def evaluate(self, x: Tensor, t: Any, outputs: Sequence[str] = ("score",)) -> Tuple[Tensor, ...]:
        """Several of the results of `mnemo.Score.eval`, by name, for the price of one pass over the data.

        `score` and `denoised` have the shape of x; `log_density`, `divergence`, `entropy`, `nearest_distance` and
        `nearest_index` (int64) that of the batch.
        """
        names = _names(outputs)
        rows, times, batch = _arguments(x, t, self.shape, self.dim)
        evaluate = _evaluate if torch.compiler.is_compiling() else _Evaluate.apply  # which dynamo cannot look into
        results = dict(zip(names, evaluate(rows, times, self._lease.ticket, names, False)))
        return tuple(results[name].reshape(x.shape if name in _MATRICES else batch) for name in outputs)

    def score(self, x: Tensor, t: Any) -> Tensor:
        """grad log p_t(x), regularized as the options say."""
        return self.evaluate(x, t, ("score",))[0]

    def denoised(self, x: Tensor, t: Any) -> Tensor:
        """(x + sigma^2 s) / m: without a regularizer the mean of the training rows that x might have come from."""
        return self.evaluate(x, t, ("denoised",))[0]

    def log_density(self, x: Tensor, t: Any) -> Tensor:
        """ln p_t(x) of the mixture without regularizer, nats, shape of the batch. Its gradient is the mixture's score."""
        return self.evaluate(x, t, ("log_density",))[0]

    def jvp(self, x: Tensor, t: Any, v: Tensor) -> Tensor:
        """The derivative of `score` along `v`, of the shape of `x`, without computing the score itself."""
        rows, times, _ = _arguments(x, t, self.shape, self.dim)
        if v.shape != x.shape:
            raise _errors.shape(f"v has shape {tuple(v.shape)}; it must be that of x, {tuple(x.shape)}")
        if v.dtype != x.dtype or v.device != x.device:
            raise _errors.dtype(f"v is {v.dtype} on {v.device}; it must be as x, {x.dtype} on {x.device}")
        jvp = _jvp if torch.compiler.is_compiling() else _Jvp.apply
        return jvp(rows, times, v.reshape(rows.shape), self._lease.ticket, False, False).reshape(x.shape)

    forward = denoised

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


# ----- A model of PyTorch's as a score --------------------------------------------------------------------------------


def custom_score(
    process: Process,
    shape: Sequence[int],
    model: Callable[[Tensor, Tensor], Tensor],
    prediction: str = "score",
    *,
    dtype: Optional[torch.dtype] = None,
    context: Optional[Context] = None,
) -> Score:
    """A `mnemo.Score` of a PyTorch model, for `mnemo.Score.sample` and all else.

    Parameters
    ----------
    process : Process
    shape : sequence of int
        Shape of one sample, such as ``(3, 32, 32)``.
    model : callable
        ``model(x, t)`` returns the prediction at x ``(batch, *shape)`` and t ``(batch)``, tensors in the memory of the
        context's device that it may keep and change. It is called under ``torch.no_grad()``, on a CUDA device with the
        call's stream as PyTorch's current one. The derivative is that of ``torch.func.jvp``.
    prediction : {"score", "eps", "x0", "v", "flow"}
        What it returns; see `mnemo.Score.custom`.
    dtype : torch.dtype, optional
        Element type of its x and t; that of the caller's x if None.
    context : Context, optional
        `mnemo.default_context()` if None. With a CUDA one the model's parameters must be on that device.
    """
    sample = tuple(int(n) for n in shape)

    def given(array: Any, axes: Tuple[int, ...], of: Optional[torch.dtype]) -> Tensor:
        if isinstance(array, np.ndarray):
            tensor = torch.from_numpy(array)
        else:
            tensor = torch.from_dlpack(array).clone()  # which is lent until the model returns
        return tensor.to(of).reshape(-1, *axes) if of is not None else tensor.reshape(-1, *axes)

    def arguments(x: Any, t: Any, *v: Any) -> List[Tensor]:
        states = [given(a, sample, dtype) for a in (x, *v)]
        return [states[0], given(t, (), states[0].dtype), *states[1:]]

    def flat(result: Tensor, x: Any) -> Tensor:
        """As x is; of another shape than the samples', which is an error, as it is."""
        return result.detach().reshape(x.shape) if result.shape == (len(x), *sample) else result.detach()

    def evaluate(x: Any, t: Any) -> Tensor:
        with torch.no_grad(), _on_stream_of(x):
            return flat(model(*arguments(x, t)), x)

    def along(x: Any, t: Any, v: Any) -> Tensor:
        with torch.no_grad(), _on_stream_of(x):
            at, times, tangent = arguments(x, t, v)
            return flat(torch.func.jvp(lambda x: model(x, times), (at,), (tangent,))[1], x)

    return Score.custom(process, math.prod(sample), evaluate, along, prediction, context)


def _on_stream_of(array: Any) -> Any:
    """The stream of the call as PyTorch's current one."""
    if isinstance(array, np.ndarray):
        return nullcontext()
    return torch.cuda.stream(external(torch, array.stream, torch.device("cuda", array.device)))


# ----- Arguments ------------------------------------------------------------------------------------------------------


def _names(outputs: Sequence[str]) -> List[str]:
    """`outputs` without repetition."""
    if isinstance(outputs, str):
        raise TypeError(f"outputs: a sequence of names, not the string {outputs!r}")
    for name in outputs:
        if name not in _OUTPUTS:
            raise _errors.invalid(f"outputs has {name!r}; it has some of {', '.join(_OUTPUTS)}")
    return list(dict.fromkeys(outputs))


def _arguments(x: Tensor, t: Any, shape: Tuple[int, ...], dim: int) -> Tuple[Tensor, Tensor, Tuple[int, ...]]:
    """x as [rows, dim], t as float64 [rows], and the batch's shape."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x: a tensor, not a {type(x).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        raise _errors.dtype(f"x is {x.dtype}; it must be torch.float32 or torch.float64")
    if x.device.type not in ("cpu", "cuda", "meta"):
        raise _errors.error(_abi.MNEMO_E_DEVICE, 0, f"x is on {x.device}; mnemo.torch computes on the CPU and with CUDA: x.cpu()")
    axes = x.dim() - len(shape)
    if axes < 0 or tuple(x.shape[axes:]) != shape:
        raise _errors.shape(f"x has shape {tuple(x.shape)}; the last dimensions must be {shape}")
    batch = x.shape[:axes]
    if isinstance(t, Tensor):
        if t.requires_grad and torch.is_grad_enabled():
            raise TypeError(_TIME)
        hosts = x.device.type == "cuda" and t.device.type == "cpu"
        if t.is_complex() or (t.device != x.device and not hosts):
            raise _errors.dtype(f"t is {t.dtype} on {t.device}; it must be real and, like x, on {x.device}")
        place = t.device
    else:
        place = torch.device("cpu") if x.device.type == "cuda" else x.device
    times = torch.as_tensor(t, dtype=torch.float64, device=place)
    if times.dim() > axes or any(n != 1 and n != b for n, b in zip(reversed(times.shape), reversed(batch))):
        raise _errors.shape(f"t has shape {tuple(times.shape)}; it must broadcast to the batch of x, {tuple(batch)}")
    rows = math.prod(batch)  # -1 would have no one value in an empty batch under vmap
    return x.reshape(rows, dim), times.expand(batch).reshape(rows), batch


_TIME = "mnemo.torch: t is not differentiated, but requires grad; use t.detach()"


# ----- Scores as arguments of operators -------------------------------------------------------------------------------
#
# Operators take tensors. So a model is named by a ticket: a tensor of one number, its id, whose memory belongs to a numpy
# array that keeps the model. Whatever keeps the ticket, such as a graph that is to go backward, keeps the model, and
# a compiled graph is the same for all models, because a ticket is an input of it like any other. An id is never used
# twice, nor in another process: a ticket that was saved and loaded, or copied and outlived by the copy, is an error.


class _Model:
    def __init__(self, score: Score, mixture: Score, process: Process) -> None:
        self.score = score
        self.mixture = mixture  # without regularizer: its score is the gradient of the log density
        self._process = process._enter()  # usable even if the caller closes it
        weakref.finalize(self, process._native.leave).atexit = False

    def marginal(self, t: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """m and sigma at the times t."""
        m, sigma = np.empty_like(t), np.empty_like(t)
        call(lib.mnemo_process_eval, self._process, t.ctypes.data, t.size, m.ctypes.data, sigma.ctypes.data, None, None)
        return m, sigma


class _Keeper(np.ndarray):
    model: _Model


class _Lease:
    """A ticket, shared by all copies of what holds it."""

    def __init__(self, model: _Model) -> None:
        number = secrets.randbits(62)
        _models[number] = model
        keeper = np.array([number], np.int64).view(_Keeper)
        keeper.model = model
        self.ticket = torch.from_numpy(keeper)

    def __copy__(self) -> "_Lease":
        return self

    def __deepcopy__(self, memo: Any) -> "_Lease":
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a mnemo.torch.Empirical is an object of this process and cannot be pickled")


_models: "weakref.WeakValueDictionary[int, _Model]" = weakref.WeakValueDictionary()


def _model_of(ticket: Tensor) -> _Model:
    model = _models.get(int(ticket))
    if model is None:
        raise _errors.invalid("the mnemo.torch.Empirical of this graph is gone, or was made by another process")
    return model


# ----- The library's two calls as operators ---------------------------------------------------------------------------

_library = torch.library.Library("mnemo", "DEF")
_library.define("evaluate(Tensor x, Tensor t, Tensor model, str[] outputs, bool mixture) -> Tensor[]")
_library.define("jvp(Tensor x, Tensor t, Tensor v, Tensor model, bool denoised, bool mixture) -> Tensor")
_evaluate = torch.ops.mnemo.evaluate.default
_jvp = torch.ops.mnemo.jvp.default


@torch.library.register_fake("mnemo::evaluate", lib=_library)
def _evaluate_empty(x: Tensor, t: Tensor, model: Tensor, outputs: List[str], mixture: bool) -> List[Tensor]:
    def empty(name: str) -> Tensor:
        if name in _MATRICES:
            return x.new_empty(x.shape)
        return x.new_empty(x.shape[0], dtype=torch.int64 if name == "nearest_index" else x.dtype)

    return [empty(name) for name in outputs]


@torch.library.register_fake("mnemo::jvp", lib=_library)
def _jvp_empty(x: Tensor, t: Tensor, v: Tensor, model: Tensor, denoised: bool, mixture: bool) -> Tensor:
    return x.new_empty(x.shape)


def _memory(tensor: Tensor) -> Any:
    """What the library takes: an array of numpy's, or a tensor on a device."""
    if tensor.device.type == "cpu":
        return tensor.numpy(force=True)
    return tensor.detach().resolve_neg().contiguous()


@torch.compiler.disable
def _evaluate_now(x: Tensor, t: Tensor, model: Tensor, outputs: List[str], mixture: bool) -> List[Tensor]:
    the = _model_of(model)
    results = _evaluate_empty(x, t, model, _names(outputs), mixture)
    if len(results) != len(outputs):
        raise _errors.invalid(f"outputs names an output twice: {', '.join(outputs)}")
    score = the.mixture if mixture else the.score
    out = {name: _memory(result) for name, result in zip(outputs, results)}
    score.eval(_memory(x), _memory(t), (), out=out)
    return results


@torch.compiler.disable
def _jvp_now(x: Tensor, t: Tensor, v: Tensor, model: Tensor, denoised: bool, mixture: bool) -> Tensor:
    the = _model_of(model)
    score = the.mixture if mixture else the.score
    if not denoised:
        result = _jvp_empty(x, t, v, model, denoised, mixture)
        score.jvp(_memory(x), _memory(t), _memory(v), out=_memory(result))
        return result
    # (v + sigma^2 J v) / m: near a training row a small difference of equal terms, so in float64 whatever x is.
    x64, v64 = (a.detach().to(torch.float64) for a in (x, v))
    host_times = t.to("cpu", torch.float64).numpy(force=True)
    along = torch.empty_like(x64, memory_format=torch.contiguous_format)
    score.jvp(_memory(x64), host_times, _memory(v64), out=_memory(along))
    m, sigma = the.marginal(np.ascontiguousarray(host_times))
    # Where m = 0 x says nothing of y, and without a regularizer the denoised value is the same everywhere.
    if score is not the.mixture and not m.all():
        raise _errors.invalid("the denoised value of a regularized score does not exist where m = 0")
    factors = (m != 0, sigma**2, np.where(m != 0, m, 1))
    known, variance, mean = (torch.from_numpy(a)[:, None].to(x.device) for a in factors)
    result = torch.where(known, (v64 + variance * along) / mean, 0).to(x.dtype)
    if x.device.type == "cpu" and not result.isfinite().all():
        raise _errors.invalid("the derivative is beyond the range of its element type")
    return result


# ----- Derivatives ----------------------------------------------------------------------------------------------------


def _along(
    name: str, x: Tensor, t: Tensor, v: Tensor, model: Tensor, mixture: bool, backward: bool
) -> Optional[Tensor]:
    """The derivative of an output along v; backward, its transpose, which for a symmetric derivative is the same."""
    if name in _MATRICES:
        return _Jvp.apply(x, t, v, model, name == "denoised", mixture)
    if name == "log_density":
        (score,) = _Evaluate.apply(x, t, model, ("score",), True)
        return score * v.unsqueeze(-1) if backward else (score * v).sum(-1)
    if name == "nearest_index":
        return None
    raise NotImplementedError(f"mnemo.torch: {name} has no derivative; use x.detach() for it")


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, t: Tensor, model: Tensor, outputs: Sequence[str], mixture: bool) -> Tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(_evaluate(x, t, model, list(outputs), mixture))

    @staticmethod
    def setup_context(ctx: Any, inputs: Tuple[Any, ...], output: Tuple[Tensor, ...]) -> None:
        x, t, model, ctx.outputs, ctx.mixture = inputs
        if ctx.needs_input_grad[1]:
            raise TypeError(_TIME)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(o for o in output if o.dtype == torch.int64))
        ctx.save_for_backward(x, t, model)
        ctx.save_for_forward(x, t, model)

    @staticmethod
    def backward(ctx: Any, *grads: Optional[Tensor]) -> Tuple[Optional[Tensor], ...]:
        x, t, model = ctx.saved_tensors
        total = None
        for name, grad in zip(ctx.outputs, grads):
            if grad is not None and name != "nearest_index":
                term = _along(name, x, t, grad, model, ctx.mixture, backward=True)
                total = term if total is None else total + term
        return total, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, v: Optional[Tensor], of_t: Optional[Tensor], *_: Any) -> Tuple[Optional[Tensor], ...]:
        if of_t is not None:
            raise TypeError(_TIME)
        x, t, model = ctx.saved_tensors
        return tuple(_along(name, x, t, v, model, ctx.mixture, backward=False) for name in ctx.outputs)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, t: Any, model: Any, outputs: Any, mixture: Any) -> Any:
        return _evaluate_vmap(_Evaluate.apply, info, in_dims, x, t, model, outputs, mixture)


class _Jvp(torch.autograd.Function):
    """J v; linear in v, and J is symmetric."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, v: Tensor, model: Tensor, denoised: bool, mixture: bool) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            return _jvp(x, t, v, model, denoised, mixture)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tuple[Any, ...], output: Tensor) -> None:
        x, t, _, model, ctx.denoised, ctx.mixture = inputs
        if ctx.needs_input_grad[1]:
            raise TypeError(_TIME)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, t, model)
        ctx.save_for_forward(x, t, model)

    @staticmethod
    def backward(ctx: Any, grad: Optional[Tensor]) -> Tuple[Optional[Tensor], ...]:
        if grad is None:
            return (None,) * 6
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(_SECOND)
        x, t, model = ctx.saved_tensors
        return None, None, _Jvp.apply(x, t, grad, model, ctx.denoised, ctx.mixture), None, None, None

    @staticmethod
    def jvp(ctx: Any, of_x: Optional[Tensor], of_t: Optional[Tensor], v: Optional[Tensor], *_: Any) -> Tensor:
        if of_t is not None:
            raise TypeError(_TIME)
        if of_x is not None or v is None:
            raise NotImplementedError(_SECOND)
        x, t, model = ctx.saved_tensors
        return _Jvp.apply(x, t, v, model, ctx.denoised, ctx.mixture)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, t: Any, v: Any, model: Any, denoised: Any, mixture: Any) -> Any:
        return _jvp_vmap(_Jvp.apply, info, in_dims, x, t, v, model, denoised, mixture)


_SECOND = "mnemo.torch: the score and the denoised value have a first derivative only"


# ----- vmap: its dimension is folded into the batch -------------------------------------------------------------------


def _folded(info: Any, in_dims: Sequence[Optional[int]], *tensors: Tensor) -> List[Any]:
    """The tensors with the mapped dimension in their first, and how long that was before."""
    moved = [
        a.expand(info.batch_size, *a.shape) if axis is None else a.movedim(axis, 0)
        for a, axis in zip(tensors, in_dims)
    ]
    return [a.flatten(0, 1) for a in moved] + [moved[0].shape[1]]


def _evaluate_vmap(apply: Any, info: Any, in_dims: Any, x: Any, t: Any, model: Any, outputs: Any, mixture: Any) -> Any:
    x, t, rows = _folded(info, in_dims, x, t)
    results = apply(x, t, model, outputs, mixture)
    unfolded = [a.unflatten(0, (info.batch_size, rows)) for a in results]
    return type(results)(unfolded), type(results)([0] * len(unfolded))


def _jvp_vmap(
    apply: Any, info: Any, in_dims: Any, x: Any, t: Any, v: Any, model: Any, denoised: Any, mixture: Any
) -> Any:
    x, t, v, rows = _folded(info, in_dims, x, t, v)
    return apply(x, t, v, model, denoised, mixture).unflatten(0, (info.batch_size, rows)), 0


# ----- Registration ---------------------------------------------------------------------------------------------------

for _device in ("CPU", "CUDA"):
    _library.impl("evaluate", _evaluate_now, _device)
    _library.impl("jvp", _jvp_now, _device)
_library.impl("evaluate", lambda x, t, m, outputs, f: list(_Evaluate.apply(x, t, m, tuple(outputs), f)), "Autograd")
_library.impl("jvp", _Jvp.apply, "Autograd")
torch.library.register_vmap("mnemo::evaluate", lambda *a: _evaluate_vmap(_evaluate, *a), lib=_library)
torch.library.register_vmap("mnemo::jvp", lambda *a: _jvp_vmap(_jvp, *a), lib=_library)
