"""`benchmarks/gpu_report.py` from end to end with tiny sizes, failing sections, and its contestants."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.simulator.device import SimulatedDevice

BENCHMARKS = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports modules of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_whole_command(load, tmp_path):
    # sections have a share of the time; on a busy machine that of the simulator's checks would be too short
    assert load("gpu_report").main(["--out", str(tmp_path / "report"), "--quick", "--minutes", "24"]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert not report["failed"] and report["flags"] == ["--quick", "--simulated"]
    sections = report["sections"]
    assert list(sections) == report["planned"] == list(load("gpu.settings").SHARES)
    ended = {name: one["ended"] for name, one in sections.items()}
    for name in ("kernels", "models", "sanitizer"):
        assert ended.pop(name) == "skipped: simulated"
    assert ended.pop("warpgroups").startswith("skipped: only GPUs of compute capability 9.0")
    assert set(ended.values()) == {"done"}, ended
    assert sections["environment"]["facts"]["gpu"] == "Numba's CUDA simulator"
    checks = sections["checks"]
    assert len(checks["items"]) == checks["facts"]["cases"] == checks["begun"]
    assert {one["op"] for one in checks["items"]} == set(load("gpu.oracle").KERNELS) & {
        case.op for case in load("gpu.oracle").table
    }
    assert all(one["ratio"] <= 1.0 and one["same"] for one in checks["items"])
    assert any(one["ratio"] > 0.0 for one in checks["items"])
    for name, rate in (
        ("matmul", "tflops"),
        ("convolutions", "tflops"),
        ("recurrent", "tflops"),
        ("bandwidth", "gbps"),
    ):
        assert all(one[rate]["fastnn"] > 0.0 and len(one["us"]["fastnn"]) == 3 for one in sections[name]["items"])
    (own,) = sections["cells"]["items"]
    assert (
        own["launches"] > 50
        and max(own["off"].values()) < 1e-5
        and own["losses"].keys() == {"cell", "layer", "cell on the CPU"}
    )
    assert {one["device"] for one in sections["digits"]["items"]} == {"cuda", "cpu"}
    (trained,) = sections["training"]["items"]
    assert trained["losses"]["fastnn"] == pytest.approx(trained["losses"]["fastnn on the CPU"], rel=1e-5)
    assert [one["method"] for one in sections["calls"]["items"]] == ["predict", "train_on_batch"]
    *apart, whole = sections["launches"]["items"]
    names = [one["kernel"] for one in apart]
    assert whole["kernel"] == "the step" and names[0].startswith("gather") and any("optimizer" in one for one in names)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "nothing is wrong" in text and "| checks | done |" in text
    for header in (
        "## Checks",
        "## Digits",
        "## Matmul",
        "## Convolutions",
        "## Recurrent",
        "## Cells",
        "## Bandwidth",
        "## Training",
    ):
        assert header in text
    assert "skipped: simulated" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert not list(tmp_path.glob(".*")), "parts of files are left"


def test_products_by_warpgroups(load, tmp_path, monkeypatch, always_warpgroups):
    """On a simulated GPU that claims to have warpgroups, which then also make tiny products."""
    device = SimulatedDevice()
    device.capability = (9, 0)
    monkeypatch.setattr(available, "open_device", lambda number: device)
    settings = replace(load("gpu.settings").SIMULATED, largest=5)
    job = load("gpu.events").Job(tmp_path / "events", settings, 100.0, 0, 0, ())
    section = load("gpu.warpgroups")
    products = list(load("gpu.shapes").products(settings))[::9]
    monkeypatch.setattr(load("gpu.shapes"), "products", lambda settings: iter(products))
    section.run(job)
    found = heard(load, tmp_path)
    assert not found.failures and not found.ended
    checked = [one for one in found.items if "ratio" in one]
    assert len(checked) == found.facts["cases"] >= 2 and all(one["ratio"] <= 1.0 and one["same"] for one in checked)
    assert [one["precision"] for one in found.items if "tflops" in one] == ["tf32", "bf16"]
    text = "\n".join(load("gpu.tables").warpgroups(vars(found)))
    assert "| matmul | bf16 |" in text and "| 3 x 4 x 5 | bf16 |" in text


def heard(load, path):
    """Return a section's events."""
    found = load("gpu.events").Found("section")
    found.read((path / "events").read_text(encoding="utf-8").splitlines())
    return found


def test_no_time_at_all(load, tmp_path):
    chosen = ["--out", str(tmp_path / "report.md"), "--section", "checks", "--minutes", "0.1"]
    assert load("gpu_report").main(chosen) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(report["sections"]) == ["environment", "kernels", "checks"]
    assert report["sections"]["checks"]["ended"] == "out of time: nothing of it was begun"
    assert "nothing of it was begun" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name, ended",
    [
        ("checks", "0 of"),
        ("matmul", "1 of 3 products"),
        ("convolutions", "1 of 9"),
        ("recurrent", "1 of 4"),
        ("bandwidth", "1 of"),
    ],
)
def test_sections_stop_when_their_time_is_over(load, tmp_path, name, ended):
    job = load("gpu.events").Job(tmp_path / "events", load("gpu.settings").SIMULATED, 0.0, 0, 0, ())
    load(f"gpu.{name}").run(job)
    found = heard(load, tmp_path)
    assert found.ended.startswith(f"out of time: {ended}") and not found.bad


def test_without_a_gpu(load, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fnn.cuda, "why_not", lambda: "there is no NVIDIA GPU")
    assert load("gpu_report").main(["--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err == "no GPU: there is no NVIDIA GPU\n"
    assert not list(tmp_path.iterdir())


def test_an_error_is_found(load, monkeypatch):
    """A wrong kernel, and one with different bits each time, are detected."""
    oracle, device = load("gpu.oracle"), load("fastnn.backend.cuda.simulator.device").SimulatedDevice()
    case = next(case for case in oracle.table if case.op == "add" and case.dims["n"] == 7)
    right = oracle.check(case, "float32", "float32", 5, device)
    assert right["ratio"] <= 1.0 and right["same"] and not right["wrong"]
    run, calls = oracle.run_cuda, []

    def off(*arguments):
        result = run(*arguments)
        calls.append(1)
        result.outputs["y"][3] *= np.float32(1.0 + 1e-6 * len(calls))
        return result

    monkeypatch.setattr(oracle, "run_cuda", off)
    wrong = oracle.check(case, "float32", "float32", 5, device)
    assert wrong["ratio"] > 1.0 and not wrong["same"] and wrong["output"] == "y"


@pytest.mark.parametrize("bits", [8, 11])
def test_rounding_to_fewer_bits(load, bits):
    oracle = load("gpu.oracle")
    values = oracle.untied(np.random.default_rng(0).standard_normal(1000))
    short = oracle.rounded(values, bits)
    scale = 2.0 ** (bits - 1 - np.floor(np.log2(np.abs(values))))
    np.testing.assert_array_equal(short * scale, np.round(values * scale))
    np.testing.assert_array_equal(oracle.rounded(short, bits), short)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounded_products_are_told_from_exact_ones(load, monkeypatch, precision):
    oracle, device = load("gpu.oracle"), load("fastnn.backend.cuda.simulator.device").SimulatedDevice()
    case = oracle.making.Case("matmul", {"m": 3, "n": 3, "k": 3}, bound=oracle.making.Bound(2, 10))
    assert oracle.rounds_operands(case, precision)
    assert oracle.check(case, "float32", precision, 1, device)["ratio"] <= 1.0
    monkeypatch.setattr(oracle, "rounds_operands", lambda case, precision, warpgroups=False: False)
    assert oracle.check(case, "float32", precision, 1, device)["ratio"] > 10.0


# A section that crashes in its third piece of work, hangs in its fifth, and has seven.
UNRULY = """
import json, os, sys, time
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
with open(arguments["--events"], "a") as events:
    for number in range(int(arguments["--resume"]), 7):
        events.write(json.dumps({"begin": f"piece {number}"}) + chr(10))
        events.flush()
        if number == 2:
            os._exit(7)
        if number == 4:
            time.sleep(600)
        events.write(json.dumps({"item": {"piece": number}}) + chr(10))
"""


@pytest.fixture
def supervise(load, tmp_path, monkeypatch):
    found = load("gpu.supervise")
    script = tmp_path / "unruly.py"
    script.write_text(UNRULY)
    monkeypatch.setattr(found, "CHILD", (sys.executable, str(script)))
    monkeypatch.setattr(found, "STALL", 1.0)
    monkeypatch.setattr(found, "GRACE", 0.5)
    return found


def test_checks_go_on_behind_a_crash_and_a_hang(supervise):
    plan = supervise.Plan(0, ("checks",), ())
    found = supervise.run("checks", 60.0, plan, lambda found: None)
    assert [one["piece"] for one in found.items] == [0, 1, 3, 5, 6]
    assert found.failures == ["piece 2: its process ended with 7", "piece 4: did not end within 1 s"]
    assert found.ended == "done" and found.bad


def test_another_section_ends_with_its_crash(supervise):
    found = supervise.run("matmul", 60.0, supervise.Plan(0, ("matmul",), ()), lambda found: None)
    assert found.ended == "killed: its process ended with 7 (in piece 2)" and found.bad
    assert len(found.items) == 2


def test_what_is_late_is_killed(supervise, monkeypatch):
    monkeypatch.setattr(supervise, "STALL", 1000.0)
    found = supervise.run("checks", 1.0, supervise.Plan(0, ("checks",), ()), lambda found: None)
    assert found.ended.startswith("killed") and "piece" in found.ended and found.bad
    assert found.seconds < 30.0


def test_what_raises_is_reported(load, tmp_path):
    events, writing = load("gpu.events"), load("gpu.writing")
    job = events.Job(tmp_path / "events", load("gpu.settings").SIMULATED, 10.0, 0, 0, ())
    job.begin("a product")
    job.trace("Traceback ...\nValueError: no")
    found = events.Found("matmul", "raised")
    found.read((tmp_path / "events").read_text().splitlines())
    assert found.bad and found.current == "a product"
    plan = load("gpu.supervise").Plan(0, ("matmul", "training"), ())
    writing.write(tmp_path / "report", [found], plan, 1.0, 2.0)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "something is wrong" in text and "ValueError: no" in text and "| training | not yet |" in text


def test_what_the_sanitizer_says(load, tmp_path):
    events, sanitizer = load("gpu.events"), load("gpu.sanitizer")
    job = events.Job(tmp_path / "events", load("gpu.settings").SIMULATED, 10.0, 0, 0, ())
    sanitizer.read(
        job, "memcheck", "========= COMPUTE-SANITIZER\nran 9 of 9 kernels\n========= ERROR SUMMARY: 0 errors", 0
    )
    sanitizer.read(
        job, "racecheck", "ran 3 of 9 kernels\n========= Error: Race reported\n"
        "========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)", 0,
    )  # fmt: skip
    sanitizer.read(job, "memcheck", "========= Error: Device not supported", 1)
    found = heard(load, tmp_path)
    assert found.failures == ["racecheck: RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)"]
    assert [one["ran"] for one in found.items] == ["9 of 9 kernels", "3 of 9 kernels", "nothing"]
    assert "Device not supported" in found.notes[-1]


def test_pytorch_trains_the_same_network(load, tmp_path):
    """On the CPU, where PyTorch's part can run without a GPU."""
    pytest.importorskip("torch")
    settings, events, training = load("gpu.settings"), load("gpu.events"), load("gpu.training")
    toy = settings.network((4, 6, 3), 4, 12, 1)
    job = events.Job(tmp_path / "events", replace(settings.SIMULATED, torch="cpu", networks=(toy,)), 60.0, 0, 0, ())
    torch, _ = training.library(job.settings)
    training.compare(job, toy, "float32", torch, training.kinds(job.settings, compiled=False))
    other = training.PyTorch

    class Wrong(other):
        def set_weights(self, weights):
            super().set_weights([1.01 * one for one in weights])

    training.compare(job, toy, "float32", torch, [Wrong])
    found = heard(load, tmp_path)
    right, wrong = found.items
    assert right["losses"]["PyTorch eager"] == pytest.approx(right["losses"]["fastnn"], rel=1e-5)
    assert set(right["us"]) == {"fastnn", "PyTorch eager"} and set(wrong["us"]) == {"fastnn"}
    assert len(found.failures) == 1 and "PyTorch eager" in found.failures[0]


def test_pytorch_predicts_and_takes_steps(load, tmp_path):
    pytest.importorskip("torch")
    settings, events = load("gpu.settings"), load("gpu.events")
    toy = settings.network((4, 6, 3), 4, 12, 1)
    job = events.Job(tmp_path / "events", replace(settings.SIMULATED, torch="cpu", networks=(toy,)), 60.0, 0, 0, ())
    load("gpu.calls").run(job)
    found = heard(load, tmp_path)
    assert not found.failures and [one["method"] for one in found.items] == ["predict", "train_on_batch"]
    assert all(one["off"] < 1e-5 and set(one["us"]) == {"fastnn", "PyTorch eager"} for one in found.items)
