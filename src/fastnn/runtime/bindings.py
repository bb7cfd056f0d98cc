"""The bindings of one run: the arrays that a program uses, and the context that holds their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.protocol import Executable
from fastnn.errors import InputNotFiniteError
from fastnn.lower.task import STATES
from fastnn.program.layout import CONTEXT_WORDS, SHARED, Buffer, Counter, Status

# Plain integers: an enumeration's member costs 0.15 µs as an index.
_PARAMETERS, _GRADIENTS, _OPTIMIZER, _ARENA, _ACCUMULATORS, _HYPER, _INDEX, _, _DATA = (int(one) for one in Buffer)
_CHUNK_STEP, _STATUS, _BAD_LOSS_STEP = int(Counter.CHUNK_STEP), int(Counter.STATUS), int(Counter.BAD_LOSS_STEP)


@dataclass(frozen=True)
class Bindings:
    """All arrays that a run of a program uses and the model does not own.

    `parameters` replaces the model's weights, and `shared` those that other models hold, if a program that does not
    train would change them: batch normalisation in training mode moves its averages. `gradients` replaces the
    model's on the CPU, since the caller may have interrupted a training step. `states` is the address of the states of
    stateful layers, which the runtime adds.
    """

    addresses: Mapping[int, int]
    index: NDArray[np.int64] | None = None
    hyper: NDArray[np.float64] | None = None
    accumulators: NDArray[np.float64] | None = None
    parameters: NDArray[np.uint8] | None = None
    gradients: NDArray[np.uint8] | None = None
    shared: Sequence[NDArray[np.uint8]] | None = None
    states: int = 0


def new_context(seed: int) -> NDArray[np.int64]:
    """Make a context: no buffers yet, counters at zero."""
    context = np.zeros(CONTEXT_WORDS, np.int64)
    context[Counter.SEED] = np.uint64(seed).astype(np.int64)
    return context


def write_addresses(
    context: NDArray[np.int64], work: Bindings, flat: Sequence[NDArray[np.uint8]], arena: NDArray[np.uint8]
) -> Any:
    """Write a run's addresses into a context.

    Parameters
    ----------
    flat : sequence of ndarray
        The model's parameters, gradients and optimizer state.

    Returns
    -------
    object
        Has to be kept until the run ends.
    """
    words = memoryview(context.data)  # writing a word takes half as long as in an array
    parameters, gradients, state = flat
    parameters = parameters if work.parameters is None else work.parameters
    gradients = gradients if work.gradients is None else work.gradients
    words[_PARAMETERS] = address(parameters)
    words[_GRADIENTS] = address(gradients)
    words[_OPTIMIZER] = address(state)
    words[_ARENA] = address(arena)
    words[_ACCUMULATORS] = _address(work.accumulators)
    words[_HYPER] = _address(work.hyper)
    words[_INDEX] = _address(work.index)
    for slot, place in work.addresses.items():
        words[_DATA + slot] = place
    if work.states:
        words[STATES] = work.states
    words[_CHUNK_STEP] = words[_STATUS] = words[_BAD_LOSS_STEP] = 0
    return parameters, gradients, state, arena, work


def write_shared(context: NDArray[np.int64], buffers: Sequence[NDArray[np.uint8]]) -> None:
    """Write the addresses of weights that other models hold into a context."""
    for number, buffer in enumerate(buffers):
        context[SHARED + number] = address(buffer)


def _address(array: NDArray[Any] | None) -> int:
    return 0 if array is None else address(array)


def fail_where_not_finite(context: NDArray[np.int64], dtype: str) -> None:
    """Raise InputNotFiniteError if a program has stopped because of its input."""
    if context[Counter.STATUS] == Status.NOT_FINITE_INPUT:
        row, step = int(context[Counter.STATUS_DETAIL]), int(context[Counter.STEP])
        raise InputNotFiniteError(row, step + 1, dtype)


def check_sizes(bound: Executable, work: Bindings, state_bytes: int) -> None:
    """Raise if `compile`, called while the program was prepared, has replaced the buffers that it writes to."""
    program = bound.program
    totals = 0 if work.accumulators is None else work.accumulators.nbytes
    measures, trains = program.name != "predict", program.name == "train"
    if (measures and program.sizes[Buffer.ACCUMULATORS] > totals) or (
        trains and program.sizes[Buffer.OPTIMIZER] > state_bytes
    ):
        raise RuntimeError("the model was compiled again while it was in use: by another thread, or by the data")
