"""Optuna: bad trials end early, and several trials are trained at once (the extra ``optuna``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from fastnn.callbacks import Callback
from fastnn.callbacks.base import Logs
from fastnn.callbacks.monitor import Monitor
from fastnn.checks import flag, integer
from fastnn.hints import explain_arguments, explained, install
from fastnn.integrations.runs import needed
from fastnn.threads import get_num_threads
from fastnn.training.state import Trainable
from fastnn.training.train_many.api import train_many

__all__ = ["PruningCallback", "optimize"]

Build = Callable[[Any], Trainable]
Callbacks = Callable[[Any], Callback | Iterable[Callback] | None]


class PruningCallback(Callback):
    """Report a quantity to a trial of Optuna after each epoch, and end the trial if it should be pruned.

    ::

        def objective(trial):
            model = build(trial.suggest_float("rate", 1e-4, 1e-1, log=True))
            pruning = fnn.integrations.optuna.PruningCallback(trial, "val_loss")
            history = model.fit(x, y, validation_split=0.2, epochs=30, callbacks=pruning, verbose=0)
            return history.history["val_loss"][-1]

    Steps are epochs, counted from 0. Epochs without a validation are not reported.

    Parameters
    ----------
    trial : optuna.trial.Trial
    monitor : str
        The quantity, a key of the logs.
    interval : int
        Epochs between two reports.
    stop : bool
        Whether training ends as after early stopping, and `pruned` tells, instead of an exception: in `train_many` an
        exception would end all trainings.

    Attributes
    ----------
    pruned : bool
        Whether the last training has been pruned.

    Raises
    ------
    ImportError
        When Optuna is not installed.
    ValueError
        When the study looks for large values of a quantity whose small values are better, or the reverse.
    """

    watched: Monitor

    def __init__(self, trial: Any, monitor: str = "val_loss", *, interval: int = 1, stop: bool = False) -> None:
        needed("PruningCallback", "optuna", "optuna")
        if not hasattr(trial, "report") or not hasattr(trial, "should_prune"):
            raise TypeError(f"PruningCallback: trial: expected a trial of Optuna, got {type(trial).__name__}")
        study = getattr(trial, "study", None)
        self.watched = _monitor("PruningCallback", monitor, study)
        self.trial, self.monitor = trial, monitor
        self.interval = integer("PruningCallback: interval", interval)
        self.stop = flag("PruningCallback: stop", stop)
        self.pruned = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget an earlier training."""
        self.pruned = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Report the quantity.

        Raises
        ------
        optuna.TrialPruned
            If the trial should be pruned, unless `stop` is set.
        """
        if (epoch + 1) % self.interval or self.watched.rests(epoch, logs, self.params):
            return
        self.trial.report(self.watched.value(logs), epoch)
        if self.trial.should_prune():
            self.pruned = True
            if not self.stop:
                library = needed("PruningCallback", "optuna", "optuna")
                raise library.TrialPruned(f"pruned after epoch {epoch + 1}")
            self.model.stop_training = True


@explained
def optimize(
    study: Any,
    build: Build,
    x: Any,
    y: Any,
    *,
    n_trials: int,
    at_once: int | None = None,
    monitor: str = "val_loss",
    pruning: bool = True,
    callbacks: Callbacks | None = None,
    **options: Any,
) -> None:
    """Search for hyperparameters with several trials at a time, which `train_many` trains on one thread each.

    ::

        def build(trial):
            width = trial.suggest_int("width", 8, 128, log=True)
            model = fnn.Sequential([fnn.Dense(width, "relu"), fnn.Dense(10, "softmax")], seed=0)
            model.compile(fnn.Adam(trial.suggest_float("rate", 1e-4, 1e-1, log=True)), "cross_entropy")
            return model

        study = optuna.create_study(direction="minimize")
        fnn.integrations.optuna.optimize(study, build, x, y, n_trials=40, validation_split=0.2, epochs=20)

    Trials of a group are asked for together, so none learns from the others in it: Optuna's samplers know those that
    are done.

    Parameters
    ----------
    study : optuna.study.Study
        Of one objective.
    build : function
        Takes a trial and returns a compiled model. It may raise ``optuna.TrialPruned``.
    x, y
        As for `train_many`.
    n_trials : int
    at_once : int, optional
        Trials in a group, by default `fastnn.get_num_threads()`.
    monitor : str
        The quantity whose last value is the trial's result.
    pruning : bool
        Whether trials end early where the study's pruner says so.
    callbacks : function, optional
        Takes a trial and returns more callbacks, such as `EarlyStopping`. With one that restores weights, the value is
        still the last epoch's.
    **options
        Arguments of `train_many`, such as ``epochs``, ``validation_data``, ``n_threads``; not ``rows`` and ``resume``.

    Raises
    ------
    ImportError
        When Optuna is not installed.
    TypeError, ValueError
        When an argument is invalid, or the study has several objectives.
    Exception
        What `build` or a training raises; all trials of the group have failed then.

    Notes
    -----
    A trial whose value is not finite has failed. Models are as after `fit` alone, for any number of threads. Pruners
    that look at trials that are still running, such as ``HyperbandPruner``, may decide by which of them is faster;
    ``MedianPruner`` looks at those that are done.
    """
    library = needed("optimize", "optuna", "optuna")
    states = library.trial.TrialState
    if not isinstance(study, library.study.Study):
        raise TypeError(f"optimize: study: expected a study of Optuna, got {type(study).__name__}")
    if len(study.directions) > 1:
        raise ValueError(f"optimize: study: expected one objective, got {len(study.directions)}")
    if not callable(build):
        raise TypeError(f"optimize: build: expected a function of a trial, got {type(build).__name__}")
    for name in ("rows", "resume"):
        if name in options:
            raise ValueError(f"optimize: {name}: cannot be given")
    monitored = _monitor("optimize", monitor, study)
    left = integer("optimize: n_trials", n_trials)
    at_once = get_num_threads() if at_once is None else integer("optimize: at_once", at_once)
    pruning = flag("optimize: pruning", pruning)
    options = {"verbose": 0, **options}
    while left > 0:
        open_trials = [study.ask() for _ in range(min(at_once, left))]
        left -= len(open_trials)
        try:
            group = []
            for trial in list(open_trials):
                try:
                    group.append((trial, build(trial)))
                except library.TrialPruned:
                    study.tell(trial, state=states.PRUNED)
                    open_trials.remove(trial)
            if not group:
                continue
            watching = [PruningCallback(trial, monitor, stop=True) for trial, _ in group] if pruning else []

            def of_model(index: int, group: Any = group, watching: Any = watching) -> list[Callback]:
                more = callbacks(group[index][0]) if callbacks is not None else None
                found = [more] if isinstance(more, Callback) else list(more or ())
                return [*found, *watching[index : index + 1]]

            histories = train_many([model for _, model in group], x, y, callbacks=of_model, **options)
            for index, ((trial, _), history) in enumerate(zip(group, histories, strict=True)):
                open_trials.remove(trial)
                if pruning and watching[index].pruned:
                    study.tell(trial, state=states.PRUNED)
                    continue
                value = monitored.value({name: values[-1] for name, values in history.history.items()})
                if math.isfinite(value):
                    study.tell(trial, value)
                else:
                    study.tell(trial, state=states.FAIL)
        finally:
            # after an exception or Ctrl-C
            for trial in open_trials:
                study.tell(trial, state=states.FAIL)


def _monitor(owner: str, name: str, study: Any) -> Monitor:
    """Return what watches a quantity in the direction of a study, if there is one.

    Raises
    ------
    ValueError
        If the direction is not that of the quantity.
    """
    if study is None or len(study.directions) > 1:
        return Monitor(owner, name)
    larger = study.direction.name == "MAXIMIZE"
    try:
        better = Monitor(owner, name).larger
    except ValueError:
        # a name that does not tell
        better = larger
    if better != larger:
        wanted, other = ("maximize", "minimize") if better else ("minimize", "maximize")
        raise ValueError(
            f"{owner}: monitor: {name!r} is better if it is {'larger' if better else 'smaller'}, but the study has "
            f'direction="{other}": make it with direction="{wanted}"'
        )
    return Monitor(owner, name, "max" if larger else "min")


install(__name__)
explain_arguments(PruningCallback)
