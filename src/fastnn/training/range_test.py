"""The learning-rate range test: short training with a rate that grows from step to step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import integer, number
from fastnn.data.arrays import as_array
from fastnn.data.kinds import is_batches
from fastnn.data.subsets import count, take, take_weights
from fastnn.figures import COLOURS, axes_for
from fastnn.hints import explained
from fastnn.seeding import as_seed
from fastnn.training.on_batch import train_on_batch
from fastnn.training.state import Trainable, TrainingState, build_for, state_of

# of the weights of neighbouring steps in the smoothed curve: each is this much of the next one
_SMOOTHING = 0.8


@dataclass(frozen=True)
class RangeTest:
    """The result of `lr_range_test`: the loss of each step, and the learning rate that it suggests.

    Attributes
    ----------
    rates : array of float64, shape (n_steps,)
        The learning rates of the steps that were taken.
    losses : array of float64, shape (n_steps,)
        The loss of each step's batch, before the step. The last ones may be NaN or infinite.
    smoothed : array of float64, shape (n_steps,)
        The losses, averaged over neighbouring steps.
    suggestion : float or None
        The rate at which the smoothed loss falls most steeply; None if it does not fall.
    diverged : bool
        Whether the test stopped early.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    suggestion: float | None
    diverged: bool

    def __repr__(self) -> str:
        """Return the rates' range and the suggestion."""
        end = "diverged" if self.diverged else "did not diverge"
        suggested = "none suggested" if self.suggestion is None else f"suggested {self.suggestion:.3g}"
        return f"<RangeTest: {self.rates[0]:.3g} to {self.rates[-1]:.3g}, {end}, {suggested}>"

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the learning rate, and the suggestion.

        Losses above those of interest, where training diverges, are cut off.

        Parameters
        ----------
        ax : matplotlib Axes or None
            None makes a figure.

        Returns
        -------
        Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        axes = axes_for("RangeTest.plot", ax, (6.4, 4.0))
        there = np.isfinite(self.losses)
        axes.plot(self.rates[there], self.losses[there], ".", color="0.6", label="loss of a batch")
        axes.plot(self.rates, self.smoothed, color=COLOURS[0], label="smoothed")
        if self.suggestion is not None:
            value = np.interp(self.suggestion, self.rates, self.smoothed)
            label = f"steepest fall: {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color=COLOURS[1], linestyle="--", linewidth=1.0)
            axes.plot(self.suggestion, value, "o", color=COLOURS[1], label=label)
        if there.any():
            low, start = float(np.nanmin(self.smoothed)), float(self.smoothed[0])
            span = max(start - low, 0.05 * abs(start), 1e-12)
            axes.set_ylim(min(low, self.losses[there].min()) - 0.1 * span, start + 1.0 * span)
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="loss", title="Learning-rate range test")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        return axes


@explained
def lr_range_test(
    model: Trainable,
    x: Any,
    y: Any = None,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    divergence: float = 4.0,
    seed: int | np.random.Generator | None = 0,
) -> RangeTest:
    """Try learning rates on a copy of a model: each training step has a larger one, and the losses tell which suit.

    ::

        found = fnn.lr_range_test(model, x, y)
        model.optimizer.learning_rate = found.suggestion
        found.plot()

    The test is that of Smith 2017 (arXiv:1506.01186), with rates that grow by the same factor in every step. A rate
    between the suggestion and a tenth of that with the smallest loss is usual.

    Parameters
    ----------
    model : Model
        Compiled. It is not changed: neither weights nor the optimizer, nor is it built, if it is not.
    x, y, sample_weight, class_weight
        As for `Model.fit`; arrays.
    low, high : float
        The rates of the first and of the last step.
    steps : int
        At least 10.
    batch_size : int
        Rows per step, taken in a random order. After the last row comes the first of another order.
    divergence : float
        The test ends when the average loss of recent steps exceeds the smallest one by this factor, or is not finite.
        Losses that are negative end it only in the latter case.
    seed : int or numpy.random.Generator, optional
        Decides the order of the rows.

    Returns
    -------
    RangeTest

    Raises
    ------
    TypeError, ValueError
        When data do not fit the model, or an argument is invalid.
    RuntimeError
        When the model is not compiled.
    """
    if not isinstance(model, Trainable):
        raise TypeError(f"lr_range_test: model: expected a model, got {type(model).__name__}")
    if state_of(model).compiled is None:
        raise RuntimeError("lr_range_test: the model is not compiled: call compile(optimizer, loss) first")
    if is_batches(x, listed=y is None):
        raise TypeError("lr_range_test: x: expected arrays, got an iterable of batches")
    low = number("lr_range_test: low", low, above=0.0)
    high = number("lr_range_test: high", high, above=low)
    steps, batch = (
        integer("lr_range_test: steps", steps, at_least=10),
        integer("lr_range_test: batch_size", batch_size),
    )
    divergence = number("lr_range_test: divergence", divergence, above=1.0)
    rng = np.random.default_rng(as_seed(seed))
    tried = copy.deepcopy(model)
    build_for(tried, x)
    state = state_of(tried)
    if y is None and state.require_compiled().targeted:
        raise ValueError("lr_range_test: y: expected targets, got None")
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    batches = _batches(state, x, y, sample_weight, batch, rng)
    average, best = 0.0, np.inf
    for at, rate in enumerate(rates):
        state.runtime.compiled()[1].learning_rate = float(rate)
        # that a loss becomes NaN is no reason for a warning here
        state.bad_loss = True
        loss = float(train_on_batch(state, *next(batches), class_weight, "lr_range_test")["loss"])
        losses.append(loss)
        average = 0.9 * average + 0.1 * loss
        recent = average / (1.0 - 0.9 ** (at + 1))
        if not np.isfinite(loss) or (at >= 3 and best > 0.0 and recent > divergence * best):
            break
        best = min(best, recent)
    taken = np.array(losses)
    rates = rates[: len(taken)]
    smoothed = _smoothed(taken)
    diverged = len(taken) < steps or not np.isfinite(taken[-1])
    return RangeTest(rates, taken, smoothed, _steepest(rates, smoothed), diverged)


def _batches(
    state: TrainingState, x: Any, y: Any, weights: Any, size: int, rng: np.random.Generator
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield batches of random rows without an end."""
    architecture = state.runtime.table.architecture
    inputs, outputs = architecture.input_names, architecture.output_names
    x = as_array(x, "x") if hasattr(x, "to_numpy") else x
    y = as_array(y, "y") if hasattr(y, "to_numpy") else y
    n = count(x, inputs)
    if n == 0:
        raise ValueError("x: expected at least one row, got none")
    size = min(size, n)
    while True:
        order = rng.permutation(n)
        for first in range(0, n - size + 1, size):
            rows = order[first : first + size]
            targets = None if y is None else take(y, outputs, rows, n, "y")
            yield take(x, inputs, rows, n, "x"), targets, take_weights(weights, outputs, rows, n)


def _smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each loss with its neighbours on both sides, with weights that fall geometrically; NaN if not finite."""
    there = np.isfinite(losses)
    places = np.arange(len(losses))
    weights = _SMOOTHING ** np.abs(places[:, None] - places) * there
    sums = weights @ np.where(there, losses, 0.0)
    found: NDArray[np.float64] = np.where(there, sums / np.maximum(weights.sum(1), 1e-300), np.nan)
    return found


def _steepest(rates: NDArray[np.float64], smoothed: NDArray[np.float64]) -> float | None:
    """Return the rate, before that of the smallest loss, at which the loss falls most steeply over log(rate)."""
    if not np.isfinite(smoothed).any():
        return None
    last = int(np.nanargmin(smoothed))
    if last < 2:
        return None
    slopes = np.gradient(smoothed[: last + 1], np.log(rates[: last + 1]))
    at = int(np.argmin(slopes))
    return float(rates[at]) if slopes[at] < 0.0 else None
