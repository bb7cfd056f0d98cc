"""Sphinx extension: a page for each example, with its picture, what it prints and its code.

The examples run when the pages are made, in two processes, and only those that changed since their page was made:
delete docs/gallery to run all again. The configuration ``gallery_size`` says how: "quick" mostly as their tests
do, with less data, in a minute together; "full" as they are, in half an hour. Each page says which it was.
"""

import ast
import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.display import status_iterator

import fastnn

LOGGER = logging.getLogger(__name__)
#: as quick with all of their data, or nearly so
WHOLE = {
    "activations", "autoencoder", "by_hand", "cartpole", "cnn_digits", "custom", "digits", "ensemble", "gan",
    "optimizers", "perceptron", "qlearning", "regression", "regularization", "reinforce", "siamese", "xor",
}  # fmt: skip
#: with less data these show nothing of what they are about
NEED_ALL_DATA = {"answers", "characters", "gpt", "lora"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("gallery_size", "quick", "env", types=(str,))
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(app: Sphinx) -> None:
    """Run the examples that have changed, and write their pages and the overview."""
    size = app.config.gallery_size
    if size not in ("quick", "full"):
        raise ExtensionError(f"gallery_size: expected 'quick' or 'full', got {size!r}")
    root = Path(app.srcdir).parent
    folder = Path(app.srcdir) / "gallery"
    folder.mkdir(exist_ok=True)
    readme = _read(root / "examples" / "README.md")
    rows = re.findall(r"^\| `python examples/(\w+)\.py` \| (.+) \|$", readme, re.MULTILINE)
    waiting = {name for name, _ in rows if _mark(root, name, size) not in _read(folder / f"{name}.md")}
    with ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(_page, root, folder, name, size) for name, _ in rows if name in waiting}
        for name in status_iterator(runs, "running examples ... ", "darkgreen", len(runs), app.verbosity):
            runs[name].result()
    for path in folder.iterdir():
        if path.stem not in {name for name, _ in rows} and path.name != "index.md":
            path.unlink()
    _update(folder / "index.md", _overview(folder, rows, readme))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _update(path: Path, text: str) -> None:
    if _read(path) != text:
        path.write_text(text, encoding="utf-8")


def _mark(root: Path, name: str, size: str) -> str:
    """Return the line of a page that says what it was made of."""
    made_of = [root / "examples" / f"{name}.py", *sorted((root / "examples").glob("*.abc"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()[:16]
    return f"<!-- made of {digest}, fastnn {fastnn.__version__}, {size} -->"


def _page(root: Path, folder: Path, name: str, size: str) -> None:
    code = _read(root / "examples" / f"{name}.py")
    first, _, about = (ast.get_docstring(ast.parse(code)) or name).partition("\n")
    title, _, more = first.rstrip(".").partition(": ")
    quick, shown = size == "quick" and name not in WHOLE, size == "full" or name not in NEED_ALL_DATA
    lines = [_mark(root, name, size), f"# {title}", "", *([f"{more[0].upper()}{more[1:]}.", ""] if more else [])]
    lines += [about.strip(), ""]
    if not shown:
        lines += [f"Only a run with all of its data shows something, in minutes: `python examples/{name}.py`.", ""]
    else:
        output, seconds = _run(root, name, folder / f"{name}.png", quick)
        how = "less data and fewer steps (`--quick`)" if quick else "all of its data"
        lines += [
            f"![what `examples/{name}.py` draws]({name}.png)",
            "",
            f"The picture and the output are of a run with {how}, which took {seconds:.0f} s. "
            f"Yours: `python examples/{name}.py{' --quick' if quick else ''} --plot {name}.png`.",
            "",
            "## What it prints",
            "",
            "```{code-block} none",
            output.rstrip(),
            "```",
            "",
        ]
    lines += ["## The code", "", f"````{{literalinclude}} ../../examples/{name}.py", ":language: python", "````", ""]
    (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def _run(root: Path, name: str, picture: Path, quick: bool) -> tuple[str, float]:
    package = str(Path(fastnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}
    command = [sys.executable, str(root / "examples" / f"{name}.py"), "--plot", str(picture), *["--quick"] * quick]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    if done.returncode:
        raise ExtensionError(f"examples/{name}.py failed:\n{done.stderr}")
    return done.stdout, time.perf_counter() - began


def _overview(folder: Path, rows: list[tuple[str, str]], readme: str) -> str:
    introduction = readme.partition("\n\n")[2].partition("\n\n|")[0]
    lines = ["# Examples", "", introduction, "", "::::{grid} 1 2 3 3", ":gutter: 3", ""]
    for name, about in rows:
        title = _read(folder / f"{name}.md").partition("\n# ")[2].partition("\n")[0]
        lines += [":::{grid-item-card} " + title]
        lines += [f":link: {name}", ":link-type: doc"]
        if (folder / f"{name}.png").exists():
            lines += [f":img-top: {name}.png", f":img-alt: picture of {name}.py"]
        lines += ["", about, ":::", ""]
    lines += ["::::", "", "```{toctree}", ":hidden:", "", *(name for name, _ in rows), "```", ""]
    return "\n".join(lines)
