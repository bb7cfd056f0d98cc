"""Calls in the middle of other calls on one thread, as signal handlers and finalizers make them.

`test_reentry.py` runs this file. Python calls a profiler whenever a function is entered or left. Here it makes the
inner call, so that happens at all places where a signal handler may run, always in the same order.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.threads import thread_pool

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 20)).astype(np.float32)
Y = RNG.integers(0, 3, 70)
WIDE = RNG.normal(size=(90, 90)).astype(np.float32)
OUT = np.zeros((70, 3), np.float32)
NUMBERS = itertools.count()
FOLDER = tempfile.TemporaryDirectory()

Act = Callable[[Any], Any]


def make() -> fnn.Sequential:
    """Make a model that has dropout (counters), a batch norm (moving averages), and several product algorithms."""
    layers = [fnn.Input(20), fnn.Dense(40, "relu"), fnn.BatchNorm(), fnn.Dropout(0.2), fnn.Dense(3, "softmax")]
    model = fnn.Sequential(layers, seed=1)
    model.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    return model


def make_whole() -> fnn.Sequential:
    """Make a model that has another one's weights."""
    model = fnn.Sequential([fnn.Input(20), fnn.Dense(20, "tanh"), make()], seed=2, name="whole")
    model.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    return model


def make_part() -> fnn.Sequential:
    """Make a model that is a part of another one, which lives as long."""
    model = make()
    whole = fnn.Sequential([fnn.Input(20), fnn.Dense(20, "tanh"), model], seed=2)
    whole.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    WHOLE[model] = whole
    return model


def predict_from_python(model: fnn.Sequential) -> Any:
    """Compute the outputs by a frozen network."""
    fnp.predict(model.freeze(), X, OUT)
    return OUT.copy()


def train_step(model: fnn.Sequential) -> Any:
    """Take a step of a learner."""
    learner = model.learner()
    return fnp.train_step(learner, X, Y), np.array(learner.parameters)


def fit_another(model: fnn.Sequential) -> Any:
    """Train another model."""
    other = make()
    other.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    return other.get_weights()


def save(model: fnn.Sequential) -> Any:
    """Save the model and load it; a call in the middle of it, which may save another model, has another file."""
    path = f"{FOLDER.name}/{next(NUMBERS)}.safetensors"
    model.save(path)
    return fnn.load(path).get_weights()


READS: dict[str, Act] = {
    "predict": lambda model: model.predict(X),
    "predict batches": lambda model: model.predict(X, batch_size=16),
    "predict few rows": lambda model: model.predict(X[:3]),
    "predict rows with strides": lambda model: model.predict(X[:6:2]),
    "predict a list": lambda model: model.predict([X[:4]]),
    "evaluate": lambda model: model.evaluate(X, Y, batch_size=16),
    "gradients": lambda model: model.gradients(X[:9], Y[:9]),
    "input gradients": lambda model: model.input_gradients(X[:9], Y[:9], training=True),
    "get_weights": lambda model: model.get_weights(),
    "save": save,
    "matmul": lambda model: fnn.matmul(WIDE, WIDE),
    "small matmul": lambda model: fnn.matmul(X[:4], X[:4], transpose_b=True),
    "matmul with a bias": lambda model: fnn.matmul(WIDE, WIDE, bias=WIDE[0], activation="tanh"),
    "freeze": predict_from_python,
    "learner": train_step,
    "fit another model": fit_another,
}
WRITES: dict[str, Act] = {
    "train_on_batch": lambda model: model.train_on_batch(X[:9], Y[:9]),
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "compile": lambda model: model.compile("sgd", "cross_entropy"),
    "set_weights": lambda model: model.set_weights([weight + 1 for weight in model.get_weights()]),
    "update_from": lambda model: model.update_from(LEARNER),
    "to": lambda model: model.to("cpu"),
}
LEARNER = make().learner()
WHOLE: weakref.WeakKeyDictionary[fnn.Sequential, fnn.Sequential] = weakref.WeakKeyDictionary()
# how models are made, and which model the inner calls use
SHARED: dict[str, tuple[Callable[[], fnn.Sequential], Act]] = {
    "the model": (make, lambda model: model),
    "a part": (make_whole, lambda model: model.get_layer("sequential")),
    "the whole": (make_part, lambda model: WHOLE[model]),
}


def trained(act: Act) -> Act:
    """Return a function that trains by a call, and also returns the weights and the optimizer's state."""

    def run(model: fnn.Sequential) -> Any:
        logs = act(model)
        state = model._runtime.optimizer_state.copy()
        return getattr(logs, "history", logs), model.get_weights(), state

    return run


TRAINS: dict[str, Act] = {
    "train_on_batch": trained(lambda model: [model.train_on_batch(X[:9], Y[:9]) for _ in range(3)]),
    "fit": trained(lambda model: model.fit(X, Y, batch_size=16, epochs=2, validation_split=0.2, verbose=0)),
    "fit on batches": trained(lambda model: model.fit(iter([(X[:9], Y[:9]), (X[9:20], Y[9:20])]), verbose=0)),
}


class Interrupted:
    """Makes a call at some of the places where functions are entered and left.

    Attributes
    ----------
    made, refused : int
        Calls, and those of them that raised RuntimeError.
    """

    def __init__(self, act: Act, model: fnn.Sequential, used: fnn.Sequential, every: int, *, only_inside: bool) -> None:
        self.act, self.model, self.used, self.every, self.only_inside = act, model, used, every, only_inside
        self.seen = self.made = self.refused = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        runtime = self.model._runtime
        if self.only_inside and not (runtime.inside or runtime.running):
            return
        self.seen += 1
        if self.seen % self.every == 0:
            self.made += 1
            try:
                self.act(self.used)
            except RuntimeError as error:
                assert "interrupted" in str(error) or "trained" in str(error), error
                self.refused += 1


def same(one: Any, other: Any) -> bool:
    """Return whether two results have the same bits."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other, equal_nan=True))


def check(outer: Act, inner: Act, shared: str, *, every: int, writes: bool) -> Interrupted:
    """Run a call with others in the middle of it, and compare it with an uninterrupted one."""
    new, used = SHARED[shared]
    whole, model = new(), new()
    for one in (whole, model):  # so that quick calls are prepared
        READS["predict few rows"](one)
        READS["predict few rows"](one)
        READS["predict rows with strides"](one)
        READS["predict a list"](one)
        one.train_on_batch(X[:9], Y[:9])
    expected = outer(whole)
    interrupted = Interrupted(inner, model, used(model), every, only_inside=writes)
    sys.setprofile(interrupted)
    try:
        got = outer(model)
    finally:
        sys.setprofile(None)
    assert same(got, expected)
    assert not writes or interrupted.refused == interrupted.made
    assert same(outer(model), outer(whole))
    return interrupted


def in_turn(acts: list[Act]) -> Act:
    """Return a function that makes one call after another."""
    turns = itertools.cycle(acts)
    return lambda model: next(turns)(model)


def main(kind: str, pairs: str, every: int, shared: str) -> None:
    """Interrupt every call at one of `every` places: by all calls of a kind in turn, or by each of them alone."""
    # nothing is to be compiled between interruptions
    library.address(thread_pool.WORKER)
    for act in (*READS.values(), *TRAINS.values()):
        for new, used in SHARED.values():
            model = new()
            act(model)
            act(used(model))
    acts = READS if kind == "reads" else WRITES
    inner = acts if pairs == "pairs" else {"all in turn": in_turn(list(acts.values()))}
    made = 0
    for name, outer in (READS | TRAINS).items():
        for inner_name, act in inner.items():
            print(f"{name} < {inner_name}", flush=True)
            made += check(outer, act, shared, every=every, writes=kind == "writes").made
    print("calls", made)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
