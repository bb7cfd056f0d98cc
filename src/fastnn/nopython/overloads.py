"""The functions of `fastnn.nopython` as Numba compiles them into its users' functions.

They check the arguments and call code by its address. So they compile quickly, and what they compile to does not depend
on the network.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import register_jitable

from fastnn.backend.cpu.frozen.learner import Learner, Learners
from fastnn.backend.cpu.frozen.network import FrozenNetwork, FrozenNetworks
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import (
    BLOCK,
    MOST_ROWS,
    CodeWord,
    Slot,
    extra_bytes,
    learner_bytes,
    network_bytes,
    seed_bytes,
)
from fastnn.nopython import functions
from fastnn.nopython.flat import flatten, unflatten
from fastnn.nopython.messages import ERRORS
from fastnn.nopython.native import failing, is_ours, run, run_gradient, share_memory
from fastnn.nopython.numba_types import (
    array_type,
    input_types,
    is_kind,
    is_tuple,
    network_type,
    overload,
    parameters_of,
    result_types,
    workspace_type,
)

_PARAMETERS, _TRAINABLE = int(CodeWord.PARAMETERS), int(CodeWord.TRAINABLE)
_SLOTS_AT, _INPUTS, _X_COUNT, _SLOTS_COUNT = (
    int(word) for word in (CodeWord.SLOTS_AT, CodeWord.INPUTS, CodeWord.X_COUNT, CodeWord.SLOTS_COUNT)
)
_SLOT_WORDS, _SLOT_BYTES = int(Slot.WORDS), int(Slot.BYTES)
_ROW_BYTES, _BLOCKS_FROM = int(CodeWord.ROW_BYTES), int(CodeWord.BLOCKS_FROM)
_MANY_COUNT, _MANY_ARENA, _ONE_ARENA = int(CodeWord.MANY_COUNT), int(CodeWord.MANY_ARENA), int(CodeWord.ONE_ARENA)
_ROWS = int(CodeWord.ROWS)

_network_bytes = register_jitable(network_bytes)
_extra_bytes = register_jitable(extra_bytes)
_learner_bytes = register_jitable(learner_bytes)
_seed_bytes = register_jitable(seed_bytes)

# --- what is checked in each call ------------------------------------------------------------------------------

_FOREIGN = f"fastnn.nopython: {ERRORS[Outcome.FOREIGN][1]}"
_ARRAYS = f"fastnn.nopython: {ERRORS[Outcome.ARRAYS][1]}"
_fail_each, _fail_matrix, _fail_workspace, _fail_batch, _fail_parameters, _fail_flat, _fail_member = (
    failing(one)
    for one in (
        Outcome.EACH, Outcome.MATRIX, Outcome.WORKSPACE, Outcome.BATCH, Outcome.PARAMETERS, Outcome.FLAT,
        Outcome.MEMBER,
    )
)  # fmt: skip


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
    network_type(net, FrozenNetwork, FrozenNetworks, Learner)
    dtype = parameters_of(net).dtype
    input_types("x", x, numbers=not is_kind(net, FrozenNetworks))
    result_types("out", out, dtype)
    workspace_type(work)
    if is_kind(net, FrozenNetworks):
        if is_tuple(x) or is_tuple(out):
            raise TypingError("fastnn.nopython: x, out: several networks are for one input and one output")
        array_type("x", x, x.dtype)
        if min(x.ndim, out.ndim) < 2:
            raise TypingError("fastnn.nopython: x, out: expected one element of the first axis for each network")

        def predict_each(net: Any, x: Any, out: Any, work: Any = None) -> None:
            if len(x) != len(net.parameters) or len(out) != len(net.parameters):
                _fail_each(net.code, len(net.parameters), 0, 0, x, out)
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
    network_type(net, FrozenNetwork, Learner)
    dtype = parameters_of(net).dtype
    input_types("x", x, numbers=True)
    input_types("seed", seed, numbers=True)
    result_types("dx", dx, dtype)
    workspace_type(work)

    def gradient(net: Any, x: Any, seed: Any, dx: Any, work: Any = None) -> None:
        run_gradient(net, x, seed, dx, work)

    return gradient


@overload(functions.jacobian)
def _jacobian(net: Any, x: Any, matrix: Any, work: Any = None) -> Callable[..., None]:
    network_type(net, FrozenNetwork, Learner)
    dtype = parameters_of(net).dtype
    if is_tuple(x):
        raise TypingError("fastnn.nopython: x: expected an array: the network has one input and one output")
    input_types("x", x)
    array_type("x", x, x.dtype)
    array_type("matrix", matrix, dtype, written=True)
    workspace_type(work)
    axes, item = matrix.ndim - x.ndim, dtype.bitwidth // 8
    if axes < 1:
        raise TypingError("fastnn.nopython: matrix: expected shape (*output_shape, *input_shape)")
    real = np.dtype(str(dtype)).type
    given = isinstance(work, types.Array)

    def jacobian(net: Any, x: Any, matrix: Any, work: Any = None) -> None:
        _check(net.code)
        if net.code[_X_COUNT] != 1 or net.code[_SLOTS_COUNT] != 2:
            raise ValueError(_ARRAYS)
        nbytes = _output_bytes(net.code)
        words, count = _seed_bytes(nbytes) // 8, nbytes // item
        if matrix.size != count * x.size:
            _fail_matrix(net.code, 0, 0, 0, x, matrix)
        if share_memory(x, matrix):
            raise ValueError("fastnn.nopython.jacobian: expected memory of the matrix apart from that of x")
        if given:
            needed = words * 8 + (_needed(net.gradient, 1) if net.gradient.size > 0 else 0)
            if len(work) * 8 < needed:
                _fail_workspace(net.code, 1, needed, len(work) * 8, None, None)
            memory, rest = work[len(work) - words :].view(real)[:count], work[: len(work) - words]
            memory[:] = 0
        else:
            memory, rest = np.zeros(count, real), None
        seed, rows = memory.reshape(matrix.shape[:axes]), matrix.reshape((count, *x.shape))
        for index in range(count):
            memory[index] = 1
            run_gradient(net, x, seed, rows[index], rest)
            memory[index] = 0

    return jacobian


@register_jitable
def _needed(code: Any, rows: Any) -> Any:
    _check(code)
    return _network_bytes(code[_MANY_COUNT], code[_MANY_ARENA], code[_ONE_ARENA], code[_ROWS], rows)


@register_jitable
def _extra(code: Any, rows: Any) -> Any:
    samples = 1 if code[_ROWS] > 0 else rows
    return _extra_bytes(code[_ROW_BYTES], code[_SLOTS_COUNT], code[_BLOCKS_FROM], samples)


@register_jitable
def _output_bytes(code: Any) -> Any:
    """Return the bytes of a sample of the first result."""
    return code[code[_SLOTS_AT] + code[_INPUTS] * _SLOT_WORDS + _SLOT_BYTES]


@register_jitable
def _bytes_of(net: Any, rows: Any) -> Any:
    if rows < 1 or rows > MOST_ROWS:
        _fail_batch(net.code, rows, 0, 0, None, None)
    block = min(rows, BLOCK)
    needed = _needed(net.code, rows) + _extra(net.code, block)
    if net.gradient.size > 0:
        needed = max(needed, _needed(net.gradient, rows) + _extra(net.gradient, block))
        needed += _seed_bytes(_output_bytes(net.code))
    return needed


@overload(functions.workspace)
def _workspace(net: Any, batch: Any) -> Callable[..., Any]:
    network_type(net, FrozenNetwork, FrozenNetworks, Learner, Learners)
    if not isinstance(batch, types.Integer | types.IntegerLiteral):
        raise TypingError(f"fastnn.nopython: batch: expected an integer, got {batch}")
    if net.instance_class in (Learner, Learners):

        def learner_workspace(net: Any, batch: Any) -> Any:
            rows = np.int64(batch)
            needed = _bytes_of(net, rows)
            for code in (net.training, net.seeded):
                if code.size > 0:
                    _check(code)
                    for n in (1, rows):
                        arenas = code[_MANY_ARENA], code[_ONE_ARENA]
                        found = _learner_bytes(code[_MANY_COUNT], *arenas, code[_ROWS], n)
                        needed = max(needed, found + _extra(code, n))
            return np.empty(max(1, (needed + 7) // 8), np.int64)

        return learner_workspace

    def workspace(net: Any, batch: Any) -> Any:
        return np.empty(max(1, (_bytes_of(net, np.int64(batch)) + 7) // 8), np.int64)

    return workspace


@overload(functions.parameter_count)
def _parameter_count(net: Any) -> Callable[..., int]:
    network_type(net, FrozenNetwork, FrozenNetworks, Learner, Learners)

    def parameter_count(net: Any) -> Any:
        _check(net.code)
        return net.code[_TRAINABLE]

    return parameter_count


def _flat_types(net: Any, flat: Any, *, written: bool) -> None:
    network_type(net, FrozenNetwork, Learner)
    array_type("flat", flat, parameters_of(net).dtype, 1, written=written)
    if not written and not parameters_of(net).mutable:
        raise TypingError(
            "fastnn.nopython: net: expected a network that can be changed; one in a global variable is a constant of "
            "the compiled function: give it as an argument"
        )


@register_jitable
def _check_flat(net: Any, flat: Any) -> None:
    _check(net.code)
    if net.parameters.size != net.code[_PARAMETERS]:
        _fail_parameters(net.code, net.parameters.size, 0, 0, None, None)
    if flat.size != net.code[_TRAINABLE]:
        _fail_flat(net.code, 0, 0, 0, flat, None)


@overload(functions.set_parameters)
def _set_parameters(net: Any, flat: Any) -> Callable[..., None]:
    _flat_types(net, flat, written=False)

    def set_parameters(net: Any, flat: Any) -> None:
        _check_flat(net, flat)
        unflatten(net.code, flat, net.parameters)

    return set_parameters


@overload(functions.get_parameters)
def _get_parameters(net: Any, flat: Any) -> Callable[..., None]:
    _flat_types(net, flat, written=True)

    def get_parameters(net: Any, flat: Any) -> None:
        _check_flat(net, flat)
        flatten(net.code, net.parameters, flat)

    return get_parameters


@overload(functions.count)
def _count(networks: Any) -> Callable[..., Any]:
    network_type(networks, FrozenNetworks, Learners)

    def count(networks: Any) -> Any:
        return len(networks.parameters)

    return count


@overload(functions.member)
def _member(networks: Any, index: Any) -> Callable[..., Any]:
    network_type(networks, FrozenNetworks, Learners)
    if not isinstance(index, types.Integer | types.IntegerLiteral):
        raise TypingError(f"fastnn.nopython: index: expected an integer, got {index}")
    if is_kind(networks, Learners):

        def learner(networks: Any, index: Any) -> Any:
            known = min(len(networks.parameters), len(networks.state), len(networks.progress), len(networks.totals))
            if index < 0 or index >= known:
                _fail_member(networks.code, np.int64(index), np.int64(known), 0, None, None)
            return Learner(
                networks.code,
                networks.parameters[index],
                networks.relocations,
                networks.gradient,
                networks.gradient_relocations,
                networks.training,
                networks.training_relocations,
                networks.seeded,
                networks.seeded_relocations,
                networks.state[index],
                networks.progress[index],
                networks.totals[index],
            )

        return learner

    def member(networks: Any, index: Any) -> Any:
        if index < 0 or index >= len(networks.parameters):
            _fail_member(networks.code, np.int64(index), len(networks.parameters), 0, None, None)
        return FrozenNetwork(
            networks.code,
            networks.parameters[index],
            networks.relocations,
            networks.gradient,
            networks.gradient_relocations,
        )

    return member
