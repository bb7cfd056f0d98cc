"""The code of the guides runs as it stands, and docs/errors.md shows the errors that fastnn raises."""

import fnmatch
import re
import warnings
from pathlib import Path

import pytest

import fastnn as fnn

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = {
    "start.md": "0.87 < model.evaluate(X_test, y_test)['accuracy'] and abs(metres[0, 0] - 40.76) < 1.0",
    "pytorch.md": "accuracy > 0.87 and 0.0 < last < 1.0 and net.predict(X[:5]).argmax(axis=1).tolist() == [9] * 5",
    "sklearn.md": "min(accuracy_of_pipeline, score, search.best_score_, line[-1].best_validation_score_) > 0.87 "
    "and min(accuracy) > 0.8 and len(line[-1].validation_loss_curve_) == line[-1].n_iter_ and "
    "np.allclose(copy.predict(X[:9, :4])[:, 0], fitted.predict(X[:9, :4]), atol=1e-4)",
}
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
PIECES = re.findall(r"^```python\n(.*?)^```(?:\n\n^```text\n(.*?)^```)?", ERRORS, re.MULTILINE | re.DOTALL)


def code_of(page: str) -> str:
    """Return the pieces of code of a page, which go on where the last one stopped."""
    text = (DOCS / page).read_text(encoding="utf-8")
    # Numba keeps no function of a string on disk
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace(", cache=True", "")


@pytest.mark.parametrize("page", GUIDES)
def test_the_code_of_a_guide_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "sklearn.md":
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code_of(page), names)
    assert eval(GUIDES[page], names), page


@pytest.mark.parametrize(("code", "message"), PIECES[1:], ids=[piece[1][:50].strip() for piece in PIECES[1:]])
def test_an_error_is_what_the_page_shows(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message, f"no error is shown for:\n{code}"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(PIECES[0][0], names)
    with pytest.raises((Exception, Warning)) as raised, warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(code, names)
    kinds = {kind.__name__ for kind in type(raised.value).__mro__}
    kind, _, words = message.strip().partition(": ")
    assert kind in kinds
    pattern = re.sub(r"([\[\]?*])", r"[\1]", words).replace("...", "*")
    assert fnmatch.fnmatchcase(str(raised.value), pattern), raised.value


def test_the_front_page_has_the_figures_of_the_comparison() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    cards = text[: text.index("## Install")]
    comparison = (DOCS / "comparison.md").read_text(encoding="utf-8")
    rows = {
        "| 2-16-16-1, batch 32 |": {"2.567", "5.56", "128.23"},
        "| 4-16-2, one sample |": {"0.1145", "53.35"},
        "| 1024-4096-4096-1024, batch 512 |": {"1.13"},
    }
    shown = set(re.findall(r"\d+\.\d+", cards))
    assert shown == set().union(*rows.values())
    for start, figures in rows.items():
        (row,) = (line for line in comparison.splitlines() if line.startswith(start))
        assert figures <= set(re.findall(r"[\d.]+\d", row)), row


def test_every_page_with_code_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in DOCS.glob("*.md"):
        if "```python\n" in path.read_text(encoding="utf-8"):
            assert path.name in tests, f"no test runs the code of docs/{path.name}"


def test_names_of_the_start_exist() -> None:
    for page in (*GUIDES, "errors.md", "limits.md"):
        for name in set(re.findall(r"`fnn\.([\w.]+)", (DOCS / page).read_text(encoding="utf-8"))) - {"Linear"}:
            value: object = fnn
            for part in name.split("."):
                value = getattr(value, part)
