"""Calls in the middle of other calls on one thread: signal handlers, and finalizers that the garbage collector runs."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
PAIRS = HERE / "support" / "interrupted.py"


def run(*arguments: str, seconds: float = 120.0) -> str:
    """Run Python in a separate process, which may crash or hang without affecting the tests."""
    command = [sys.executable, "-X", "faulthandler", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-200:], done.stderr[-2000:])
    return done.stdout


@pytest.mark.parametrize(("kind", "every"), [("reads", 37), ("writes", 23)])
def test_calls_in_the_middle_of_calls_change_no_bit_or_are_refused(kind, every):
    made = int(run(str(PAIRS), kind, "turns", str(every), "the model").split()[-1])
    assert made > 500


@pytest.mark.parametrize("used", ["a part", "the whole"])
@pytest.mark.parametrize(("kind", "every"), [("reads", 97), ("writes", 53)])
def test_so_are_calls_of_models_that_share_weights(kind, every, used):
    made = int(run(str(PAIRS), kind, "turns", str(every), used).split()[-1])
    assert made > 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_all_pairs_of_calls(kind):
    assert int(run(str(PAIRS), kind, "pairs", "41", "the model", seconds=1800.0).split()[-1]) > 5000


START = """
import gc, os, signal, sys, time
import numpy as np, fastnn as fnn
def make(width=40):
    model = fnn.Sequential([fnn.Input(300), fnn.Dense(width), fnn.Dense(3, activation="softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    return model
X, Y = np.ones((900, 300), np.float32), np.zeros(900, int)
model, calls = make(), 0
want = model.evaluate(X, Y)
end = time.time() + 1.0
"""

# an object whose finalizer predicts, and makes the next one
CYCLIC = """
class Cyclic:
    def __init__(self):
        self.me = self
    def __del__(self):
        global calls
        calls += 1
        gc.disable()
        model.predict(X[:50].copy(), batch_size=10)
        Cyclic()
        gc.enable()
Cyclic()
"""

HANDLED = {
    "the same model predicts": "model.predict(X)",
    "a larger model predicts": "larger.predict(X)",
    "another model is trained": "larger.fit(X[:20], Y[:20], verbose=0)",
}


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="the system has no timer that signals")
@pytest.mark.parametrize("act", HANDLED.values(), ids=HANDLED)
def test_a_signal_handler_may_run_models_while_one_runs(act):
    code = f"""
        {textwrap.indent(START, "        ").strip()}
        larger = make(400)
        larger.fit(X[:20], Y[:20], verbose=0)
        def handler(*arguments):
            global calls
            {act}
            calls += 1
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
        signal.signal(signal.SIGALRM, handler)
        handler()
        while time.time() < end:
            assert model.evaluate(X, Y) == want
            other = make()
            other.fit(X[:20], Y[:20], verbose=0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(calls)
    """
    assert int(run("-c", textwrap.dedent(code), seconds=60.0)) > 10


def test_a_finalizer_may_run_models_while_one_runs():
    code = f"""
        {textwrap.indent(START, "        ").strip()}
        {textwrap.indent(CYCLIC, "        ").strip()}
        for threshold in range(100000):
            gc.set_threshold(1 + threshold % 50, 5, 5)
            assert model.evaluate(X, Y) == want
            if time.time() > end:
                break
        Cyclic.__del__ = lambda self: None
        print(calls)
    """
    assert int(run("-c", textwrap.dedent(code), seconds=60.0)) > 10


def test_a_finalizer_may_run_models_while_the_threads_of_a_team_start():
    """The thread that starts them holds the model's lock, for which a finalizer in a new thread would wait."""
    code = f"""
        {textwrap.indent(START, "        ").strip()}
        {textwrap.indent(CYCLIC, "        ").strip()}
        for turn in range(300):
            fnn.set_num_threads(1)
            fnn.set_num_threads(2)
            gc.set_threshold(1 + turn % 7, 5, 5)
            assert model.evaluate(X, Y, batch_size=450) == want
            if time.time() > end + 5.0:
                break
        Cyclic.__del__ = lambda self: None
    """
    run("-c", textwrap.dedent(code), seconds=60.0)


def test_the_number_of_threads_may_be_set_while_models_are_made_and_run():
    code = f"""
        {textwrap.indent(START, "        ").strip()}
        import threading
        failed = []
        def loop(act):
            try:
                while time.time() < end:
                    act()
            except Exception as error:
                failed.append(error)
        acts = [make, make, lambda: model.predict(X[:3]), lambda: fnn.matmul(X, X.T)]
        acts += [lambda: [fnn.set_num_threads(n) for n in (1, 2, 3)]]
        threads = [threading.Thread(target=loop, args=(act,)) for act in acts]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not failed, failed
        assert model.evaluate(X, Y) == want
    """
    run("-c", textwrap.dedent(code), seconds=60.0)


def test_a_signal_handler_may_wait_for_kernels_where_another_wait_ends():
    """The time of waits is added up under a lock, which the interrupted call may hold."""
    code = """
        import sys
        from fastnn import console
        def handler(*arguments):
            sys.setprofile(None)
            with console.waiting():
                pass
            sys.setprofile(handler)
        sys.setprofile(handler)
        for _ in range(3):
            with console.waiting():
                pass
        sys.setprofile(None)
    """
    run("-c", textwrap.dedent(code), seconds=20.0)
