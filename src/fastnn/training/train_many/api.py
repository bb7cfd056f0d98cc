"""`train_many`: many small networks at once, one per thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastnn.threads import checked, get_num_threads
from fastnn.training.history import History
from fastnn.training.options import FitOptions
from fastnn.training.state import Trainable
from fastnn.training.train_many.jobs import Callbacks, Jobs, checked_models
from fastnn.training.train_many.progress import ModelBar
from fastnn.training.train_many.workers import Workers


def train_many(
    models: Sequence[Trainable],
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
    """Train many networks, each on one thread: ensembles, cross-validation, hyperparameter search.

    One small network cannot use several threads, but several networks can. Every model ends bit for bit as after
    ``model.fit(x, y, ...)`` alone, whatever the number of threads.

    Parameters
    ----------
    models : sequence of Model
        Compiled models, all distinct objects, alike or not; unbuilt ones are built for x, as `fit` does.
    x, y : arrays of shape (n, *input_shape) and (n, *output_shape), or labels (n,); or lists or dicts of such
        As for `Model.fit`; an iterable of batches is not possible.
    rows : iterable, optional
        For each model the rows that it trains on: an integer array (row numbers may repeat) or a mask (n,) of bool.
        Or a pair of these, as ``sklearn.model_selection.KFold(k).split(x)`` yields for k models: then the model is
        validated on the second one after each epoch. The rows are copied only for the models that are currently
        training.
    callbacks : function, optional
        Takes a model's index and returns its callbacks. Called for all models before the first one is trained. A
        callback has state, so each model needs its own; their methods run in the threads that train.
    n_threads : int, optional
        Number of models that train at a time, by default `fastnn.get_num_threads()`. A single model is trained by
        `fit` on that many threads.
    verbose : {1, 0, "auto"}
        1 (and "auto") shows a bar over the models, with the mean of their final losses.
    batch_size, epochs, validation_split, shuffle, class_weight, initial_epoch, validation_batch_size
        As for `Model.fit`.
    validation_data : tuple (x, y) or (x, y, sample_weight)
        The same for all models; arrays.
    sample_weight : array of shape (n,) or (n, ...)
        For all n rows, also if `rows` selects some; validation rows use their weights, too.
    resume : bool
        Continue where an interrupted call stopped: finished models are not changed, models that had not
        begun start.

    Returns
    -------
    list of History
        One per model, in the order of `models`.

    Raises
    ------
    TypeError, ValueError
        When `models` is empty, or holds something else or a model twice; when data, rows or an argument do not fit.
        Raised before anything runs, as far as the first row shows it.
    RuntimeError
        When a model is not compiled, or is being trained.
    Exception
        The first that a model's training raises, with a note of the model's index. The others then stop within a
        tenth of a second, or when a running callback returns. They stay usable, as after Ctrl-C, which ends this
        call in the same way; finished models stay trained.

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
    options = FitOptions(
        batch_size=batch_size, epochs=epochs, class_weight=class_weight, validation_split=validation_split,
        validation_data=validation_data, shuffle=shuffle, sample_weight=sample_weight, initial_epoch=initial_epoch,
        validation_batch_size=validation_batch_size, resume=resume,
    )  # fmt: skip
    threads = get_num_threads() if n_threads is None else checked("n_threads", n_threads)
    if verbose not in (0, 1, "auto"):
        raise ValueError(f"verbose is 0 (quiet) or 1 (a bar over the models), got {verbose!r}")
    jobs = Jobs(checked_models(models), x, y, rows, callbacks, options)
    # a single model uses all threads; several use one each
    workers = Workers(min(threads, len(jobs.models)), threads if len(jobs.models) == 1 else 1)
    with ModelBar(len(jobs.models), bool(verbose)) as bar:
        try:
            workers.run(len(jobs.models), jobs.train, bar.add)
        finally:
            jobs.warn()
    return jobs.histories()
