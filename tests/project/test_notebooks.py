"""What a notebook shows of models, histories and programs: as HTML, escaped, in the page's own colours."""

from html.parser import HTMLParser

import numpy as np
import pytest

import fastnn as fnn

EVIL = "<script>alert('1')</script>&\""


class Page(HTMLParser):
    """Tags, texts of cells by row, and all text; raises if tags are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.rows, self.text, self.styles, self.open = [], set(), [], "", [], 0
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attributes):
        self.stack.append(tag)
        self.tags.add(tag)
        given = dict(attributes)
        self.styles.append(given.get("style") or "")
        self.open += tag == "details" and "open" in given
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.stack and self.stack[-1] in ("td", "th"):
            self.rows[-1][-1] += data


TAGS = {"div", "strong", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "pre"}


def page(value):
    found = Page(value._repr_html_())
    assert found.tags <= TAGS
    for style in found.styles:
        # neither letters nor grounds have a colour of their own, so that dark pages stay dark
        assert "#" not in style and "white;" not in style.replace("white-space", "") and "black" not in style
    return found


def network(**options):
    layers = [fnn.Dense(4, "relu", name=EVIL), fnn.Dense(2, name="last")]
    return fnn.Sequential([fnn.Input(3), *layers], name=EVIL, seed=0, **options)


def test_models_are_tables_of_their_layers():
    model = network()
    model.get_layer("last").trainable = False
    found = page(model)
    assert found.rows[0] == ["layer", "class", "output shape", "parameters", "connected to"]
    assert found.rows[1:] == [
        ["input", "InputLayer", "(None, 3)", "0", ""],
        [EVIL, "Dense", "(None, 4)", "16", "input"],
        ["last", "Dense (frozen)", "(None, 2)", "10", EVIL],
    ]
    assert EVIL in found.text and "parameters: 26 (16 trainable), float32" in found.text
    assert found.open == 1 and "compiled" not in found.text


def test_models_tell_how_they_are_trained():
    model = network()
    model.compile(fnn.Adam(0.01), "mse", metrics=["mae"])
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    found = page(model)
    assert "compiled, 1 training steps" in found.text
    assert ["loss", "mse"] in found.rows and ["metrics", "['mae']"] in found.rows
    (optimizer,) = [row[1] for row in found.rows if row[0] == "optimizer"]
    assert optimizer.startswith("Adam(learning_rate=0.01, ") and "None" not in optimizer
    # it is hidden at first
    assert found.open == 1


def test_unbuilt_models_and_functions():
    model = fnn.Sequential([fnn.Dense(4, name=EVIL), fnn.Sequential([fnn.Dense(2)], name="inner")])
    model.compile("sgd", "mse")
    found = page(model)
    assert found.rows[:3] == [
        ["layer", "class", "output shape", "parameters"],
        [EVIL, "Dense", "?", "?"],
        ["inner/Dense", "Dense", "?", "?"],
    ]
    assert "not built" in found.text and "not trained" in found.text
    x = fnn.Input(3)
    assert EVIL in page(fnn.function(x, network()(x))).text


def test_long_models_are_closed_at_first():
    model = fnn.Sequential([fnn.Input(3), *(fnn.Dense(3) for _ in range(60))])
    found = page(model)
    assert found.open == 0 and len(found.rows) == 62 and "61 layers" in found.text


def test_histories_have_first_best_and_last_values():
    history = fnn.History()
    assert page(history).text == "History of 0 epochs"
    for epoch, loss in enumerate([3.0, 1.0, 2.0]):
        history.record(epoch, {"loss": loss, "accuracy": float("nan"), EVIL: 0.5})
    found = page(history)
    assert found.rows == [
        ["", "first", "best", "last"],
        ["loss", "3", "1 (epoch 2)", "2"],
        ["accuracy", "nan", "", "nan"],
        [EVIL, "0.5", "", "0.5"],
    ]
    assert found.text.startswith("History of 3 epochs")
    history.partial = {"loss": 1.0}
    assert "one more interrupted" in page(history).text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_programs_are_tables_of_records(dtype):
    model = network(dtype=dtype)
    model.compile("sgd", "mse")
    program = model.program
    found = page(program)
    assert len(found.rows) == len(program) + 1
    assert [row[1] for row in found.rows[1:]] == [str(kernel) for kernel in program.kernels]
    assert EVIL in {row[2] for row in found.rows}
    # all that `print` shows is there, but hidden at first
    assert str(program) in found.text and found.open == 0
    assert repr(program) == f"<{str(program).splitlines()[0]}>"


def test_nothing_is_computed_for_a_table(monkeypatch):
    model = network()
    model.compile("sgd", "mse")
    for name in ("fastnn.model.inspection.build", "fastnn.model.inspection.program"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("a program was made"))
    assert len(page(model).rows) == 4 + 3
