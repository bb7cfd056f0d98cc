"""Networks of sequences, step by step: what they know of the steps so far is in arrays of the caller's."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen.network import FrozenNetwork, shapes_of
from fastnn.backend.cpu.layouts.code import CodeWord, Role
from fastnn.nopython.calls import (
    call_code,
    check_array,
    check_network,
    check_workspace,
    inputs_of,
    parameters_of,
    results_of,
)


def _size(net: Any) -> int:
    """Return how many numbers half of the state of a sequence is; raises TypeError for other networks."""
    if not isinstance(net, FrozenNetwork):
        raise TypeError(f"net: expected a FrozenNetwork from Model.freeze(stateful=True), got {type(net).__name__}")
    check_network(net)
    halves = shapes_of(net.code, Role.STATE)
    if not halves:
        raise TypeError("net: expected a network from Model.freeze(stateful=True), this one has no state")
    return halves[0][0]


def state(net: FrozenNetwork, rows: int | None = None) -> NDArray[Any]:
    """Make the state of a sequence before its first step: zeros.

    Compiled code may make it by ``np.zeros``, and copy and assign it as any array: ``state[:, row]`` is all that is
    known of the sequence of a row.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(stateful=True)``.
    rows : int, optional
        For so many sequences that take their steps together; None for one.

    Returns
    -------
    ndarray of the network's dtype, shape (2, size) or (2, rows, size)
        ``state[0]`` begins with the number of steps so far, if the network has attention or positions. Then come the
        states of all recurrent layers, side by side in the order of the layers (of an LSTM first h, then the cells),
        and the keys of attention. ``state[1]`` has memory for the next states, whose contents mean nothing between
        steps, and the values of attention.
    """
    size = _size(net)
    if rows is None:
        return np.zeros((2, size), net.parameters.dtype)
    if isinstance(rows, bool) or operator.index(rows) < 1:
        raise ValueError(f"rows: expected a number of at least 1, got {rows}")
    return np.zeros((2, rows, size), net.parameters.dtype)


def step(net: Any, state: Any, x: Any, out: Any, work: Any = None) -> None:
    """Compute one time step of a network of sequences, and advance its state.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(stateful=True)``.
    state : array of shape (2, size) or (2, rows, size)
        From `state`; changed. Threads have states of their own.
    x : array of the shape of one step of a sample, or (rows, ...)
        As for `predict`: of a model of inputs (steps, features) it has shape (features,), of one of integers () .
    out : array of the shape of one step of the output, or (rows, ...)
        C-contiguous, of the network's dtype; it is filled, and shares no memory with the state.
    work : array of int64, optional
        From `workspace`, as for `predict`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `predict` does. ValueError also when a sequence has had as many steps as the model takes, if it has attention
        or positions; then nothing has changed.
    """
    _size(net)
    check_array("state", state, net.parameters.dtype)
    if state.ndim not in (2, 3) or len(state) != 2:
        raise ValueError(f"state: expected an array from fastnn.nopython.state, got shape {state.shape}")
    if not state.flags.writeable:
        raise TypeError("state: expected an array that can be written to")
    inputs, outputs = inputs_of("x", x), results_of("out", out, net.parameters.dtype)
    if len(inputs) != 1 or len(outputs) != 1:
        raise TypeError("x, out: a network that goes step by step has one input and one output")
    if np.may_share_memory(outputs[0], state):
        raise ValueError("out: expected memory apart from that of the state")
    check_workspace(work)
    call_code(net.code, parameters_of(net), [*inputs, state[0], state[1], *outputs], 0, work)
    carried = int(net.code[CodeWord.CARRIED])
    state[0, ..., :carried] = state[1, ..., :carried]
