"""The cache of compiled kernels: several processes at once, damaged files, edited sources, unwritable folders."""

import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import cache
from fastnn.backend.cpu.loading import library, store

PACKAGE = Path(fnn.__file__).parent
# few and small kernels: gather, activation and its formula, store, tick, run, its entry from Python
PROBE = """
    import json, sys
    import numpy as np
    import fastnn as fnn
    from fastnn import cache
    from fastnn.backend.cpu.loading import library

    model = fnn.Sequential([fnn.Input(5), fnn.Activation("hard_sigmoid")])
    x = np.linspace(-4.0, 4.0, 35, dtype=np.float32).reshape(7, 5)
    print(json.dumps({"y": model.predict(x).tolist(), "numba": "numba" in sys.modules, "hash": cache.source_hash(),
                      "location": str(cache.location()), **library.statistics()}))
"""
# four kernels and the mapped function, the executor, and its builtin
FUNCTIONS = 7


def start(script: str, folder: Path | None, package: Path = PACKAGE, options=(), **environment: str):
    variables = {**os.environ, "PYTHONPATH": str(package.parent), **environment}
    variables.pop("FASTNN_CACHE_DIR", None)
    if folder is not None:
        variables["FASTNN_CACHE_DIR"] = str(folder)
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def finish(process) -> tuple[dict, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def probe(folder: Path | None, package: Path = PACKAGE, **environment: str) -> tuple[dict, str]:
    return finish(start(PROBE, folder, package, **environment))


def hard_sigmoid(offset: float = 3.0) -> np.ndarray:
    x = np.linspace(-4.0, 4.0, 35, dtype=np.float32).reshape(7, 5).astype(float)
    return np.clip(x + offset, 0.0, 6.0) / 6.0


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """Return a cache that four processes have filled at the same time."""
    folder = tmp_path_factory.mktemp("kernels")
    processes = [start(PROBE, folder) for _ in range(4)]
    found = [finish(process) for process in processes]
    for result, err in found:
        assert all(line.startswith("fastnn: compil") for line in err.splitlines()), err
        np.testing.assert_allclose(result["y"], hard_sigmoid(), rtol=1e-6, atol=1e-7)
        assert result["y"] == found[0][0]["y"]
        assert result["compiled"] + result["loaded"] == FUNCTIONS
    # each of them had something to compile, or waited for none
    assert sum(result["compiled"] for result, _ in found) >= FUNCTIONS
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_several_processes_fill_one_cache(filled):
    assert len(files(filled)) == FUNCTIONS
    assert all(path.suffix == ".fnk" for path in files(filled)), "a temporary file was left"
    result, _ = probe(filled)
    assert (result["compiled"], result["loaded"]) == (0, FUNCTIONS)
    assert result["numba"] is False


def test_damaged_files_are_compiled_anew(filled, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(filled, folder)
    chance = random.Random(0)
    good = {path: path.read_bytes() for path in files(folder)}
    truncated, flipped, emptied, untouched, *others = good
    truncated.write_bytes(good[truncated][: len(good[truncated]) // 2])
    damaged = bytearray(good[flipped])
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    flipped.write_bytes(damaged)
    emptied.write_bytes(b"")
    result, err = probe(folder)
    assert err == ""
    np.testing.assert_allclose(result["y"], hard_sigmoid(), rtol=1e-6, atol=1e-7)
    assert (result["compiled"], result["loaded"]) == (3, FUNCTIONS - 3)
    for path in (truncated, flipped, emptied):
        assert len(path.read_bytes()) > 100
    assert probe(folder)[0]["compiled"] == 0
    assert untouched in files(folder) and len(others) == FUNCTIONS - 4


def test_no_damage_at_all_is_taken_for_a_kernel(filled, monkeypatch, tmp_path):
    original = files(filled)[0]
    path = tmp_path / original.parent.name / original.name
    shutil.copytree(original.parent, path.parent)
    monkeypatch.setattr(store, "path_of", lambda name: path)
    good = path.read_bytes()
    assert store.read("any") is not None
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(good)
        damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert store.read("any") is None
    for _ in range(100):
        path.write_bytes(good[: chance.randrange(len(good))])
        assert store.read("any") is None


def test_editing_a_formula_compiles_its_callers_anew(filled, tmp_path):
    package = tmp_path / "edited" / "fastnn"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = package / "formulas" / "activations.py"
    text = source.read_text()
    assert text.count("y = x + real(3.0)") == 1
    source.write_text(text.replace("y = x + real(3.0)", "y = x + real(2.0)"))
    result, _ = probe(filled, package)
    np.testing.assert_allclose(result["y"], hard_sigmoid(2.0), rtol=1e-6, atol=1e-7)
    assert (result["compiled"], result["loaded"]) == (FUNCTIONS, 0)
    original, _ = probe(filled)
    assert original["compiled"] == 0
    assert original["hash"] != result["hash"]
    np.testing.assert_allclose(original["y"], hard_sigmoid(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("part", "matters"),
    [
        ("backend/cpu/codegen/kernel.py", True),
        ("backend/cpu/codegen/options.py", True),
        ("formulas/elementary.py", True),
        ("program/layout.py", True),
        ("layers/core.py", False),
        ("model/model.py", False),
        ("backend/reference/executor.py", False),
    ],
)
def test_the_hash_is_of_all_that_decides_what_a_kernel_does(part, matters, tmp_path, monkeypatch):
    package = tmp_path / "fastnn"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    compute = cache.source_hash.__wrapped__
    before = compute()
    assert before == cache.source_hash()
    with (package / part).open("a") as file:
        file.write("\n# another comment\n")
    assert (compute() != before) == matters


def test_a_cache_that_cannot_be_written_falls_back_with_a_warning(tmp_path):
    # permission bits would not stop root; a path below a file stops everybody
    blocked = tmp_path / "file"
    blocked.write_text("")
    spare = tmp_path / "spare"
    spare.mkdir()
    variables = {"HOME": str(blocked), "XDG_CACHE_HOME": str(blocked / "cache"), "TMPDIR": str(spare)}
    result, err = probe(None, **variables)
    assert "RuntimeWarning: fastnn cannot use the cache folder" in err and "FASTNN_CACHE_DIR" in err
    assert Path(result["location"]).is_relative_to(spare.resolve())
    assert result["compiled"] == FUNCTIONS
    again, err = probe(None, **variables)
    assert "RuntimeWarning" in err
    assert (again["compiled"], again["y"]) == (0, result["y"])


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_a_folder_that_others_may_write_is_not_used(tmp_path, monkeypatch):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(spare))
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(open_to_all))
    monkeypatch.setattr(cache, "_chosen", [])
    with pytest.warns(RuntimeWarning, match="other users may write"):
        folder = cache._folder()
    assert folder is not None and folder.is_relative_to(spare.resolve())
    assert folder.stat().st_mode & 0o077 == 0
    assert not list(open_to_all.iterdir())


def test_losing_the_folder_costs_the_cache_not_the_run(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(cache, "_folder", lambda: blocked / "gone")
    store.write("kernel", store.ObjectCode("symbol", b"code with a symbol"))
    assert store.read("kernel") is None
    assert cache.entries() == []
    assert cache.clear() == 0


def test_clearing(filled, tmp_path, monkeypatch):
    folder = tmp_path / "cleared"
    shutil.copytree(filled, folder)
    (folder / "keep.txt").write_text("not ours")
    monkeypatch.setattr(cache, "_folder", lambda: folder)
    assert len(cache.entries()) == len(files(folder)) - 1 >= FUNCTIONS
    assert cache.size() == sum(path.stat().st_size for path in cache.entries())
    count = len(cache.entries())
    assert cache.clear() == count
    assert cache.entries() == [] and cache.size() == 0
    assert [path.name for path in files(folder)] == ["keep.txt"]
    # a process goes on with the kernels that it has
    model = fnn.Sequential([fnn.Input(5), fnn.Activation("hard_sigmoid")])
    assert model.predict(np.zeros((2, 5))).tolist() == [[0.5] * 5] * 2


def test_importing_compiles_nothing_and_imports_no_numba(tmp_path):
    script = """
        import json, sys
        import fastnn as fnn
        model = fnn.Sequential([fnn.Input(4), fnn.Dense(3, "relu")])
        model.compile("adam", "mse")
        model.get_weights()
        heavy = ("numba", "scipy", "sklearn", "pandas", "matplotlib", "torch", "IPython")
        print(json.dumps({"loaded": [name for name in heavy if name in sys.modules]}))
    """
    result, err = finish(start(script, tmp_path, options=["-W", "error"]))
    assert result == {"loaded": []}
    assert err == ""
    assert files(tmp_path) == []


@pytest.mark.filterwarnings("ignore:batch_norm. a training batch of one row:RuntimeWarning")
def test_a_new_model_compiles_nothing_when_its_kernels_exist():
    def train(units: int) -> None:
        layers = [fnn.Dense(units, "relu"), fnn.Dropout(0.5), fnn.BatchNorm(), fnn.Dense(units // 2, "softmax")]
        model = fnn.Sequential([fnn.Input(units + 1), *layers], seed=0)
        model.compile("adam", "cross_entropy", metrics=["accuracy"])
        x, y = np.ones((3 * units, units + 1), np.float32), np.arange(3 * units) % (units // 2)
        model.fit(x, y, batch_size=units, epochs=2, validation_split=0.2, verbose=0)

    # small and large matrix products, and those of a single row, have separate kernels
    for units in (4, 8, 130):
        train(units)
    before = library.statistics()
    for units in (6, 17, 150, 200):
        train(units)
    assert library.statistics() == before


def test_compiling_in_several_threads_at_once(filled, tmp_path):
    script = """
        import json, threading
        import numpy as np
        import fastnn as fnn
        from fastnn.backend.cpu.loading import library

        x = np.linspace(-4.0, 4.0, 35, dtype=np.float32).reshape(7, 5)
        results, errors = [], []

        def work():
            try:
                model = fnn.Sequential([fnn.Input(5), fnn.Activation("hard_sigmoid")])
                for _ in range(20):
                    results.append(model.predict(x))
            except BaseException as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same = all((one == results[0]).all() for one in results)
        print(json.dumps({"errors": errors, "same": bool(same), "count": len(results), **library.statistics()}))
    """
    folder = tmp_path / "kernels"
    shutil.copytree(filled, folder)
    # the second prediction of a model makes a call of its code, whose functions are not there yet
    first, err = finish(start(script, folder))
    assert first["compiled"] > 0 and all(line.startswith("fastnn: compil") for line in err.splitlines()), err
    result, err = finish(start(script, folder))
    functions = first["compiled"] + first["loaded"]
    assert functions > FUNCTIONS
    assert result == {"errors": [], "same": True, "count": 120, "compiled": 0, "loaded": functions}
    assert (first["errors"], first["same"], err) == ([], True, "")
