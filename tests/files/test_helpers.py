"""Processes that help to compile: what they write, and what happens when they do not."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import cache
from fastnn.backend.cpu.loading import helpers, library, store
from fastnn.program.record import KernelKey

# small ones; a formula, which is no kernel of its own, and one that calls others
KEYS = [
    KernelKey("tick", "float32"),
    KernelKey("map", "float32", "relu"),
    KernelKey("map_grad", "float32", "relu"),
    KernelKey("sum_loss", "float32"),
]
STEP = """
    import json, sys
    import numpy as np
    import fastnn as fnn
    from fastnn.backend.cpu.loading import library

    model = fnn.Sequential([fnn.Input(6), fnn.Dense(7, "tanh"), fnn.Dense(4, "softmax")], seed=1)
    model.compile("adam", "cross_entropy")
    x = np.linspace(-1.0, 1.0, 30, dtype=np.float32).reshape(5, 6)
    losses = [model.train_on_batch(x, np.arange(5) % 4)["loss"] for _ in range(3)]
    print(json.dumps({"losses": losses, "weights": [w.tolist() for w in model.get_weights()], **library.statistics()}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a fresh folder for kernels."""
    monkeypatch.setattr(cache, "_chosen", [tmp_path.resolve()])
    return tmp_path


@pytest.fixture
def helped(folder, monkeypatch):
    """Let one kernel be worth a helper."""
    monkeypatch.setattr(helpers, "_LEAST_SECONDS", 0.1)


def written() -> set[KernelKey]:
    return {key for key in KEYS if store.read(str(key)) is not None}


def trained(folder: Path, threads: int) -> dict:
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(folder), "FASTNN_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = str(Path(fnn.__file__).parents[1])
    # a module of the user's folder must not be taken for one of Python's
    (folder / "copy.py").write_text("raise RuntimeError('a module of the user')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(STEP)],
        env=environment, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_first_step_with_helpers_has_the_same_bits(tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    one.mkdir()
    two.mkdir()
    alone, together = trained(one, 1), trained(two, 2)
    assert (alone["losses"], alone["weights"]) == (together["losses"], together["weights"])
    assert alone["loaded"] == 0 and together["compiled"] > 0 and together["loaded"] > 0
    assert together["compiled"] + together["loaded"] == alone["compiled"]
    names = [{path.name for path in folder.rglob("*.fnk")} for folder in (one, two)]
    assert names[0] == names[1] and len(names[0]) == alone["compiled"]


def test_helpers_compile_what_this_process_does_not_take(helped):
    with helpers.helping(KEYS, 2) as absent:
        assert len(absent) == len(KEYS) and all(key in absent for key in KEYS)
        for helper in absent._helpers:
            assert helper.wait(60) == 0
        assert written() == set(KEYS)
        assert sorted(absent) == sorted(KEYS)
    assert not helpers._helped


def test_each_kernel_is_taken_once(helped):
    with helpers.helping(KEYS, 2) as absent:
        assert len(absent._helpers) == 1
        taken = [key for key in absent if store.read(str(key)) is None]
    # what this process took first was not the helper's
    assert not written() & set(taken)


def test_what_no_helper_compiles_is_left_to_this_process(helped, monkeypatch):
    monkeypatch.setattr(helpers, "_HELPER", "raise SystemExit(1)")
    with helpers.helping(KEYS, 2) as absent:
        assert sorted(absent) == sorted(KEYS)
    assert [helper.returncode for helper in absent._helpers] == [1]
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("no processes")))
    with helpers.helping(KEYS, 2) as absent:
        assert sorted(absent) == sorted(KEYS) and not absent._helpers


def test_an_exception_ends_helpers(helped, monkeypatch):
    monkeypatch.setattr(helpers, "_HELPER", "import time; time.sleep(60)")
    with pytest.raises(KeyboardInterrupt), helpers.helping(KEYS, 2) as absent:
        (helper,) = absent._helpers
        assert helper.poll() is None
        raise KeyboardInterrupt
    assert helper.returncode is not None
    assert not helpers._helped


def test_a_helper_with_other_settings_leaves(folder, monkeypatch):
    key = KEYS[0]
    monkeypatch.setattr(helpers, "_taken", lambda queue: iter([0]))
    helpers.help_with([[key.op, key.dtype, key.variant]], "elsewhere")
    assert not written()
    helpers.help_with([[key.op, key.dtype, key.variant]], str(store.path_of("any")))
    assert written() == {key}


@pytest.mark.skipif(sys.platform == "win32", reason="a process there keeps the number of its parent")
def test_a_helper_leaves_when_its_parent_ends(folder, monkeypatch):
    key = KEYS[0]
    parents = iter([5, 5, 1])
    monkeypatch.setattr(helpers, "_taken", lambda queue: iter([0, 1]))
    monkeypatch.setattr(helpers.os, "getppid", lambda: next(parents))
    helpers.help_with([[one.op, one.dtype, one.variant] for one in KEYS[:2]], str(store.path_of("any")))
    assert written() == {key}


@pytest.mark.parametrize("what", ["one core", "little", "no folder", "another program", "users' functions"])
def test_no_helpers(what, helped, monkeypatch):
    cores, keys = 2, KEYS
    if what == "one core":
        cores = 1
    elif what == "little":
        monkeypatch.undo()
    elif what == "no folder":
        monkeypatch.setattr(store, "path_of", lambda name: None)
    elif what == "another program":
        monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    else:
        monkeypatch.setattr(helpers.custom, "find", lambda name: object())
    with helpers.helping(keys, cores) as absent:
        assert not absent._helpers and list(absent) == keys


def test_one_thread_at_a_time_has_helpers(helped, monkeypatch):
    monkeypatch.setattr(helpers, "_HELPER", "import time; time.sleep(60)")
    found = []

    def second() -> None:
        with helpers.helping(KEYS, 2) as absent:
            found.append(len(absent._helpers))

    with pytest.raises(ZeroDivisionError), helpers.helping(KEYS, 2):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert found == [0]


def test_a_shared_function_is_loaded_before_its_callers():
    from fastnn.backend.cpu.layouts.shared import key_of, shared_by, symbol_of

    for key in (KernelKey("matmul", "float64", "simple"), KernelKey("matmul", "float32", "blocked")):
        needed = shared_by(key)
        library.address(key)
        stored = store.read(str(key))
        assert stored is None or set(stored.needs) == {symbol_of(one) for one in needed}
        assert all(key_of(symbol_of(one)) == one and str(one) in library._addresses for one in needed)
    assert set(library.missing({KernelKey("matmul", "float16", "simple")})) >= {KernelKey("panel", "float16", "wide")}
