"""The command line: its output, its exit codes, and the fairness of its race with NumPy."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import __main__ as cli
from fastnn.backend.cuda.codegen import numba_cuda
from fastnn.backend.cuda.driver import available
from fastnn.demo import digits, info, race, warm
from fastnn.seeding import derive


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a separate process."""
    command = [sys.executable, "-W", "error", "-m", "fastnn", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_digits_are_learnt_and_numpy_learns_them_alike():
    done = run("digits", "--quiet")
    assert done.returncode == 0, done.stderr
    loss, accuracy, seconds = map(
        float, re.search(r"loss ([\d.]+), accuracy ([\d.]+) % \(trained in ([\d.]+) s\)", done.stdout).groups()
    )
    assert accuracy >= 97.0 and loss < 0.2 and seconds < 10.0
    rows = dict(re.findall(r"^(fastnn|NumPy) .*?([\d.]+) %$", done.stdout, re.MULTILINE))
    # 359 images: the roundings of two libraries may tip one or two
    assert float(rows["fastnn"]) == accuracy
    assert float(rows["NumPy"]) == pytest.approx(accuracy, abs=0.6)


def test_both_racers_train_the_same_network_on_the_same_batches():
    setup = race.Setup(epochs=2, seed=5, dtype="float64")
    X, y = fnn.datasets.load_digits()
    X = X.astype(np.float64)
    model = race.make_model(setup)
    net = race.numpy_mlp().NumpyMLP(setup.sizes, batch_size=setup.batch_size, dtype=setup.dtype)
    net.set_weights(model.get_weights())
    before = model.get_weights()
    model.fit(X, y, batch_size=setup.batch_size, epochs=setup.epochs, verbose=0)
    for epoch in range(setup.epochs):
        net.train_epoch(X, y, derive(model.seed, "shuffle", epoch).permutation(len(X)))
    for own, other, start in zip(model.get_weights(), net.get_weights(), before, strict=True):
        assert not np.allclose(own, start, atol=1e-3)
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-9)


def test_a_race_reports_times_and_accuracies():
    result = race.race(race.Setup(epochs=3), rounds=3)
    assert (result["rounds"], result["epochs"]) == (3, 3)
    for name in ("fastnn", "numpy"):
        assert 0.0 < result[name]["seconds"] < 1.0
        assert 0.8 < result[name]["accuracy"] <= 1.0


def test_blas_has_one_thread_in_the_race(monkeypatch):
    calls = []
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setattr(
        digits.subprocess,
        "run",
        lambda *_, **options: calls.append(options["env"]) or subprocess.CompletedProcess([], 0, "{}", ""),
    )
    assert digits._race(race.Setup()) == {}
    assert calls[0]["OPENBLAS_NUM_THREADS"] == calls[0]["MKL_NUM_THREADS"] == "1"
    assert "OPENBLAS_CORETYPE" not in calls[0]


def test_a_failing_race_is_told_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(
        digits.subprocess,
        "run",
        lambda *_, **__: subprocess.CompletedProcess([], 1, "", "Traceback\nImportError: no BLAS"),
    )
    assert cli.main(["digits", "--quiet", "--epochs", "1"]) == 1
    assert "ImportError: no BLAS" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_the_held_out_fifth_is_drawn_from_all_rows(seed):
    train, test = race.held_out_split(1797, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    assert len(test) == 359
    # a fifth of each half, within five standard deviations
    assert abs(np.count_nonzero(test < 898) - 179) < 5 * np.sqrt(359 * 0.25 * 0.8)
    assert not np.array_equal(test, race.held_out_split(1797, 7)[1])
    np.testing.assert_array_equal(test, race.held_out_split(1797, seed)[1])


def test_compilation_is_announced_and_timed(monkeypatch, capsys):
    model = race.make_model(race.Setup())
    monkeypatch.setattr(warm, "missing", lambda keys: sorted(keys)[:3])
    monkeypatch.setattr(warm, "prepare", lambda keys: 4.25)
    digits._prepare(model, quiet=False)
    printed = capsys.readouterr().out
    assert "Compiling 3 kernels" in printed and "Compiled in 4.2 s" in printed
    digits._prepare(model, quiet=True)
    monkeypatch.setattr(warm, "missing", lambda keys: [])
    digits._prepare(model, quiet=False)
    assert capsys.readouterr().out == ""


def test_cuda_kernels_cannot_be_compiled_without_what_compiles_them(monkeypatch, capsys):
    for module in (available, numba_cuda):
        monkeypatch.setattr(module, "missing_package", lambda: "numba-cuda is not installed")
        monkeypatch.setattr(module, "simulated", lambda: False)
    for arguments in (["warm", "--cuda"], ["warm", "--cuda", "80"]):
        assert cli.main(arguments) == 1
        assert "numba-cuda is not installed" in capsys.readouterr().err


def test_common_kernels_are_those_of_usual_networks():
    keys = {str(key) for key in warm.common(["float32"])}
    assert {
        "matmul-simple-float32",
        "matmul-blocked-float32",
        "map-relu-float32",
        "optimizer-adam-float32",
        "softmax-float32",
    } <= keys
    assert not any(key.endswith("float64") for key in keys)
    assert any(key.endswith("float64") for key in map(str, warm.common(["float64"])))


@pytest.mark.parametrize("arguments", [["--help"], ["digits", "--help"], ["cache", "--help"], ["--version"]])
def test_help_succeeds(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    words = ["digits", "info", "cache", "warm"] if arguments == ["--help"] else ["fastnn"]
    assert all(word in printed for word in words)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digits", "--epochs", "0"], "--epochs: expected an integer from 1"),
        (["digits", "--epochs", "many"], "--epochs: expected an integer, got 'many'"),
        (["digits", "--batch-size", "-3"], "--batch-size"),
        (["digits", "--seed", "-1"], "--seed: expected an integer from 0"),
        (["digits", "--dtype", "float16"], "float16"),
        (["cache", "burn"], "burn"),
        (["train"], "train"),
    ],
)
def test_wrong_arguments_are_told_with_code_2(arguments, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def test_info_tells_versions_without_importing_numba():
    code = (
        "import sys\nfrom fastnn.__main__ import main\nassert main(['info']) == 0\n"
        "assert not {'numba', 'numba_cuda', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert rows["fastnn"].strip().startswith(fnn.__version__)
    assert rows["NumPy"].strip() == np.__version__
    assert re.search(r"(16|32) of (128|256|512) bits", rows["vector registers"])
    assert rows["CUDA"].strip().startswith("none: ")  # what is missing, which depends on what is installed


def test_absent_packages_are_told():
    assert info.installed("numpy") == np.__version__
    assert info.installed("no-such-package-as-this") == "not installed"


def test_cache_is_shown_and_cleared(tmp_path):
    old = tmp_path / "0123456789abcdef"
    old.mkdir()
    (old / "matmul-float32-0.fnk").write_bytes(b"of another version")
    environment = {"FASTNN_CACHE_DIR": str(tmp_path)}
    shown = run("cache", **environment)
    assert shown.returncode == 0 and "1 kernels, 18 bytes" in shown.stdout
    assert "removed 1 kernels" in run("cache", "clear", **environment).stdout
    assert not list(tmp_path.glob("*/*.fnk"))


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError("no space left"), 1)])
def test_failures_end_without_a_traceback(error, code, monkeypatch, capsys):
    def fail(options: object) -> int:
        raise error

    monkeypatch.setitem(cli._COMMANDS, "info", fail)
    assert cli.main(["info"]) == code
    assert capsys.readouterr().err.startswith("fastnn: ")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are other there")
def test_a_reader_that_leaves_early_is_no_error_to_print():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "fastnn", "info"]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert done.stderr == ""
