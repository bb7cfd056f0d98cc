"""Hashes of user-defined functions: of all that a compiler would see.

That is code, constants, and the values of global and enclosed variables.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# modules whose members are identified by name, because they do not change
_STANDARD = {"math", "cmath", "operator", "numpy"}


def digest_of(functions: tuple[Callable[..., Any] | None, ...], *sizes: int | tuple[int, ...]) -> str:
    """Return a hash of a formula and its sizes; a random one if a function cannot be identified."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}, {np.__version__}, {sizes}".encode())
    for function in functions:
        digest.update(b"none" if function is None else _identity(function, frozenset(), frozenset()))
    return digest.hexdigest()[:24]


def _identity(value: Any, names: frozenset[str], seen: frozenset[int]) -> bytes:
    """Return bytes that are the same only for values that compile to the same code; random ones if that is unknown.

    `names` are those that the surrounding function looks up, also in modules.
    """
    kind = type(value)
    if hasattr(value, "py_func"):
        options = [repr(getattr(value, name, None)) for name in ("targetoptions", "locals", "signatures")]
        explicit = not getattr(value, "_can_compile", True)
        return repr((options[:2], options[2] if explicit else None)).encode() + _identity(value.py_func, names, seen)
    if value is None or (
        isinstance(value, bool | int | float | complex | str | bytes | np.generic)
        and (kind.__module__ in ("builtins", "numpy"))
    ):
        return f"{kind.__name__} {value!r};".encode()
    if kind in (tuple, frozenset):
        items = [_identity(item, names, seen) for item in value]
        return b"(" + b"".join(items if kind is tuple else sorted(items)) + b")"
    if kind is np.ndarray and value.dtype.kind in "biufc":
        described = f"{value.dtype} {value.shape} {value.flags.c_contiguous};"
        return described.encode() + bytes(value.tobytes())
    if isinstance(value, types.CodeType):
        parts = (value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars,
                 value.co_argcount, value.co_kwonlyargcount, value.co_flags, value.co_consts,
                 getattr(value, "co_exceptiontable", b""))  # fmt: skip
        return b"".join(_identity(part, names, seen) for part in parts)
    if isinstance(value, types.BuiltinFunctionType | np.ufunc) or (
        isinstance(value, type) and value.__module__ in ("builtins", "numpy")
    ):
        return f"{getattr(value, '__module__', '')}.{value.__name__};".encode()
    if kind.__module__.startswith("numba.core.types"):
        return f"numba {value};".encode()
    if isinstance(value, types.ModuleType):
        if value.__name__.split(".")[0] in _STANDARD and value is sys.modules.get(value.__name__):
            return f"module {value.__name__};".encode()
        if id(value) in seen:
            return b"again;"
        found = [(name, getattr(value, name)) for name in sorted(names) if hasattr(value, name)]
        return b"".join(name.encode() + _identity(member, names, seen | {id(value)}) for name, member in found)
    if inspect.isfunction(value):
        return _identity_of_function(value, seen)
    return uuid.uuid4().bytes  # equal to no other identity


def _identity_of_function(function: types.FunctionType, seen: frozenset[int]) -> bytes:
    if id(function) in seen:
        return b"again;"
    seen = seen | {id(function)}
    code = function.__code__
    names = frozenset(name for each in nested(code) for name in each.co_names)
    outside: dict[str, Any] = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            outside[f"{name} of a closure"] = cell.cell_contents
        except ValueError:  # not assigned yet
            return uuid.uuid4().bytes
    defaults = (function.__defaults__, tuple(sorted((function.__kwdefaults__ or {}).items())))
    found = [_identity(part, names, seen) for part in (code, *defaults)]
    for name, value in sorted(outside.items()):
        found += [name.encode(), _identity(value, names, seen)]
    return b"".join(found)


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """Iterate over a function's code and that of nested functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested(constant)
