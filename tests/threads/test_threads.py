"""The thread team: the same bits on any number of threads, whatever happens to threads and processes meanwhile."""

import faulthandler
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import fastnn as fnn
from fastnn import linalg, threads
from fastnn.backend.cpu.layouts import team
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from workers import until_workers_sleep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 70))
Y = RNG.integers(0, 5, 150)
HAS_FORK = hasattr(os, "fork")
forks = [
    pytest.mark.skipif(not HAS_FORK, reason="the platform has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
# the same for a separate process: everything is cut, and workers are woken for it
CUT = (
    "from fastnn.backend.cpu.processor import cost\nfrom fastnn.backend.cpu.threads import thread_pool\n"
    "cost.PART_NANOSECONDS, thread_pool.WAKE_NANOSECONDS = 1e-6, 0.0\n"
    "from fastnn.backend.cpu.executor import sharing\nsharing.MOST_NANOSECONDS = 0.0\n"
)


@pytest.fixture(autouse=True)
def small_work_is_cut(monkeypatch):
    monkeypatch.setattr(cost, "PART_NANOSECONDS", 1e-6)
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 0.0)
    monkeypatch.setattr(threads, "_chosen", None)
    linalg._bound.cache_clear()
    yield
    linalg._bound.cache_clear()


def make(dtype="float32", seed=1) -> fnn.Sequential:
    layers = [
        fnn.Dense(66, "gelu"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.GaussianNoise(0.1),
        fnn.Dense(130, "relu", kernel_regularizer=fnn.L1L2(0.001, 0.001)), fnn.LayerNorm(), fnn.Dense(5, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential([fnn.Input(70), *layers], seed=seed, dtype=dtype)
    model.compile(fnn.Adam(0.01, clipnorm=1.0), "cross_entropy", metrics=["accuracy"])
    return model


def trained(n: int, dtype="float32", epochs=2, seed=1) -> list[np.ndarray]:
    """Train a model on some threads; its weights, losses and predictions."""
    fnn.set_num_threads(n)
    model = make(dtype, seed)
    history = model.fit(X, Y, batch_size=37, epochs=epochs, validation_split=0.2, verbose=0)
    return [*model.get_weights(), *(np.array(values) for values in history.history.values()), model.predict(X)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def claimed() -> int:
    return sum(thread_pool.statistics()["claimed"])


def until_workers_claim(act) -> None:
    """Repeat something until workers have taken part: on a busy machine the master may do all of it."""
    deadline = time.monotonic() + 60
    fnn.set_num_threads(1)
    before = claimed()
    while claimed() <= before:
        assert time.monotonic() < deadline, "no worker has claimed anything"
        act()


def run_apart(code: str, seconds: float = 120.0) -> str:
    """Run code in a separate process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CUT + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return done.stdout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_gives_the_same_bits_on_any_number_of_threads(dtype):
    expected = trained(1, dtype)
    for n in (2, 3, 5):
        until_workers_claim(lambda n=n: assert_same(trained(n, dtype), expected))
        assert thread_pool.statistics()["threads"] == n


def test_a_matrix_product_gives_the_same_bits_on_any_number_of_threads():
    a, b = RNG.normal(size=(67, 45)).astype(np.float32), RNG.normal(size=(45, 131)).astype(np.float32)
    expected = fnn.matmul(a, b, n_threads=1, activation="tanh")
    np.testing.assert_allclose(expected, np.tanh(a @ b), rtol=1e-3, atol=1e-5)

    def multiply():
        for n in (2, 3, 5, 2):
            np.testing.assert_array_equal(fnn.matmul(a, b, n_threads=n, activation="tanh"), expected)

    until_workers_claim(multiply)


def test_workers_that_sleep_are_woken():
    expected = trained(2)
    until_workers_sleep()
    before = thread_pool.statistics()["wakes"]
    assert_same(trained(2), expected)
    assert thread_pool.statistics()["wakes"] > before


def test_small_work_does_not_wake_workers_unless_it_comes_closely(monkeypatch):
    monkeypatch.setattr(thread_pool, "WAKE_NANOSECONDS", 1e8)
    a = np.ones((128, 128), np.float32)
    fnn.set_num_threads(2)
    trained(2)
    fnn.matmul(a, a, n_threads=2)  # compiles, which may take longer than the calls below may be apart
    until_workers_sleep()
    time.sleep(0.2)
    before = thread_pool.statistics()["phases"]
    fnn.matmul(a, a, n_threads=2)
    assert thread_pool.statistics()["phases"] == before
    fnn.matmul(a, a, n_threads=2)
    assert thread_pool.statistics()["phases"] > before


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="threads cannot be bound here, or there is one processor",
)
def test_workers_keep_off_the_processor_of_the_thread_that_runs():
    a, allowed = np.ones((200, 200), np.float32), os.sched_getaffinity(0)
    for processor in (min(allowed), max(allowed), max(allowed)):  # the last time with a new worker
        fnn.set_num_threads(1)
        trained(2)
        (worker,) = thread_pool._team._workers.values()
        os.sched_setaffinity(0, {processor})  # so that this thread does not move
        try:
            for _ in range(3):
                fnn.matmul(a, a, n_threads=2)
        finally:
            os.sched_setaffinity(0, allowed)
        assert thread_pool._team.placed.value == processor
        assert os.sched_getaffinity(worker.native_id) == allowed - {processor}
    # a user binds the worker: it stays within what he allows
    os.sched_setaffinity(worker.native_id, {processor})
    try:
        thread_pool._team.place()
        assert os.sched_getaffinity(worker.native_id) == {processor}
    finally:
        os.sched_setaffinity(worker.native_id, allowed)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound here")
def test_workers_of_a_large_team_are_bound_to_no_processor(monkeypatch):
    trained(2)
    a = np.ones((200, 200), np.float32)
    for _ in range(3):
        fnn.matmul(a, a, n_threads=2)
    many = team.MOST_PLACED + 1
    fnn.matmul(a, a, n_threads=many)
    thread_pool._team.place()
    assert all(
        os.sched_getaffinity(one.native_id) == os.sched_getaffinity(0) for one in thread_pool._team._workers.values()
    )
    # each move of the master comes by here
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: pytest.fail("the system was asked"))
    thread_pool._team.place()


@pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="no threads can be bound, or one processor"
)
def test_a_worker_whose_processor_is_taken_finishes_on_the_masters():
    allowed = os.sched_getaffinity(0)
    here, there = sorted(allowed)[:2]
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 900, 900)).astype(np.float32)
    expected = fnn.matmul(a, b, n_threads=1)
    spin = f"import os; os.sched_setaffinity(0, {{{there}}}); print(flush=True)\nwhile True: pass"
    os.sched_setaffinity(0, {here, there})
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as other:
        try:
            other.stdout.readline()
            fnn.set_num_threads(1)
            fnn.set_num_threads(2)
            lent, deadline = thread_pool.statistics()["lent"], time.monotonic() + 60
            while thread_pool.statistics()["lent"] == lent:
                assert time.monotonic() < deadline, "the master has not lent its processor"
                np.testing.assert_array_equal(fnn.matmul(a, b, n_threads=2), expected)
            (worker,) = thread_pool._team._workers.values()
            kept = {here, there} - {thread_pool._team.placed.value}
            assert os.sched_getaffinity(worker.native_id) == kept  # it was taken back
        finally:
            other.kill()
            os.sched_setaffinity(0, allowed)
            fnn.set_num_threads(1)


def test_the_number_of_threads_may_change_between_runs():
    expected = trained(1)
    for n in (2, 4, 1, 3, 2, 5, 1):
        assert_same(trained(n), expected)
        alive = {thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn-")}
        assert alive == {f"fastnn-{index}" for index in range(1, n)}


def test_the_first_bad_row_is_named():
    fnn.set_num_threads(3)
    for rows in ((140, 3, 77), (77,), (149, 75, 150 - 76)):
        x = X.copy()
        x[list(rows), -1] = np.nan
        with pytest.raises(ValueError, match=f"row {min(rows)} of the data"):
            make().fit(x, Y, batch_size=150, epochs=1, shuffle=False, verbose=0)
    until_workers_claim(lambda: trained(3))


def test_several_python_threads_train_at_once():
    expected = {seed: trained(1, seed=seed) for seed in range(4)}
    found: dict[int, list[np.ndarray]] = {}
    fnn.set_num_threads(2)
    workers = [threading.Thread(target=lambda seed=seed: found.update({seed: train(seed)})) for seed in expected]

    def train(seed):
        model = make(seed=seed)
        history = model.fit(X, Y, batch_size=37, epochs=2, validation_split=0.2, verbose=0)
        return [*model.get_weights(), *(np.array(values) for values in history.history.values()), model.predict(X)]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    for seed, value in expected.items():
        assert_same(found[seed], value)


def test_a_thread_that_cannot_be_started_is_done_without(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    expected = trained(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(RuntimeWarning, match="fastnn runs on 1 instead of 2 threads: can't start new thread"):
        assert_same(trained(2), expected)
    assert_same(trained(2), expected)
    monkeypatch.undo()
    fnn.set_num_threads(1)  # forgets the failure


def test_nothing_is_started_before_there_is_work():
    out = run_apart(
        """
        import threading
        import numpy as np
        import fastnn as fnn
        cost.PART_NANOSECONDS, thread_pool.WAKE_NANOSECONDS = 2500.0, 100_000.0
        fnn.set_num_threads(2)
        model = fnn.Sequential([fnn.Input(4), fnn.Dense(8, "relu"), fnn.Dense(1)], seed=0)
        model.compile("adam", "mse")
        model.fit(np.ones((100, 4)), np.ones((100, 1)), epochs=2, verbose=0)
        print(threading.active_count(), thread_pool.statistics()["threads"])
        a = np.ones((700, 700), np.float32)
        fnn.matmul(a, a)
        print(threading.active_count(), thread_pool.statistics()["threads"])
        """
    )
    assert out.split() == ["1", "1", "2", "2"]


TRAIN = """
import faulthandler, os, signal, sys, threading, time
import numpy as np
import fastnn as fnn
faulthandler.dump_traceback_later(100, exit=True)
x, y = np.random.default_rng(0).normal(size=(512, 70)), np.random.default_rng(1).integers(0, 5, 512)
def make():
    model = fnn.Sequential([fnn.Input(70), fnn.Dense(130, "relu"), fnn.Dropout(0.2), fnn.Dense(5, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    return model
def train(epochs=3):
    model = make()
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return np.concatenate([weights.ravel() for weights in model.get_weights()])
fnn.set_num_threads(1)
expected = train()
fnn.set_num_threads(2)
"""


@pytest.mark.skipif(not HAS_FORK, reason="the platform has no fork")
def test_a_fork_in_the_middle_of_a_training_leaves_both_processes_healthy():
    run_apart(
        TRAIN
        + """
stop, wrong = threading.Event(), []
def loop():
    while not stop.is_set():
        if not np.array_equal(train(), expected):
            wrong.append(1)
thread = threading.Thread(target=loop)
thread.start()
while sum(thread_pool.statistics()["claimed"]) == 0:
    time.sleep(0.001)
for _ in range(20):
    child = os.fork()
    if child == 0:
        good = thread_pool.statistics()["phases"] == 0 and np.array_equal(train(), expected)
        deadline = time.monotonic() + 30
        while sum(thread_pool.statistics()["claimed"]) == 0 and time.monotonic() < deadline:
            good &= np.array_equal(train(), expected)
        os._exit(0 if good and sum(thread_pool.statistics()["claimed"]) > 0 else 3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
stop.set()
thread.join()
assert not wrong
assert np.array_equal(train(), expected)
"""
    )


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "signal.raise_signal(signal.SIGINT)"])
def test_a_process_ends_while_a_daemon_thread_trains(end):
    ended = "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    for _ in range(3):
        run_apart(
            TRAIN
            + """
def forever():
    while True:
        train(epochs=50)
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
while sum(thread_pool.statistics()["claimed"]) == 0:
    time.sleep(0.001)
time.sleep(0.05)
"""
            + (ended if "SIGINT" in end else end),
            seconds=60,
        )


@pytest.mark.skipif(sys.platform == "win32", reason="timers that send signals are POSIX")
def test_an_interrupt_in_the_middle_of_a_run_gives_the_team_back():
    run_apart(
        TRAIN
        + """
for seconds in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05) * 5:
    model, interrupted = make(), False
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        model.fit(x, y, batch_size=64, epochs=100_000, verbose=0)
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    before, deadline = sum(thread_pool.statistics()["claimed"]), time.monotonic() + 30
    while sum(thread_pool.statistics()["claimed"]) == before and time.monotonic() < deadline:
        assert np.array_equal(train(), expected)
    assert sum(thread_pool.statistics()["claimed"]) > before
"""
    )


def test_numbas_threads_and_ours_get_along():
    # only one thread uses Numba's: its workqueue layer ends the process when two do
    run_apart(
        TRAIN
        + """
import numba
@numba.njit(parallel=True)
def total(values):
    result = 0.0
    for i in numba.prange(len(values)):
        result += values[i]
    return result
values = np.arange(100_000.0)
assert total(values) == values.sum()
for _ in range(10):  # in turn
    assert total(values) == values.sum()
    assert np.array_equal(train(), expected)
stop, sums = threading.Event(), []
def loop():
    while not stop.is_set():
        sums.append(total(values))
thread = threading.Thread(target=loop)
thread.start()
deadline = time.monotonic() + 30
before = sum(thread_pool.statistics()["claimed"])
for _ in range(10):  # at the same time
    assert np.array_equal(train(), expected)
while (len(sums) < 10 or sum(thread_pool.statistics()["claimed"]) == before) and time.monotonic() < deadline:
    assert np.array_equal(train(), expected)
stop.set()
thread.join()
assert len(sums) >= 10 and set(sums) == {values.sum()}
assert sum(thread_pool.statistics()["claimed"]) > before
"""
    )


@pytest.mark.slow
@pytest.mark.skipif(not HAS_FORK, reason="the platform has no fork")
@pytest.mark.parametrize("n", [2, 3])
def test_soak(n):
    """8 threads train while others fork and predict; a watchdog ends hanging processes."""
    out = run_apart(
        TRAIN
        + f"""
fnn.set_num_threads({n})
faulthandler.cancel_dump_traceback_later()
faulthandler.dump_traceback_later(150, exit=True)
stop, wrong, counts = threading.Event(), [], dict(trained=0, predicted=0, forked=0)
shared = make()
shared.fit(x, y, epochs=1, verbose=0)
answers = shared.predict(x)
def guard(act, name):
    def loop():
        try:
            while not stop.is_set():
                if not act():
                    wrong.append(name)
                counts[name] += 1
        except BaseException as error:
            wrong.append(repr(error))
            raise
    return loop
def fork():
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.array_equal(train(), expected) and np.array_equal(make().predict(x), fresh) else 3)
        finally:
            os._exit(4)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
fresh = make().predict(x)
acts = [(lambda: np.array_equal(train(), expected), "trained")] * 8
acts += [(lambda: np.array_equal(shared.predict(x), answers), "predicted")] * 2 + [(fork, "forked")] * 2
workers = [threading.Thread(target=guard(*act)) for act in acts]
for worker in workers:
    worker.start()
time.sleep(45)
stop.set()
for worker in workers:
    worker.join()
assert not wrong, wrong
assert min(counts.values()) > 5, counts
assert sum(thread_pool.statistics()["claimed"]) > 0
print(counts, thread_pool.statistics())
""",
        seconds=200,
    )
    print(out)


faulthandler.enable()
