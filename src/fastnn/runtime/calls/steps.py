"""Steps of sequences by one call of compiled code each, on the weights of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.layouts.code import CodeWord
from fastnn.console import waiting
from fastnn.interrupts import interrupts_later
from fastnn.runtime.calls.prediction import code_of, prepared
from fastnn.runtime.runtime import Runtime


class HostStates:
    """Sequences of tokens, and what is known of each of them.

    Parameters
    ----------
    next_steps : callable
        Returns the runtime of the model of one step, for None, or of several that are known.
    codes : dict
        Known codes by the number of steps, of the same network; it is added to them.
    rows : int
        How many sequences.
    size, carried : int
        The numbers of a half of the state, and how many of them are copied after a step.

    Raises
    ------
    NotImplementedError
        When the network calls Python, or draws random numbers.
    """

    def __init__(
        self, next_steps: Callable[[int | None], Runtime], codes: dict[int | None, Any],
        rows: int, size: int, carried: int,
    ) -> None:  # fmt: skip
        self._next_steps, self._codes, self._carried = next_steps, codes, carried
        self._one = _prepare(next_steps(None), codes, None)
        self._several: dict[int, Runtime] = {}
        self._state = np.zeros((2, rows, size), self._one.table.dtype)

    def step(self, tokens: Sequence[int]) -> NDArray[Any]:
        """Take the next token of each sequence, and return what the network gives after it, shape (rows, ...)."""
        return _call(self._one, np.array(tokens, np.int64), self._state)

    def read(self, row: int, parts: Sequence[Sequence[int]]) -> None:
        """Take the next tokens of one sequence, those of a part together."""
        state = self._state[:, row : row + 1]
        for tokens in parts:
            if len(tokens) == 1:
                _call(self._one, np.array(tokens, np.int64), state)
                continue
            if len(tokens) not in self._several:
                self._several[len(tokens)] = _prepare(self._next_steps(len(tokens)), self._codes, len(tokens))
            _call(self._several[len(tokens)], np.array([tokens], np.int64), state)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all sequences but these."""
        self._state = np.ascontiguousarray(self._state[:, rows])

    def restart(self, row: int) -> None:
        """Forget what is known of a sequence."""
        self._state[0, row, : self._carried] = 0.0


def _prepare(runtime: Runtime, codes: dict[int | None, Any], steps: int | None) -> Runtime:
    """Make the code of a model of steps, unless it is known; returns the model's runtime."""
    if steps not in codes:
        with waiting():
            made = code_of(runtime.table, wait=True)
        if made.calls_python:
            raise NotImplementedError("the network calls a function of Python")
        codes[steps] = made
    runtime.prediction.code = codes[steps]
    return runtime


def _call(runtime: Runtime, x: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
    """Compute the next step of several sequences, or their next steps, and advance their state.

    Parameters
    ----------
    runtime : Runtime
        From `_prepare`; it has one input besides the two of the state.
    x : ndarray of the input's dtype, shape (rows, ...)
    state : ndarray of the model's dtype, shape (2, rows, size)
        Each half is contiguous; there is room for the steps.

    Returns
    -------
    ndarray, shape (rows, ...)

    Raises
    ------
    RuntimeError
        When the model has moved to a GPU, or the arrays do not fit.
    NotImplementedError
        When array objects have an unknown layout.
    """
    kept = runtime.prediction
    with runtime.lock:
        if kept.call is None or len(x) > kept.rows:
            _make_calls(runtime, len(x))
        run = kept.together or kept.call
        assert run is not None
        result: Any = run(x, state[0], state[1])
        if result is False:
            raise RuntimeError("the state of a sequence does not fit the model")
        carried = int(kept.code.code[CodeWord.CARRIED])
        state[0, :, :carried] = state[1, :, :carried]
    found: NDArray[Any] = result
    return found


def _make_calls(runtime: Runtime, rows: int) -> None:
    """Make the calls for so many rows, also after a lock, an address or the number of threads has changed."""
    kept = runtime.prediction
    if not runtime.on_host:
        raise RuntimeError("the model has moved to a GPU while a text was generated")
    with interrupts_later():
        kept.call, kept.together = prepared(runtime, kept.code, rows, len(runtime.table.architecture.inputs))
    kept.rows = rows
    if kept.call is None:
        raise NotImplementedError("array objects have an unknown layout")
