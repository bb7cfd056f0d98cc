"""User-defined functions as formulas: the keys that identify them, and the code that kernels inline.

The key holds a hash of all that the compiler would see: code, constants, and the values of global and enclosed
variables. So compiled kernels can be kept on disk, and the same function has the same key in every process.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from fastnn.formulas import differences

Jit = Callable[[Any], Any]

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
        return self.cacheable and _digest(self.functions, *sizes) not in self.text

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
    digest = _digest(plain, *sizes)
    cacheable = digest == _digest(plain, *sizes)
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


def _digest(functions: tuple[Callable[..., Any] | None, ...], *sizes: int | tuple[int, ...]) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}, {np.__version__}, {sizes}".encode())
    for function in functions:
        digest.update(b"none" if function is None else _identity(function, frozenset(), frozenset()))
    return digest.hexdigest()[:24]


def check_names(function: Any, places: Sequence[str], wanted: str) -> None:
    """Raise if a function has one of the names at the position of another: arguments are passed by position."""
    for name, place in zip(inspect.signature(plain_function(function)).parameters, places, strict=False):
        if name != place and name in places:
            raise TypeError(f"optimizer: expected a function of ({wanted}): {name!r} is at the position of {place!r}")


# --- identity ------------------------------------------------------------------------------------------------------

# modules whose members are identified by name, because they do not change
_STANDARD = {"math", "cmath", "operator", "numpy"}


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


# --- what kernels inline -------------------------------------------------------------------------------------------


def activation(custom: CustomFunction, real: Any, jit: Jit, users: Jit, double: Jit) -> tuple[Any, Any]:
    """Return the pair (forward, gradient) of an activation, as `formulas.activations.define` does; it saves the input.

    Parameters
    ----------
    jit, users, double : function
        Compile the surrounding code, and the user's functions for `real` numbers and for float64.
    """
    assert custom.functions[0] is not None
    function, wide = users(custom.functions[0]), double(custom.functions[0])
    derivative = None if custom.functions[1] is None else users(custom.functions[1])

    @jit
    def forward(x, a, b):  # type: ignore[no-untyped-def]
        return real(function(x))

    if derivative is not None:

        @jit
        def gradient(x, dy, a, b):  # type: ignore[no-untyped-def]
            return dy * real(derivative(x))

    else:

        @jit
        def value(given, x):  # type: ignore[no-untyped-def]
            return np.float64(wide(x))

        slope = differences.make(jit, value)

        @jit
        def gradient(x, dy, a, b):  # type: ignore[no-untyped-def]
            middle = np.float64(x)
            return dy * real(slope((0.0,), middle))

    return forward, gradient


def loss(custom: CustomFunction, real: Any, jit: Jit, users: Jit, double: Jit) -> tuple[Any, Any]:
    """Return a loss's (value, gradient), as `formulas.losses.define` does; the user's take the target first."""
    assert custom.functions[0] is not None
    function, wide = users(custom.functions[0]), double(custom.functions[0])
    derivative = None if custom.functions[1] is None else users(custom.functions[1])

    @jit
    def value(p, t, a, b):  # type: ignore[no-untyped-def]
        return real(function(t, p))

    if derivative is not None:

        @jit
        def gradient(p, t, a, b):  # type: ignore[no-untyped-def]
            return real(derivative(t, p))

    else:

        @jit
        def value_at(given, p):  # type: ignore[no-untyped-def]
            return np.float64(wide(given[0], p))

        slope = differences.make(jit, value_at)

        @jit
        def gradient(p, t, a, b):  # type: ignore[no-untyped-def]
            middle, target = np.float64(p), np.float64(t)
            return real(slope((target,), middle))

    return value, gradient


def update(custom: CustomFunction, real: Any, jit: Jit, users: Jit) -> Any:
    """Return an optimizer's update, as `formulas.optimizers.define` does; decays weights before the user's function."""
    assert custom.functions[0] is not None
    function, count = users(custom.functions[0]), custom.constants

    @jit
    def without(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        return real(function(p - decay * p, g, rate, t, *(h3, h4, h5, h6, h7)[:count])), s0, s1, s2

    @jit
    def one(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0 = function(p - decay * p, g, s0, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), s1, s2

    @jit
    def two(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0, s1 = function(p - decay * p, g, s0, s1, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), real(s1), s2

    @jit
    def three(p, g, s0, s1, s2, rate, decay, t, h3, h4, h5, h6, h7):  # type: ignore[no-untyped-def]
        p, s0, s1, s2 = function(p - decay * p, g, s0, s1, s2, rate, t, *(h3, h4, h5, h6, h7)[:count])
        return real(p), real(s0), real(s1), real(s2)

    return (without, one, two, three)[custom.slots]


def _outputs(units: Sequence[int], jit: Jit) -> Any:
    """Return a function that puts the outputs in a row, as arrays, before a tuple; the row itself without units."""
    if not units:

        @jit
        def row_before(row, rest):  # type: ignore[no-untyped-def]
            return (row, *rest)

        return row_before
    last = sum(units)
    first, others = last - units[-1], units[:-1]
    before = _outputs(others, jit) if others else jit(lambda row, rest: rest)

    @jit
    def output_before(row, rest):  # type: ignore[no-untyped-def]
        return before(row, (row[first:last], *rest))

    return output_before


def rows(custom: CustomFunction, jit: Jit) -> tuple[Any, Any]:
    """Return a layer's function and gradient, both with the argument w even if it has no weights.

    Returns
    -------
    function : (x, w, y) -> None
    gradient : (x, w, dy, dx, dw) -> None
        dx and, before the first row, dw are zeros. Several outputs follow each other in y and dy.
    """
    function, derivative = (None if each is None else jit(each) for each in custom.functions)
    assert function is not None
    weighted, outputs = custom.weighted, _outputs(custom.units, jit)

    @jit
    def forward(x, w, y):  # type: ignore[no-untyped-def]
        given = outputs(y, ())
        if weighted:
            function(x, w, *given)
        else:
            function(x, *given)

    @jit
    def given(x, w, dy, dx, dw):  # type: ignore[no-untyped-def]
        if weighted:
            given = outputs(dy, (dx, dw))
            derivative(x, w, *given)  # type: ignore[misc]
        else:
            given = outputs(dy, (dx,))
            derivative(x, *given)  # type: ignore[misc]

    @jit
    def total(x, w, dy, out):  # type: ignore[no-untyped-def]
        out[:] = 0.0
        forward(x, w, out)
        found = 0.0
        for unit in range(len(dy)):
            # outputs that nothing depends on may be infinite
            if dy[unit] != 0.0:
                found += dy[unit] * out[unit]
        return found

    @jit
    def value(given, number):  # type: ignore[no-untyped-def]
        x, w, dy, out, values, index = given
        kept = values[index]
        values[index] = number
        found = total(x, w, dy, out)
        values[index] = kept
        return found

    slope = differences.make(jit, value)

    @jit
    def by_differences(x, w, dy, dx, dw):  # type: ignore[no-untyped-def]
        inputs, weights, out = x.astype(np.float64), w.astype(np.float64), np.zeros(len(dy))
        for index in range(len(inputs)):
            dx[index] += slope((inputs, weights, dy, out, inputs, index), inputs[index])
        if weighted:
            flat, target = weights.reshape(-1), dw.reshape(-1)
            for index in range(len(flat)):
                target[index] += slope((inputs, weights, dy, out, flat, index), flat[index])

    return forward, by_differences if derivative is None else given
