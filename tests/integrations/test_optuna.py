"""Searches by Optuna: pruning, and several trials at a time."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn

optuna = pytest.importorskip("optuna", reason="the test extra has Optuna")
module = fnn.integrations.optuna
States = optuna.trial.TrialState


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    return x, x @ rng.normal(size=(3, 1))


def build(trial):
    width = trial.suggest_int("width", 2, 8)
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(width, "tanh"), fnn.Dense(1)], seed=0)
    model.compile(fnn.SGD(trial.suggest_float("rate", 1e-3, 1e-1, log=True)), "mse")
    return model


class Every(optuna.pruners.BasePruner):
    """Prunes trials of some numbers after an epoch."""

    def __init__(self, numbers, epoch=1):
        self.numbers, self.epoch = numbers, epoch

    def prune(self, study, trial):
        return trial.number in self.numbers and trial.last_step >= self.epoch


def study_of(pruner=None, **options):
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner, **options)


# --- pruning ----------------------------------------------------------------------------------------------


def test_every_epoch_is_reported_and_pruned_trials_raise():
    x, y = problem()
    trained = []

    def objective(trial):
        model = build(trial)
        trained.append(model)
        pruning = module.PruningCallback(trial)
        history = model.fit(x, y, epochs=4, validation_split=0.25, verbose=0, callbacks=pruning).history
        assert not pruning.pruned
        return history["val_loss"][-1]

    study = study_of(Every({1}))
    study.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == [States.COMPLETE, States.PRUNED, States.COMPLETE]
    assert list(study.trials[0].intermediate_values) == [0, 1, 2, 3]
    assert study.trials[0].intermediate_values[3] == study.trials[0].value
    assert list(study.trials[1].intermediate_values) == [0, 1]
    # a model whose trial was pruned is usable
    trained[1].fit(x, y, epochs=1, verbose=0)


def test_epochs_without_a_validation_or_between_reports_are_left_out():
    x, y = problem()
    for options, expected in (({"interval": 2}, [1, 3, 5]), ({}, [2, 5])):
        trial = study_of().ask()
        more = {} if options else {"validation_freq": 3}
        callback = module.PruningCallback(trial, **options)
        build(trial).fit(x, y, epochs=6, validation_split=0.25, verbose=0, callbacks=callback, **more)
        assert list(trial.study.trials[0].intermediate_values) == expected


def test_pruning_may_stop_instead_of_raising():
    x, y = problem()
    trial = study_of(Every({0}, epoch=2)).ask()
    pruning = copy.copy(module.PruningCallback(trial, "loss", stop=True))
    history = build(trial).fit(x, y, epochs=9, verbose=0, callbacks=pruning)
    assert pruning.pruned and len(history.epoch) == 3


def test_the_direction_of_the_study_has_to_be_that_of_the_quantity():
    trial = study_of(direction="maximize").ask()
    with pytest.raises(ValueError, match=r'\'val_loss\' is better if it is smaller, .* direction="maximize"'):
        module.PruningCallback(trial)
    assert module.PruningCallback(trial, "val_accuracy").watched.larger
    # a name that does not tell is taken as the study has it
    assert module.PruningCallback(trial, "profit").watched.larger
    assert not module.PruningCallback(study_of().ask(), "cost").watched.larger
    fixed = optuna.trial.FixedTrial({"width": 3, "rate": 0.01})
    x, y = problem()
    build(fixed).fit(x, y, verbose=0, callbacks=module.PruningCallback(fixed, "loss"))


# --- several at a time ------------------------------------------------------------------------------------


def search(at_once, threads, pruner=None, **options):
    x, y = problem()
    study = study_of(pruner)
    module.optimize(
        study, build, x, y, n_trials=5, at_once=at_once, epochs=4, validation_split=0.25, n_threads=threads, **options
    )
    return study


def test_trials_are_those_of_fit_whatever_the_number_of_threads():
    x, y = problem()
    first = search(2, 1)
    assert [trial.state for trial in first.trials] == [States.COMPLETE] * 5
    for trial in first.trials:
        fixed = optuna.trial.FixedTrial(trial.params)
        history = build(fixed).fit(x, y, epochs=4, validation_split=0.25, verbose=0).history["val_loss"]
        assert trial.value == history[-1]
        assert list(trial.intermediate_values.values()) == history
    for at_once, threads in ((2, 2), (5, 2), (1, 1), (3, 2)):
        other = search(at_once, threads)
        assert [trial.value for trial in other.trials] == [trial.value for trial in first.trials]
    assert first.best_value == min(trial.value for trial in first.trials)


def test_pruned_trials_do_not_stop_the_others():
    study = search(3, 2, Every({0, 4}))
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "COMPLETE", "COMPLETE", "COMPLETE", "PRUNED"]
    assert list(study.trials[4].intermediate_values) == [0, 1]
    plain = search(3, 2, Every({0, 4}), pruning=False)
    assert {trial.state for trial in plain.trials} == {States.COMPLETE}
    assert not plain.trials[0].intermediate_values


def test_more_callbacks_and_trials_that_are_pruned_before_they_begin():
    x, y = problem()
    study, stopped = study_of(), []

    def sometimes(trial):
        if trial.number % 2:
            raise optuna.TrialPruned
        return build(trial)

    def callbacks(trial):
        stopped.append(trial.number)
        return fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.__setitem__("val_loss", float(trial.number)))

    module.optimize(study, sometimes, x, y, n_trials=4, at_once=1, epochs=2, validation_split=0.25, callbacks=callbacks)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert stopped == [0, 2] and study.trials[2].value == 2.0


def test_values_that_are_not_finite_have_failed():
    x, y = problem()

    def wild(trial):
        model = build(trial)
        model.compile(fnn.SGD(1e15), "mse")
        return model

    study = study_of()
    with pytest.warns(RuntimeWarning, match="NaN or infinite"):
        module.optimize(study, wild, x, y, n_trials=2, at_once=2, monitor="loss", pruning=False, epochs=8)
    assert [trial.state for trial in study.trials] == [States.FAIL] * 2


def test_after_an_error_no_trial_is_left_running():
    x, y = problem()

    def broken(trial):
        if trial.number == 3:
            raise KeyError("broken")
        return build(trial)

    study = study_of()
    with pytest.raises(KeyError):
        module.optimize(study, broken, x, y, n_trials=6, at_once=2, epochs=1, monitor="loss")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]
    with pytest.raises(ValueError, match="y"):
        module.optimize(study, build, x, y[:3], n_trials=1, epochs=1, monitor="loss")
    assert study.trials[-1].state is States.FAIL


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: module.optimize(3, build, *problem(), n_trials=1), "study: expected a study of Optuna, got int"),
        (lambda s: module.optimize(s, 3, *problem(), n_trials=1), "build: expected a function of a trial"),
        (lambda s: module.optimize(s, build, *problem(), n_trials=0), "n_trials"),
        (lambda s: module.optimize(s, build, *problem(), n_trials=1, at_once=0), "at_once"),
        (lambda s: module.optimize(s, build, *problem(), n_trials=1, monitor="accuracy"), "larger, but the study"),
        (lambda s: module.optimize(s, build, *problem(), n_trials=1, rows=[[0]]), "rows: cannot be given"),
        (lambda s: module.optimize(s, build, *problem(), n_trials=1), "monitors 'val_loss', but the quantities are"),
        (lambda s: module.PruningCallback(3), "trial: expected a trial of Optuna, got int"),
        (lambda s: module.PruningCallback(s.ask(), interval=0), "interval"),
        (lambda s: module.PruningCallback(s.ask(), stop=1), "stop: expected True or False"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call(study_of())


def test_several_objectives_are_refused():
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="expected one objective, got 2"):
        module.optimize(study, build, *problem(), n_trials=1)


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'PruningCallback needs optuna: .* "fastnn-numba\[optuna\]"'):
        module.PruningCallback(None)


def test_the_search_of_the_documents_runs():
    text = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text(encoding="utf-8")
    (code,) = [each for each in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "optuna" in each]
    names = {}
    exec(code, names)
    assert len(names["study"].trials) == 12 and names["study"].best_value > 0.85
