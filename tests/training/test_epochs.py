"""Cheap epochs of small networks: one call per epoch, shared programs, and turns for the GIL."""

import concurrent.futures
import gc
import os
import threading
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.executor.epoch import shuffled
from fastnn.backend.cpu.loading import entry_point
from fastnn.backend.cpu.loading.entry_point import taking_turns
from fastnn.runtime import chunking, runtime
from fastnn.runtime.chunking import Pacer
from fastnn.runtime.programs import cache
from fastnn.seeding import derive, key
from fastnn.training import epochs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(53, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def make(*layers, optimizer="adam", loss="cross_entropy", metrics=None, seed=0, dtype="float32", **options):
    layers = layers or (fnn.Dense(6, "relu"),)
    model = fnn.Sequential([fnn.Input(4), *layers, fnn.Dense(3, "softmax")], seed=seed, dtype=dtype)
    model.compile(optimizer, loss, metrics=metrics, **options)
    return model


# --- one call per epoch----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 53, 64, 65, 1000, 100_003])
def test_rows_are_shuffled_as_numpy_does_it(n):
    for epoch in range(5):
        expected = derive(7, "shuffle", epoch).permutation(n)
        np.testing.assert_array_equal(shuffled(key(7, "shuffle", epoch), n), expected)


@pytest.mark.parametrize("bits", [bytes(32), b"\1" + bytes(31), bytes(15) + b"\1" + bytes(16), b"\xff" * 32])
def test_keys_with_zeros_seed_as_numpys_do(bits):
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(bits, "little")))
    np.testing.assert_array_equal(shuffled(bits, 300), generator.permutation(300))


class EveryBatch(fnn.Callback):
    every_batch = True


@pytest.fixture
def whole_epochs(monkeypatch):
    """Count the epochs that one call trains, independent of the clock."""
    counted = []
    original = epochs.Bindings

    def counting(addresses, index=None, *rest):
        counted.append(None if index is None else len(index))
        return original(addresses, index, *rest)

    monkeypatch.setattr(epochs, "Bindings", counting)
    monkeypatch.setattr(Pacer, "steps", lambda self, most: most)
    return counted


@pytest.mark.parametrize("batch", [8, 53, 100, 1])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_in_one_call_is_that_of_single_batches(whole_epochs, batch, shuffle):
    # batch normalisation warns of batches of one row
    norm = fnn.BatchNorm if batch > 1 else fnn.LayerNorm
    models = [make(fnn.Dense(6, "relu"), norm(), fnn.Dropout(0.3), metrics=["accuracy"]) for _ in range(2)]
    histories = []
    for model, callbacks in zip(models, ([], [EveryBatch()]), strict=True):
        whole_epochs.clear()
        histories.append(model.fit(X, Y, batch_size=batch, epochs=4, shuffle=shuffle, callbacks=callbacks, verbose=0))
        calls = 4 if not callbacks else 4 * -(-53 // batch)
        assert len(whole_epochs) == calls
    assert histories[0].history == histories[1].history
    assert models[0].step == models[1].step
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("row", [5, 52])
def test_a_row_that_is_not_finite_ends_an_epoch_before_its_step(whole_epochs, row):
    bad = X.copy()
    bad[row, 2] = np.nan
    model, other = make(), make()
    with pytest.raises(ValueError, match=f"row {row} of the data holds NaN"):
        model.fit(bad, Y, batch_size=8, shuffle=False, verbose=0)
    steps = row // 8
    assert model.step == steps
    if steps:
        other.fit(X[: 8 * steps], Y[: 8 * steps], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], other.get_weights()[0])


def in_a_thread(function):
    """Call a function in a new thread, where no Ctrl-C arrives; returns or raises what it does."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.fixture
def laps(monkeypatch):
    """Count the epochs of every call that trains whole ones, with as many as possible per call."""
    counted = []
    original = runtime.Runtime.run_epochs

    def counting(self, parts, work, laps):
        counted.append(len(laps))
        return original(self, parts, work, laps)

    monkeypatch.setattr(runtime.Runtime, "run_epochs", counting)
    monkeypatch.setattr(Pacer, "steps", lambda self, most: most)
    return counted


@pytest.mark.parametrize("shuffle", [True, False])
def test_epochs_in_one_call_are_those_of_single_ones(laps, shuffle):
    # a penalty is divided by the rows that are done
    first = {"activation": "relu", "kernel_regularizer": fnn.L2(0.01)}
    models = [make(fnn.Dense(6, **first), fnn.Dropout(0.3), metrics=["accuracy"]) for _ in range(2)]
    options = {"batch_size": 8, "epochs": 21, "shuffle": shuffle, "verbose": 0}
    expected = models[0].fit(X, Y, **options)
    assert laps == [1] * 21
    laps.clear()
    found = in_a_thread(lambda: models[1].fit(X, Y, **options))
    assert laps == [16, 5]
    assert found.history == expected.history and found.epoch == expected.epoch
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    # counters and totals stand where they would: both go on alike
    for model in models:
        model.fit(X, Y, **options | {"epochs": 23, "initial_epoch": 21})
    np.testing.assert_array_equal(models[0].get_weights()[0], models[1].get_weights()[0])


@pytest.mark.parametrize(
    "options",
    [{"callbacks": [fnn.Callback()]}, {"validation_split": 0.2}, {"verbose": 2}, {"verbose": 1}],
    ids=["callback", "validation", "lines", "bars"],
)
def test_where_someone_sees_epochs_they_come_one_by_one(laps, options, capsys):
    in_a_thread(lambda: make().fit(X, Y, epochs=4, **{"verbose": 0} | options))
    assert laps == [1] * 4


def watch(model, steps, act):
    """Act from another thread as soon as a model has taken a number of steps."""

    def wait():
        while model.step < steps:
            time.sleep(0)
        act()

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    return watcher


def test_data_that_change_for_the_worse_between_epochs_in_one_call(laps):
    x, y = np.tile(X, (400, 1)), np.tile(Y, 400)
    n_steps, options = -(-len(x) // 8), {"batch_size": 8, "epochs": 12, "verbose": 0}
    straight, model = make(), make()
    expected = straight.fit(x, y, **options)
    laps.clear()
    good = float(x[1000, 1])
    watch(model, 2 * n_steps + 5, lambda: x.__setitem__((1000, 1), np.nan))
    with pytest.raises(ValueError, match="row 1000 of the data holds NaN"):
        in_a_thread(lambda: model.fit(x, y, **options))
    done = len(model.history.epoch)
    assert laps == [12] and 2 <= done < 12
    assert model.history.history["loss"] == expected.history["loss"][:done]
    assert done * n_steps <= model.step < (done + 1) * n_steps
    x[1000, 1] = good
    assert model.fit(x, y, resume=True, **options).history == expected.history
    np.testing.assert_array_equal(model.get_weights()[0], straight.get_weights()[0])


def test_a_training_that_is_told_to_stop_records_all_that_is_trained(laps):
    x, y = np.tile(X, (400, 1)), np.tile(Y, 400)
    n_steps, model = -(-len(x) // 8), make()
    watch(model, 2 * n_steps + 5, lambda: setattr(model, "stop_training", True))
    history = in_a_thread(lambda: model.fit(x, y, batch_size=8, epochs=40, verbose=0))
    assert laps == [16]
    assert len(history.epoch) == 16 and model.step == 16 * n_steps


def test_a_short_call_does_not_slow_the_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(chunking.time, "perf_counter", lambda: now[0])
    pacer = Pacer()
    for steps in (1, 16, 256):
        assert pacer.steps(10**9) == steps
        with pacer.timing(steps):
            now[0] += 1e-6 * steps
    for steps in (1, 500):
        with pacer.timing(steps):
            now[0] += 1e-6 * steps
        assert pacer.steps(10**9) >= 4096
    with pacer.timing(1):
        now[0] += 0.01
    assert pacer.steps(10**9) == 5


# --- shared programs ------------------------------------------------------------------------------------------


def programs(model):
    model.fit(X, Y, batch_size=8, verbose=0)
    return {id(bound) for bound in model._runtime._programs.values()}


def test_equal_models_share_programs_as_long_as_one_has_them():
    cache._recent.clear()
    gc.collect()
    before = len(cache._programs)
    # what decides where training starts, and how fast it goes, is not in a program
    models = [make(seed=seed, optimizer=fnn.Adam(10.0**-seed)) for seed in (1, 2)]
    assert programs(models[0]) == programs(models[1])
    assert len(cache._programs) == before + 2
    models.clear()
    gc.collect()
    # the latest stay for the next model
    assert len(cache._programs) == before + 2
    assert programs(make(seed=3)) == {id(bound) for bound in cache._recent}
    cache._recent.clear()
    gc.collect()
    assert len(cache._programs) == before


class Own(fnn.Dense):
    """A user-defined layer, whose behaviour may depend on anything."""


OTHERS = {
    "width": lambda: make(fnn.Dense(7, "relu")),
    "activation": lambda: make(fnn.Dense(6, fnn.activations.LeakyReLU(0.1))),
    "slope": lambda: make(fnn.Dense(6, fnn.activations.LeakyReLU(0.2))),
    "penalty": lambda: make(fnn.Dense(6, "relu", kernel_regularizer=fnn.L2(0.1))),
    "norm": lambda: make(fnn.Dense(6, "relu", kernel_constraint=fnn.MaxNorm(1.0))),
    "dropout": lambda: make(fnn.Dense(6, "relu"), fnn.Dropout(0.1)),
    "more dropout": lambda: make(fnn.Dense(6, "relu"), fnn.Dropout(0.2)),
    "frozen": lambda: make(fnn.Dense(6, "relu", trainable=False)),
    "dtype": lambda: make(dtype="float64"),
    "loss": lambda: make(loss=fnn.CrossEntropy(label_smoothing=0.1)),
    "loss weight": lambda: make(loss_weights=2.0),
    "metric": lambda: make(metrics=["accuracy"]),
    "top 2": lambda: make(metrics=[fnn.metrics.TopKAccuracy(2)]),
    "formula": lambda: make(optimizer="sgd"),
    "slots": lambda: make(optimizer=fnn.Adam(amsgrad=True)),
    "clipping": lambda: make(optimizer=fnn.Adam(clipnorm=0.1)),
    "harder clipping": lambda: make(optimizer=fnn.Adam(clipnorm=0.01)),
    "name": lambda: make(fnn.Dense(6, "relu", name="first")),
    "own": lambda: make(Own(6, "relu")),
    "own again": lambda: make(Own(6, "relu")),
}


def test_models_that_differ_share_nothing():
    kept = [make(), *(build() for build in OTHERS.values())]
    seen: dict[int, int] = {}
    for number, model in enumerate(kept):
        for program in programs(model):
            assert program not in seen, ("plain", *OTHERS)[seen[program]] + " and " + ("plain", *OTHERS)[number]
            seen[program] = number


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_shares_trains_as_one_that_does_not(name, monkeypatch):
    first, second = OTHERS[name](), OTHERS[name]()
    programs(first), programs(second)
    monkeypatch.setattr("fastnn.runtime.model_programs.signature", lambda *rest: None)
    alone = OTHERS[name]()
    programs(alone)
    for one, other in zip(second.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_compiling_anew_leaves_the_shared_program():
    first, second = make(), make()
    shared = programs(first)
    assert programs(second) == shared
    second.compile("sgd", "cross_entropy")
    assert not programs(second) & shared
    assert programs(first) == shared


# --- turns ----------------------------------------------------------------------------------------------------


def looks():
    return int(entry_point._turn[entry_point._LOOKS])


def owner():
    return int(entry_point._turn[entry_point._OWNER])


def test_turns_are_taken_only_while_someone_wants_them():
    assert looks() == 0
    with taking_turns():
        with taking_turns():
            assert looks() == entry_point.LOOKS
        assert looks() == entry_point.LOOKS
        shuffled(bytes(32), 10)
        # back in Python: the turn is this thread's
        mine = owner()
        assert mine != 0
        shuffled(bytes(32), 10)
        assert owner() == mine
    assert looks() == 0
    entry_point._turn[entry_point._OWNER] = 0
    shuffled(bytes(32), 10)
    assert owner() == 0


def test_the_turn_is_given_back_on_the_way_into_compiled_code():
    seen, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            seen.add(owner())

    with taking_turns():
        shuffled(bytes(32), 10)
        assert owner() != 0
        watching = threading.Thread(target=watch)
        watching.start()
        # 3 million rows take some 0.1 s without the GIL; on a busy machine the watching thread may miss that often
        for _ in range(50):
            shuffled(bytes(32), 3_000_000)
            if 0 in seen:
                break
        done.set()
        watching.join()
    assert 0 in seen


def test_an_owner_that_is_gone_is_waited_for_once(monkeypatch):
    monkeypatch.setattr(entry_point, "LOOKS", 10_000)
    with taking_turns():
        entry_point._turn[entry_point._OWNER] = 12345
        shuffled(bytes(32), 10)
        assert owner() not in (0, 12345)
    entry_point._turn[entry_point._OWNER] = 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_takes_no_turns():
    with taking_turns():
        child = os.fork()
        if child == 0:
            os._exit(looks() != 0 or entry_point._takers != 0)
        assert os.waitpid(child, 0)[1] == 0
