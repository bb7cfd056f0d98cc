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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


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


def test_the_compiled_function_runs(tmp_path):
    # Numba keeps no function of a string on disk
    code = blocks("python")[1].replace(", cache=True", "") + "\nprint(np.isfinite(states).all() and states.any())"
    assert run(code, tmp_path).strip() == "True"


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
    names = set(re.findall(r"`fnn\.([\w.]+)", README))
    assert len(names) >= 40
    for name in names:
        value = fnn
        for part in name.split("."):
            value = getattr(value, part)
    for name in set(re.findall(r"`model\.(\w+)", README)):
        assert hasattr(fnn.Sequential, name), f"README.md: Sequential has no {name}"


@pytest.mark.parametrize(
    ("row", "get"), [("activations", fnn.activations.get), ("metrics", fnn.metrics.get)], ids=["activations", "metrics"]
)
def test_every_string_that_names_something_does(row, get):
    cells = re.search(rf"^\| {row} \| (.*) \|$", README, re.MULTILINE).group(1)
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
