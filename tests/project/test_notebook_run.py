"""A newcomer's notebook, executed by a kernel as in Jupyter: what its file has in the end.

Needs the extra `notebook`; `.ci/run` runs it with the documentation.
"""

import re

import pytest

nbclient = pytest.importorskip("nbclient", reason="the extra 'notebook' is not installed")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

CELLS = {
    "data": "import fastnn as fnn\nx, y = fnn.datasets.load_digits('train')",
    "model": """
model = fnn.Sequential([fnn.Input(64), fnn.Dense(16, "relu"), fnn.Dense(10, "softmax")], seed=0)
model.compile("adam", "cross_entropy", metrics=["accuracy"])
model""",
    "summary": "model.summary()",
    "fit": "history = model.fit(x, y, epochs=3, validation_split=0.1)",
    "history": "history",
    "plot": "axes = history.plot()",
    "estimator": """
import warnings
from fastnn.sklearn import MLPClassifier
warnings.simplefilter("ignore")
estimator = MLPClassifier((16,), max_iter=4, random_state=0, verbose="bar").fit(x, y)""",
    "fitted": "estimator",
}


@pytest.fixture(scope="module")
def outputs():
    """Return the outputs of each cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    nbformat.validate(notebook)
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def test_cells_without_results_print_nothing(outputs):
    assert outputs["data"] == []
    printed = [one for found in outputs.values() for one in found if one.output_type == "stream"]
    assert [one.name for one in printed] == ["stdout"] and printed == outputs["summary"]
    assert printed[0].text.startswith("Sequential 'sequential'\nlayer")


@pytest.mark.parametrize(
    ("cell", "text", "html"),
    [
        ("model", r"<Sequential 'sequential': 1210 parameters, float32>", "<th"),
        ("history", r"<History: 3 epochs, loss .*>", "History of 3 epochs"),
        ("fitted", r"MLPClassifier\(hidden_layer_sizes=\(16,\), max_iter=4.*\)", "MLPClassifier"),
    ],
)
def test_results_are_texts_and_tables(outputs, cell, text, html):
    (found,) = outputs[cell]
    assert found.output_type == "execute_result"
    assert re.fullmatch(text, found.data["text/plain"], re.DOTALL) and html in found.data["text/html"]


@pytest.mark.parametrize(("cell", "epochs", "quantity"), [("fit", 3, "val_accuracy="), ("estimator", 4, "loss=")])
def test_progress_is_one_line_that_is_replaced(outputs, cell, epochs, quantity):
    (found,) = outputs[cell]
    assert found.output_type == "display_data"
    line = found.data["text/plain"]
    assert f"{epochs}/{epochs}" in line and quantity in line and "\n" not in line and "\r" not in line


def test_a_plot_is_one_picture(outputs):
    (found,) = outputs["plot"]
    assert found.output_type == "display_data" and len(found.data["image/png"]) > 10_000
