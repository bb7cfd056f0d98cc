"""The jobs of `train_many`: its models, and the data and options that each of them is trained with."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import Callback, CallbackList
from fastnn.data.arrays import as_array
from fastnn.data.kinds import is_batches
from fastnn.data.subsets import Selection, count, selections, take, take_weights
from fastnn.layers.architecture import Architecture
from fastnn.runtime.feeds import feed
from fastnn.training.fit import fit
from fastnn.training.history import History
from fastnn.training.options import FitOptions
from fastnn.training.state import Trainable, build_for, state_of

Callbacks = Callable[[int], Callback | Iterable[Callback] | None]
# the number of diverging models that a warning names
_NAMED = 5


class Jobs:
    """The data and options of all models."""

    def __init__(
        self, models: list[Trainable], x: Any, y: Any, rows: Any, callbacks: Callbacks | None, options: FitOptions
    ) -> None:
        if is_batches(x) or is_batches(options.validation_data):
            what = "x" if is_batches(x) else "validation_data"
            raise TypeError(f"{what}: expected arrays; an iterable of batches cannot be shared between models")
        self.models, self.options = models, options
        self.x, self.y = _converted(x, "x"), None if y is None else _converted(y, "y")
        self.bad: deque[tuple[int, int]] = deque()
        self.selected: list[Selection] | None = None
        for index, model in enumerate(models):
            with _noted(index):
                build_for(model, self.x)
                if y is None and state_of(model).require_compiled().targeted:
                    raise ValueError("y: expected targets, got None")
        if rows is not None:
            if options.validation_data is not None:
                raise ValueError("validation_data: give rows to validate on in `rows`, or validation_data, not both")
            self.n = count(self.x, self._architecture(0).input_names)
            self.selected = selections(rows, self.n, len(models))
            if options.validation_split and any(each.validation is not None for each in self.selected):
                raise ValueError("validation_split: give rows to validate on in `rows`, or validation_split, not both")
        for index, model in enumerate(models):
            with _noted(index):
                x, y, more = self._data(index, first=True)
                feed(state_of(model).runtime, x, y, more.sample_weight, options.class_weight)
        self.callbacks = [
            None if callbacks is None else _callbacks_of(callbacks, index) for index in range(len(models))
        ]
        _fail_if_shared(self.callbacks)

    def train(self, index: int) -> float:
        """Train a model and return its final loss."""
        model = self.models[index]
        x, y, options = self._data(index)
        # a model that had not begun when the training was interrupted starts now
        resume = options.resume and bool(state_of(model).run)
        options = replace(options, callbacks=self.callbacks[index], resume=resume)
        with _noted(index):
            history = fit(model, x, y, options, lambda step: self.bad.append((index, step)))
        # predictions in callbacks have been prepared for one thread
        state_of(model).runtime.forget_quick()
        losses = history.history.get("loss")
        return losses[-1] if losses else float("nan")

    def histories(self) -> list[History]:
        """Return the models' histories."""
        found = [state_of(model).history for model in self.models]
        return [history for history in found if history is not None]

    def warn(self) -> None:
        """Warn once about all losses that are not finite."""
        if self.bad:
            named = [f"models[{index}] at training step {step}" for index, step in sorted(self.bad)]
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            warnings.warn(
                f"the loss became NaN or infinite in {', '.join(named[:_NAMED])}{more}; a smaller learning rate, "
                "clipping (clipnorm) or the TerminateOnNaN callback help",
                RuntimeWarning,
                stacklevel=3,
            )

    def _data(self, index: int, *, first: bool = False) -> tuple[Any, Any, FitOptions]:
        """Return a model's rows and options; `first` returns only its first row, to check that shapes fit."""
        options = self.options
        if self.selected is None:
            return self.x, self.y, options
        train, validation = self.selected[index]
        weights = options.sample_weight
        if validation is not None and not first:
            held_out = self._rows(index, validation)
            options = replace(options, validation_data=held_out[:2] if weights is None else held_out)
        x, y, weights = self._rows(index, train[:1] if first else train)
        return x, y, replace(options, sample_weight=weights)

    def _rows(self, index: int, rows: NDArray[np.intp]) -> tuple[Any, Any, Any]:
        inputs, outputs = self._architecture(index).input_names, self._architecture(index).output_names
        weights = take_weights(self.options.sample_weight, outputs, rows, self.n)
        y = None if self.y is None else take(self.y, outputs, rows, self.n, "y")
        return take(self.x, inputs, rows, self.n, "x"), y, weights

    def _architecture(self, index: int) -> Architecture:
        return state_of(self.models[index]).runtime.table.architecture


def checked_models(models: Any) -> list[Trainable]:
    """Check the models.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        When they are not distinct models that can be trained; the message names the first bad one.
    """
    if isinstance(models, Trainable) or not isinstance(models, Iterable):
        raise TypeError(f"models: expected a sequence of models, got {type(models).__name__}")
    found = list(models)
    if not found:
        raise ValueError("models: expected at least one model, got none")
    places: dict[int, int] = {}
    for index, model in enumerate(found):
        if not isinstance(model, Trainable):
            raise TypeError(f"models[{index}]: expected a model, got {type(model).__name__}")
        if id(model) in places:
            raise ValueError(f"models[{index}] is models[{places[id(model)]}] again: each model is trained once")
        if state_of(model).compiled is None:
            raise RuntimeError(f"models[{index}] is not compiled: call compile(optimizer, loss) first")
        if state_of(model).fitting:
            raise RuntimeError(f"models[{index}] is being trained already (by another thread, or from a callback)")
        if state_of(model).built:
            state_of(model).runtime.table.architecture.require_known(f"models[{index}]: train_many")
        places[id(model)] = index
    return found


def _callbacks_of(callbacks: Callbacks, index: int) -> tuple[Callback, ...]:
    if not callable(callbacks):
        raise TypeError(f"callbacks: expected a function of a model's index, got {type(callbacks).__name__}")
    with _noted(index):
        return CallbackList(callbacks(index)).callbacks


def _fail_if_shared(callbacks: Sequence[Sequence[Callback] | None]) -> None:
    places: dict[int, int] = {}
    for index, members in enumerate(callbacks):
        for member in members or ():
            if id(member) in places:
                raise ValueError(
                    f"callbacks: models[{index}] has the {type(member).__name__} of models[{places[id(member)]}]; "
                    "each model needs its own"
                )
            places[id(member)] = index


def _converted(value: Any, what: str) -> Any:
    """Convert a data frame once, instead of for each model."""
    return as_array(value, what) if hasattr(value, "to_numpy") else value


@contextmanager
def _noted(index: int) -> Iterator[None]:
    """Add a note with the model's index to exceptions."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in models[{index}]")
        raise
