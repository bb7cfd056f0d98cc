"""`train_many`: the results of `fit`, on several threads at once, whatever goes wrong."""

import contextlib
import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn.runtime import cancellation
from fastnn.training.train_many import progress

RNG = np.random.default_rng(0)
X = RNG.normal(size=(53, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
WEIGHTS = RNG.uniform(0.5, 2.0, len(X))
OPTIONS = {"batch_size": 8, "epochs": 5, "verbose": 0}
ROWS = np.arange(len(X))
FOLDS = [(np.setdiff1d(ROWS, ROWS[fold::3]), ROWS[fold::3]) for fold in range(3)]


def make(seed, width=6, *, built=False):
    layers = [fnn.Dense(width, "relu"), fnn.Dropout(0.2), fnn.Dense(3, "softmax")]
    model = fnn.Sequential([fnn.Input(4), *layers] if built else layers, seed=seed)
    model.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    return model


def several(count=5):
    """Networks of three architectures, some of them built."""
    return [make(seed, 6 + seed % 3, built=seed % 2 == 0) for seed in range(count)]


def assert_same(models, histories, others, expected):
    for model, history, other, wanted in zip(models, histories, others, expected, strict=True):
        for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        assert history is model.history
        assert history.history == wanted.history
        assert history.epoch == wanted.epoch


@pytest.fixture(autouse=True)
def no_thread_survives():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastnn-model")]


@pytest.mark.parametrize("n_threads", [1, 2, 3, None])
@pytest.mark.parametrize(
    "options",
    [{}, {"validation_split": 0.2, "class_weight": {1: 2.0}}, {"validation_data": (X[:9], Y[:9]), "shuffle": False,
                                                             "sample_weight": WEIGHTS}],
    ids=["plain", "split", "data"],
)  # fmt: skip
def test_every_model_is_what_fit_makes_of_it(n_threads, options):
    models, alone = several(), several()
    expected = [model.fit(X, Y, **OPTIONS, **options) for model in alone]
    histories = fnn.train_many(models, X, Y, n_threads=n_threads, **OPTIONS, **options)
    assert_same(models, histories, alone, expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_folds_are_fit_on_their_rows(weights):
    models, alone = [make(7) for _ in FOLDS], [make(7) for _ in FOLDS]
    expected = []
    for model, (train, test) in zip(alone, FOLDS, strict=True):
        held_out = (X[test], Y[test]) if weights is None else (X[test], Y[test], weights[test])
        weight = None if weights is None else weights[train]
        expected.append(model.fit(X[train], Y[train], sample_weight=weight, validation_data=held_out, **OPTIONS))
    histories = fnn.train_many(models, X, Y, rows=iter(FOLDS), sample_weight=weights, n_threads=2, **OPTIONS)
    assert "val_loss" in histories[0].history
    assert_same(models, histories, alone, expected)


def test_rows_may_be_masks_or_repeat():
    chosen = [Y > 0, np.array([3, 3, 52, 0, 9], np.uint8), list(range(10))]
    models, alone = several(3), several(3)
    expected = [model.fit(X[rows], Y[rows], **OPTIONS) for model, rows in zip(alone, chosen, strict=True)]
    histories = fnn.train_many(models, X, Y, rows=chosen, **OPTIONS)
    assert_same(models, histories, alone, expected)


def test_rows_of_several_inputs_outputs_and_weights():
    def build():
        a, b = fnn.Input(3, name="a"), fnn.Input(1, name="b")
        h = fnn.Concatenate()([a, b])
        model = fnn.Model([a, b], [fnn.Dense(1, name="u")(h), fnn.Dense(2, name="v")(h)], seed=1)
        model.compile("sgd", ["mse", "mae"])
        return model

    x, y = {"a": X[:, :3], "b": X[:, 3:]}, [X[:, :1], X[:, 2:]]
    train, test = FOLDS[0]
    for given, weights in ((y, [WEIGHTS, WEIGHTS]), ({"u": y[0], "v": y[1]}, {"u": WEIGHTS})):
        models, alone = [build(), build()], build()
        expected = alone.fit(
            [x["a"][train], x["b"][train]], [part[train] for part in y],
            sample_weight={"u": WEIGHTS[train], **({"v": WEIGHTS[train]} if isinstance(weights, list) else {})},
            validation_data=([x["a"][test], x["b"][test]], [part[test] for part in y],
                             {"u": WEIGHTS[test], **({"v": WEIGHTS[test]} if isinstance(weights, list) else {})}),
            **OPTIONS,
        )  # fmt: skip
        histories = fnn.train_many(models, x, given, rows=FOLDS[:1] * 2, sample_weight=weights, **OPTIONS)
        assert_same(models, histories, [alone, alone], [expected, expected])


class Spy(fnn.Callback):
    """Note the threads that train a model, and raise at a given place."""

    def __init__(self, fail=None, pause=0.0, meet=None) -> None:
        self.fail, self.pause, self.meet, self.threads, self.names = fail, pause, meet, set(), set()

    def on_epoch_end(self, epoch, logs=None):
        self.threads.add(fnn.get_num_threads())
        self.names.add(threading.current_thread().name)
        time.sleep(self.pause)
        if self.meet is not None and epoch == 0:
            self.meet.wait(30)
        if self.fail is not None and epoch == 2:
            raise self.fail


def test_each_model_has_one_thread_and_one_alone_has_all(monkeypatch):
    monkeypatch.setattr("fastnn.threads._chosen", 3)
    meet = threading.Barrier(3)
    spies = [Spy(meet=meet if index < 3 else None) for index in range(6)]
    fnn.train_many(several(6), X, Y, callbacks=spies.__getitem__, **OPTIONS)
    assert [spy.threads for spy in spies] == [{1}] * 6
    assert all(len(spy.names) == 1 for spy in spies)
    assert len(set().union(*(spy.names for spy in spies))) == 3
    assert fnn.get_num_threads() == 3
    for given, expected in ((None, 3), (2, 2)):
        spy = Spy()
        fnn.train_many([make(0)], X, Y, callbacks=lambda index: spy, n_threads=given, **OPTIONS)  # noqa: B023
        assert spy.threads == {expected}


def test_models_stop_early_each_for_itself():
    def stopping(index):
        return fnn.EarlyStopping("loss", patience=1, min_delta=0.02 * index, restore_best_weights=True)

    models, alone = several(), several()
    options = OPTIONS | {"epochs": 30}
    expected = [model.fit(X, Y, callbacks=stopping(index), **options) for index, model in enumerate(alone)]
    assert len({len(history.epoch) for history in expected}) > 2
    histories = fnn.train_many(models, X, Y, callbacks=stopping, n_threads=2, **options)
    assert_same(models, histories, alone, expected)


def uncompiled():
    return fnn.Sequential([fnn.Dense(3, "softmax")])


def in_training():
    model = make(0)
    model._state.fitting = True
    return model


TWICE, STOPPER = make(0), fnn.TerminateOnNaN()
ERRORS = [
    (lambda: make(0), {}, TypeError, "models: expected a sequence of models, got Sequential"),
    (lambda: 3, {}, TypeError, "models: expected a sequence of models, got int"),
    (lambda: [], {}, ValueError, "at least one model"),
    (lambda: [make(0), "model"], {}, TypeError, r"models\[1\]: expected a model, got str"),
    (lambda: [make(0), TWICE, TWICE], {}, ValueError, r"models\[2\] is models\[1\] again"),
    (lambda: [make(0), uncompiled()], {}, RuntimeError, r"models\[1\] is not compiled"),
    (lambda: [make(0), in_training()], {}, RuntimeError, r"models\[1\] is being trained"),
    (several, {"x": iter([(X, Y)])}, TypeError, "x: expected arrays"),
    (several, {"validation_data": iter([(X, Y)])}, TypeError, "validation_data: expected arrays"),
    (several, {"y": None}, ValueError, "y: expected targets"),
    (several, {"n_threads": 0}, ValueError, "n_threads: expected an integer >= 1"),
    (several, {"verbose": 2}, ValueError, "verbose is 0"),
    (several, {"rows": 5}, TypeError, "rows: expected one array"),
    (several, {"rows": FOLDS}, ValueError, "one entry for each of 5 models, got 3"),
    (several, {"rows": [ROWS] * 4 + [ROWS + 1]}, ValueError, r"rows\[4\]: .* from 0 to 52, got 53 at position 52"),
    (several, {"rows": [ROWS] * 4 + [[0, -1]]}, ValueError, r"rows\[4\]: .* got -1 at position 1"),
    (several, {"rows": [ROWS] * 4 + [ROWS * 1.0]}, TypeError, r"rows\[4\]: expected integer"),
    (several, {"rows": [ROWS] * 4 + [ROWS[:0]]}, ValueError, r"rows\[4\]: expected at least one row"),
    (several, {"rows": [ROWS] * 4 + [ROWS[:, None]]}, ValueError, r"rows\[4\]: .* of one axis"),
    (several, {"rows": [ROWS] * 4 + [ROWS[:9] > 3]}, ValueError, r"rows\[4\]: expected a mask of 53 rows"),
    (several, {"rows": [ROWS] * 4 + [(ROWS, ROWS, ROWS)]}, ValueError, r"rows\[4\]: .* got 3 parts"),
    (several, {"rows": [ROWS] * 4 + [(ROWS, [99])]}, ValueError, r"rows\[4\]\[1\]: .* got 99"),
    (several, {"rows": [ROWS] * 5, "validation_data": (X, Y)}, ValueError, "not both"),
    (several, {"rows": [(ROWS, ROWS)] * 5, "validation_split": 0.5}, ValueError, "not both"),
    (several, {"rows": [ROWS] * 5, "y": Y[:-1]}, ValueError, "y: expected 53 rows"),
    (several, {"rows": [ROWS] * 5, "sample_weight": WEIGHTS[1:]}, ValueError, "sample_weight: expected 53 rows"),
    (several, {"callbacks": [fnn.TerminateOnNaN()]}, TypeError, "callbacks: expected a function"),
    (several, {"callbacks": lambda index: STOPPER}, ValueError, r"models\[1\] has .*models\[0\]"),
    (several, {"callbacks": lambda index: 3}, TypeError, "expected a list of callbacks"),
]  # fmt: skip


@pytest.mark.parametrize(("models", "change", "error", "message"), ERRORS, ids=[case[3][:40] for case in ERRORS])
def test_errors_come_before_anything_runs(models, change, error, message):
    given = models()
    with pytest.raises(error, match=message):
        fnn.train_many(**({"models": given, "x": X, "y": Y} | OPTIONS | change))
    assert not [model for model in given if getattr(model, "step", 0)] if isinstance(given, list) else True


def test_a_shape_that_does_not_fit_is_noted_with_the_model():
    models = [make(0), make(1)]
    models[1].build(3)
    with pytest.raises(ValueError, match="expects shape") as caught:
        fnn.train_many(models, X, Y, **OPTIONS)
    assert caught.value.__notes__ == ["in models[1]"]
    assert models[0].step == 0


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_first_exception_stops_the_others_and_a_resumed_call_finishes_them(n_threads):
    models, alone = several(), several()
    expected = [model.fit(X, Y, **OPTIONS) for model in alone]

    arrived = threading.Semaphore(0)

    class Script(fnn.Callback):
        """The first two models finish, then the third fails, and the fourth continues until it is stopped."""

        def __init__(self, index) -> None:
            self.index = index

        def on_epoch_end(self, epoch, logs=None):
            if self.index == 2 and epoch == 2:
                for _ in range(2 if n_threads == 1 else 3):
                    arrived.acquire(timeout=30)
                raise RuntimeError("no more")
            if self.index == 3 and epoch == 1:
                arrived.release()
                end = time.monotonic() + 30
                while not cancellation._here.asked() and time.monotonic() < end:
                    time.sleep(0.001)

        def on_train_end(self, logs=None):
            arrived.release()

    with pytest.raises(RuntimeError, match="no more") as caught:
        fnn.train_many(models, X, Y, callbacks=Script, n_threads=n_threads, **OPTIONS)
    assert caught.value.__notes__ == ["in models[2]"]
    assert [len(models[index].history.epoch) for index in (0, 1, 2)] == [5, 5, 3]
    assert len(models[3].history.epoch) == 2 if n_threads == 2 else models[3].step == 0
    assert models[4].step == 0
    # a training is resumed with callbacks of the same names
    Resumed = type("Script", (fnn.Callback,), {"__init__": lambda self, index: None})
    histories = fnn.train_many(models, X, Y, callbacks=Resumed, resume=True, n_threads=2, **OPTIONS)
    assert_same(models, histories, alone, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="signals come from a process")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_the_call_soon_and_leaves_the_models_usable(n_threads, ctrl_c):
    sent = []

    class Press(fnn.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 20 and not sent:
                sent.append(time.perf_counter())
                os.kill(os.getpid(), signal.SIGINT)

    models, alone = several(4), several(4)
    # far more epochs than there is time for
    with pytest.raises(KeyboardInterrupt):
        fnn.train_many(
            models, X, Y, callbacks=lambda index: Press(), n_threads=n_threads, **OPTIONS | {"epochs": 10**6}
        )
    # 0.03 s where the processor is free
    assert time.perf_counter() - sent[0] < 1.0
    assert 0 < models[0].step < 10**6
    options = OPTIONS | {"epochs": len(models[0].history.epoch) + 5}
    fnn.train_many(models[:1], X, Y, resume=True, callbacks=lambda index: Press(), **options)
    alone[0].fit(X, Y, **options)
    np.testing.assert_array_equal(models[0].get_weights()[0], alone[0].get_weights()[0])


def test_losses_that_are_not_finite_are_told_once_where_the_call_is():
    models = several()
    for index in (1, 3):
        models[index].compile(fnn.SGD(1e30), "mse")
    with pytest.warns(RuntimeWarning) as caught:
        fnn.train_many(models, X, np.eye(3)[Y], n_threads=2, **OPTIONS)
    (warning,) = caught
    assert "in models[1] at training step" in str(warning.message) and ", models[3] at" in str(warning.message)
    assert warning.filename == __file__


class Inner(fnn.Callback):
    """Train others at the end of an epoch."""

    def __init__(self, n_threads) -> None:
        self.n_threads, self.made = n_threads, several(3)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            fnn.train_many(self.made, X, Y, n_threads=self.n_threads, **OPTIONS)


@pytest.mark.parametrize("n_threads", [None, 2])
def test_calls_within_calls_and_from_several_threads(n_threads):
    alone = several(3)
    for model in alone:
        model.fit(X, Y, **OPTIONS)
    inner = [Inner(n_threads) for _ in range(6)]

    def call(first):
        fnn.train_many(several(3), X, Y, callbacks=inner[first : first + 3].__getitem__, n_threads=2, **OPTIONS)

    threads = [threading.Thread(target=call, args=(first,), daemon=True) for first in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for one in inner:
        for model, other in zip(one.made, alone, strict=True):
            np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def test_an_outer_call_that_stops_takes_inner_ones_along():
    endless = several(2)

    class Endless(fnn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            started.set()
            fnn.train_many(endless, X, Y, n_threads=2, **OPTIONS | {"epochs": 10**9})

    class Fail(fnn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            started.wait(30)
            raise ZeroDivisionError

    started = threading.Event()
    with pytest.raises(ZeroDivisionError):
        fnn.train_many(several(2), X, Y, callbacks=[Endless(), Fail()].__getitem__, n_threads=2, **OPTIONS)
    assert not any(model._state.fitting for model in endless)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_trains_too():
    models, alone = several(3), several(3)
    for model in alone:
        model.fit(X, Y, **OPTIONS)
    status = []

    class Fork(fnn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    fnn.train_many(models, X, Y, n_threads=2, **OPTIONS)
                    same = [
                        (a.get_weights()[0] == b.get_weights()[0]).all() for a, b in zip(models, alone, strict=True)
                    ]
                    code = 0 if all(same) else 2
                finally:
                    os._exit(code)
            status.append(os.waitpid(child, 0)[1])

    fnn.train_many(several(2), X, Y, callbacks=lambda index: Fork(), n_threads=2, **OPTIONS | {"epochs": 1})
    assert status == [0, 0]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_one_bar_counts_models_and_leaves_a_line(stream):
    shown = stream()
    with contextlib.redirect_stderr(shown):
        pauses = [Spy(pause=0.02) for _ in range(5)]
        options = OPTIONS | {"verbose": 1}
        histories = fnn.train_many(several(), X, Y, callbacks=pauses.__getitem__, n_threads=2, **options)
    mean = np.mean([history.history["loss"][-1] for history in histories])
    drawn = [part.strip() for part in shown.getvalue().replace("\n", "\r").split("\r") if part.strip()]
    assert drawn[-1].startswith("5 models: ") and drawn[-1].endswith(f"s mean loss={mean:.4g}")
    assert shown.getvalue().endswith("\n")
    if stream is Terminal:
        assert any("/5 models |" in part for part in drawn)
    else:
        assert len(drawn) == 1


def test_a_failed_call_says_how_far_it_came():
    shown = Terminal()
    with contextlib.redirect_stderr(shown), pytest.raises(ValueError, match="stop"):
        fnn.train_many(
            several(3), X, Y, callbacks=lambda index: Spy(ValueError("stop") if index == 1 else None), n_threads=1,
            **OPTIONS | {"verbose": 1},
        )  # fmt: skip
    assert "1 of 3 models: " in shown.getvalue()


def test_a_bar_that_was_never_drawn_ends_at_its_total(monkeypatch):
    ended = []

    class Bar(progress.bar_class()):
        def close(self):
            ended.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(progress, "bar_class", lambda: Bar)
    with contextlib.redirect_stderr(io.StringIO()):
        fnn.train_many(several(3), X, Y, **OPTIONS | {"verbose": 1})
    # a notebook shows one that ends before in red
    assert ended[0] == (3, 3)
