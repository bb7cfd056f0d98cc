"""README.md and the other documents are true: commands, code, names and links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn as fnn

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += [*sorted((CHECKOUT / "docs").glob("*.md")), CHECKOUT / "examples" / "README.md"]
README = DOCUMENTS[0].read_text(encoding="utf-8")
INTERFACE = (CHECKOUT / "docs" / "interface.md").read_text(encoding="utf-8")


def blocks(language: str, path: Path = DOCUMENTS[0]) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(code, folder):
    package = str(Path(fnn.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ten_lines_run_and_learn(tmp_path):
    code = blocks("python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    # the comment says "about 90 %"
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", run(code, tmp_path)).group(1))
    assert 0.87 < accuracy < 0.95


@pytest.mark.parametrize(
    ("path", "number", "shown"),
    [
        ("README.md", 1, "np.isfinite(states).all() and states.any()"),
        ("README.md", 2, "(network.predict(StandardScaler().fit_transform(X)).argmax(axis=1) == y).mean() > 0.98"),
        ("docs/compiled.md", 0, "np.isfinite(states).all() and states.any()"),
        ("docs/compiled.md", 1, "0 < follow(learner, 1000) < 0.01"),
        ("docs/compiled.md", 2, "(out == 3.0).all() and 0 < train(learner, X, labels, 1) < 0.3"),
        ("docs/compiled.md", 3, "np.array_equal(out, model.predict(x))"),
        ("docs/custom.md", 0, "model.predict(np.ones((2, 8))).shape == (2, 1)"),
        ("docs/gpu.md", 0, "model.evaluate(X, y)['accuracy'] > 0.9"),
        ("docs/images.md", 0, "history.history['accuracy'][-1] > 0.5"),
        ("docs/pictures.md", 0, "1e-3 < found.suggestion < 1e-1 and max(history.history['val_accuracy']) > 0.9"),
        ("docs/pictures.md", 1, "0.0 < error < 0.2 and len(axes.collections) > 2"),
        ("docs/pictures.md", 2, "len(axes.texts) == 14"),
        ("docs/sequences.md", 0, "history.history['loss'][-1] < history.history['loss'][0]"),
        ("docs/sequences.md", 1, "found.shape == (200, 1)"),
        ("docs/sequences.md", 2, "bert.predict(np.ones((2, 12), int)).shape == (2, 2)"),
        ("docs/sequences.md", 3, "len(gpt.generate([prompt, prompt[:1]], 20, seed=0)[1]) == 20"),
        ("docs/sequences.md", 4, "np.allclose(plain.predict(tokens[:, :-1]), tuned.predict(tokens[:, :-1]), 1e-4)"),
        ("docs/sequences.md", 6, "0.0 < loss < 1.0"),
        ("docs/sequences.md", 7, "history.history['loss'][-1] < 0.1 < averages.var()"),
        ("docs/sequences.md", 8, "np.array_equal(out[-1], online.predict(series[None])[0])"),
        ("docs/sequences.md", 9, "np.array_equal(written, gpt.generate([5], 12, temperature=0))"),
        ("docs/sequences.md", 5, "history.history['perplexity'][-1] < 22.0 < history.history['perplexity'][0] < 40.0"),
        ("docs/sequences.md", 10, "learned.history['loss'][-1] < learned.history['loss'][0]"),
        ("docs/tables.md", 0, "scores['accuracy'] > 0.8 and answers[0] == 'yes'"),
        ("docs/tables.md", 1, "model.predict(table.x).shape == (400, 1)"),
        ("docs/symbols.md", 0, "model.predict(np.ones((2, 8))).shape == (2, 1)"),
        ("docs/symbols.md", 1, "model.predict(np.ones((2, 4))).shape == (2, 1)"),
        ("docs/symbols.md", 2, "history.history['loss'][-1] < history.history['loss'][0]"),
        ("docs/symbols.md", 3, "history.history['loss'][-1] < history.history['loss'][0]"),
        ("docs/symbols.md", 4, "history.history['loss'][-1] < history.history['loss'][0]"),
        ("docs/symbols.md", 5, "np.isfinite(value)"),
        ("docs/symbols.md", 6, "logs['loss'] < 0.6 and logs['value'] > 0.0"),
    ],
)
def test_the_code_of_documents_runs(tmp_path, path, number, shown):
    # Numba keeps no function of a string on disk
    code = blocks("python", CHECKOUT / path)[number].replace(", cache=True", "").replace("(cache=True)", "")
    assert run(f"{code}\nimport numpy as np\nprint({shown})", tmp_path).split()[-1] == "True"


def test_the_table_of_figures_is_of_the_comparison():
    comparison = (CHECKOUT / "docs" / "comparison.md").read_text(encoding="utf-8")
    head, _, *rows = re.search(r"<!-- from docs/comparison.md -->\n(.*?)<!-- end", README, re.DOTALL)[1].splitlines()
    names = [cell.strip() for cell in head.split("|")[3:-1]]
    assert len(rows) >= 5
    for row in rows:
        what, network, time, *ratios = (cell.strip() for cell in row.split("|")[1:-1])
        kind = {
            "training step": "training",
            "training step, images": "images",
            "`predict`": "prediction",
        }.get(what, "compiled")
        section = comparison.partition(f"<!-- {kind}:")[2].partition("<!-- end")[0]
        found = re.search(rf"\| {re.escape(network)} \|(.*)\|", section)[1].split("|")
        columns = [cell.strip() for cell in section[section.index("|") :].splitlines()[0].split("|")[2:-1]]
        figures = {name: re.findall(r"[\d.e+]+", cell) for name, cell in zip(columns, found, strict=True)}
        number, unit = time.split()
        assert float(number) * {"µs": 1, "ms": 1000}[unit] == pytest.approx(float(figures["fastnn"][0]), rel=0.005)
        for name, ratio in zip(names[1:], ratios, strict=True):
            known = [cell[1] for column, cell in figures.items() if column.startswith(name) and cell]
            assert ratio == min(known, key=float, default=""), (network, name)


def test_both_commands_stand_there():
    commands = [block.strip() for block in blocks("sh")]
    assert commands == [
        "python -m pip install . && python -m fastnn",
        'python -m pip install ".[test]" && python -m pytest -n 2',
    ]


def test_ci_runs_the_readmes_test_command():
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    assert blocks("sh")[1].strip() in script.splitlines()
    assert os.access(CHECKOUT / ".ci" / "run", os.X_OK)


def test_every_name_exists():
    names = set(re.findall(r"`fnn\.([\w.]+)", INTERFACE))
    assert len(names) >= 40
    for name in names:
        value = fnn
        for part in name.split("."):
            value = getattr(value, part)
    for name in set(re.findall(r"`model\.(\w+)", INTERFACE)):
        assert hasattr(fnn.Sequential, name), f"docs/interface.md: Sequential has no {name}"


@pytest.mark.parametrize(
    ("row", "get"), [("activations", fnn.activations.get), ("metrics", fnn.metrics.get)], ids=["activations", "metrics"]
)
def test_every_string_that_names_something_does(row, get):
    cells = re.search(rf"^\| {row} \| (.*) \|$", INTERFACE, re.MULTILINE).group(1)
    for name in cells.split(", "):
        assert get(name) is not None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_repository(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name} links to {target}"
    anchors = {
        re.sub(r"[^\w -]", "", line[3:]).lower().replace(" ", "-") for line in text.splitlines() if line[:3] == "## "
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors


def test_files_that_documents_name_exist():
    """Paths in backquotes, relative to the checkout, the package or its tests."""
    package = CHECKOUT / "src" / "fastnn"
    folders = (path for folder in (package, CHECKOUT / "tests") for path in folder.rglob("*") if path.is_dir())
    roots = [CHECKOUT, CHECKOUT / "tests", package, CHECKOUT / "src", *folders]
    for name in ("docs/architecture.md", "CONTRIBUTING.md", "README.md", "docs/data.md"):
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:[\w*.-]+/)*[\w*.-]+\.(?:py|md|toml))`", text):
            assert any(list(root.glob(path)) for root in roots), f"{name} names {path}"


def test_the_changelog_has_this_version():
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(fnn.__version__)}\] - (unreleased|\d{{4}}-\d\d-\d\d)$", text, re.MULTILINE)


KERAS = re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "docs/keras.md").read_text("utf-8"), re.M | re.S)


def test_the_idioms_for_keras_users_run():
    names = {"fnn": fnn}
    exec(KERAS[0], names)
    features, model = names["features"], names["model"]
    assert (features.get_weights()[0] == model.get_weights("hidden")[0]).all()
    assert not model.get_layer("hidden").trainable


def test_the_loop_for_keras_users_trains_on_its_own_loss():
    names = {}
    exec(KERAS[1], names)
    error = names["model"].predict(names["x"]) - names["y"]
    assert (error**2).mean() + error.mean() ** 2 <= names["after"] * 1.1 < 0.1 * names["before"]
