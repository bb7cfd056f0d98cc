"""Whether threads share a short program: decided by the times of its runs, and looked at again."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.executor import sharing
from fastnn.backend.cpu.threads import thread_pool
from fastnn.threads import limited


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it."""
    now = [100.0]
    monkeypatch.setattr(sharing.time, "perf_counter", lambda: now[0])
    return now


def measured(one, clock, seconds, *, threads=2, awake=lambda: True, runs=100):
    """Make runs that take some time alone and together; returns which of them were shared."""
    shared = []
    for _ in range(runs):
        alone = one.alone(threads)
        shared.append(not alone)
        took = seconds[0 if alone or not awake() else 1]
        clock[0] += took
        if alone or awake():
            one.note(took, 10, shared=not alone)
    return shared


@pytest.mark.parametrize(("seconds", "together"), [((0.001, 0.0006), True), ((0.001, 0.0014), False)])
def test_the_faster_way_is_taken_after_few_runs_of_each(clock, seconds, together):
    shared = measured(sharing.Sharing(), clock, seconds)
    assert shared[:6] == [True] * 6  # both are tried, for 2 ms at least
    assert not all(shared[6:16])
    assert set(shared[16:]) == {together}


def test_a_single_slow_run_decides_nothing(clock):
    one = sharing.Sharing()
    seconds = iter([0.05] + [0.0006] * 1000)
    assert one.alone(2) is False
    one.note(next(seconds), 10, shared=True)
    assert set(measured(one, clock, (0.001, 0.0006))[16:]) == {True}


def test_conditions_are_looked_at_again_and_less_and_less_often(clock):
    one = sharing.Sharing()
    assert measured(one, clock, (0.001, 0.0006))[-1] is True
    clock[0] += 1.1
    assert measured(one, clock, (0.001, 0.0014))[-1] is False  # other programs have come
    clock[0] += 1.1
    assert measured(one, clock, (0.001, 0.0006))[-1] is False
    clock[0] += 1.1
    assert measured(one, clock, (0.001, 0.0006))[-1] is True


def test_another_number_of_threads_is_measured_anew(clock):
    one = sharing.Sharing()
    assert measured(one, clock, (0.001, 0.0014))[-1] is False
    assert measured(one, clock, (0.001, 0.0004), threads=4)[-1] is True


def test_workers_that_do_not_wake_are_not_waited_for(clock):
    one = sharing.Sharing()
    shared = measured(one, clock, (0.001, 0.0006), awake=lambda: False, runs=200)
    assert shared[:40] == [True] * 40  # 50 ms
    assert set(shared[60:]) == {False}


@pytest.fixture
def measuring(monkeypatch):
    """Short programs measure, soon also where no worker comes, and once."""
    monkeypatch.setattr(sharing, "MOST_NANOSECONDS", 1e6)
    monkeypatch.setattr(sharing, "_PATIENCE", 0.005)
    monkeypatch.setattr(sharing, "_FIRST", 1e9)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)


@pytest.mark.usefixtures("measuring")
def test_a_training_measures_its_programs_and_keeps_its_bits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1280, 60)), rng.integers(0, 3, 1280)
    found = []
    for threads in (1, 2):
        with limited(threads):
            model = fnn.Sequential([fnn.Input(60), fnn.Dense(201, "tanh"), fnn.Dense(3, "softmax")], seed=0)
            model.compile("adam", "cross_entropy")
            model.fit(x, y, batch_size=128, epochs=100, verbose=0)
            found.append(model.get_weights())
    (bound,) = model._runtime._programs.values()
    assert bound.sharing.decided
    for mine, its in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.usefixtures("measuring")
def test_small_calls_measure_themselves_and_keep_their_bits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 64)).astype(np.float32), rng.integers(0, 3, 200)
    found = []
    try:
        for threads in (1, 2):
            fnn.set_num_threads(threads)
            model = fnn.Sequential([fnn.Input(64), fnn.Dense(203, "tanh"), fnn.Dense(3, "softmax")], seed=0)
            model.compile("adam", "cross_entropy")
            for _ in range(300):
                model.train_on_batch(x, y)
            predicted = [model.predict(x) for _ in range(1500)]
            assert all(np.array_equal(one, predicted[0]) for one in predicted)
            found.append([*model.get_weights(), predicted[0]])
        ((_, measured),) = model._prediction.together._measured.values()
    finally:
        fnn.set_num_threads(1)
    assert measured.decided
    for mine, its in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, its)
