"""Training steps by a model's code that a team of threads shares: the bits, errors and counters of one thread."""

import ctypes
import os
import signal
import sys
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cpu.frozen.estimate import records_of
from fastnn.backend.cpu.layouts.call import Share
from fastnn.backend.cpu.layouts.team import TeamWord
from fastnn.backend.cpu.processor import cost
from fastnn.backend.cpu.threads import thread_pool
from fastnn.program.layout import FLAGS_WORD, PARTS_SHIFT, Counter
from fastnn.program.record import op_of
from fastnn.runtime.calls.live_step import LiveStep

RNG = np.random.default_rng(12)
X, LABELS = RNG.normal(size=(200, 96)).astype(np.float32), RNG.integers(0, 10, 200)
SIZES = (200, 200, 1, 130, 2, 200)


@pytest.fixture(autouse=True)
def on_two_threads():
    threads = fnn.get_num_threads()
    fnn.set_num_threads(2)
    yield
    fnn.set_num_threads(threads)


def network(**options):
    layers = [
        fnn.Input(96), fnn.Dense(160, "gelu", kernel_regularizer=fnn.L2(0.01)), fnn.BatchNorm(), fnn.Dropout(0.2),
        fnn.Dense(96, "relu"), fnn.LayerNorm(), fnn.Dense(10, "softmax"),
    ]  # fmt: skip
    model = fnn.Sequential(layers, seed=3, **options)
    model.compile(fnn.Adam(0.01, clipnorm=0.5, use_ema=True), "cross_entropy", metrics=["accuracy", "auc"])
    return model


def steps(model, sizes=SIZES):
    """Take steps; returns the logs, and the bits of weights and optimizer state."""
    logs = [model.train_on_batch(X[:n], LABELS[:n]) for n in sizes]
    return logs, [w.tobytes() for w in model.get_weights()], model._runtime.optimizer_state.tobytes(), model.step


@pytest.mark.filterwarnings("ignore:.*one row:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_one_thread(dtype):
    fnn.set_num_threads(1)
    expected = steps(network(dtype=dtype))
    for threads in (2, 3, 4):
        fnn.set_num_threads(threads)
        model = network(dtype=dtype)
        assert steps(model, SIZES[:2])[0] == expected[0][:2]
        before, general = thread_pool.statistics()["phases"], model._runtime.general_steps
        logs, *rest = steps(model, SIZES[2:])
        assert (expected[0][:2] + logs, *rest) == expected
        assert thread_pool.statistics()["phases"] > before
        # one row is left to the general path, because it warns
        assert model._runtime.general_steps == general + 1 and isinstance(model._runtime.quick_step, LiveStep)


def test_small_steps_do_not_gather_the_team(monkeypatch):
    model = network()
    steps(model, (*SIZES[:2], 200))
    gathered = []
    monkeypatch.setattr(thread_pool, "gather", lambda threads, nanoseconds: gathered.append(nanoseconds) or 0)
    steps(model, (200, 2, 100))
    assert len(gathered) == 2 and gathered[0] > gathered[1] > 0
    small = fnn.Sequential([fnn.Input(96), fnn.Dense(10, "softmax")], seed=1)
    small.compile("sgd", "cross_entropy")
    steps(small, (3, 3, 3, 3))
    assert len(gathered) == 2 and small._runtime.general_steps == 2


def test_the_update_is_shared_beside_other_records():
    model = fnn.Sequential([fnn.Input(96), fnn.Dense(160, "relu"), fnn.Dense(10, "softmax")], seed=1)
    model.compile("adam", "cross_entropy")
    steps(model, (200,) * 3)
    bound = model._runtime.quick_step._bound

    def cut(rows):
        records = records_of(bound.code, rows)
        cost.cut(records, "float32")
        return {op_of(record).name for record in records if record[FLAGS_WORD] >> PARTS_SHIFT > 1}

    assert cut(4) == set() and cut(200) == {"matmul", "optimizer"}
    records = records_of(bound.code, 200)
    assert {op_of(records[row[Share.RECORD]]).name for row in bound.sharing(256).table} == {"matmul", "optimizer"}


def test_several_threads_train_at_once():
    fnn.set_num_threads(1)
    expected = steps(network(), (200, 130) * 10)
    fnn.set_num_threads(2)
    models, found = [network() for _ in range(3)], []
    workers = [threading.Thread(target=lambda one=one: found.append(steps(one, (200, 130) * 10))) for one in models]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 3


def square(x):
    if x > 1000.0:
        raise ValueError("too large")
    return x * x


def test_functions_that_raise_in_any_thread_end_the_step():
    model = fnn.Sequential(
        [fnn.Input(96), fnn.Dense(160, fnn.activations.Custom(square)), fnn.Dense(10, "softmax")], seed=3
    )
    model.compile("sgd", "cross_entropy")
    steps(model, (200,) * 3)
    before = steps(model, ())
    for row in (0, 60, 199):
        x = X.copy()
        x[row] = 1e6
        for _ in range(5):
            with pytest.raises(RuntimeError, match=r"the function 'square' \(test_team_steps\.py, line \d+\) raised"):
                model.train_on_batch(x, LABELS)
    assert steps(model, ())[1:3] == before[1:3] and model._runtime.general_steps == 2
    assert np.isfinite(model.train_on_batch(X, LABELS)["loss"])


def inside(model, act):
    """Take a step that does something each time that a function is entered or left; returns how often it did."""
    count = 0

    def look(frame, event, argument):
        nonlocal count
        if event in ("call", "return") and frame.f_code.co_filename.endswith(("team_call.py", "thread_pool.py")):
            count += 1
            sys.setprofile(None)
            act(count)
            sys.setprofile(look)

    sys.setprofile(look)
    try:
        steps(model, (200,))
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return count


def test_a_handler_may_predict_in_the_middle_of_a_step():
    fnn.set_num_threads(1)
    expected = steps(network(), (200,) * 5)
    fnn.set_num_threads(2)
    model = network()
    steps(model, (200,) * 3)
    model.predict(X), model.predict(X)
    assert inside(model, lambda count: model.predict(X)) > 3
    assert steps(model, (200,))[1:] == expected[1:]


def test_an_interrupt_leaves_the_step_undone_or_done():
    model, other = network(), network()
    steps(model, (200,) * 3), steps(other, (200,) * 3)
    for place in range(1, 9):
        before = model.step
        inside(model, lambda count, place=place: signal.raise_signal(signal.SIGINT) if count == place else None)
        if model.step > before:
            steps(other, (200,))
    assert steps(model, (200,)) == steps(other, (200,))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("call", ["train_on_batch", "predict"])
def test_a_child_of_a_fork_in_the_middle_of_a_call_has_no_team(call, monkeypatch):
    model, gather, parent, children = network(), thread_pool.gather, os.getpid(), []
    at_fork: list[int] = []
    steps(model, (200,) * 3)

    def act():
        return model.predict(X).tobytes() if call == "predict" else steps(model, (200,))

    for _ in range(3):
        act()

    phases = ctypes.c_int64.from_address(thread_pool.present.value + 8 * TeamWord.PHASES)

    def forking(threads, nanoseconds):
        found = gather(threads, nanoseconds)
        # on a busy machine workers sleep, and a short call goes on without them
        if found and os.getpid() == parent:
            children.append(os.fork())
            if children[-1] == 0:
                signal.alarm(20)
        at_fork.append(phases.value)
        return found

    monkeypatch.setattr(thread_pool, "gather", forking)
    reading, writing = os.pipe()
    for _ in range(500):
        at_fork.clear()
        found = repr(act()).encode()
        if os.getpid() != parent:
            os.write(writing, str(hash(found)).encode())
            os._exit(phases.value != at_fork[0])
        if children:
            break
    assert children and phases.value > at_fork[0]
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
    assert os.read(reading, 100).decode() == str(hash(found))
    assert model._runtime.training[Counter.STATUS] == 0
