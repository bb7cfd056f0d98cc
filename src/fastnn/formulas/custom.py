"""User-defined functions as formulas, and the keys that identify them.

A key holds a hash of all that the compiler would see (`custom_identity.py`).
So compiled kernels can be kept on disk, and the same function has the same key in every process.
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from fastnn.formulas.custom_identity import digest_of

_PREFIX = "custom"


@dataclass(frozen=True)
class CustomFunction:
    """A user-defined formula.

    Attributes
    ----------
    text : str
        The key's text.
    functions : tuple of function or None
        In plain Python: the formula, and its derivative if given.
    slots, constants : int
        Of an optimizer.
    shape : tuple of int
        Shape of a layer's weights; (0,) if it has none.
    units : tuple of int
        The numbers of each of a layer's outputs, if it has several.
    cacheable : bool
        Whether the key identifies the function, so that its compiled kernels may be kept on disk.
    """

    text: str
    functions: tuple[Callable[..., Any] | None, ...]
    slots: int = 0
    constants: int = 0
    shape: tuple[int, ...] = (0,)
    units: tuple[int, ...] = ()
    cacheable: bool = True

    @property
    def key(self) -> str:
        """The key that replaces a formula's name."""
        return _Key(self)

    @property
    def name(self) -> str:
        """The name in the key."""
        return self.text.split("-")[1]

    def described(self) -> str:
        """Return the name and the function's first line, for messages."""
        assert self.functions[0] is not None
        code = self.functions[0].__code__
        return f"{self.name!r} ({Path(code.co_filename).name}, line {code.co_firstlineno})"

    @property
    def changed(self) -> bool:
        """Return whether the function's global or enclosed values have changed since the key was made."""
        sizes = self.slots, self.constants, self.shape, self.units
        return self.cacheable and digest_of(self.functions, *sizes) not in self.text

    def check_unchanged(self) -> None:
        """Raise ValueError if the function has changed since its key was made."""
        if self.changed:
            raise ValueError(
                f"the function {self.name!r}: its global or enclosed values have changed since it was passed to "
                "fastnn, and before it was compiled; pass it again"
            )

    @property
    def weighted(self) -> bool:
        """Whether a layer has weights."""
        return self.shape != (0,)


class _Key(str):
    """A key that keeps its formula registered: layers and programs hold keys, and functions hold arrays."""

    custom: CustomFunction

    def __new__(cls, custom: CustomFunction) -> _Key:
        made = super().__new__(cls, custom.text)
        made.custom = custom
        return made

    def __deepcopy__(self, memo: Any) -> _Key:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


_known: weakref.WeakValueDictionary[str, CustomFunction] = weakref.WeakValueDictionary()


def enroll(custom: CustomFunction) -> CustomFunction:
    """Register a formula with kernels, as long as it or one of its keys is referenced."""
    return _known.setdefault(custom.text, custom)


def make(
    name: str,
    *functions: Callable[..., Any] | None,
    slots: int = 0,
    constants: int = 0,
    shape: tuple[int, ...] = (0,),
    units: tuple[int, ...] = (),
) -> CustomFunction:
    """Describe a formula and register it."""
    plain = tuple(None if function is None else plain_function(function) for function in functions)
    sizes = slots, constants, shape, units
    digest = digest_of(plain, *sizes)
    cacheable = digest == digest_of(plain, *sizes)
    readable = re.sub(r"\W", "", name)[:40]
    return enroll(CustomFunction(f"{_PREFIX}-{readable}-{digest}", plain, *sizes, cacheable))


_checked: set[tuple[str, str]] = set()
_checkers: list[Callable[[CustomFunction, str], None]] = []


def check_with(checker: Callable[[CustomFunction, str], None]) -> None:
    """Set the function that `check_types` calls: it needs Numba, which this module does not import."""
    _checkers[:] = [checker]


def check_types(custom: CustomFunction, kind: str) -> CustomFunction:
    """Check that Numba can infer a formula's types, as an "activation", "loss", "optimizer" or "layer"; returns it.

    Raises
    ------
    ValueError
        When Numba cannot; the message names the function, its line and the reason.
    """
    if (custom.text, kind) not in _checked:
        for checker in _checkers:
            checker(custom, kind)
        _checked.add((custom.text, kind))
    return custom


def is_custom(key: str) -> bool:
    """Return whether this is the key of a user-defined function."""
    return key.startswith(f"{_PREFIX}-")


def find(key: str) -> CustomFunction | None:
    """Return the formula of a key, or None if it is one of fastnn's.

    Raises
    ------
    KeyError
        When the function of the key is not registered in this process.
    """
    if not is_custom(key):
        return None
    found = _known.get(key)
    if found is None:
        raise KeyError(f"the user-defined function {key!r} is not known in this process")
    return found


def first(*keys: str) -> CustomFunction | None:
    """Return the formula of the first key that is user-defined, or None if none is; raises as `find` does."""
    return next((find(key) for key in keys if is_custom(key)), None)


def plain_function(function: Any) -> Callable[..., Any]:
    """Return the Python function of one compiled by `numba.njit`, or the function itself."""
    plain = getattr(function, "py_func", function)
    if not inspect.isfunction(plain):
        raise TypeError(f"expected a Python function or one compiled by numba.njit, got {function!r}")
    return plain


def is_function(value: object) -> TypeGuard[Callable[..., Any]]:
    """Return whether this is a Python function, or one compiled by `numba.njit`."""
    return inspect.isfunction(getattr(value, "py_func", value))


def _value(function: Any, numbers: Sequence[float]) -> Any:
    """Return a function's value, NaN outside the domain of a function of `math`, as compiled code does."""
    try:
        return function(*numbers)
    except ArithmeticError:
        return np.nan
    except ValueError as error:
        # the messages of `math`, including those of Python 3.14 and newer
        if str(error).startswith(("math ", "expected a")):
            return np.nan
        raise


def over(function: Any, *arrays: Any) -> Any:
    """Return the values of a function on arrays of float64 of one shape."""
    flat = [np.ravel(array).tolist() for array in arrays]
    values = [_value(function, numbers) for numbers in zip(*flat, strict=True)]
    return np.array(values, np.float64).reshape(np.shape(arrays[0]))


def name_of(given: object, function: Any) -> str:
    """Return the given name, or the function's."""
    if not isinstance(given, str):
        raise TypeError(f"name: expected a string, got {given!r}")
    return given or plain_function(function).__name__


def check_arity(function: Any, count: int, what: str, wanted: str) -> None:
    """Raise unless a function takes `count` positional arguments."""
    try:
        inspect.signature(plain_function(function)).bind(*range(count))
    except TypeError as error:
        raise TypeError(f"{what}: expected a function {wanted}: {error}") from None


def check_names(function: Any, places: Sequence[str], wanted: str) -> None:
    """Raise if a function has one of the names at the position of another: arguments are passed by position."""
    for name, place in zip(inspect.signature(plain_function(function)).parameters, places, strict=False):
        if name != place and name in places:
            raise TypeError(f"optimizer: expected a function of ({wanted}): {name!r} is at the position of {place!r}")
