"""Networks of sequences, step by step: their states are arrays of the caller's."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen.network import FrozenNetwork, shapes_of
from fastnn.backend.cpu.layouts.code import Role
from fastnn.nopython.calls import check_array, check_network
from fastnn.nopython.functions import predict


def _size(net: Any) -> int:
    """Return how many numbers the states of a sequence are; raises TypeError for other networks."""
    if not isinstance(net, FrozenNetwork):
        raise TypeError(f"net: expected a FrozenNetwork from Model.freeze(stateful=True), got {type(net).__name__}")
    check_network(net)
    given, results = shapes_of(net.code, Role.INPUT), shapes_of(net.code, Role.OUTPUT)
    if len(given) != 2 or len(results) != 2 or given[1] != results[1] or len(given[1]) != 1:
        raise TypeError("net: expected a network from Model.freeze(stateful=True), this one has no state")
    return given[1][0]


def state(net: FrozenNetwork, rows: int | None = None) -> NDArray[Any]:
    """Make the state of a sequence before its first step: zeros.

    Compiled code may make it by ``np.zeros``, and copy and assign it as any array.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(stateful=True)``.
    rows : int, optional
        For so many sequences that take their steps together; None for one.

    Returns
    -------
    ndarray of the network's dtype, shape (2, size) or (2, rows, size)
        The states of all recurrent layers, side by side in the order of the layers (of an LSTM first h, then the
        cells), and as much memory for the next ones, whose contents mean nothing between steps.
    """
    size = _size(net)
    if rows is None:
        return np.zeros((2, size), net.parameters.dtype)
    rows = operator.index(rows)
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    return np.zeros((2, rows, size), net.parameters.dtype)


def step(net: Any, state: Any, x: Any, out: Any, work: Any = None) -> None:
    """Compute one time step of a network of sequences, and replace its state.

    Parameters
    ----------
    net : FrozenNetwork
        From ``Model.freeze(stateful=True)``.
    state : array of shape (2, size) or (2, rows, size)
        From `state`; replaced. Threads have states of their own.
    x : array of the shape of one step of a sample, or (rows, ...)
        As for `predict`: of a model of inputs (steps, features) it has shape (features,), of one of integers () .
    out : array of the shape of one step of the output, or (rows, ...)
        C-contiguous, of the network's dtype; it is filled.
    work : array of int64, optional
        From `workspace`, as for `predict`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `predict` does.
    """
    _size(net)
    check_array("state", state, net.parameters.dtype)
    if state.ndim not in (2, 3) or len(state) != 2:
        raise ValueError(f"state: expected an array from fastnn.nopython.state, got shape {state.shape}")
    predict(net, (x, state[0]), (out, state[1]), work)
    state[0] = state[1]
