"""The scores of the next tokens of sequences that grow: by steps with a state, or of whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn.model.stepping import Layout, limit_of
from fastnn.runtime.calls.steps import HostStates
from fastnn.runtime.device.steps import DeviceStates
from fastnn.runtime.programs.requests import output_ends
from fastnn.runtime.runtime import Runtime

#: How many known tokens are computed at a time: each number is a program of its own, and products of 64 rows read
#: the weights as rarely as is worth it.
_CHUNKS = (64, 16, 4)


@dataclass(frozen=True)
class Network:
    """What continues sequences.

    Attributes
    ----------
    name : str
    runtime : Runtime
        Of a model of tokens (steps,), whose output are scores or probabilities of tokens.
    predict : callable
        Returns the outputs for tokens (rows, steps).
    next_steps : callable
        Returns the runtime of the model of one step, for None, or of several that are known.
    """

    name: str
    runtime: Runtime
    predict: Callable[[NDArray[np.int64]], Any]
    next_steps: Callable[[int | None], Runtime]


class _Way(Protocol):
    def __call__(self, windows: Sequence[list[int]]) -> NDArray[Any]:
        """Return what the model gives after the last token of each sequence, shape (rows, tokens)."""

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these."""

    def restart(self, row: int) -> None:
        """Forget what came before in a row: its sequence begins anew."""


class Continued:
    """Sequences, and the scores of their next tokens.

    Parameters
    ----------
    network : Network
    prompts : list of list of int
        Not empty.
    cache : bool
        Whether to go step by step.
    """

    def __init__(self, network: Network, prompts: list[list[int]], cache: bool) -> None:
        table = network.runtime.table
        architecture = table.architecture
        self._limit = limit_of(architecture)
        # of a prompt that is too long, the last tokens
        self._windows = [prompt[-self._limit :] if self._limit else list(prompt) for prompt in prompts]
        tokens, known = architecture.output_shapes[0][-1], architecture.input_specs[0].high + 1
        if tokens > known:
            raise ValueError(f"model {network.name!r}: gives scores of {tokens} tokens, but takes only {known} tokens")
        (ends,) = output_ends(table)
        self._probabilities = all(end.op == "softmax" for end in ends)
        # a step of a model on the CPU whose weights are on a GPU would read them anew
        steps = cache and (network.runtime.placement is not None or network.runtime.on_host)
        way = _Steps if steps else _Whole
        self._way: _Way = way(network, len(prompts))

    def scores(self) -> NDArray[Any]:
        """Return logarithms of the next tokens' probabilities up to constants, shape (rows, tokens).

        Raises
        ------
        ValueError
            When they are not finite.
        """
        found = self._way(self._windows)
        if self._probabilities:
            with np.errstate(divide="ignore"):
                found = np.log(found, dtype=np.float64)
        largest = found.max(axis=1)
        if not np.isfinite(largest).all():
            raise ValueError(f"the scores of the next token are not finite: the largest is {largest.tolist()[0]}")
        return found

    def add(self, row: int, token: int) -> None:
        """Append a token to a sequence."""
        window = self._windows[row]
        window.append(token)
        if self._limit and len(window) > self._limit:
            del window[: -max(1, self._limit // 2)]
            self._way.restart(row)

    def keep(self, rows: list[int]) -> None:
        """Forget all sequences but these."""
        self._windows = [self._windows[row] for row in rows]
        self._way.keep(rows)


class _Steps:
    """Steps that read the last token only, because the state has what is known of those before."""

    def __init__(self, network: Network, rows: int) -> None:
        try:
            self._states = _states(network, rows)
        except (ValueError, NotImplementedError) as error:
            raise ValueError(f"generate: {error}; cache=False takes causal networks of any layers") from None
        #: how many tokens of each row the state knows
        self._known = [0] * rows

    def __call__(self, windows: Sequence[list[int]]) -> NDArray[Any]:
        for row, window in enumerate(windows):
            self._read(row, window)
        found = self._states.step([window[-1] for window in windows])
        self._known = [len(window) for window in windows]
        return found

    def keep(self, rows: list[int]) -> None:
        self._states.keep(rows)
        self._known = [self._known[row] for row in rows]

    def restart(self, row: int) -> None:
        self._states.restart(row)
        self._known[row] = 0

    def _read(self, row: int, window: list[int]) -> None:
        """Read all tokens of a row but the last, whose scores are not needed."""
        at, end, parts = self._known[row], len(window) - 1, list[list[int]]()
        for size in (*_CHUNKS, 1):
            while end - at >= size:
                parts.append(window[at : at + size])
                at += size
        if parts:
            self._states.read(row, parts)


def _states(network: Network, rows: int) -> HostStates | DeviceStates:
    """Return what is known of sequences, where the network is."""
    runtime, layout = network.runtime, Layout.of(network.runtime.table.architecture)
    placement = runtime.placement
    if placement is not None:
        return DeviceStates(network.next_steps, placement, rows, layout.size, layout.carried)
    return HostStates(network.next_steps, runtime.step_codes, rows, layout.size, layout.carried)


class _Whole:
    """Predictions for whole sequences, to whose ends any tokens are appended."""

    def __init__(self, network: Network, rows: int) -> None:
        self._network = network
        architecture = network.runtime.table.architecture
        if len(architecture.output_shapes[0]) != 2:
            raise ValueError(
                f"model {network.name!r}: gives scores after the last step only, of shape (tokens,), which does "
                "not suit sequences that are shorter: expected (steps, tokens), as return_sequences=True gives it"
            )
        # None for any number
        self._steps, self._least = architecture.input_shapes[0][0], max(0, architecture.input_specs[0].low)
        self._checked = False

    def __call__(self, windows: Sequence[list[int]]) -> NDArray[Any]:
        lengths = [len(window) for window in windows]
        if self._steps is not None and max(lengths) > self._steps:
            raise ValueError(
                f"model {self._network.name!r}: takes {self._steps} tokens at a time, got {max(lengths)} in a "
                "sequence; with cache=True it takes any number"
            )
        found = self._after(windows, self._least)
        if not self._checked:
            # rows are computed by themselves, so that all bits are the same unless later tokens matter
            if (found != self._after(windows, self._least + 1))[np.isfinite(found)].any():
                raise ValueError(
                    f"model {self._network.name!r}: scores of a token depend on tokens that come after it: expected a "
                    "causal network"
                )
            self._checked = True
        return found

    def keep(self, rows: list[int]) -> None:
        """Nothing is kept."""

    def restart(self, row: int) -> None:
        """Nothing is kept."""

    def _after(self, windows: Sequence[list[int]], filler: int) -> NDArray[Any]:
        # the first time one step more, so that there is a later one
        steps = self._steps or max(map(len, windows)) + (not self._checked)
        x = np.full((len(windows), steps), filler, np.int64)
        for row, window in enumerate(windows):
            x[row, : len(window)] = window
        y = self._network.predict(x)
        found: NDArray[Any] = y[np.arange(len(windows)), [len(window) - 1 for window in windows]]
        return found
