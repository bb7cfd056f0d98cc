"""Steps of sequences by one call of compiled code each, on the weights of a model, for callers that hold the state."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastnn.backend.cpu.layouts.code import CodeWord
from fastnn.console import waiting
from fastnn.interrupts import interrupts_later
from fastnn.runtime.calls.prediction import code_of, prepared
from fastnn.runtime.runtime import Runtime


def prepare(runtime: Runtime, codes: dict[int | None, Any], steps: int | None) -> Runtime:
    """Make the code of a model of steps, unless it is known; returns the model's runtime.

    Parameters
    ----------
    codes : dict
        Known codes by the number of steps, of the same network; it is added to them.

    Raises
    ------
    NotImplementedError
        When the network calls Python, or draws random numbers.
    """
    if steps not in codes:
        with waiting():
            made = code_of(runtime.table, wait=True)
        if made.calls_python:
            raise NotImplementedError("the network calls a function of Python")
        codes[steps] = made
    runtime.prediction.code = codes[steps]
    return runtime


def call(runtime: Runtime, x: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
    """Compute the next step of several sequences, or their next steps, and advance their state.

    Parameters
    ----------
    runtime : Runtime
        From `prepare`; it has one input besides the two of the state.
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
