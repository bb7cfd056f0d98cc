"""Every example runs, prints what it is meant to show, and is in the list of examples."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
# What a run has to print; results, not only headings.
EXPECTED = {
    "perceptron.py": ["mistakes", "plain Python ends at", "AND: fires where", "OR: fires where"],
    "xor.py": ["one neuron", "2-4-1 network", "ln 2 = 0.693", "0 of 3", "3 of 3"],
    "activations.py": ["values at x", "slopes at x", "0.881", "[0.638 0.235 0.095 0.032]"],
    "by_hand.py": ["forward", "backward", "one SGD step", "0.6267427183   0.6267427183", "the loss falls"],
    "optimizers.py": ["gradient descent", "SGD", "momentum", "AdaGrad", "Adam", "w = (2.018, -0.978)"],
    "regularization.py": ["variance", "too small", "too large", "L2", "dropout", "early stopping"],
    "digits.py": ["accuracy", "neighbours", "confusion matrix", "misclassified"],
    "regression.py": ["R^2", "-0.98  0.52", "line", "network", "predictions times 2"],
    "custom.py": [
        "snake:    off by",
        "mistaken: snake: the derivative is off by 1.4",
        "snake  error within",
        "beyond",
    ],
    "ensemble.py": ["8 networks, 200 epochs each", "gap     the members disagree by 0.", "one alone by", "beyond"],
    "cartpole.py": ["64 networks of 114 weights", "generation 12: mean  78.2", "100 fresh starts", "takes"],
    "qlearning.py": ["before it has learned", "after  1200 games", "10800 training steps", "ball in column 9"],
    "gan.py": [
        "99.0% of the points",
        "around 0 centres",
        "around 8 centres",
        "3000 steps of both networks",
        "points in the end",
    ],
    "wgan.py": ["near one of 8 centres", "critic's slope", "400 steps of the generator", "points in the end"],
    "autoencoder.py": ["8 numbers for the 64 pixels", "variational autoencoder", "nats a digit", "makes of noise"],
    "siamese.py": ["two principal components     57.", "the trained network          8", "map of the digits"],
    "transfer.py": ["encoder as it is", "median of 3 choices", "            20"],
    "pinn.py": ["u'' + 0.6 u' + 4.0 u = 0", "largest error of u", "   network     exact", "   6.00"],
    "actor_critic.py": ["16 carts", "mean steps of the last 50", "500 updates and 128000 steps", "over 20 starts"],
    "reinforce.py": ["touchdown at  12.5 m/s", "85.5% soft", "1280 landings, and a training step", "a landing: time"],
    "surrogate.py": ["R^2 = 0.9", "0.23961", "evaluations", "100000 draws"],
    "cuda_kernel.py": ["2-12-2    has learnt", "R^2 = 0.999", "2-16-16-2 median 0.0", "100 % on the same side"],
    "edges.py": ["% of 1000 other images", "Before training it was 0.44", "most to a circle", "most to a cross"],
    "cnn_digits.py": ["1437 images of 8 x 8", "9,930 trainable", "test images that are moved", "is wrong about"],
    "signals.py": ["learnt early, asked late", "confusion matrix", "there is the pattern: in 8", "| score"],
    "denoise.py": ["29321 parameters", "Gaussian filter, 1.3 pixels", "median of 5 x 5", "network without bridges"],
    "fooled.py": ["accuracy on 120 digits", "trained on changed images", "20 steps", "-> "],
    "shapes_transfer.py": ["other noisy shapes are recognised", "median of 1 choices", "            30   "],
    "topics.py": [
        "164 words, 4000 sentences",
        "perplexity: ",
        "glacier  is near",
        "labelled   counts of words",
        "       200",
    ],
    "characters.py": ["table of two letters: perplexity", "epoch   training", "--- temperature 0.7", "µs a letter"],
    "gpt.py": ["30432 weights", "thousand letters a second", "A class |", "a letter takes", "the same letters: yes"],
    "lora.py": ["LoRA, rank 4", "the whole model", "the file of the adapters has", "at most", "--- merged"],
    "forecast.py": ["1136 windows of 72 hours", "the same hour last week", "linear model", "LSTM   "],
    "memory.py": ["96 networks a generation", "without memory, 82 weights", "8 recurrent units, 306", "ns a step"],
    "answers.py": ["1000 sentences with questions, 140 words", "read  2 times: ", "      100    ", "nora | "],
    "music.py": ["57 tunes with 2638 notes", "table, in C    ", "network, in 12 keys", "goes on:"],
    "side_by_side.py": ["float64    1    ", "float32 mean    ", "predict one row  float32"],
    "imbalance.py": ["2.1% break down", "balanced       one half", "true chances   by cost", "200 / 2000 = 0.10"],
    "search.py": ["12 candidates on 5 folds of 250 images", "units, alpha 0.", "128 units", " ± 0.0"],
    "uncertainty.py": ["calibration error", "with a temperature     ", "the temperature is 1.4", " 90% to 100% "],
    "table.py": [
        "7 of 10 columns used",
        "the same as 'temperature'",
        "the rule itself, without gaps             0.908",
        "hail on a Wednesday in January",
        "battery         0.0",
    ],
    "importance.py": ["weights  gradients  shuffling", "average 3", "epsilon"],
}
TIMED = {"digits.py", "cnn_digits.py", "side_by_side.py"}  # they print tables of times
NEED_SKLEARN = {"side_by_side.py", "imbalance.py", "search.py", "uncertainty.py"}
ALLOWED_IMPORTS = {
    "argparse", "fastnn", "inspect", "math", "numba", "numpy", "os", "pydoc_data", "re", "scipy", "tempfile", "time",
}  # fmt: skip


def run(name: str, *arguments: str, warnings: str = "error") -> str:
    """Run an example in a separate process and return its output."""
    if name in NEED_SKLEARN:
        pytest.importorskip("sklearn")
    package = str(Path(fastnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", warnings, str(EXAMPLES / name), "--quick", *arguments]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    # kernels that no other test has needed before are announced
    assert [line for line in result.stderr.splitlines() if not line.startswith("fastnn: compil")] == []
    return result.stdout


def tree(name: str) -> ast.Module:
    return ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))


def test_every_example_has_expected_words() -> None:
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_shows_its_results(name: str) -> None:
    output = run(name)
    missing = [words for words in EXPECTED[name] if words not in output]
    assert not missing, f"{missing} is not in what {name} printed:\n{output}"
    assert "nan" not in output.lower().split()


def test_by_hand_agrees_with_fastnn_to_rounding() -> None:
    last = run("by_hand.py").splitlines()[-1]
    assert last.startswith("largest difference: ")
    assert float(last.removeprefix("largest difference: ")) < 1e-14


def test_losses_agree_with_scikit_learns_to_rounding() -> None:
    lines = [line.split() for line in run("side_by_side.py").splitlines() if line.startswith("float64 ")]
    trainings = [line for line in lines if line[1].isdigit()]
    assert len(trainings) == 2
    for _, _, its, mine, apart, *_ in trainings:
        assert its == mine and float(apart) < 1e-10


def test_perceptron_rule_in_plain_python_ends_where_fastnn_does() -> None:
    lines = run("perceptron.py").splitlines()
    epochs = [line.split() for line in lines if len(line.split()) == 5 and line.split()[0].isdigit()]
    (rule,) = [line for line in lines if line.startswith("the same rule")]
    assert epochs[-1][-1] == "0", "the last epoch has mistakes"
    assert [float(word) for word in rule.split()[-3:]] == pytest.approx(
        [float(word) for word in epochs[-1][1:4]], abs=2e-3
    )


@pytest.mark.parametrize("name", NAMES)
def test_listed_in_the_readme_with_its_command(name: str) -> None:
    assert f"| `python examples/{name}` |" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_needs_only_fastnn_and_numpy(name: str) -> None:
    imported = set()
    for node in tree(name).body:
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= ALLOWED_IMPORTS | ({"sklearn"} if name in NEED_SKLEARN else set())


def test_music_is_written_as_midi(tmp_path: Path) -> None:
    run("music.py", "--midi", str(tmp_path))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 10
    for file in files:
        data = file.read_bytes()
        assert data[:14] == bytes.fromhex("4d546864 00000006 0000 0001 01e0")
        assert (data[14:18], int.from_bytes(data[18:22], "big")) == (b"MTrk", len(data) - 22)
        assert data[-4:] == bytes.fromhex("00ff2f00")
    # 4/4 and three quarters, C C G, each of 480 ticks
    notes = [bytes([0, 0x90, pitch, 80, 0x83, 0x60, 0x80, pitch, 0]) for pitch in (60, 60, 67)]
    assert files[0].name == "1.mid"
    assert files[0].read_bytes()[29:64] == bytes.fromhex("00ff5804 04021808") + b"".join(notes)


@pytest.mark.parametrize(
    ("metre", "notes", "message"),
    [
        ("4/4", "C D E F | G A B | c4 |]", "bars have \\[16, 12, 16\\] sixteenths, but the metre 16"),
        ("3/4", "C | D E F | G3 |]", "bars have \\[4, 12, 12\\] sixteenths, but the metre 12"),
        ("3/4", "C D/3 E | F3 |]", "bar 1: expected notes of whole sixteenths"),
        ("3/4", "C D H | F3 |]", "bar 1: expected notes .* got 'H'"),
    ],
)  # fmt: skip
def test_tunes_whose_bars_do_not_fill_the_metre_are_refused(
    metre: str, notes: str, message: str, tmp_path: Path
) -> None:
    tunes = tmp_path / "tunes.abc"
    tunes.write_text(f"X:1\nT:A tune\nM:{metre}\nL:1/4\nK:C\n{notes}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=f"ValueError: A tune.*{message}"):
        run("music.py", "--tunes", str(tunes))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_draws_a_figure(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "figure.png"
    run(name, "--plot", str(figure), warnings="default")
    assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in TIMED])
def test_prints_the_same_every_time(name: str) -> None:
    first, second = (re.sub(r"[\d.]+ (ns|us|ms|s)\b", "so long", run(name)) for _ in range(2))
    assert first == second
