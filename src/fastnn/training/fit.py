"""`fit`: prepares data and validation, and runs the training loop."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import CallbackList
from fastnn.data.feed import Feed
from fastnn.data.sample_weights import balanced
from fastnn.locks import ForkSafeLock
from fastnn.program.layout import Counter
from fastnn.runtime import feeds, sweep
from fastnn.runtime.averaging import take_back
from fastnn.training import iterables
from fastnn.training.epochs import ArrayEpochs
from fastnn.training.history import History
from fastnn.training.loop import Run, TrainEpoch, Validate, warn_of_bad_loss
from fastnn.training.options import FitOptions
from fastnn.training.progress import Progress
from fastnn.training.state import Trainable, TrainingState, state_of

DEFAULT_BATCH = 32
_guard = ForkSafeLock()
#: the states of models that are being trained, and the threads that train them
_training_threads: weakref.WeakKeyDictionary[TrainingState, int] = weakref.WeakKeyDictionary()


def _forget_training() -> None:
    """Release models that other threads trained in a child process, where these threads do not exist."""
    for state, thread in list(_training_threads.items()):
        if thread != threading.get_ident():
            state.fitting = False
            del _training_threads[state]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_training)


class _Prepared(NamedTuple):
    """A training on checked data.

    Attributes
    ----------
    train_epoch : callable
    steps : int or None
        Batches per epoch, if known.
    validate : callable or None
    described : dict or None
        The data, as far as a resumed run has to have the same; None if it cannot be resumed.
    """

    train_epoch: TrainEpoch
    steps: int | None
    validate: Validate | None
    described: dict[str, Any] | None = None


def fit(
    model: Trainable, x: Any, y: Any, options: FitOptions, bad_loss: Callable[[int], None] = warn_of_bad_loss
) -> History:
    """Train a model, which callbacks are given; see `Model.fit`."""
    state = state_of(model)
    iterable = iterables.are_given(state, x, listed=y is None)
    x = iterables.build_for_data(model, x, iterable, pairs=True)
    objective = state.require_compiled()
    runtime = state.runtime
    runtime.fail_within("fit")
    prepared = (_from_batches if iterable else _from_arrays)(state, x, y, options)
    verbose = 1 if options.verbose == "auto" else options.verbose
    progress = Progress(verbose)
    parameters = {
        "epochs": options.epochs, "steps": prepared.steps, "verbose": verbose, "validates": options.validates
    }  # fmt: skip
    callbacks = CallbackList(options.callbacks, model, parameters)
    names = objective.log_names
    validated = [f"val_{name}" for name in names] if prepared.validate is not None else []
    logged = () if options.passes is None else options.passes.logged
    callbacks.check_monitors([*names, *validated, *logged, "learning_rate"])
    with _training(state):
        first, resumed, history = options.initial_epoch, None, History()
        counters = runtime.training
        if options.resume:
            first, resumed, history = _resume(state, prepared.described)
            take_back(runtime)
        else:
            runtime.unaveraged = None
            counters[Counter.CURSOR] = 0
            state.earlier_rows = 0
            state.run = {"start": int(counters[Counter.EPOCH]) - first, "data": prepared.described}
        state.callbacks, state.resumable, state.history = callbacks, None, history
        run = Run(
            state, first, options.epochs, prepared.steps, prepared.validate, callbacks, progress, history,
            validates=options.validates, bad_loss=bad_loss,
        )  # fmt: skip
        try:
            run.epochs(prepared.train_epoch, resumed)
        finally:
            _let_go(state, callbacks)
    return history


def _let_go(state: TrainingState, callbacks: CallbackList) -> None:
    """Keep the callbacks' states, which a resumed training needs, but not the callbacks: they may hold the model."""
    # if a callback cannot give its state, saving asks again and reports it
    with contextlib.suppress(Exception):
        states = copy.deepcopy(callbacks.get_state())
        state.resumable = {"callbacks": states, "tensors": callbacks.get_tensors()}
        state.callbacks = None


@contextmanager
def _training(state: TrainingState) -> Iterator[None]:
    """Keep a model to one `fit` at a time."""
    taken = False
    try:
        with _guard:
            if state.fitting:
                raise RuntimeError("the model is being trained already (by another thread, or from a callback)")
            state.fitting = taken = True
            _training_threads[state] = threading.get_ident()
        state.stop_training = False
        yield
    finally:
        if taken:
            _training_threads.pop(state, None)
            state.fitting = False


def _from_arrays(state: TrainingState, x: Any, y: Any, options: FitOptions) -> _Prepared:
    """Prepare training on arrays."""
    if y is None and state.require_compiled().targeted:
        raise ValueError("y: fit on arrays needs targets")
    runtime, share = state.runtime, options.validation_split
    weights, classes, steps = options.sample_weight, options.class_weight, options.steps_per_epoch
    early, lengths = None if share > 0.0 and isinstance(classes, str) else classes, options.lengths
    feed = feeds.feed(runtime, x, y, weights, early, lengths=lengths)
    batch = sweep.batch_rows(options.batch_size, DEFAULT_BATCH)
    n = feed.n
    validate = _validation(state, options)
    if share > 0.0:
        if validate is not None:
            raise ValueError("give validation_split or validation_data, not both")
        # rounded down, as in Keras, but from the number as it is written; a validation needs at least one row
        n = min(math.floor(feed.n * (1 - Fraction(repr(share)))), feed.n - 1)
        if n < 1:
            raise ValueError(f"validation_split {share} of {feed.n} rows leaves none to train on")
        held_out = feed
        if classes is not None:
            held_out = feeds.feed(runtime, x, y, weights, None, lengths=lengths)
            if isinstance(classes, str):
                # the training rows alone decide
                counted = None if feed.lengths is None else feed.lengths.of_output(0)
                chosen = balanced(classes, feed.targets, n, counted)
                feed = feeds.feed(runtime, x, y, weights, chosen, lengths=lengths)
        validate = _evaluator(state, held_out, options, n)
    batch = min(batch, n)
    if options.shuffle:
        runtime.states.refuse(
            "shuffle", "with shuffle=True it would go on from another row: give shuffle=False (Keras shuffles silently)"
        )  # fmt: skip
    runtime.states.check(n, batch, "x")
    described = {"rows": n, "batch_size": batch, "shuffle": options.shuffle}
    if feed.lengths is not None:
        described["lengths"] = feed.lengths.checksum
    if steps is not None:
        described |= {"steps_per_epoch": steps, "initial_epoch": options.initial_epoch}
    train_epoch = ArrayEpochs(feed, n, batch, options.shuffle, steps, options.initial_epoch, options.passes)
    return _Prepared(train_epoch, min(-(-n // batch), steps or n), validate, described)


def _from_batches(state: TrainingState, x: Any, y: Any, options: FitOptions) -> _Prepared:
    """Prepare training on an iterable of batches."""
    for name, given in (
        ("y", y is not None),
        ("sample_weight", options.sample_weight is not None),
        ("batch_size", options.batch_size is not None),
        ("validation_split", options.validation_split > 0.0),
        ("resume", options.resume),
    ):
        if given:
            raise ValueError(f"{name}: cannot be given with an iterable of batches")
    iterables.refuse_lengths(options.lengths)
    if isinstance(options.class_weight, str):
        raise ValueError("class_weight: 'balanced' needs all targets at once; pass a dict of label to weight")
    steps = options.steps_per_epoch
    if steps is None and _ends_early(x, options):
        raise ValueError(
            f"x: a {type(x).__name__} gives its batches once, but there are {options.n_epochs} epochs: give "
            "steps_per_epoch, epochs=1, or a list or other iterable that can start again"
        )
    expected = iterables.length_of(x) if steps is None else steps
    train_epoch = iterables.train_iterable(x, steps, options.class_weight, options.passes)
    return _Prepared(train_epoch, expected, _validation(state, options))


def _ends_early(batches_given: Any, options: FitOptions) -> bool:
    """Return whether batches come from an iterator, which can be used once, for more than one epoch."""
    return hasattr(batches_given, "__next__") and options.n_epochs > 1


def _validation(state: TrainingState, options: FitOptions) -> Validate | None:
    """Prepare the validation on `validation_data`, if there are any."""
    data, steps = options.validation_data, options.validation_steps
    if data is None:
        return None
    if iterables.are_given(state, data, listed=_is_list_of_batches(data)):
        if steps is None and _ends_early(data, options):
            raise ValueError(
                f"validation_data: a {type(data).__name__} gives its batches once, but there are "
                f"{options.n_epochs} epochs: give validation_steps, or a list or other iterable that can start again"
            )
        if options.lengths is not None:
            raise ValueError("validation_data: with lengths, expected (x, y, sample_weight, lengths), got an iterable")
        return _alone(state, lambda: iterables.evaluate(state.runtime, data, steps))
    if not state.require_compiled().targeted:
        if not isinstance(data, (tuple, list)):
            data = (data,)
        if len(data) == 1:
            data = (data[0], None)
    lengths, given = None, options.lengths is not None
    if given and isinstance(data, (tuple, list)) and len(data) == 4:
        *data, lengths = data
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        got = f"{len(data)} values" if isinstance(data, (tuple, list)) else type(data).__name__
        expected = "(x, y) or (x, y, sample_weight)" + ", or with lengths (x, y, sample_weight, lengths)" * given
        raise ValueError(f"validation_data: expected {expected}, got {got}")
    if given and lengths is None:
        raise ValueError(
            "validation_data: with lengths, expected (x, y, sample_weight, lengths), where sample_weight may be None"
        )
    x, y, weight = iterables.unpack(data)
    feed = feeds.feed(state.runtime, x, y, weight, None, "validation ", lengths)
    return _evaluator(state, feed, options, 0)


def _is_list_of_batches(data: Any) -> bool:
    """Return whether a list holds batches (x, y) rather than being (x, y): its parts are batches, not arrays."""
    return isinstance(data, list) and all(isinstance(part, (tuple, list)) for part in data)


def _evaluator(state: TrainingState, feed: Feed, options: FitOptions, first: int) -> Validate:
    """Prepare the validation on the rows of a feed from `first` on."""
    steps, size = options.validation_steps, options.validation_batch_size
    if steps is not None and size is None:
        size = options.batch_size or sweep.STEP_ROWS
    runtime = state.runtime
    rows = sweep.batch_rows(size, options.batch_size or DEFAULT_BATCH if runtime.states else sweep.DEFAULT_BATCH)
    last = sweep.last_row(steps, rows, first, feed.n)
    runtime.states.check_whole(last - first, min(rows, last - first), "validation x")
    return _alone(state, lambda: sweep.evaluate(state.runtime, feed, rows, first, last))


def _alone(state: TrainingState, evaluate: Callable[[], tuple[NDArray[np.float64], int]]) -> Validate:
    """Return a validation, which begins with states of zeros and leaves those of the training as they are."""

    def validate() -> dict[str, Any]:
        with state.runtime.states.apart():
            return state.require_compiled().logs(*evaluate())

    return validate


def _resume(state: TrainingState, described: dict[str, Any] | None) -> tuple[int, Any, History]:
    """Check that the saved position belongs to these data, and return where to continue."""
    run = state.run
    if not run:
        raise ValueError("resume: the model has no training to continue")
    if run["data"] != described:
        had, got = ({**(data or {}), "lengths": None} for data in (run["data"], described))
        if had == got:
            raise ValueError("resume: the interrupted training had other lengths, or one of the two has none")
        raise ValueError(f"resume: the interrupted training had {run['data']}, now there is {described}")
    history = state.history if state.history is not None else History()
    epoch = int(state.runtime.training[Counter.EPOCH]) - run["start"]
    return epoch, state.resumable if state.resumable is not None else state.callback_states(), history
