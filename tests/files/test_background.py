"""Kernels that are compiled in the background: calls do not wait for them, and their bits are the same."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import cache
from fastnn.backend.cpu.loading import background, helpers, library, store
from fastnn.program.record import KernelKey

KEYS = {KernelKey("tick", "float64"), KernelKey("map", "float64", "relu")}
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
SLEEP = "import time; time.sleep(100)"

SMALL_CALLS = """
    import json, time
    import numpy as np
    import fastnn as fnn
    from fastnn.backend.cpu.loading import library

    built, build = [], library._build
    library._build = lambda key: built.append(str(key)) or build(key)

    def made():
        model = fnn.Sequential([fnn.Input(6), fnn.Dense(7, "tanh"), fnn.Dense(4, "softmax")], seed=1)
        model.compile("adam", "cross_entropy")
        return model

    x, y = np.linspace(-1.0, 1.0, 30, dtype=np.float32).reshape(5, 6), np.arange(5) % 4
    model, deadline, steps, first = made(), time.monotonic() + 200, 0, []
    while (model._runtime.quick_step is None or model._runtime.prediction.call is None) and time.monotonic() < deadline:
        model.train_on_batch(x, y)
        model.predict(x)
        steps += 1
        first = list(built) if steps == 1 else first
        time.sleep(0.01)  # the helper has the lowest priority, and other tests use the other processor
    model.train_on_batch(x, y)
    quick = model._runtime.quick_step is not None, model._runtime.prediction.call is not None
    other = made()
    for _ in range(steps + 1):
        other.train_on_batch(x, y)
    bits = [[w.tobytes() for w in each.get_weights()] + [each.predict(x).tobytes() for _ in range(3)]
            for each in (model, other)]
    print(json.dumps({"steps": steps, "quick": quick, "same": bits[0] == bits[1], "later": built[len(first):]}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a fresh folder for kernels, which a helper fills in the background, at once."""
    monkeypatch.setattr(cache, "_chosen", [tmp_path.resolve()])
    monkeypatch.setattr(background, "_now", background._Background())
    monkeypatch.setattr(background, "_PATIENCE", 0.0)
    monkeypatch.setattr(library, "_addresses", {})
    monkeypatch.delenv("FASTNN_BACKGROUND", raising=False)
    yield tmp_path
    background._now.absent.stop()


def run(code: str, folder: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "FASTNN_BACKGROUND"}
    kept |= {"FASTNN_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(fnn.__file__).parents[1]), **environment}
    command = [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr
    return done.stdout


def until(met) -> None:
    deadline = time.monotonic() + 100
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_small_calls_go_on_while_their_codes_are_compiled(tmp_path):
    # all kernels that this process has, but not the functions that codes alone need
    known = cache.location()
    absent = ("call_learner-", "call_network-", "take_")
    (tmp_path / known.name).mkdir(mode=0o700)
    for path in known.glob("*.fnk"):
        if not path.name.startswith(absent):
            shutil.copy(path, tmp_path / known.name)
    found = json.loads(run(SMALL_CALLS, tmp_path))
    assert found["quick"] == [True, True] and found["same"] and found["steps"] > 3
    assert found["later"] == []
    names = {path.name.partition("-")[0] for path in tmp_path.rglob("*.fnk")}
    assert {"call_learner", "call_network", "take_arrays", "take_rows"} <= names


def test_ready_when_the_disk_has_them(folder):
    assert not background.ready(KEYS) and background.busy() is False
    assert not background.ready(KEYS) and background.busy()
    assert not background.ready(KEYS)
    until(lambda: not background.busy())
    assert background.ready(KEYS) and not library.missing(KEYS)


def test_nothing_starts_at_once(folder, monkeypatch):
    monkeypatch.setattr(background, "_PATIENCE", 60.0)
    assert not background.ready(KEYS) and background.busy() and not background.ready(KEYS)
    assert not background._now.absent._helpers
    # what is on the disk is not kept waiting by what is not
    monkeypatch.setattr(background, "_now", background._Background())
    for key in KEYS:
        library.compile_to_disk(key)
    assert background.ready(KEYS)


@pytest.mark.parametrize("what", ["fails", "cannot start", "is not wanted", "no helpers", "custom"])
def test_this_process_compiles_where_no_helper_can(what, folder, monkeypatch):
    begun = what in ("fails", "cannot start")
    if what == "fails":
        monkeypatch.setattr(helpers, "_HELPER", "raise SystemExit(1)")
    elif what == "cannot start":
        monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("none left")))
    elif what == "is not wanted":
        monkeypatch.setenv("FASTNN_BACKGROUND", "0")
    elif what == "no helpers":
        monkeypatch.setattr(helpers, "folder", lambda: None)
    else:
        monkeypatch.setattr(helpers.custom, "find", lambda name: object())
    assert background.ready(KEYS) is not begun
    if begun:
        assert background.ready(KEYS) is (what == "cannot start")
        until(lambda: not background.busy())
        assert background.ready(KEYS)


def test_a_signal_handler_in_the_middle_starts_nothing(folder):
    with background._lock:
        assert not background.ready(KEYS)
    assert background._now.begin is None


@FORK
def test_a_child_begins_again(folder, monkeypatch):
    monkeypatch.setattr(helpers, "_HELPER", SLEEP)
    background.ready(KEYS)
    background.ready(KEYS)
    (helper,) = background._now.absent._helpers
    child = os.fork()
    if not child:
        try:
            fine = not background.busy() and not background._now.asked
        finally:
            os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert background.busy() and helper.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
def test_no_helper_outlives_the_process(tmp_path):
    code = f"""
        from fastnn.backend.cpu.loading import background, helpers
        from fastnn.program.record import KernelKey

        helpers._HELPER, background._PATIENCE = {SLEEP!r}, 0.0
        keys = {{KernelKey("tick", "float64")}}
        assert not background.ready(keys) and not background.ready(keys)
        print(background._now.absent._helpers[0].pid)
    """
    assert not exists(int(run(code, tmp_path)))


@pytest.mark.skipif(not hasattr(os, "nice"), reason="the system has no niceness")
def test_helpers_in_the_background_are_nice(folder, monkeypatch):
    added = []
    monkeypatch.setattr(helpers.os, "nice", added.append)
    monkeypatch.setattr(helpers, "_taken", lambda queue: iter(()))
    for idle in (False, True):
        helpers.help_with([], str(store.path_of("any")), idle)
    assert added == [helpers._NICE]
