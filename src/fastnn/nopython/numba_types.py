"""How Numba sees networks and learners, and what is checked of types when a user's function is compiled."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from functools import partial
from typing import Any

from numba import extending, types
from numba.core.errors import TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import typeof_impl

from fastnn.backend.cpu.frozen.learner import OWN, Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.layouts.code import DTYPES

#: Without a target, numba-cuda would take functions for the CPU into its kernels, too.
overload = partial(extending.overload, target="cpu")

# Of fields; all others are real.
_DTYPES: dict[str, tuple[Any, ...]] = {"totals": (types.float64,)}
_DTYPES |= dict.fromkeys(("code", "gradient", "training", "seeded", "progress"), (types.int64,)) | dict.fromkeys(
    ("relocations", "gradient_relocations", "training_relocations", "seeded_relocations"), (types.uint8,)
)
SEVERAL = (FrozenNetworks, Learners)


@typeof_impl.register(FrozenNetwork)
@typeof_impl.register(FrozenNetworks)
@typeof_impl.register(Learner)
@typeof_impl.register(Learners)
def _typeof(net: Any, context: Any) -> Any:
    """Give the type of a network; what a compiled function holds as a constant must not be written to."""
    fields = [typeof_impl(field, context) for field in net]
    if context.purpose is Purpose.constant:
        fields = [field.copy(readonly=True) if isinstance(field, types.Array) else field for field in fields]
    return types.BaseTuple.from_types(fields, type(net))


def is_kind(net: Any, kind: type) -> bool:
    """Return whether a type is that of a class of named tuples."""
    return isinstance(net, types.BaseNamedTuple) and net.instance_class is kind


def network_type(net: Any, *kinds: type) -> None:
    """Raise unless a type is that of a network, or of several, that fastnn has made."""
    if not any(is_kind(net, kind) for kind in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypingError(f"fastnn.nopython: expected a {names}, got {net}")
    several = net.instance_class in SEVERAL
    for name, field in zip(net.instance_class._fields, net.types, strict=True):
        ndim = 2 if name in OWN and several else 1
        dtypes = (parameters_of(net).dtype,) if name == "state" else _DTYPES.get(name, (types.float32, types.float64))
        if not isinstance(field, types.Array) or (field.layout, field.ndim) != ("C", ndim) or field.dtype not in dtypes:
            raise TypingError(f"fastnn.nopython: {name}: expected the array that fastnn made, got {field}")


def array_type(name: str, array: Any, dtype: Any, ndim: int | None = None, *, written: bool = False) -> None:
    """Raise unless a type is that of a contiguous array of a dtype."""
    what = f"{dtype}, which the network is of" if ndim is None else f"{dtype} of {ndim} dimension"
    if not isinstance(array, types.Array) or array.dtype != dtype or ndim not in (None, array.ndim):
        raise TypingError(f"fastnn.nopython: {name}: expected an array of {what}, got {array}")
    if array.layout != "C" or not array.aligned:
        hint = "" if written else "; numpy.ascontiguousarray makes one"
        raise TypingError(
            f"fastnn.nopython: {name}: expected an array that Numba knows to be C-contiguous (as x[i] is, but not what "
            f"a loop over x gives), got {array}{hint}"
        )
    if written and not array.mutable:
        raise TypingError(f"fastnn.nopython: {name}: expected an array that can be written to, got {array}")


def is_tuple(given: Any) -> bool:
    """Return whether a type is that of several arrays, for a network with several inputs or outputs."""
    return isinstance(given, types.BaseTuple) and not isinstance(given, types.BaseNamedTuple)


def elements_of(name: str, given: Any) -> list[tuple[str, Any]]:
    """Return the arrays of an argument, with their names."""
    if not is_tuple(given):
        return [(name, given)]
    return [(f"{name}[{index}]", each) for index, each in enumerate(given.types)]


def result_types(name: str, given: Any, dtype: Any, *, written: bool = True) -> None:
    """Raise unless a type is that of contiguous arrays of a dtype."""
    for each, array in elements_of(name, given):
        array_type(each, array, dtype, written=written)


def input_types(name: str, given: Any, *, numbers: bool = False, optional: bool = False) -> None:
    """Raise unless a type is that of arrays that can be converted to what the network reads.

    Parameters
    ----------
    numbers, optional : bool
        Whether it may be a number, or None.
    """
    for each, array in elements_of(name, given):
        if optional and (array is None or isinstance(array, types.NoneType | types.Omitted)):
            continue
        if numbers and isinstance(array, types.Integer | types.IntegerLiteral | types.Float):
            continue
        if not isinstance(array, types.Array) or str(array.dtype) not in DTYPES:
            wanted = "an array of numbers" + " or a number" * numbers
            raise TypingError(f"fastnn.nopython: {each}: expected {wanted}, got {array}")
        if not array.aligned:
            raise TypingError(f"fastnn.nopython: {each}: expected an aligned array, got {array}")


def parameters_of(net: Any) -> Any:
    """Return the type of a network's parameters."""
    return net.types[net.instance_class._fields.index("parameters")]


def workspace_type(work: Any) -> None:
    """Raise unless a type is that of a workspace, or None."""
    if work is not None and not isinstance(work, types.NoneType | types.Omitted):
        array_type("work", work, types.int64, 1, written=True)


def learner_type(learner: Any) -> None:
    """Raise unless a type is that of a learner that can be trained."""
    network_type(learner, Learner)
    fields = dict(zip(Learner._fields, learner.types, strict=True))
    if not all(fields[name].mutable for name in OWN):
        raise TypingError(
            "fastnn.nopython: learner: expected one that can be changed; one in a global variable is a constant of the "
            "compiled function: give it as an argument"
        )
