# SPDX-License-Identifier: MIT OR Apache-2.0
"""Calling the library: handles that live as long as a call needs them, callbacks that raise, signals that interrupt.

An exception must not leave a ctypes callback: it would be printed and forgotten, and the library would take the result
for success. So whatever Python code runs inside a call runs under `guarded`, which keeps the exception for `run` to raise
when the call has ended. Signal handlers are Python code too, and may run at the very first instruction of a callback,
before any `try`; so while the main thread is inside a call they are wrapped, and their exceptions are kept likewise.
Last, a daemon thread must not be inside a callback when the interpreter ends: see `_end`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its conversion to enums, which costs more than it
import atexit
import ctypes
import functools
import os
import threading
import time
import weakref
from ctypes import byref, c_void_p
from typing import Any, Callable, List, NoReturn, Optional, Tuple

from . import _abi, _errors
from ._abi import lib

Progress = Callable[[int, int], object]


# ----- Handles --------------------------------------------------------------------------------------------------------

# One lock for all handles: held for a few instructions only, and by nobody while the process forks. A finalizer may run
# inside of it, so it can be taken again.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Native:
    """A pointer, and how many calls are using it. Released when closed and no longer used."""

    __slots__ = ("closed", "pointer", "release", "users")

    def __init__(self, pointer: int, release: Callable[[int], None]) -> None:
        self.pointer = pointer
        self.release = release
        self.users = 0
        self.closed = False

    def close(self) -> None:
        with _lock:
            last = not self.closed and self.users == 0
            self.closed = True
        if last:
            self.release(self.pointer)

    def leave(self) -> None:
        with _lock:
            self.users -= 1
            last = self.closed and self.users == 0
        if last:
            self.release(self.pointer)


class Handle:
    """An object of the library.

    It may be used by several threads at once. `close` releases it, as does leaving a ``with`` block, the garbage
    collector, or the end of the interpreter; a call that is under way keeps it until it returns. What one object needs
    of another the library keeps, so they may be closed in any order. Using a closed object is an `InvalidError`.
    """

    _release = ""
    _calls_back = False  # whether a call that is given this object runs Python code of the host's

    def _adopt(self, pointer: c_void_p) -> None:
        assert pointer.value
        self._native = _Native(pointer.value, getattr(lib, self._release))
        self._finalizer = weakref.finalize(self, self._native.close)

    def _enter(self) -> int:
        with _lock:
            pointer = self.handle
            self._native.users += 1
            return pointer

    @property
    def handle(self) -> int:
        """Address of the native object, for calls through `mnemo.lib`; valid while this object is open."""
        with _lock:
            if self._native.closed:
                raise _errors.invalid(f"this {type(self).__name__} is closed")
            return self._native.pointer

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._native.closed

    def close(self) -> None:
        """Release the native object; a second time is nothing."""
        self._finalizer()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is an object of this process and cannot be copied or pickled")


# ----- Calls ----------------------------------------------------------------------------------------------------------


def _invoke(function: Any, arguments: Tuple[Any, ...]) -> None:
    """Call `function`, whose last argument, the error, is added here; a `Handle` among `arguments` is kept meanwhile."""
    error = _abi.mnemo_error()
    entered: List[Handle] = []
    try:
        values = []
        for argument in arguments:
            if isinstance(argument, Handle):
                values.append(argument._enter())
                entered.append(argument)
            else:
                values.append(argument)
        status = function(*values, byref(error))
    finally:
        for handle in entered:
            handle._native.leave()
    if status != _abi.MNEMO_OK:
        raise _errors.error(status, error.native, error.message.decode("utf-8", "replace"))


def call(function: Any, *arguments: Any) -> None:
    """A short call without callbacks."""
    _invoke(function, arguments)


def create(function: Any, *arguments: Any) -> c_void_p:
    """A call that makes an object: its pointer."""
    out = c_void_p()
    _invoke(function, (*arguments, byref(out)))
    return out


class Cancel(Handle):
    """A flag by which any thread stops calls that were given it (their argument `cancel`)."""

    _release = "mnemo_cancel_release"

    def __init__(self) -> None:
        self._adopt(create(lib.mnemo_cancel_create))

    def request(self) -> None:
        """Stop every call that was given this flag, and later ones at once until `reset`: they raise `Cancelled`."""
        self._set(lib.mnemo_cancel_request)

    def reset(self) -> None:
        """Make the flag usable for new calls; a call still running may miss the request."""
        self._set(lib.mnemo_cancel_reset)

    def _set(self, function: Any) -> None:
        pointer = self._enter()
        try:
            function(pointer)
        finally:
            self._native.leave()


class _Frame:
    """One call under way on this thread, and the first exception that Python code inside of it raised."""

    __slots__ = ("error", "host", "main", "observer", "progress", "stream")

    def __init__(
        self, main: bool, progress: Optional[Progress], observer: Optional[Callable[..., object]], stream: int
    ) -> None:
        self.error: Optional[BaseException] = None
        self.host = False  # the host's code is running, into which signal handlers may raise
        self.main = main
        self.progress = progress
        self.observer = observer
        self.stream = stream


class _Thread(threading.local):
    def __init__(self) -> None:
        self.frames: List[_Frame] = []


_thread = _Thread()


def run(
    function: Any,
    *arguments: Any,
    seed: int = 0,
    cancel: Optional[Cancel] = None,
    progress: Optional[Progress] = None,
    observer: Optional[Callable[..., object]] = None,
    stream: int = 0,
    check: bool = False,
) -> None:
    """A call that can take long and call back: adds the exec and the error to `arguments`.

    In the main thread Python's signal handlers run whenever the library reports progress, and what they raise, such as
    KeyboardInterrupt, stops the call.
    """
    if progress is not None and not callable(progress):
        raise TypeError("progress: not callable; it is a function of (done, total) or None")
    if cancel is not None and not isinstance(cancel, Cancel):
        raise TypeError(f"cancel: a mnemo.Cancel or None, not a {type(cancel).__name__}")
    main = threading.get_ident() == threading.main_thread().ident
    how = _abi.mnemo_exec()
    lib.mnemo_exec_init(byref(how), ctypes.sizeof(how))
    how.seed = seed
    how.stream = stream
    how.flags = _abi.MNEMO_EXEC_CHECK if check else 0
    if progress is not None or main:
        how.progress = _progress
    frame = _Frame(main, progress, observer, stream)
    frames = _thread.frames
    wrapped: List[Tuple[int, Any, Any]] = []
    error: Optional[BaseException] = None
    calls_back = progress or observer or any(getattr(a, "_calls_back", False) for a in arguments)
    from_thread = calls_back and not main and not frames
    try:
        if from_thread:
            _enter_from_thread()
        if cancel is not None:
            how.cancel = cancel._enter()
        frames.append(frame)
        if main and len(frames) == 1:
            _wrap_signal_handlers(wrapped)
        _invoke(function, (*arguments, byref(how)))
    except _errors.Error as e:
        error = e
    finally:
        # First of all: from here on signal handlers raise as ever.
        if frames and frames[-1] is frame:
            frames.pop()
        _unwrap_signal_handlers(wrapped)
        if how.cancel:
            cancel._native.leave()  # type: ignore[union-attr]
        if from_thread:
            _leave_to_thread()
    if frame.error is not None:
        error, frame.error = frame.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error  # it holds this frame by its traceback


def guarded(function: Callable[..., object], *arguments: Any) -> int:
    """The body of a callback: 0, or 1 if it or a signal handler raised."""
    frame = _thread.frames[-1]
    # Until Python 3.10 a second handler may run, and raise, while the first one's exception is being caught: hence two.
    try:
        try:
            if frame.error is not None or (_ending and not frame.main):
                return 1
            frame.host = True
            stop = function(*arguments)
        finally:
            frame.host = False
        return 1 if stop or frame.error is not None else 0
    except BaseException as error:
        frame.host = False
        frame.error = error
        return 1


def current_observer() -> Tuple[Callable[..., object], int]:
    """The observer of the call under way on this thread, and the call's stream."""
    frame = _thread.frames[-1]
    assert frame.observer is not None
    return frame.observer, frame.stream


@_abi.PROGRESS
def _progress(user: int, done: int, total: int) -> int:
    frame = _thread.frames[-1]
    if frame.progress is None:
        return 0 if frame.error is None else 1
    return guarded(frame.progress, done, total)


# ----- The end of the interpreter -------------------------------------------------------------------------------------

# When the interpreter ends, a daemon thread that asks for it is ended on the spot (before Python 3.14), which from within a
# callback would tear through the library's own frames and abort the process. So before that such calls are stopped at
# their next callback, and the threads that made them sleep.
_LONGEST_WAIT = 2.0  # seconds, for callbacks that are under way
_ending = False
_in_threads = 0  # calls with callbacks under way in threads other than the main one


def _enter_from_thread() -> None:
    global _in_threads
    if _ending:
        _sleep_forever()
    with _lock:
        _in_threads += 1


def _leave_to_thread() -> None:
    global _in_threads
    with _lock:
        _in_threads -= 1
    if _ending:
        _sleep_forever()


def _sleep_forever() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@atexit.register
def _end() -> None:
    global _ending
    _ending = True
    latest = time.monotonic() + _LONGEST_WAIT
    while _in_threads > 0 and time.monotonic() < latest:
        time.sleep(0.001)


def _after_fork() -> None:
    global _in_threads
    _in_threads = 0  # the parent's threads are not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# ----- Signals --------------------------------------------------------------------------------------------------------


def _deliver(handler: Callable[[int, Any], object], number: int, stack: Any) -> None:
    """Run a signal handler; outside of the host's code what it raises is kept until the call has ended."""
    frames = _thread.frames
    if not frames:
        handler(number, stack)
        return
    frame = frames[-1]
    try:
        handler(number, stack)
    except BaseException as error:
        if frame.host:
            raise
        if frame.error is None:
            frame.error = error


def _wrap_signal_handlers(wrapped: List[Tuple[int, Any, Any]]) -> None:
    for number in range(1, _signal.NSIG):
        handler = _signal.getsignal(number)
        if callable(handler) and getattr(handler, "func", None) is not _deliver:
            wrapper = functools.partial(_deliver, handler)
            wrapped.append((number, handler, wrapper))
            try:
                _signal.signal(number, wrapper)
            except ValueError:  # not the main interpreter, which alone has signals
                return


def _unwrap_signal_handlers(wrapped: List[Tuple[int, Any, Any]]) -> None:
    while wrapped:
        number, handler, wrapper = wrapped[-1]
        if _signal.getsignal(number) is wrapper:  # else a callback has set its own
            _signal.signal(number, handler)
        wrapped.pop()
