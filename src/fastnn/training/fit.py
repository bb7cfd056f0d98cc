"""`fit`: its arguments checked, data split, and the loop started."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.callbacks import CallbackList
from fastnn.layers.base import fraction, positive_int
from fastnn.program.layout import Counter
from fastnn.training import batches, passes
from fastnn.training.arrays import ArrayEpochs
from fastnn.training.data import is_batches
from fastnn.training.feed import Feed
from fastnn.training.history import History
from fastnn.training.loop import Run, Validate, warn_of_bad_loss
from fastnn.training.progress import Progress

if TYPE_CHECKING:
    from fastnn.model.model import Model

DEFAULT_BATCH = 32
_guard = threading.RLock()


def _renew_guard() -> None:
    """Make a new lock in a child process: the old one may have been held by a thread that is not there."""
    global _guard
    _guard = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


def fit(
    model: Model, x: Any, y: Any, options: dict[str, Any], bad_loss: Callable[[int], None] = warn_of_bad_loss
) -> History:
    """Train a model; `options` are `Model.fit`'s other arguments by name."""
    epochs = _count(options["epochs"], "epochs")
    first = _count(options["initial_epoch"], "initial_epoch")
    for flag in ("shuffle", "resume"):
        if not isinstance(options[flag], (bool, np.bool_)):
            raise TypeError(f"{flag}: expected a bool, got {options[flag]!r}")
    share = fraction(options["validation_split"], "validation_split")
    iterable = is_batches(x)
    if not iterable:
        model._build_for(x)
    elif not model.built:
        raise RuntimeError("the model is not built: an iterable of batches needs a model with an Input")
    model._objective_or_fail()
    model._runtime.fail_within("fit")
    if iterable:
        train_epoch, steps, validate = _from_batches(model, x, y, share, options)
        described = None
    else:
        train_epoch, steps, validate, described = _from_arrays(model, x, y, share, options)
    verbose = 1 if options["verbose"] == "auto" else options["verbose"]
    progress = Progress(verbose)
    parameters = {"epochs": epochs, "steps": steps, "verbose": verbose}
    callbacks = CallbackList(options["callbacks"], model, parameters)
    with _training(model):
        resumed = None
        counters = model._runtime.training
        history = History()
        if options["resume"]:
            first, resumed, history = _resume(model, described, first)
        else:
            counters[Counter.CURSOR] = 0
            model._earlier_rows = 0
            model._run = {"start": int(counters[Counter.EPOCH]) - first, "data": described}
        model._callbacks, model._resumable, model.history = callbacks, None, history
        run = Run(model, first, epochs, steps, validate, callbacks, progress, history, bad_loss=bad_loss)
        run.epochs(train_epoch, resumed)
    return history


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{what}: expected an integer of at least 0, got {value!r}")
    return int(value)


@contextmanager
def _training(model: Model) -> Iterator[None]:
    """Keep a model to one `fit` at a time."""
    taken = False
    try:
        with _guard:
            if model._fitting:
                raise RuntimeError("the model is being trained already (by another thread, or from a callback)")
            model._fitting = taken = True
        model.stop_training = False
        yield
    finally:
        if taken:
            model._fitting = False


def _from_arrays(model: Model, x: Any, y: Any, share: float, options: dict[str, Any]) -> tuple[Any, ...]:
    """Prepare training on arrays: the epoch's function, steps, validation, and what a resumed run must match."""
    if options["steps_per_epoch"] is not None:
        raise ValueError("steps_per_epoch is for iterables of batches; arrays are used whole in each epoch")
    if y is None:
        raise ValueError("y: fit on arrays needs targets")
    feed = model._feed(x, y, options["sample_weight"], options["class_weight"])
    batch = model._batch(options["batch_size"], DEFAULT_BATCH)
    n = feed.n
    validate = _validation(model, options)
    if share > 0.0:
        if validate is not None:
            raise ValueError("give validation_split or validation_data, not both")
        # rounded down, as in Keras; a validation without rows would be none
        n = min(math.floor(feed.n * (1.0 - share)), feed.n - 1)
        if n < 1:
            raise ValueError(f"validation_split {share} of {feed.n} rows leaves none to train on")
        plain = options["class_weight"] is None
        held_out = feed if plain else model._feed(x, y, options["sample_weight"], None)
        validate = _evaluator(model, held_out, options, n)
    batch = min(batch, n)
    described = {"rows": n, "batch_size": batch, "shuffle": bool(options["shuffle"])}
    train_epoch = ArrayEpochs(feed, n, batch, bool(options["shuffle"]))
    return train_epoch, -(-n // batch), validate, described


def _from_batches(model: Model, x: Any, y: Any, share: float, options: dict[str, Any]) -> tuple[Any, ...]:
    for name, given in (
        ("y", y is not None),
        ("sample_weight", options["sample_weight"] is not None),
        ("batch_size", options["batch_size"] is not None),
        ("validation_split", share > 0.0),
        ("resume", options["resume"]),
    ):
        if given:
            raise ValueError(f"{name}: cannot be given with an iterable of batches")
    steps = options["steps_per_epoch"]
    if steps is not None:
        steps = positive_int(steps, "steps_per_epoch")
    elif _ends_early(x, options):
        raise ValueError(
            f"x: a {type(x).__name__} gives its batches once, but there are {_epochs(options)} epochs: give "
            "steps_per_epoch, epochs=1, or a list or other iterable that can start again"
        )
    elif hasattr(x, "__len__"):
        expected = len(x)
        return batches.train_iterable(x, None, options["class_weight"]), expected, _validation(model, options)
    return batches.train_iterable(x, steps, options["class_weight"]), steps, _validation(model, options)


def _epochs(options: dict[str, Any]) -> int:
    return int(options["epochs"]) - int(options["initial_epoch"])


def _ends_early(batches_given: Any, options: dict[str, Any]) -> bool:
    """Tell whether batches come from an iterator, which can be walked once, for more than one epoch."""
    return hasattr(batches_given, "__next__") and _epochs(options) > 1


def _validation(model: Model, options: dict[str, Any]) -> Validate | None:
    data = options["validation_data"]
    if data is None:
        return None
    if is_batches(data):
        if _ends_early(data, options):
            raise ValueError(
                f"validation_data: a {type(data).__name__} gives its batches once, but there are "
                f"{_epochs(options)} epochs: give a list or other iterable that can start again"
            )
        return lambda: model._objective_or_fail().logs(*batches.evaluate(model, data))
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        got = f"{len(data)} values" if isinstance(data, (tuple, list)) else type(data).__name__
        raise ValueError(f"validation_data: expected (x, y) or (x, y, sample_weight), got {got}")
    x, y, weight = batches.unpack(data)
    return _evaluator(model, model._feed(x, y, weight, None, "validation "), options, 0)


def _evaluator(model: Model, feed: Feed, options: dict[str, Any], first: int) -> Validate:
    size = model._batch(options["validation_batch_size"])

    def validate() -> dict[str, Any]:
        return model._objective_or_fail().logs(*passes.evaluate(model, feed, size, first, feed.n))

    return validate


def _resume(model: Model, described: dict[str, Any] | None, first: int) -> tuple[int, Any, History]:
    """Check that the saved position belongs to this data and return where to go on."""
    run = model._run
    if not run:
        raise ValueError("resume: the model has no training to go on with")
    if run["data"] != described:
        raise ValueError(f"resume: the interrupted training had {run['data']}, now there is {described}")
    history = model.history if model.history is not None else History()
    resumed = model._resumable
    if resumed is None and model._callbacks is not None:
        resumed = {"callbacks": model._callbacks.get_state(), "tensors": model._callbacks.get_tensors()}
    epoch = int(model._runtime.training[Counter.EPOCH]) - run["start"]
    return epoch, resumed, history
