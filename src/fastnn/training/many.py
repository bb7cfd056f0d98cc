"""`train_many`: many small networks at once, one a thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn.threads import checked, get_num_threads
from fastnn.training.crew import Crew
from fastnn.training.history import History
from fastnn.training.several import Callbacks, Several, checked_models
from fastnn.training.tally import Tally

if TYPE_CHECKING:
    from fastnn.model.model import Model


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
        "validation_steps": None, "validation_freq": 1, "validation_batch_size": validation_batch_size,
        "resume": resume,
    }  # fmt: skip
    threads = get_num_threads() if n_threads is None else checked(n_threads, "n_threads")
    if verbose not in (0, 1, "auto"):
        raise ValueError(f"verbose is 0 (quiet) or 1 (a bar over the models), got {verbose!r}")
    work = Several(checked_models(models), x, y, rows, callbacks, options)
    # one alone has all threads; of several each has one
    crew = Crew(min(threads, len(work.models)), threads if len(work.models) == 1 else 1)
    with Tally(len(work.models), bool(verbose)) as tally:
        try:
            crew.run(len(work.models), work.train, tally.add)
        finally:
            work.warn()
    return work.histories()
