"""Errors for exceptions that user-defined functions raise in compiled code."""

from __future__ import annotations

import ctypes
import pickle
from typing import Any

#: If neither the function nor the exception is known.
RAISED = (
    "a compiled kernel raised: a user-defined function (an exception, a failed assert, an index out of bounds), or a "
    "bug in fastnn"
)


class _Description(ctypes.Structure):
    """Numba's description of an exception that was known when the code was compiled."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int32),
        ("hash", ctypes.c_void_p),
        ("unwrap", ctypes.c_void_p),
        ("allocated", ctypes.c_int32),
    )


def raised(function: str, description: int) -> RuntimeError:
    """Return the exception for a kernel that has raised.

    Parameters
    ----------
    function : str
        Name and place of the user-defined function, "" if unknown.
    description : int
        Address of Numba's description, 0 if there is none; its code is still linked.
    """
    exception, where = _described(description)
    if not function:
        return RuntimeError(RAISED if exception is None else f"{RAISED}: {exception!r}{where}")
    if exception is None:
        return RuntimeError(f"the function {function} raised an exception (an index out of bounds does)")
    error = RuntimeError(f"the function {function} raised {exception!r}{where}")
    error.__cause__ = exception
    return error


def _described(description: int) -> tuple[BaseException | None, str]:
    """Return an exception, and the place where it was raised."""
    if not description:
        return None, ""
    found = _Description.from_address(description)
    # exceptions with computed arguments hold them in another form
    if found.allocated or not found.data or found.size <= 0:
        return None, ""
    try:
        kind, arguments, place = pickle.loads(ctypes.string_at(found.data, found.size))
        exception: Any = kind(*(arguments or ()))
    except Exception:  # a user-defined class may need more arguments than it was raised with
        return None, ""
    where = "" if place is None else f" (line {place[2]} of {place[1]})"
    return exception if isinstance(exception, BaseException) else None, where
