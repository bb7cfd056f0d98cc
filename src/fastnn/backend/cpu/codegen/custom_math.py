"""Replacement of C's elementary functions in users' float32 formulas by fastnn's, which LLVM vectorises.

A loop that calls C's `exp` for each element is not vectorised: a user-defined silu took 3 times as long as fastnn's,
tanh 16 times; with the replacement 1.4 and 1.3 times. The results are within 2 ulp of the true ones.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba.extending import overload

from fastnn.backend.cpu.codegen.elementary import functions
from fastnn.backend.cpu.codegen.options import FORMULA_FLAGS, users

_NAMES = ("exp", "expm1", "log", "log1p", "tanh", "erf")
_MODULES = (math, np)


def single(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a user's scalar function for float32, as `options.users` does."""
    return users(_exchanged(function))


def _exchanged(function: Any) -> Any:
    """Return a copy of a function that uses fastnn's elementary functions instead of those of `math` and NumPy."""
    given = function.__globals__
    found = {}
    for name in function.__code__.co_names:
        value = given.get(name)
        if any(value is module for module in _MODULES):
            found[name] = _module(value)
        elif value is not None and any(value is one for one in _originals()):
            found[name] = _single(value.__name__)
    if not found:
        return function
    made = types.FunctionType(
        function.__code__, {**given, **found}, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


@cache
def _originals() -> tuple[Any, ...]:
    return tuple(getattr(module, name) for module in _MODULES for name in _NAMES if hasattr(module, name))


@cache
def _module(module: Any) -> Any:
    """Return a copy of a module with other elementary functions."""

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(module, name)

    made = Module(module.__name__)
    for name in _NAMES:
        if hasattr(module, name):
            setattr(made, name, _single(name))
    return made


@cache
def _single(name: str) -> Any:
    """Make a function that Numba compiles to fastnn's elementary function of this name, in float32."""
    ours = getattr(functions("float32"), name)

    def stub(x: Any) -> Any:
        raise NotImplementedError

    options = {"forceinline": True, "error_model": "numpy", "fastmath": set(FORMULA_FLAGS)}

    @overload(stub, jit_options=options)  # type: ignore[untyped-decorator]
    def implementation(x: Any) -> Any:
        def compute(x: Any) -> Any:
            return ours(np.float32(x))

        return compute

    return stub
