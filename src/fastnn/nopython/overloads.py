"""The functions of `fastnn.nopython` as Numba compiles them into its users' functions.

They check and call; all computing is behind an address in the network's code. So they compile in little time, and
what they compile to does not depend on the network.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import overload, register_jitable, typeof_impl

from fastnn.backend.cpu.frozen import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.frozen_layout import WEIGHT_WORDS, Outcome, Word, workspace_bytes
from fastnn.nopython import functions
from fastnn.nopython.native import ERRORS, is_ours, run, run_gradient, share_memory

_PARAMETERS = int(Word.PARAMETERS)
_MANY_COUNT, _MANY_ARENA, _ONE_ARENA = int(Word.MANY_COUNT), int(Word.MANY_ARENA), int(Word.ONE_ARENA)
_WEIGHTS_AT, _WEIGHTS_COUNT, _TRAINABLE = int(Word.WEIGHTS_AT), int(Word.WEIGHTS_COUNT), int(Word.TRAINABLE)

# Of a network's fields; parameters are real.
_DTYPES = {"code": (types.int64,), "gradient": (types.int64,)} | dict.fromkeys(
    ("relocations", "gradient_relocations"), (types.uint8,)
)

_workspace_bytes = register_jitable(workspace_bytes)

# --- how Numba sees networks ---------------------------------------------------------------------------------


@typeof_impl.register(FrozenNetwork)
@typeof_impl.register(FrozenNetworks)
def _typeof(net: Any, context: Any) -> Any:
    """Give the type of a network; what a compiled function holds as a constant must not be written to."""
    fields = [typeof_impl(field, context) for field in net]
    if context.purpose is Purpose.constant:
        fields = [field.copy(readonly=True) if isinstance(field, types.Array) else field for field in fields]
    return types.BaseTuple.from_types(fields, type(net))


# --- what is checked when the caller is compiled -------------------------------------------------------------


def _is(net: Any, kind: type) -> bool:
    return isinstance(net, types.BaseNamedTuple) and net.instance_class is kind


def _network_type(net: Any, *kinds: type) -> None:
    if not any(_is(net, kind) for kind in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise TypingError(f"fastnn.nopython: net: expected a {names}, got {net}")
    for name, field in zip(net.instance_class._fields, net.types, strict=True):
        ndim = 2 if name == "parameters" and _is(net, FrozenNetworks) else 1
        dtypes = _DTYPES.get(name, (types.float32, types.float64))
        if not isinstance(field, types.Array) or (field.layout, field.ndim) != ("C", ndim) or field.dtype not in dtypes:
            raise TypingError(f"fastnn.nopython: net.{name}: expected the array that fastnn made, got {field}")


def _array_type(name: str, array: Any, dtype: Any, ndim: int | None = None, *, written: bool = False) -> None:
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


def _parameters_of(net: Any) -> Any:
    return net.types[net.instance_class._fields.index("parameters")]


def _workspace_type(work: Any) -> None:
    if work is not None and not isinstance(work, types.NoneType | types.Omitted):
        _array_type("work", work, types.int64, 1, written=True)


# --- what is checked in each call ------------------------------------------------------------------------------

_FOREIGN, _EXCHANGED = (f"fastnn.nopython: {ERRORS[one][1]}" for one in (Outcome.FOREIGN, Outcome.PARAMETERS))


@register_jitable
def _check(code: Any) -> None:
    if not is_ours(code):
        raise RuntimeError(_FOREIGN)


@register_jitable
def _each(nets: Any, x: Any, out: Any, work: Any) -> None:
    for index in range(len(nets.parameters)):
        functions.predict(functions.member(nets, index), x[index], out[index], work)


# --- the functions -----------------------------------------------------------------------------------------


@overload(functions.predict)
def _predict(net: Any, x: Any, out: Any, work: Any = None) -> Callable[..., None]:
    _network_type(net, FrozenNetwork, FrozenNetworks)
    dtype = _parameters_of(net).dtype
    _array_type("x", x, dtype)
    _array_type("out", out, dtype, written=True)
    _workspace_type(work)
    if _is(net, FrozenNetworks):
        if min(x.ndim, out.ndim) < 2:
            raise TypingError("fastnn.nopython: x, out: expected one element of the first axis for each network")

        def predict_each(net: Any, x: Any, out: Any, work: Any = None) -> None:
            if len(x) != len(net.parameters) or len(out) != len(net.parameters):
                raise ValueError("fastnn.nopython.predict: expected x and out for each of the networks")
            if share_memory(x, out):
                _each(net, x.copy(), out, work)
            else:
                _each(net, x, out, work)

        return predict_each

    def predict(net: Any, x: Any, out: Any, work: Any = None) -> None:
        run(net, x, out, work)

    return predict


@overload(functions.input_gradient)
def _input_gradient(net: Any, x: Any, seed: Any, dx: Any, work: Any = None) -> Callable[..., None]:
    _network_type(net, FrozenNetwork)
    dtype = _parameters_of(net).dtype
    for name, array in (("x", x), ("seed", seed), ("dx", dx)):
        _array_type(name, array, dtype, written=name == "dx")
    _workspace_type(work)

    def gradient(net: Any, x: Any, seed: Any, dx: Any, work: Any = None) -> None:
        run_gradient(net, x, seed, dx, work)

    return gradient


@overload(functions.workspace)
def _workspace(net: Any, batch: Any) -> Callable[..., Any]:
    _network_type(net, FrozenNetwork, FrozenNetworks)
    if not isinstance(batch, types.Integer | types.IntegerLiteral):
        raise TypingError(f"fastnn.nopython: batch: expected an integer, got {batch}")

    def workspace(net: Any, batch: Any) -> Any:
        code, rows = net.code, np.int64(batch)
        _check(code)
        if rows < 1:
            raise ValueError("fastnn.nopython.workspace: expected a batch of at least 1")
        needed = _workspace_bytes(code[_MANY_COUNT], code[_MANY_ARENA], code[_ONE_ARENA], rows)
        code = net.gradient
        if code.size > 0:
            _check(code)
            more = _workspace_bytes(code[_MANY_COUNT], code[_MANY_ARENA], code[_ONE_ARENA], rows)
            needed = max(needed, more)
        return np.empty(max(1, (needed + 7) // 8), np.int64)

    return workspace


@overload(functions.parameter_count)
def _parameter_count(net: Any) -> Callable[..., int]:
    _network_type(net, FrozenNetwork, FrozenNetworks)

    def parameter_count(net: Any) -> Any:
        _check(net.code)
        return net.code[_TRAINABLE]

    return parameter_count


def _flat_types(net: Any, flat: Any, *, written: bool) -> None:
    _network_type(net, FrozenNetwork)
    _array_type("flat", flat, _parameters_of(net).dtype, 1, written=written)
    if not written and not _parameters_of(net).mutable:
        raise TypingError(
            "fastnn.nopython: net: expected a network that can be changed; one in a global variable is a constant of "
            "the compiled function: give it as an argument"
        )


@register_jitable
def _check_flat(net: Any, flat: Any) -> None:
    _check(net.code)
    if net.parameters.size != net.code[_PARAMETERS]:
        raise RuntimeError(_EXCHANGED)
    if flat.size != net.code[_TRAINABLE]:
        raise ValueError("fastnn.nopython: flat: expected as many numbers as the network has weights")


@overload(functions.set_parameters)
def _set_parameters(net: Any, flat: Any) -> Callable[..., None]:
    _flat_types(net, flat, written=False)

    def set_parameters(net: Any, flat: Any) -> None:
        _check_flat(net, flat)
        code, at, first = net.code, net.code[_WEIGHTS_AT], 0
        for weight in range(code[_WEIGHTS_COUNT]):
            start, size = code[at + weight * WEIGHT_WORDS], code[at + weight * WEIGHT_WORDS + 1]
            for index in range(size):
                net.parameters[start + index] = flat[first + index]
            first += size

    return set_parameters


@overload(functions.get_parameters)
def _get_parameters(net: Any, flat: Any) -> Callable[..., None]:
    _flat_types(net, flat, written=True)

    def get_parameters(net: Any, flat: Any) -> None:
        _check_flat(net, flat)
        code, at, first = net.code, net.code[_WEIGHTS_AT], 0
        for weight in range(code[_WEIGHTS_COUNT]):
            start, size = code[at + weight * WEIGHT_WORDS], code[at + weight * WEIGHT_WORDS + 1]
            for index in range(size):
                flat[first + index] = net.parameters[start + index]
            first += size

    return get_parameters


@overload(functions.count)
def _count(networks: Any) -> Callable[..., Any]:
    _network_type(networks, FrozenNetworks)

    def count(networks: Any) -> Any:
        return len(networks.parameters)

    return count


@overload(functions.member)
def _member(networks: Any, index: Any) -> Callable[..., Any]:
    _network_type(networks, FrozenNetworks)
    if not isinstance(index, types.Integer | types.IntegerLiteral):
        raise TypingError(f"fastnn.nopython: index: expected an integer, got {index}")

    def member(networks: Any, index: Any) -> Any:
        if index < 0 or index >= len(networks.parameters):
            raise IndexError("fastnn.nopython.member: there are not that many networks")
        return FrozenNetwork(
            networks.code,
            networks.parameters[index],
            networks.relocations,
            networks.gradient,
            networks.gradient_relocations,
        )

    return member
