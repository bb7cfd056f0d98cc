"""`benchmarks/compare.py`: it runs, agrees with itself, and detects a contestant with wrong results."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1]
SMALLEST = "2-16-16-1, batch 32"


@pytest.fixture
def comparing(monkeypatch):
    """Return a function that imports modules of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def wrong(kind, method, change):
    """Return a contestant whose method returns wrong results."""
    return type(kind.__name__, (kind,), {method: lambda self, *rest: change(getattr(kind, method)(self, *rest))})


def compare(module, comparing, kinds, **chosen):
    settings = comparing("comparing.settings").Settings(rounds=2, seconds=1e-3, quick=True, **chosen)
    return list(module.compare(settings, kinds))


def test_command_line(tmp_path):
    path = tmp_path / "times.json"
    chosen = ["--section", "prediction", "--workload", "64-128", "--library", "none", "--quick", "--rounds", "2"]
    command = [sys.executable, str(BENCHMARKS / "compare.py"), *chosen, "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "### 64-128-64-10, 1 row" in done.stdout and "DISAGREES" not in done.stdout
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["environment"]["threads"] == 1
    assert [comparison["name"] for comparison in report["comparisons"]] == [
        "64-128-64-10, 1 row", "64-128-64-10, 1024 rows",
    ]  # fmt: skip
    for comparison in report["comparisons"]:
        assert [one["name"] for one in comparison["entries"]] == ["fastnn", "NumPy"]
        assert all(one["agrees"] and len(one["seconds"]) == 2 for one in comparison["entries"])


@pytest.mark.parametrize(
    ("method", "change"),
    [("train", lambda loss: loss * 1.001), ("get_weights", lambda weights: [1.001 * w for w in weights])],
)
def test_wrong_training_is_reported(comparing, method, change):
    contestants, training = comparing("contestants"), comparing("comparing.training")
    kinds = (contestants.Numpy, wrong(contestants.Numpy, method, change))
    (found,) = compare(training, comparing, kinds, workloads=(SMALLEST,))
    assert [one.agrees for one in found.entries] == [True, False]
    assert not found.agreed
    assert "DISAGREES" in comparing("comparing.tables").table(found, 1)


def test_wrong_training_of_many_is_reported(comparing):
    many, ways = comparing("comparing.many"), comparing("many_contestants")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    task = ways.Task(x, (x[:, 0] > 0).astype(np.int64), (4, 8, 2), networks=8, batch_size=8, epochs=2)
    kinds = [ways.Fastnn, wrong(ways.Fastnn, "train", lambda loss: loss * 1.2)]
    for name in ("ScikitLearn", "TorchFunc", "TorchBatched"):
        try:
            importlib.import_module(getattr(ways, name).module)
            kinds.append(getattr(ways, name))
        except ImportError:
            continue
    found = many.compare_one(task, "small", comparing("comparing.settings").Settings(rounds=2), kinds)
    assert not found.skipped
    assert [one.agrees for one in found.entries] == [one.__mro__[1] is not ways.Fastnn for one in kinds]
    text = comparing("comparing.tables").table(found, 1)
    assert text.count("DISAGREES") == 1 and f"2 runs of {8 * 2 * 5} steps" in text
    assert all("% right" in one.deviation for one in found.entries)


def test_wrong_prediction_is_reported(comparing):
    contestants, prediction = comparing("contestants"), comparing("comparing.prediction")
    kinds = (contestants.Numpy, wrong(contestants.Numpy, "predict", lambda y: y + 2e-5))
    found = compare(prediction, comparing, kinds, workloads=("64-128-64-10, 1 row",))
    assert [[one.agrees for one in comparison.entries] for comparison in found] == [[True, False]]


def test_wrong_steps_of_compiled_code_are_reported(comparing):
    contestants, online = comparing("contestants"), comparing("comparing.online")
    settings = comparing("comparing.settings").Settings(rounds=2, seconds=1e-3)
    numpy = contestants.Numpy
    kinds = online.FastnnLearner, numpy, wrong(numpy, "get_weights", lambda weights: [1.001 * w for w in weights])
    learning = online.compare_learning("compiled", settings, kinds)
    assert [one.agrees for one in learning.entries] == [True, True, False]
    kinds = contestants.Fastnn, numpy, wrong(numpy, "predict", lambda scores: -scores)
    simulated = online.compare_simulation("compiled", settings, kinds)
    assert [one.agrees for one in simulated.entries] == [True, True, False]


def test_wrong_products_are_reported(comparing):
    matmul, numpy = comparing("comparing.matmul"), comparing("contestants").Numpy

    def one_element_off(product, a, b, out, threads):
        def call():
            np.matmul(*product.views(a, b), out=out)
            out[-1, -1] += 0.01

        return call

    kinds = (("NumPy", numpy, matmul.numpy_call), ("NumPy, wrong", numpy, one_element_off))
    found = compare(matmul, comparing, kinds, workloads=("float32 64 x 64 x 64",))
    assert [[one.agrees for one in comparison.entries] for comparison in found] == [[True, False]]
    text = comparing("comparing.tables").products(found, nanoseconds=False, threads=1)
    assert text.count("disagrees") == 1


def test_contestants_take_turns_and_are_restored(comparing):
    race = comparing("comparing.race")
    order: list[str] = []

    def entry(name, count):
        return race.Entry(name, "1", lambda count: order.append(f"{name}{count}"), "0", True, count=count,
                          restore=lambda: order.append(f"restore {name}"))  # fmt: skip

    entries = [entry("a", 3), entry("b", 2)]
    race.race(entries, rounds=2, seconds=1.0, threads=1)
    assert order == ["restore a", "a3", "restore b", "b2"] * 3
    assert [len(one.seconds) for one in entries] == [2, 2]


def test_peers_that_fail_are_skipped_but_our_own_are_not(comparing):
    race = comparing("comparing.race")

    def fail():
        raise RuntimeError("no compiler\nand more")

    assert race.enter([("peer", False, fail)]) == ([], ["- peer skipped: no compiler"])
    with pytest.raises(RuntimeError, match="no compiler"):
        race.enter([("fastnn", True, fail)])


def test_chart(comparing, tmp_path):
    pytest.importorskip("matplotlib")
    entries = [
        {"name": name, "times as long": ratio, "agrees": True} for name, ratio in (("fastnn", 1.0), ("JAX", 2.5))
    ]
    comparisons = [
        {"section": section, "group": "square, float32", "name": "64, batch 32", "entries": entries}
        for section in ("training", "many", "prediction", "compiled", "matmul", "small matmul")
    ]
    report = {"environment": {"cpu": "CPU", "threads": 1}, "comparisons": comparisons}
    path = tmp_path / "chart.png"
    comparing("comparing.chart").draw(report, path)
    assert path.read_bytes().startswith(b"\x89PNG")
