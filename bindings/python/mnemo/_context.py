# SPDX-License-Identifier: MIT OR Apache-2.0
"""Contexts: where computing happens."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from ctypes import byref
from typing import Any, Dict, Optional, Union

from . import _abi
from ._abi import lib
from ._call import Handle, call, create
from ._errors import invalid
from ._tensor import constant, integer

_INSTRUCTION_SETS = {
    "best": _abi.MNEMO_ISA_BEST,
    "portable": _abi.MNEMO_ISA_PORTABLE,
    "avx2": _abi.MNEMO_ISA_AVX2,
    "avx512": _abi.MNEMO_ISA_AVX512,
    "amx": _abi.MNEMO_ISA_AMX,
}
_DEVICES = {"cpu": _abi.MNEMO_CPU, "cuda": _abi.MNEMO_CUDA}


class Context(Handle):
    """A machine to compute on, with its own threads.

    Objects made from a context keep what they need of it, so it may be closed before they are. One context may be used
    by many threads at once, and by a child after a fork.

    Parameters
    ----------
    num_threads : int
        Threads of the context; 0 means one per processor. They start with the first work that is worth it.
    memory_limit : int
        Bytes of memory that the stored rows of one data set may take; 0 means no limit. Rows of a larger file that is not
        compressed stay there: `Dataset.open`.
    instruction_set : {"best", "portable", "avx2", "avx512", "amx"}
        The kernels. Results on two machines have the same bits if they use the same ones; "portable", which every
        processor has, is several times slower.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. A CUDA context computes with arrays on its device where they are, and with
        those in the host's memory by copies.
    kernel_cache_dir : path, optional
        Folder for compiled CUDA kernels; the user's cache folder if None. Who can write to it can have the device run what
        they like.

    Raises
    ------
    DeviceError
        The device or the instruction set is not there.
    """

    _release = "mnemo_context_release"

    def __init__(
        self,
        num_threads: int = 0,
        memory_limit: int = 0,
        instruction_set: str = "best",
        *,
        device: str = "cpu",
        kernel_cache_dir: Union[str, "os.PathLike[str]", None] = None,
    ) -> None:
        options = _abi.mnemo_context_options()
        lib.mnemo_context_options_init(byref(options), ctypes.sizeof(options))
        kind, _, number = str(device).partition(":")
        if number and not number.isdecimal():
            raise invalid(f"device is {device!r}; after the colon comes the device's number")
        options.device_type = constant("device", kind, _DEVICES)
        options.device_id = integer("device", int(number or 0), 32)
        options.num_threads = integer("num_threads", num_threads, 32, signed=False)
        options.memory_limit = integer("memory_limit", memory_limit, 64, signed=False)
        options.instruction_set = constant("instruction_set", instruction_set, _INSTRUCTION_SETS)
        if kernel_cache_dir is not None:
            options.kernel_cache_dir = path_bytes("kernel_cache_dir", kernel_cache_dir)
        self._adopt(create(lib.mnemo_context_create, byref(options)))

    def warm_up(self) -> None:
        """Compile and load all kernels of a CUDA context, which its first calls would otherwise wait for.

        A CPU context has nothing to do.
        """
        call(lib.mnemo_context_warm_up, self)

    def describe(self) -> Dict[str, Any]:
        """What computes: the members "backend", "instruction_set", "threads" and "device".

        A CUDA context adds "device_id", "driver", "nvrtc", "cache" and "kernels".
        """
        needed = ctypes.c_size_t()
        call(lib.mnemo_context_describe, self, None, 0, byref(needed))
        text = ctypes.create_string_buffer(needed.value)
        call(lib.mnemo_context_describe, self, text, needed.value, None)
        described: Dict[str, Any] = json.loads(text.value)
        return described

    def __repr__(self) -> str:
        return "<mnemo.Context, closed>" if self.closed else f"<mnemo.Context {self.describe()}>"


_default: Optional[Context] = None
_default_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_default_lock.acquire, after_in_parent=_default_lock.release, after_in_child=_default_lock.release
    )


def default_context() -> Context:
    """The context that serves where none is given: made when first asked for, and anew once it is closed."""
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Context()
        return _default


def context_or_default(context: Optional[Context]) -> Context:
    """The caller's context, checked."""
    return default_context() if context is None else expect("context", context, Context)


def expect(name: str, given: Any, kind: Any) -> Any:
    """An object of the class that an argument has."""
    if not isinstance(given, kind):
        raise TypeError(f"{name}: a mnemo.{kind.__name__}, not a {type(given).__name__}")
    return given


def path_bytes(name: str, path: Union[str, "os.PathLike[str]"]) -> bytes:
    """A path as the library takes it."""
    data = os.fsencode(path)
    if b"\0" in data:
        raise invalid(f"{name} contains a NUL character")
    return data
