# SPDX-License-Identifier: MIT OR Apache-2.0
"""Errors of the library as exceptions. Each is also of the builtin kind that a Python caller would look for."""

from __future__ import annotations

import errno

from . import _abi
from ._abi import lib


class Error(Exception):
    """A call of the library failed.

    Attributes
    ----------
    code : int
        The status, ``MNEMO_E_…``.
    native : int
        The number of the layer below: ``errno`` of a file, what a callback returned; 0 if there is none.
    name : str
        The status by name, such as ``"MNEMO_E_SHAPE"``.
    message : str
        What was wrong: the argument, what was given, what is accepted.
    """

    code: int
    native: int
    message: str

    def __init__(self, message: str, code: int, native: int = 0) -> None:
        self.args = (message, code, native)  # not super().__init__: OSError would take them for (errno, strerror, …)
        self.message = message
        self.code = code
        self.native = native

    @property
    def name(self) -> str:
        return str(lib.mnemo_status_name(self.code).decode())

    def __str__(self) -> str:
        return self.message

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (self.message, self.code, self.native)


class InvalidError(Error, ValueError):
    """A value that is not accepted (``MNEMO_E_INVALID``), such as NaN in `x` or an object that is closed."""


class ShapeError(Error, ValueError):
    """Sizes or strides that do not agree (``MNEMO_E_SHAPE``)."""


class DtypeError(Error, TypeError):
    """An element type that is not accepted (``MNEMO_E_DTYPE``)."""


class DeviceError(Error, RuntimeError):
    """A device that is not there, or an array on another one (``MNEMO_E_DEVICE``)."""


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be had, or a context's `memory_limit` would be passed (``MNEMO_E_NOMEM``)."""


class FileError(Error, OSError):
    """A file could not be read or is not what its header says (``MNEMO_E_IO``); `errno` is `native`, or None."""

    def __init__(self, message: str, code: int, native: int = 0) -> None:
        super().__init__(message, code, native)
        self.errno = native or None
        self.strerror = message


class MissingFileError(FileError, FileNotFoundError):
    """A file is not there (``MNEMO_E_IO`` with `native` = ``ENOENT``)."""


class Cancelled(Error):
    """A `Cancel` or a `progress` callback asked the call to stop (``MNEMO_E_CANCELLED``)."""


class CallbackError(Error, RuntimeError):
    """A callback did not do what it should, such as returning NaN (``MNEMO_E_CALLBACK``)."""


class UnsupportedError(Error, NotImplementedError):
    """Understood, but this object or this version cannot do it (``MNEMO_E_UNSUPPORTED``)."""


_KINDS = {
    _abi.MNEMO_E_INVALID: InvalidError,
    _abi.MNEMO_E_SHAPE: ShapeError,
    _abi.MNEMO_E_DTYPE: DtypeError,
    _abi.MNEMO_E_DEVICE: DeviceError,
    _abi.MNEMO_E_NOMEM: OutOfMemoryError,
    _abi.MNEMO_E_IO: FileError,
    _abi.MNEMO_E_CANCELLED: Cancelled,
    _abi.MNEMO_E_CALLBACK: CallbackError,
    _abi.MNEMO_E_UNSUPPORTED: UnsupportedError,
}


def error(code: int, native: int, message: str) -> Error:
    """The exception of a status."""
    kind = _KINDS.get(code, Error)
    if kind is FileError and native == errno.ENOENT:
        kind = MissingFileError
    return kind(message, code, native)


def invalid(message: str) -> InvalidError:
    """A value that this package itself refuses."""
    return InvalidError(message, _abi.MNEMO_E_INVALID)


def shape(message: str) -> ShapeError:
    """A shape that this package itself refuses."""
    return ShapeError(message, _abi.MNEMO_E_SHAPE)


def dtype(message: str) -> DtypeError:
    """An element type that this package itself refuses."""
    return DtypeError(message, _abi.MNEMO_E_DTYPE)
