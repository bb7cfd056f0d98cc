"""Several models, and the data that each of them is trained on."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import Callback, CallbackList
from fastnn.data.arrays import as_array
from fastnn.data.kinds import is_batches
from fastnn.data.subsets import Selection, count, selections, take, take_weights
from fastnn.training.fit import fit
from fastnn.training.history import History

if TYPE_CHECKING:
    from fastnn.model.model import Model

Callbacks = Callable[[int], Callback | Iterable[Callback] | None]
# the number of diverging models that a warning names
_NAMED = 5


class Several:
    """The data and options of all models."""

    def __init__(
        self, models: list[Model], x: Any, y: Any, rows: Any, callbacks: Callbacks | None, options: dict[str, Any]
    ) -> None:
        if is_batches(x) or is_batches(options["validation_data"]):
            what = "x" if is_batches(x) else "validation_data"
            raise TypeError(f"{what}: expected arrays; an iterable of batches cannot be shared between models")
        if y is None:
            raise ValueError("y: expected targets, got None")
        self.models, self.options = models, options
        self.x, self.y = _converted(x, "x"), _converted(y, "y")
        self.bad: deque[tuple[int, int]] = deque()
        self.selected: list[Selection] | None = None
        for index, model in enumerate(models):
            with _noted(index):
                model._build_for(self.x)
        if rows is not None:
            if options["validation_data"] is not None:
                raise ValueError("validation_data: give rows to validate on in `rows`, or validation_data, not both")
            self.n = count(self.x, models[0].input_names)
            self.selected = selections(rows, self.n, len(models))
            if options["validation_split"] and any(each.validation is not None for each in self.selected):
                raise ValueError("validation_split: give rows to validate on in `rows`, or validation_split, not both")
        for index, model in enumerate(models):
            with _noted(index):
                x, y, more = self._data(index, first=True)
                model._feed(x, y, more["sample_weight"], options["class_weight"])
        self.callbacks = [
            None if callbacks is None else _callbacks_of(callbacks, index) for index in range(len(models))
        ]
        _fail_if_shared(self.callbacks)

    def train(self, index: int) -> float:
        """Train a model and return its final loss."""
        model = self.models[index]
        x, y, options = self._data(index)
        # a model that had not begun when the training was interrupted starts now
        options |= {"callbacks": self.callbacks[index], "resume": options["resume"] and bool(model._run)}
        with _noted(index):
            history = fit(model, x, y, options, lambda step: self.bad.append((index, step)))
        # predictions in callbacks have been prepared for one thread
        model._runtime.forget_quick()
        losses = history.history.get("loss")
        return losses[-1] if losses else float("nan")

    def histories(self) -> list[History]:
        """Return the models' histories."""
        return [model.history for model in self.models if model.history is not None]

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

    def _data(self, index: int, *, first: bool = False) -> tuple[Any, Any, dict[str, Any]]:
        """Return a model's rows and options; `first` returns only its first row, to check that shapes fit."""
        options = dict(self.options)
        if self.selected is None:
            return self.x, self.y, options
        train, validation = self.selected[index]
        weights = options["sample_weight"]
        if validation is not None and not first:
            held_out = self._rows(index, validation)
            options["validation_data"] = held_out[:2] if weights is None else held_out
        x, y, options["sample_weight"] = self._rows(index, train[:1] if first else train)
        return x, y, options

    def _rows(self, index: int, rows: NDArray[np.intp]) -> tuple[Any, Any, Any]:
        model = self.models[index]
        inputs, outputs = model.input_names, model.output_names
        weights = take_weights(self.options["sample_weight"], outputs, rows, self.n)
        return take(self.x, inputs, rows, self.n, "x"), take(self.y, outputs, rows, self.n, "y"), weights


def checked_models(models: Any) -> list[Model]:
    """Check the models.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        When they are not distinct models that can be trained; the message names the first bad one.
    """
    from fastnn.model.model import Model

    if isinstance(models, Model) or not isinstance(models, Iterable):
        raise TypeError(f"models: expected a sequence of models, got {type(models).__name__}")
    found = list(models)
    if not found:
        raise ValueError("models: expected at least one model, got none")
    places: dict[int, int] = {}
    for index, model in enumerate(found):
        if not isinstance(model, Model):
            raise TypeError(f"models[{index}]: expected a model, got {type(model).__name__}")
        if id(model) in places:
            raise ValueError(f"models[{index}] is models[{places[id(model)]}] again: each model is trained once")
        if model._compiled is None:
            raise RuntimeError(f"models[{index}] is not compiled: call compile(optimizer, loss) first")
        if model._fitting:
            raise RuntimeError(f"models[{index}] is being trained already (by another thread, or from a callback)")
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
