"""`fastnn.nopython.step` as Numba compiles it into its users' functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core.errors import TypingError

from fastnn.backend.cpu.frozen.network import FrozenNetwork
from fastnn.nopython import stepping
from fastnn.nopython.native import run_step, share_memory
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

    def step(net: Any, state: Any, x: Any, out: Any, work: Any = None) -> None:
        if len(state) != 2:
            raise ValueError("fastnn.nopython.step: state: expected an array from fastnn.nopython.state")
        if share_memory(state, out):
            raise ValueError("fastnn.nopython.step: out: expected memory apart from that of the state")
        run_step(net, state, x, out, work)

    return step
