# SPDX-License-Identifier: MIT OR Apache-2.0
"""The empirical score as a JAX function: it runs inside compiled programs, on the CPU, and is differentiated exactly.

`Empirical` works under ``jax.jit``, ``jax.vmap``, ``jax.grad``, ``jax.jvp`` and what is built of them.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import weakref
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import _abi, _errors
from ._dataset import Dataset
from ._process import Process
from ._score import Score

__all__ = ["Empirical"]

# In the order of mnemo_score_outputs: the bits of the handler's `outputs`.
_OUTPUTS = ("score", "denoised", "log_density", "divergence", "entropy", "nearest_index", "nearest_distance")
_MATRICES = ("score", "denoised")


class Empirical:
    """The exact score of the training set smoothed by a process.

    Parameters
    ----------
    data, process, regularizer, **options
        As of `mnemo.Score.empirical`: `regularizer`, `strength`, `log_strength`, `tolerance`, `label`.
    shape : sequence of int, optional
        Shape of one sample, such as ``(3, 32, 32)``; its product is the data's dimension d. Initially ``(d,)``.

    Every method takes `x` of shape ``(*batch, *shape)``, float32 or float64, and times `t` that broadcast to `batch`,
    and computes in the element type of `x`. `x` is differentiated, `t` is not: a derivative with respect to it is a
    TypeError. The first derivative of `score` and `denoised` exists, and the first and second of `log_density`; others
    are a NotImplementedError.

    Bad values, such as NaN in `x` or a time outside the process, raise the library's message as JAX does for a program
    that failed: a ``jax.errors.JaxRuntimeError`` when it runs or is waited for, a ValueError when its values are taken.

    The rows are kept until this object and all programs that JAX has compiled for it are gone, and are given back the
    next time that this module is used. ``jax.clear_caches()`` lets go of programs that JAX keeps on its own account.
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
        score = Score.empirical(data, process, regularizer, **options)
        kept = {name: value for name, value in options.items() if name in ("label", "tolerance")}
        mixture = score if regularizer == "none" else Score.empirical(data, process, **kept)
        dim = score.dim
        self.shape: Tuple[int, ...] = (dim,) if shape is None else tuple(int(n) for n in shape)
        if math.prod(self.shape) != dim or any(n < 1 for n in self.shape):
            raise _errors.shape(f"shape is {self.shape}; its product must be the data's dimension, {dim}")
        self._model = _lend(score, mixture, process)
        # A compiled program belongs to the function it is compiled for: these go when this object does.
        bound = {"model": self._model, "shape": self.shape}
        self._evaluate = jax.jit(functools.partial(_evaluate, **bound), static_argnames="outputs", inline=True)
        self._jvp = jax.jit(functools.partial(_jvp, **bound), inline=True)
        weakref.finalize(self, _give_back, self._model).atexit = False

    def evaluate(self, x: Any, t: Any, outputs: Sequence[str] = ("score",)) -> Tuple[jax.Array, ...]:
        """Several of the results of `mnemo.Score.eval`, by name, for the price of one pass over the data.

        `score` and `denoised` have the shape of x; `log_density`, `divergence`, `entropy`, `nearest_distance` and
        `nearest_index` (an integer) that of the batch.
        """
        if isinstance(outputs, str):
            raise TypeError(f"outputs: a sequence of names, not the string {outputs!r}")
        return self._evaluate(x, t, outputs=tuple(outputs))

    def score(self, x: Any, t: Any) -> jax.Array:
        """grad log p_t(x), regularized as the options say."""
        return self.evaluate(x, t, ("score",))[0]

    def denoised(self, x: Any, t: Any) -> jax.Array:
        """(x + sigma^2 s) / m: without a regularizer the mean of the training rows that x might have come from."""
        return self.evaluate(x, t, ("denoised",))[0]

    def log_density(self, x: Any, t: Any) -> jax.Array:
        """ln p_t(x) of the mixture without regularizer, nats, shape of the batch. Its gradient is the mixture's score."""
        return self.evaluate(x, t, ("log_density",))[0]

    def jvp(self, x: Any, t: Any, v: Any) -> jax.Array:
        """The derivative of `score` along `v`, of the shape of `x`, without computing the score itself."""
        return self._jvp(x, t, v)

    def __repr__(self) -> str:
        return f"mnemo.jax.Empirical(shape={self.shape})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a mnemo.jax.Empirical is an object of this process and cannot be copied or pickled")


# ----- Arguments ------------------------------------------------------------------------------------------------------


def _arguments(x: Any, t: Any, shape: Tuple[int, ...]) -> Tuple[jax.Array, jax.Array, Tuple[int, ...]]:
    """x as (*batch, d) and t as (*batch)."""
    x, t = jnp.asarray(x), jnp.asarray(t)
    if x.dtype not in (np.float32, np.float64):
        raise _errors.dtype(f"x is {x.dtype}; it must be float32 or float64")
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise _errors.shape(f"x has shape {x.shape}; the last dimensions must be {shape}")
    batch = x.shape[: x.ndim - len(shape)]
    if not jnp.issubdtype(t.dtype, jnp.floating) and not jnp.issubdtype(t.dtype, jnp.integer):
        raise _errors.dtype(f"t is {t.dtype}; it must be a real number")
    if t.ndim > len(batch) or any(n not in (1, b) for n, b in zip(t.shape[::-1], batch[::-1])):
        raise _errors.shape(f"t has shape {t.shape}; it must broadcast to the batch of x, {batch}")
    t = jnp.broadcast_to(t.astype(jnp.result_type(float)), batch)
    return x.reshape(*batch, math.prod(shape)), t, batch


def _evaluate(
    x: Any, t: Any, *, model: int, shape: Tuple[int, ...], outputs: Tuple[str, ...]
) -> Tuple[jax.Array, ...]:
    unknown = [name for name in outputs if name not in _OUTPUTS]
    if unknown:
        raise _errors.invalid(f"outputs: {unknown[0]!r} is not one of {', '.join(_OUTPUTS)}")
    x, t, batch = _arguments(x, t, shape)
    found = dict.fromkeys(outputs)
    wanted = tuple(name for name in _OUTPUTS if name in found)
    found.update(zip(wanted, _eval_p.bind(x, t, model=model, outputs=wanted, mixture=False)))
    return tuple(found[name].reshape(batch + shape) if name in _MATRICES else found[name] for name in outputs)


def _jvp(x: Any, t: Any, v: Any, *, model: int, shape: Tuple[int, ...]) -> jax.Array:
    v = jnp.asarray(v)
    given = jnp.shape(x)
    x, t, batch = _arguments(x, t, shape)
    if v.shape != given:
        raise _errors.shape(f"v has shape {v.shape}; it must be that of x, {given}")
    if v.dtype != x.dtype:
        raise _errors.dtype(f"v is {v.dtype}; it must be of x's type, {x.dtype}")
    return _jvp_p.bind(x, t, v.reshape(x.shape), model=model, denoised=False, mixture=False)[0].reshape(given)


# ----- The library's two calls as primitives --------------------------------------------------------------------------
#
# Both take x [..., d] and t [...]: any batch is the batch of one call, so vmap only adds a dimension.

_eval_p = Primitive("mnemo_eval")
_jvp_p = Primitive("mnemo_jvp")


def _eval_types(x: Any, t: Any, *, outputs: Tuple[str, ...], **_: Any) -> Tuple[ShapedArray, ...]:
    def type_of(name: str) -> ShapedArray:
        if name in _MATRICES:
            return ShapedArray(x.shape, x.dtype)
        return ShapedArray(x.shape[:-1], jnp.result_type(int) if name == "nearest_index" else x.dtype)

    return tuple(type_of(name) for name in outputs)


def _eval_call(x: Any, t: Any, *, model: int, outputs: Tuple[str, ...], mixture: bool) -> Sequence[Any]:
    bits = sum(1 << _OUTPUTS.index(name) for name in outputs)
    call = jax.ffi.ffi_call("mnemo_eval", _eval_types(x, t, outputs=outputs))
    return call(x, t, model=np.int64(model), outputs=np.int64(bits), mixture=mixture)


def _jvp_types(x: Any, t: Any, v: Any, **_: Any) -> Tuple[ShapedArray]:
    return (ShapedArray(x.shape, x.dtype),)


def _jvp_call(x: Any, t: Any, v: Any, *, model: int, denoised: bool, mixture: bool) -> Sequence[Any]:
    call = jax.ffi.ffi_call("mnemo_jvp", _jvp_types(x, t, v))
    return call(x, t, v, model=np.int64(model), denoised=denoised, mixture=mixture)


def _batched(primitive: Primitive, arguments: Sequence[Any], axes: Sequence[Optional[int]], **params: Any) -> Any:
    size = next(a.shape[axis] for a, axis in zip(arguments, axes) if axis is not None)
    moved = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(arguments, axes)
    ]
    results = primitive.bind(*moved, **params)
    return results, [0] * len(results)


def _elsewhere(*_: Any, **__: Any) -> Any:
    raise _errors.error(
        _abi.MNEMO_E_DEVICE, 0, "mnemo.jax computes on the CPU only: call it under jax.default_device(jax.devices('cpu')[0])"
    )


# ----- Derivatives ----------------------------------------------------------------------------------------------------


def _refuse_time(tangent: Any) -> None:
    if type(tangent) is not ad.Zero:
        raise TypeError("mnemo.jax: t is not differentiated; use jax.lax.stop_gradient(t)")


def _no_tangent(result: Any) -> Any:
    return ad.Zero(jax.typeof(result).to_tangent_aval())


def _eval_derivative(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Tuple[Any, Any]:
    x, t = primals
    v, of_t = tangents
    _refuse_time(of_t)
    results = _eval_p.bind(x, t, **params)

    def along_v(name: str, result: Any) -> Any:
        if type(v) is ad.Zero or name == "nearest_index":
            return _no_tangent(result)
        bound = {"model": params["model"], "mixture": params["mixture"]}
        if name in _MATRICES:
            return _jvp_p.bind(x, t, v, denoised=name == "denoised", **bound)[0]
        if name == "log_density":
            bound["mixture"] = True
            return (_eval_p.bind(x, t, outputs=("score",), **bound)[0] * v).sum(-1)
        raise NotImplementedError(f"mnemo.jax: {name} has no derivative; use jax.lax.stop_gradient(x)")

    return results, [along_v(name, result) for name, result in zip(params["outputs"], results)]


def _jvp_derivative(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Tuple[Any, Any]:
    of_x, of_t, of_v = tangents
    _refuse_time(of_t)
    if type(of_x) is not ad.Zero:
        raise NotImplementedError("mnemo.jax: the score has a first derivative only")
    results = _jvp_p.bind(*primals, **params)
    if type(of_v) is ad.Zero:
        return results, [_no_tangent(results[0])]
    return results, _jvp_p.bind(*primals[:2], of_v, **params)


def _jvp_transpose(cotangents: Sequence[Any], x: Any, t: Any, v: Any, **params: Any) -> Sequence[Any]:
    """The score, with any regularizer, is a gradient: its derivative is symmetric and its own transpose."""
    assert not ad.is_undefined_primal(x) and not ad.is_undefined_primal(t)
    (cotangent,) = cotangents
    if type(cotangent) is ad.Zero:
        return [None, None, None]
    return [None, None, _jvp_p.bind(x, t, cotangent, **params)[0]]


for _primitive, _call, _types in ((_eval_p, _eval_call, _eval_types), (_jvp_p, _jvp_call, _jvp_types)):
    _primitive.multiple_results = True
    _primitive.def_impl(_call)
    _primitive.def_abstract_eval(_types)
    batching.primitive_batchers[_primitive] = functools.partial(_batched, _primitive)
    mlir.register_lowering(_primitive, _elsewhere)
    mlir.register_lowering(_primitive, mlir.lower_fun(_call, multiple_results=True), platform="cpu")
ad.primitive_jvps[_eval_p] = _eval_derivative
ad.primitive_jvps[_jvp_p] = _jvp_derivative
ad.primitive_transposes[_jvp_p] = _jvp_transpose


# ----- The native half ------------------------------------------------------------------------------------------------

# What is lent to a model, until no program uses it: see jax/mnemo_jax.cc.
_lent: Dict[int, Tuple[Any, ...]] = {}


def _load() -> ctypes.CDLL:
    name = "libmnemo_jax.so"
    library = Path(_abi.lib._name)
    beside = [Path(__file__).with_name(name)] + ([library.with_name(name)] if library.is_absolute() else [])
    path = os.environ.get("MNEMO_JAX_LIBRARY") or next((str(p) for p in beside if p.exists()), name)
    try:
        native = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"mnemo.jax: its native half could not be loaded: {error}. It is looked for in the environment variable "
            "MNEMO_JAX_LIBRARY (its path), in this package, beside the library, then where the system's loader looks; "
            "bindings/python/jax/build.sh makes it."
        ) from None
    native.mnemo_jax_abi_version.restype = ctypes.c_uint32
    built, loaded = native.mnemo_jax_abi_version(), _abi.lib.mnemo_abi_version()
    if built >> 16 != loaded >> 16 or built > loaded:
        raise ImportError(
            f"mnemo.jax: {path} was built for ABI {built >> 16}.{built & 0xFFFF}; the library that is loaded has "
            f"{loaded >> 16}.{loaded & 0xFFFF}"
        )
    native.mnemo_jax_open.restype = native.mnemo_jax_gone.restype = ctypes.c_int64
    native.mnemo_jax_open.argtypes = [ctypes.c_void_p] * 3
    native.mnemo_jax_close.argtypes = [ctypes.c_int64]
    native.mnemo_jax_close.restype = None
    for of in ("type_id", "type_info"):
        getattr(native, f"mnemo_jax_{of}").restype = ctypes.c_void_p
    return native


@functools.cache
def _register() -> None:
    """Makes the handlers known to XLA: when the first model is made, because it starts JAX's backends."""
    jax.local_devices(backend="cpu")  # until then JAX queues registrations, and hands them on in the wrong order
    kind = {of: _capsule(getattr(_native, f"mnemo_jax_{of}")()) for of in ("type_id", "type_info")}
    jax.ffi.register_ffi_type("mnemo_jax_share", kind, platform="cpu")
    for call in ("eval", "jvp"):
        stages = {
            "instantiate": jax.ffi.pycapsule(_native.mnemo_jax_instantiate),
            "execute": jax.ffi.pycapsule(getattr(_native, f"mnemo_jax_{call}")),
        }
        jax.ffi.register_ffi_target(f"mnemo_{call}", stages, platform="cpu")


def _capsule(address: int) -> Any:
    return jax.ffi.pycapsule(ctypes.c_void_p(address))


def _lend(*handles: Any) -> int:
    """A model of three handles, which stay usable even if they are closed."""
    _register()
    _drop_gone()
    entered, model = [], 0
    try:
        for handle in handles:
            entered.append((handle, handle._enter()))
        model = _native.mnemo_jax_open(*(pointer for _, pointer in entered))
    finally:
        if model == 0:  # a handle is closed, or there is no memory
            for handle, _ in entered:
                handle._native.leave()
    if model == 0:
        raise MemoryError("mnemo.jax: out of memory")
    _lent[model] = handles
    return model


def _give_back(model: int) -> None:
    _native.mnemo_jax_close(model)
    _drop_gone()


def _drop_gone() -> None:
    while model := _native.mnemo_jax_gone():
        for handle in _lent.pop(model):
            handle._native.leave()


_native = _load()
