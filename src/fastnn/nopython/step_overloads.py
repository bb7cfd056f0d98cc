"""`fastnn.nopython.step` as Numba compiles it into its users' functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.errors import TypingError

from fastnn.backend.cpu.frozen.network import FrozenNetwork
from fastnn.nopython import functions, stepping
from fastnn.nopython.numba_types import (
    array_type,
    input_types,
    is_tuple,
    network_type,
    overload,
    parameters_of,
    result_types,
    workspace_type,
)


@overload(stepping.step)  # type: ignore[untyped-decorator]
def _step(net: Any, state: Any, x: Any, out: Any, work: Any = None) -> Callable[..., None]:
    network_type(net, FrozenNetwork)
    dtype = parameters_of(net).dtype
    array_type("state", state, dtype, written=True)
    if state.ndim not in (2, 3):
        raise TypingError("fastnn.nopython: state: expected an array from fastnn.nopython.state, of 2 or 3 dimensions")
    if is_tuple(x) or is_tuple(out):
        raise TypingError("fastnn.nopython: x, out: a network that goes step by step has one input and one output")
    input_types("x", x, numbers=True)
    result_types("out", out, dtype)
    workspace_type(work)
    single = isinstance(state, types.Array) and state.ndim == 2

    def step(net: Any, state: Any, x: Any, out: Any, work: Any = None) -> None:
        if len(state) != 2:
            raise ValueError("fastnn.nopython.step: state: expected an array from fastnn.nopython.state")
        functions.predict(net, (x, state[0]), (out, state[1]), work)
        now, following = state[0], state[1]
        # a loop: an assignment of slices takes Numba 50 ns
        if single:
            for index in range(len(now)):
                now[index] = following[index]
        else:
            for row in range(len(now)):
                for index in range(now.shape[1]):
                    now[row, index] = following[row, index]

    return step
