"""Children of forks, made while other threads compile, import, train or hold locks; and damaged pickles."""

import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import locks
from fastnn import nopython as fnp
from fastnn.backend.cpu.layouts.team import LINE_BYTES
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.entry_point import _turn
from fastnn.backend.cpu.threads.thread_pool import Team
from fastnn.locks import ForkSafeLock

forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
START = "import os, signal, sys, threading, time, warnings\nwarnings.simplefilter('ignore')\n"


def run_apart(script: str, timeout: float = 120.0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(script)], env={**os.environ, **environment}, timeout=timeout,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_child(work) -> int:
    """Return the exit status of a child that runs a function, and is killed after a while."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            import signal

            signal.alarm(20)
            code = int(not work())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Held:
    """A lock that another thread holds."""

    def __init__(self, lock) -> None:
        self.taken, self.done = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                self.taken.set()
                self.done.wait(60)

        self.thread = threading.Thread(target=hold)
        self.thread.start()
        self.taken.wait(60)

    def release(self) -> None:
        self.done.set()
        self.thread.join()


@pytest.fixture
def brief(monkeypatch):
    """Make forks lose patience immediately."""
    monkeypatch.setattr(locks, "PATIENCE", 0.05)


for_forks = [*forks, pytest.mark.usefixtures("brief")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_forks_while_other_threads_make_models():
    """A child finds no lock of another thread: properties of the standard library had one, before Python 3.12."""
    run_apart("""
import fastnn as fnn
def make():
    model = fnn.Sequential([fnn.Input(70), fnn.Dense(130, "relu"), fnn.Dropout(0.2), fnn.Dense(5, "softmax")], seed=0)
    model.compile("adam", "cross_entropy")
    fnn.metrics.Accuracy()([0, 1], [0, 1])
make()
sys.setswitchinterval(1e-5)
stop = threading.Event()
def loop():
    while not stop.is_set():
        make()
threads = [threading.Thread(target=loop) for _ in range(6)]
for thread in threads:
    thread.start()
for _ in range(60):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        make()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
""")


class TestLocks:
    pytestmark = for_forks

    @pytest.mark.parametrize("held", [False, True])
    def test_a_lock_of_another_thread_is_free_in_the_child(self, held, monkeypatch):
        monkeypatch.setattr(locks, "_held", list(locks._held))
        lock = ForkSafeLock(held=held)
        other = Held(lock)
        try:
            assert in_child(lambda: lock._lock.acquire(timeout=5)) == 0
        finally:
            other.release()
        with lock:
            assert lock.owned

    @pytest.mark.parametrize("held", [False, True])
    def test_a_lock_of_the_thread_that_forks_stays_its_own(self, held, monkeypatch):
        monkeypatch.setattr(locks, "_held", list(locks._held))
        lock = ForkSafeLock(held=held)

        def release() -> bool:
            was = lock.owned
            lock.__exit__()
            return was and not lock.owned

        with lock:
            assert in_child(release) == 0
            assert lock.owned
        assert not lock.owned

    @pytest.mark.parametrize("name", ["compiler", "llvm"])
    def test_the_compilers_locks_are_free_in_the_child(self, name):
        lock = library._compiler_lock()._lock if name == "compiler" else library._llvm_lock()
        other = Held(lock)
        try:
            find = (lambda: library._compiler_lock()._lock) if name == "compiler" else library._llvm_lock
            assert in_child(lambda: find().acquire(timeout=5)) == 0
        finally:
            other.release()

    def test_locks_are_free_in_the_parent_after_a_fork(self):
        assert in_child(lambda: True) == 0
        other = Held(library._lock)
        other.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_waits_for_what_is_compiled():
    """A thread compiles function after function; a child made in between finds the locks free, and compiles too."""
    printed = run_apart("""
        from fastnn.backend.cpu.loading import library
        from fastnn.backend.cpu.loading.store import ObjectCode
        state = {"busy": False, "stop": False, "count": 0}
        def slow():
            state["busy"] = True
            time.sleep(0.2)
            state["busy"] = False
            state["count"] += 1
            raise ZeroDivisionError
        def loop():
            while not state["stop"]:
                try: library.load(f"name-{state['count']}", slow)
                except ZeroDivisionError: pass
        thread = threading.Thread(target=loop); thread.start()
        statuses = []
        for _ in range(4):
            time.sleep(0.1)
            begin = time.monotonic()
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                with library._loading(): os._exit(1 if state["busy"] else 0)
            waited = time.monotonic() - begin
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or int(waited > 10))
        state["stop"] = True
        thread.join()
        print(statuses, state["count"] > 3)
    """)
    assert printed == "[0, 0, 0, 0] True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.parametrize("module", ["numpy.ma", "numba", "tqdm"])
def test_a_child_does_not_wait_for_a_module_that_another_thread_imports(module, tmp_path):
    """The first call imports only under a lock that a fork waits for, however slow the disk is."""
    printed = run_apart(
        f"""
        import numpy as np, fastnn as fnn
        class SlowDisk:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}: time.sleep(0.5)
        sys.meta_path.insert(0, SlowDisk())
        model = fnn.Sequential([fnn.Input(4), fnn.Activation("relu")], seed=0)
        x = np.zeros((5, 4), np.float32)
        from fastnn import console
        def use():
            model.predict(x)
            if {module!r} == "tqdm": console.bar_class()
        thread = threading.Thread(target=use); thread.start()
        time.sleep(0.2)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            use()
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        thread.join()
        """,
        # an empty cache where Numba is to be imported
        **({"FASTNN_CACHE_DIR": str(tmp_path)} if module == "numba" else {}),
    )
    assert printed == "0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_child_of_a_fork_during_fit_may_train_the_model():
    printed = run_apart("""
        import numpy as np, fastnn as fnn
        model = fnn.Sequential([fnn.Input(30), fnn.Dense(30), fnn.Dense(3)], seed=0)
        model.compile("adam", "mse")
        x, y = np.zeros((2000, 30), np.float32), np.zeros((2000, 3), np.float32)
        model.fit(x[:99], y[:99], verbose=0)
        begun, stop = threading.Event(), threading.Event()
        class Until(fnn.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                begun.set()
                self.model.stop_training = stop.is_set()
        def refused(work):
            try: work()
            except RuntimeError: return True
            return False
        again = lambda: model.fit(x[:9], y[:9], verbose=0)
        thread = threading.Thread(target=lambda: model.fit(x, y, epochs=10**6, verbose=0, callbacks=Until()))
        thread.start()
        begun.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            again()
            model.train_on_batch(x[:9], y[:9])
            model.compile("sgd", "mse")
            os._exit(0 if np.isfinite(again().history["loss"]).all() else 1)
        print(os.waitpid(child, 0)[1], refused(again))
        stop.set()
        thread.join()
        # a fork by the thread that trains goes on with that training in both processes
        inside = []
        class Forks(fnn.callbacks.Callback):
            def on_epoch_end(self, epoch, logs):
                if epoch == 1: inside.append(os.fork())
                inside.append(refused(again))
        model.fit(x, y, epochs=3, verbose=0, callbacks=Forks())
        if inside[1] == 0: os._exit(0 if inside == [True, 0, True, True] and not refused(again) else 1)
        print(os.waitpid(inside[1], 0)[1], inside[2:], refused(again))
    """)
    assert printed == "0 True\n0 [True, True] False\n"


# --- pickles --------------------------------------------------------------------------------------------------------


def networks() -> dict[str, object]:
    model = fnn.Sequential([fnn.Input(6), fnn.Dense(20, activation="relu"), fnn.Dense(3)], seed=0)
    model.compile("adam", "mse")
    net, learner = model.freeze(), model.learner()
    return {"network": net, "networks": fnp.stack([net, net]), "learner": learner}


@pytest.mark.parametrize("kind", ["network", "networks", "learner"])
def test_a_flipped_bit_in_a_pickle_is_found(kind):
    """Wherever it is; without a flip the copy has the same weights."""
    given = networks()[kind]
    data = pickle.dumps(given)
    np.testing.assert_array_equal(pickle.loads(data).parameters, given.parameters)
    chance = random.Random(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            loaded = pickle.loads(bytes(damaged))
        except Exception:
            continue
        # a bit of the pickle itself that means nothing, such as its version
        np.testing.assert_array_equal(loaded.parameters, given.parameters)
        assert pickle.dumps(loaded) == data


def test_the_error_says_that_the_pickle_is_damaged():
    function, (packed, digest) = networks()["network"].__reduce__()
    for wrong in ((packed[:-1], digest), (packed, digest[:-1]), (b"", digest), (packed, None), (None, digest)):
        with pytest.raises(ValueError, match="damaged"):
            function(*wrong)


# --- memory and libraries -------------------------------------------------------------------------------------------


def test_words_that_threads_spin_on_are_in_lines_of_their_own():
    """Of 128 bytes, as Apple's processors have them."""
    assert LINE_BYTES == 128
    assert Team().address % LINE_BYTES == 0 and _turn.ctypes.data % LINE_BYTES == 0


@pytest.mark.skipif(sys.platform == "win32", reason="stands in for Windows with another system's library")
def test_mathematics_are_bound_to_one_library_on_windows(monkeypatch):
    import ctypes

    from fastnn.backend.cpu.loading.build import build
    from fastnn.program.record import KernelKey

    process = ctypes.CDLL(None)
    asked = []
    monkeypatch.setattr(library.ctypes, "CDLL", lambda name: asked.append(name) or process)
    found = library.mathematics.__wrapped__("win32")
    assert asked == ["ucrtbase"] and {"exp", "log", "sin", "tanh", "pow"} <= set(found)
    for name, where in found.items():
        assert where == ctypes.cast(getattr(process, name), ctypes.c_void_p).value
    assert library.mathematics.__wrapped__("linux") == {}
    # compiled before Numba's own symbols are caught with ours
    code = build(KernelKey("tick", "float32"))
    announced = {}
    monkeypatch.setattr(library, "mathematics", lambda platform: found)
    monkeypatch.setattr(library.llvm, "add_symbol", announced.__setitem__)
    library.machine()
    with pytest.raises(ValueError, match="not an object file"):
        library.link(library.ObjectCode("text", b"text"))
    assert not announced
    assert library.link(code) and announced == found
