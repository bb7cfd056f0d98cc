"""`fit`: checks its arguments, splits the data, and starts the loop."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.callbacks import CallbackList
from fastnn.data.feed import Feed
from fastnn.data.sample_weights import balanced
from fastnn.layers.base import fraction, positive_int
from fastnn.locks import ForkSafeLock
from fastnn.program.layout import Counter
from fastnn.runtime import sweep
from fastnn.runtime.averaging import take_back
from fastnn.training import iterables
from fastnn.training.epochs import ArrayEpochs
from fastnn.training.history import History
from fastnn.training.loop import Run, Validate, warn_of_bad_loss
from fastnn.training.progress import Progress

if TYPE_CHECKING:
    from fastnn.model.model import Model

DEFAULT_BATCH = 32
_guard = ForkSafeLock()
#: the models that are being trained, and the threads that train them
_training_threads: weakref.WeakKeyDictionary[Model, int] = weakref.WeakKeyDictionary()


def _forget_training() -> None:
    """Release models that other threads trained in a child process, where these threads do not exist."""
    for model, thread in list(_training_threads.items()):
        if thread != threading.get_ident():
            model._fitting = False
            del _training_threads[model]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_training)


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
    validates = _validated_epochs(options["validation_freq"])
    for name in ("steps_per_epoch", "validation_steps"):
        if options[name] is not None:
            options[name] = positive_int(options[name], name)
    iterable = model._is_batches(x, listed=y is None)
    x = model._built_for(x, iterable, pairs=True)
    model._objective_or_fail()
    model._runtime.fail_within("fit")
    if iterable:
        train_epoch, steps, validate = _from_batches(model, x, y, share, options)
        described = None
    else:
        train_epoch, steps, validate, described = _from_arrays(model, x, y, share, options)
    verbose = 1 if options["verbose"] == "auto" else options["verbose"]
    progress = Progress(verbose)
    parameters = {"epochs": epochs, "steps": steps, "verbose": verbose, "validates": validates}
    callbacks = CallbackList(options["callbacks"], model, parameters)
    names = model._objective_or_fail().log_names
    validated = [f"val_{name}" for name in names] if validate is not None else []
    callbacks.check_monitors([*names, *validated, "learning_rate"])
    with _training(model):
        resumed = None
        runtime = model._runtime
        counters = runtime.training
        history = History()
        if options["resume"]:
            first, resumed, history = _resume(model, described, first)
            take_back(runtime)
        else:
            runtime.unaveraged = None
            counters[Counter.CURSOR] = 0
            model._earlier_rows = 0
            model._run = {"start": int(counters[Counter.EPOCH]) - first, "data": described}
        model._callbacks, model._resumable, model.history = callbacks, None, history
        run = Run(
            model, first, epochs, steps, validate, callbacks, progress, history,
            validates=validates, bad_loss=bad_loss,
        )  # fmt: skip
        try:
            run.epochs(train_epoch, resumed)
        finally:
            _let_go(model, callbacks)
    return history


def _let_go(model: Model, callbacks: CallbackList) -> None:
    """Keep the callbacks' states, which a resumed training needs, but not the callbacks: they may hold the model."""
    # if a callback cannot give its state, saving asks again and reports it
    with contextlib.suppress(Exception):
        states = copy.deepcopy(callbacks.get_state())
        model._resumable = {"callbacks": states, "tensors": callbacks.get_tensors()}
        model._callbacks = None


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{what}: expected an integer of at least 0, got {value!r}")
    return int(value)


@dataclass(frozen=True)
class _Validated:
    """Whether an epoch is validated: every n-th one, or those of a set, counted from 1."""

    every: int
    chosen: frozenset[int] = frozenset()

    def __call__(self, epoch: int) -> bool:
        return (epoch + 1) % self.every == 0 if self.every else epoch + 1 in self.chosen


def _validated_epochs(value: Any) -> _Validated:
    """Return the test that `validation_freq` describes."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return _Validated(positive_int(value, "validation_freq"))
    if isinstance(value, (str, bytes, bool, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"validation_freq: expected an integer, or a list of epochs counted from 1, got {value!r}")
    return _Validated(0, frozenset(positive_int(one, "validation_freq") for one in value))


@contextmanager
def _training(model: Model) -> Iterator[None]:
    """Keep a model to one `fit` at a time."""
    taken = False
    try:
        with _guard:
            if model._fitting:
                raise RuntimeError("the model is being trained already (by another thread, or from a callback)")
            model._fitting = taken = True
            _training_threads[model] = threading.get_ident()
        model.stop_training = False
        yield
    finally:
        if taken:
            _training_threads.pop(model, None)
            model._fitting = False


def _from_arrays(model: Model, x: Any, y: Any, share: float, options: dict[str, Any]) -> tuple[Any, ...]:
    """Prepare training on arrays: the epoch's function, steps, validation, and the data that a resumed run needs."""
    if y is None:
        raise ValueError("y: fit on arrays needs targets")
    weights, classes, steps = options["sample_weight"], options["class_weight"], options["steps_per_epoch"]
    feed = model._feed(x, y, weights, None if share > 0.0 and isinstance(classes, str) else classes)
    batch = model._batch(options["batch_size"], DEFAULT_BATCH)
    n = feed.n
    validate = _validation(model, options)
    if share > 0.0:
        if validate is not None:
            raise ValueError("give validation_split or validation_data, not both")
        # rounded down, as in Keras, but from the number as it is written; a validation needs at least one row
        n = min(math.floor(feed.n * (1 - Fraction(repr(share)))), feed.n - 1)
        if n < 1:
            raise ValueError(f"validation_split {share} of {feed.n} rows leaves none to train on")
        held_out = feed
        if classes is not None:
            held_out = model._feed(x, y, weights, None)
            if isinstance(classes, str):
                # the training rows alone decide
                feed = model._feed(x, y, weights, balanced(classes, feed.targets, n))
        validate = _evaluator(model, held_out, options, n)
    batch = min(batch, n)
    described = {"rows": n, "batch_size": batch, "shuffle": bool(options["shuffle"])}
    first = int(options["initial_epoch"])
    if steps is not None:
        described |= {"steps_per_epoch": steps, "initial_epoch": first}
    train_epoch = ArrayEpochs(feed, n, batch, bool(options["shuffle"]), steps, first)
    return train_epoch, min(-(-n // batch), steps or n), validate, described


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
    if isinstance(options["class_weight"], str):
        raise ValueError("class_weight: 'balanced' needs all targets at once; pass a dict of label to weight")
    steps = options["steps_per_epoch"]
    if steps is None and _ends_early(x, options):
        raise ValueError(
            f"x: a {type(x).__name__} gives its batches once, but there are {_epochs(options)} epochs: give "
            "steps_per_epoch, epochs=1, or a list or other iterable that can start again"
        )
    expected = iterables.length_of(x) if steps is None else steps
    return iterables.train_iterable(x, steps, options["class_weight"]), expected, _validation(model, options)


def _epochs(options: dict[str, Any]) -> int:
    return int(options["epochs"]) - int(options["initial_epoch"])


def _ends_early(batches_given: Any, options: dict[str, Any]) -> bool:
    """Return whether batches come from an iterator, which can be used once, for more than one epoch."""
    return hasattr(batches_given, "__next__") and _epochs(options) > 1


def _validation(model: Model, options: dict[str, Any]) -> Validate | None:
    data = options["validation_data"]
    if data is None:
        return None
    steps = options["validation_steps"]
    if model._is_batches(data, listed=_is_list_of_batches(data)):
        if steps is None and _ends_early(data, options):
            raise ValueError(
                f"validation_data: a {type(data).__name__} gives its batches once, but there are "
                f"{_epochs(options)} epochs: give validation_steps, or a list or other iterable that can start again"
            )
        return lambda: model._objective_or_fail().logs(*iterables.evaluate(model, data, steps))
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        got = f"{len(data)} values" if isinstance(data, (tuple, list)) else type(data).__name__
        raise ValueError(f"validation_data: expected (x, y) or (x, y, sample_weight), got {got}")
    x, y, weight = iterables.unpack(data)
    return _evaluator(model, model._feed(x, y, weight, None, "validation "), options, 0)


def _is_list_of_batches(data: Any) -> bool:
    """Return whether a list holds batches (x, y) rather than being (x, y): its parts are batches, not arrays."""
    return isinstance(data, list) and all(isinstance(part, (tuple, list)) for part in data)


def _evaluator(model: Model, feed: Feed, options: dict[str, Any], first: int) -> Validate:
    steps, size = options["validation_steps"], options["validation_batch_size"]
    if steps is not None and size is None:
        size = options["batch_size"] or sweep.STEP_ROWS
    size = model._batch(size)
    last = sweep.last_row(steps, size, first, feed.n)

    def validate() -> dict[str, Any]:
        return model._objective_or_fail().logs(*sweep.evaluate(model, feed, size, first, last))

    return validate


def _resume(model: Model, described: dict[str, Any] | None, first: int) -> tuple[int, Any, History]:
    """Check that the saved position belongs to these data, and return where to continue."""
    run = model._run
    if not run:
        raise ValueError("resume: the model has no training to continue")
    if run["data"] != described:
        raise ValueError(f"resume: the interrupted training had {run['data']}, now there is {described}")
    history = model.history if model.history is not None else History()
    resumed = model._resumable
    if resumed is None and model._callbacks is not None:
        resumed = {"callbacks": model._callbacks.get_state(), "tensors": model._callbacks.get_tensors()}
    epoch = int(model._runtime.training[Counter.EPOCH]) - run["start"]
    return epoch, resumed, history
