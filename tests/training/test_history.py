"""The history of a training."""

import json
import math
import sys

import pytest

from fastnn.training.history import History


@pytest.fixture
def history():
    result = History()
    result.record(0, {"loss": 1.0, "accuracy": 0.5})
    result.record(1, {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.625})
    result.record(2, {"loss": 0.25, "val_loss": 0.5})
    return result


def test_every_quantity_has_a_value_per_epoch(history):
    assert history.epoch == [0, 1, 2]
    assert history.history["loss"] == [1.0, 0.5, 0.25]
    assert history.history["accuracy"] == pytest.approx([0.5, 0.75, math.nan], nan_ok=True)
    assert history.history["val_loss"] == pytest.approx([math.nan, 0.625, 0.5], nan_ok=True)


def test_finished_epoch_replaces_the_partial_one(history):
    history.partial = {"loss": 0.3}
    assert "interrupted" in repr(history)
    history.record(3, {"loss": 0.125})
    assert history.partial is None


def test_repr():
    history = History()
    assert repr(history) == "<History: 0 epochs>"
    history.record(0, {"loss": 1 / 3})
    assert repr(history) == "<History: 1 epoch, loss 0.3333>"
    history.record(1, {"loss": 1e-7})
    assert repr(history) == "<History: 2 epochs, loss 0.3333 -> 1e-07>"


def test_dict_round_trip(history):
    history.partial = {"loss": 2.0}
    data = json.loads(json.dumps(history.to_dict()))
    assert repr(History.from_dict(data).to_dict()) == repr(history.to_dict())
    data["history"]["loss"].append(1.0)
    with pytest.raises(ValueError, match=r"history\['loss'\] has 4 values for 3 epochs"):
        History.from_dict(data)


@pytest.mark.parametrize("data", [{}, 3, {"epoch": [0], "history": [], "partial": None}, {"epoch": ["a"]}])
def test_other_dicts_are_refused(data):
    with pytest.raises(ValueError, match=r"dict of History\.to_dict"):
        History.from_dict(data)


def test_plot_draws_every_quantity_with_its_validation(history):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = history.plot()
    assert [[line.get_label() for line in ax.get_lines()] for ax in axes] == [
        ["loss", "val_loss"],
        ["accuracy"],
    ]
    assert list(axes[0].get_lines()[0].get_xdata()) == [1, 2, 3]
    _, ax = pyplot.subplots()
    assert history.plot(ax) is ax
    assert len(ax.get_lines()) == 3
    pyplot.close("all")


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib", reason="figures need matplotlib, the extra `plot`")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_plot_marks_the_best_epoch_of_the_validation(history, pyplot):
    losses, accuracies = history.plot()
    # the best accuracy is the training's, since there is no other; the third epoch has none
    assert legend(losses) == ["loss", "val_loss", "best: 0.5, epoch 3"]
    assert legend(accuracies) == ["accuracy", "best: 0.75, epoch 2", "accuracy: not finite from epoch 3 on"]
    (marked,) = [one for one in losses.collections if len(one.get_offsets()) and one.get_label().startswith("best")]
    assert marked.get_offsets().tolist() == [[3.0, 0.5]]
    assert losses.get_xlabel() == "epoch" and losses.get_ylabel() == "loss"
    assert {line.get_linestyle() for line in losses.get_lines()} == {"-", "--"}
    losses.figure.canvas.draw()


def test_plot_of_epochs_without_a_validation_is_one_line(pyplot):
    history = History()
    for epoch in range(40):
        history.record(epoch, {"loss": 1.0 / (epoch + 1), **({"val_loss": 2.0} if epoch % 3 == 0 else {})})
    (axes,) = history.plot()
    assert axes.get_lines()[1].get_xdata().tolist() == list(range(1, 41, 3))


def test_plot_of_some_quantities_on_a_logarithmic_axis(history, pyplot):
    (axes,) = history.plot(names=["loss"], log=True)
    assert axes.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"names: expected some of \['loss', 'accuracy'\], got \['val_loss'\]"):
        history.plot(names=["val_loss"])
    with pytest.raises(ValueError, match="names: expected some of"):
        history.plot(names=[])


@pytest.mark.parametrize(("rates", "scale"), [([0.1, 0.05, 0.04], "linear"), ([0.1, 0.01, 0.001], "log")])
def test_plot_of_learning_rates(rates, scale, pyplot):
    history = History()
    for epoch, rate in enumerate(rates):
        history.record(epoch, {"loss": 1.0, "learning_rate": rate})
    axes = history.plot()[1]
    assert axes.get_yscale() == scale and legend(axes) == ["learning_rate"]
    assert axes.get_ylabel() == "learning rate"


def test_plot_of_one_epoch_of_nan_and_of_names_like_formulas(pyplot):
    history = History()
    history.record(0, {"loss": math.nan, "a_quantity_with_a_name_that_is_far_too_long_$^": 1.0})
    axes = history.plot()
    assert legend(axes[0]) == ["loss", "loss: not finite from epoch 1 on"]
    axes[0].figure.canvas.draw()
    assert len(axes[1].get_ylabel()) <= 31


def test_plot_of_many_quantities_has_rows(pyplot):
    history = History()
    history.record(0, {f"quantity{number}": float(number) for number in range(7)})
    axes = history.plot()
    assert len(axes) == 7 and len({one.get_position().y0 for one in axes}) == 3


def test_plot_names_what_is_missing(history, monkeypatch):
    with pytest.raises(ValueError, match="no epoch"):
        History().plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"History.plot needs matplotlib: python -m pip install .fastnn-numba\[plot\]"
    ):
        history.plot()


def test_a_signal_handler_saves_whole_epochs():
    """Python calls a profiler where functions are entered and left, as it may call a signal handler."""
    history, seen = History(), []
    sys.setprofile(lambda *arguments: seen.append(history.to_dict()))
    try:
        history.record(0, {"loss": 1.0, "mae": 2.0})
        history.record(1, {"loss": 0.5, "extra": 3.0})
    finally:
        sys.setprofile(None)
    assert {tuple(one["epoch"]) for one in seen} == {(), (0,), (0, 1)}
    for one in seen:
        History.from_dict(one)
