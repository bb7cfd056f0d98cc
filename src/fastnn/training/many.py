"""`train_many`: many small networks at once, one a thread."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn.callbacks import Callback, CallbackList
from fastnn.threads import checked, get_num_threads, limited
from fastnn.training.crew import Crew
from fastnn.training.data import as_array, is_batches
from fastnn.training.fit import fit
from fastnn.training.history import History
from fastnn.training.rows import Selection, count, selections, take, take_weights
from fastnn.training.tally import Tally

if TYPE_CHECKING:
    from fastnn.model.model import Model

Callbacks = Callable[[int], Callback | Iterable[Callback] | None]
_NAMED = 5


def train_many(
    models: Sequence[Model],
    x: Any,
    y: Any,
    *,
    rows: Iterable[Any] | None = None,
    callbacks: Callbacks | None = None,
    n_threads: int | None = None,
    verbose: int | str = 1,
    batch_size: int | None = None,
    epochs: int = 1,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    validation_batch_size: int | None = None,
    resume: bool = False,
) -> list[History]:
    """Train many networks, each on one thread: ensembles, cross-validation, the search for hyperparameters.

    Small networks cannot use several threads, but several of them can. Every model comes out bit for bit as
    ``model.fit(x, y, ...)`` alone leaves it, whatever the number of threads.

    Parameters
    ----------
    models : sequence of Model
        Compiled models, each once, equal or not; those that are not built are built for x, as `fit` does.
    x, y : arrays of shape (n, *input_shape) and (n, *output_shape), or labels (n,); or lists or dicts of such
        As for `Model.fit`; an iterable of batches is not possible.
    rows : iterable, optional
        For each model the rows that it trains on: an integer array (row numbers may repeat) or a mask (n,) of bool.
        Or a tuple of two such, and the model is validated on the second after each epoch, as
        ``sklearn.model_selection.KFold(k).split(x)`` gives them for k models. Copied for the models that are being
        trained at the moment.
    callbacks : function, optional
        Takes a model's index and returns its callbacks. Called for all models before the first one is trained. A
        callback has state, so each model needs its own; their methods run in the threads that train.
    n_threads : int, optional
        How many models train at a time, `fastnn.get_num_threads()` by default. One model alone is trained by `fit`
        on as many threads.
    verbose : {1, 0, "auto"}
        1 (and "auto") shows a bar over the models, with the mean of their final losses.
    batch_size, epochs, validation_split, shuffle, class_weight, initial_epoch, validation_batch_size
        As for `Model.fit`.
    validation_data : tuple (x, y) or (x, y, sample_weight)
        The same for all models; arrays.
    sample_weight : array of shape (n,)
        Of all rows, also where `rows` chooses some; validation rows have theirs.
    resume : bool
        Go on where an interrupted call stopped: models that were finished stay as they are, models that had not
        begun start.

    Returns
    -------
    list of History
        One a model, in the order of `models`.

    Raises
    ------
    TypeError, ValueError
        When `models` holds something else, a model twice, or nothing; when data, rows or an argument do not fit. Before
        anything runs, as far as it can be seen from the first row.
    RuntimeError
        When a model is not compiled, or is being trained.
    Exception
        The first that a model's training raises, with a note of the model's index. The others then stop within a
        tenth of a second, or when a callback that runs returns. They stay usable, as after Ctrl-C, which ends this
        call the same way; models that were finished stay trained.

    Examples
    --------
    >>> import fastnn as fnn
    >>> x, y = fnn.datasets.load_digits("train")
    >>> def build(seed):
    ...     model = fnn.Sequential([fnn.Dense(16, "relu"), fnn.Dense(10, "softmax")], seed=seed)
    ...     model.compile("adam", "cross_entropy")
    ...     return model
    >>> histories = fnn.train_many([build(seed) for seed in range(8)], x, y, verbose=0)
    >>> len(histories)
    8
    """
    options = {
        "batch_size": batch_size, "epochs": epochs, "verbose": 0, "callbacks": None, "class_weight": class_weight,
        "validation_split": validation_split, "validation_data": validation_data, "shuffle": shuffle,
        "sample_weight": sample_weight, "initial_epoch": initial_epoch, "steps_per_epoch": None,
        "validation_batch_size": validation_batch_size, "resume": resume,
    }  # fmt: skip
    threads = get_num_threads() if n_threads is None else checked(n_threads, "n_threads")
    if verbose not in (0, 1, "auto"):
        raise ValueError(f"verbose is 0 (quiet) or 1 (a bar over the models), got {verbose!r}")
    work = _Work(_models(models), x, y, rows, callbacks, options)
    # one alone has all threads; of several each has one
    crew = Crew(min(threads, len(work.models)), threads if len(work.models) == 1 else 1)
    with Tally(len(work.models), bool(verbose)) as tally:
        try:
            crew.run(len(work.models), work.train, tally.add)
        finally:
            work.warn()
    return work.histories()


class _Work:
    """What all models are trained on, each in its turn."""

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
        self.callbacks = [None if callbacks is None else _callbacks_of(callbacks, index) for index in range(len(models))]
        _fail_if_shared(self.callbacks)

    def train(self, index: int) -> float:
        """Train a model and return its final loss."""
        model = self.models[index]
        x, y, options = self._data(index)
        # a model that had not begun when a training was interrupted starts
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
        """Warn once of all losses that are no finite numbers."""
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
        """Return a model's rows and options; `first`: of its rows only the first, which shows whether shapes fit."""
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


def _models(models: Any) -> list[Model]:
    """Check the models.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        When they are not several distinct models that can be trained; the message names the first that is not.
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
                    f"callbacks: the {type(member).__name__} of models[{index}] is that of models[{places[id(member)]}]: "
                    "each model needs its own"
                )
            places[id(member)] = index


def _converted(value: Any, what: str) -> Any:
    """Convert a data frame once, and not for each model."""
    return as_array(value, what) if hasattr(value, "to_numpy") else value


@contextmanager
def _noted(index: int) -> Iterator[None]:
    """Note the index of the model on what is raised."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in models[{index}]")
        raise
