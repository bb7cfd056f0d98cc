"""Confusion matrices, calibration, and the plane of two inputs: what is drawn, against plain NumPy."""

import numpy as np
import pytest

import fastnn as fnn

plot = fnn.plot


def texts(axes):
    return [text.get_text() for text in axes.texts]


def classifier(columns, last, loss="cross_entropy", inputs=2):
    model = fnn.Sequential([fnn.Input(inputs), fnn.Dense(columns, last)], seed=0)
    model.compile("sgd", loss)
    return model


# --- confusion matrix -------------------------------------------------------------------------------------


def test_a_confusion_matrix_has_counts_and_shares_of_rows(pyplot):
    axes = plot.confusion_matrix([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], names=["cat", "dog"])
    axes.figure.canvas.draw()
    assert texts(axes) == ["3\n75%", "1\n25%", "1\n50%", "1\n50%"]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0.5, 0.5]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title() == "Confusion matrix: 4 of 6 right (66.7%)"
    assert axes.figure.axes[1].get_ylabel() == "share of the true class"


@pytest.mark.parametrize(
    ("truth", "guess"),
    [
        (np.array([0, 1, 2, 1]), np.array([0, 1, 1, 1])),
        (np.array([[0], [1], [2], [1]]), np.eye(3)[[0, 1, 1, 1]] * 7.0 - 3.0),
        (np.eye(3)[[0, 1, 2, 1]], np.array([0.0, 1.0, 1.0, 1.0])),
    ],
)
def test_labels_one_hot_rows_and_scores_are_the_same(truth, guess):
    assert texts(plot.confusion_matrix(truth, guess, names=["a", "b", "c"]))[:5] == [
        "1\n100%",
        "0",
        "0",
        "0",
        "2\n100%",
    ]


def test_probabilities_of_two_classes():
    axes = plot.confusion_matrix([0, 1, 1], np.array([[0.4], [0.5], [0.1]]))
    np.testing.assert_array_equal(axes.images[0].get_array(), [[1.0, 0.0], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("columns", "last", "loss"),
    [
        (3, "softmax", "cross_entropy"),
        (3, "log_softmax", None),
        (3, None, fnn.CrossEntropy(from_logits=True)),
        (1, "sigmoid", "binary_cross_entropy"),
        (1, None, fnn.BinaryCrossEntropy(from_logits=True)),
        (1, None, "hinge"),
    ],
)
def test_models_are_asked_for_classes(columns, last, loss):
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(columns, last)], seed=0)
    if loss is not None:
        model.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(200, 2))
    kernel, bias = model.get_weights()
    scores = x @ kernel + bias
    guess = scores.argmax(1) if columns > 1 else (scores[:, 0] > 0.0).astype(int)
    truth = np.arange(200) % max(columns, 2)
    own, given = plot.confusion_matrix(truth, model, x=x), plot.confusion_matrix(truth, guess)
    assert texts(own) == texts(given)


@pytest.mark.parametrize(("classes", "shown"), [(1, 1), (12, 144), (20, 20), (40, 0)])
def test_many_classes_and_one(classes, shown):
    names = [f"a name that is much too long for a picture, number {n}" for n in range(classes)]
    axes = plot.confusion_matrix(np.arange(classes), np.arange(classes), names=names)
    assert len(axes.texts) == shown
    assert all(len(label.get_text()) <= 20 for label in axes.get_yticklabels())
    axes.figure.canvas.draw()


def test_classes_without_rows_are_blank_and_dollars_are_no_formulas(pyplot):
    _, ax = pyplot.subplots()
    axes = plot.confusion_matrix([0, 0], [0, 1], names=["$a_", "b$", "c"], ax=ax)
    assert axes is ax
    np.testing.assert_array_equal(axes.images[0].get_array().mask, [[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    ax.figure.canvas.draw()


# --- calibration ------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    found = plot.calibration([0, 1, 1, 0, 1], [0.1, 0.15, 0.9, 0.95, 1.0], bins=5)
    np.testing.assert_allclose(found.edges, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_array_equal(found.counts, [2, 0, 0, 0, 3])
    np.testing.assert_allclose(found.predicted, [0.125, np.nan, np.nan, np.nan, 0.95])
    np.testing.assert_allclose(found.observed, [0.5, np.nan, np.nan, np.nan, 2.0 / 3.0])
    assert found.error == pytest.approx((2 * 0.375 + 3 * (0.95 - 2.0 / 3.0)) / 5.0)


def test_calibration_of_several_classes_is_of_the_predicted_one():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.35, 0.33, 0.32]])
    found = plot.calibration([0, 1, 0], scores, bins=10)
    np.testing.assert_array_equal(np.flatnonzero(found.counts), [3, 7, 8])
    np.testing.assert_allclose(found.observed[[3, 7, 8]], [1.0, 1.0, 0.0])


def test_true_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    p = rng.random(100_000)
    labels = (rng.random(len(p)) < p).astype(int)
    assert plot.calibration(labels, p).error < 0.01
    assert plot.calibration(labels, np.sqrt(p)).error > 0.1


def test_the_reliability_curve(pyplot):
    truth, p = [0, 1, 1, 0, 1], [0.1, 0.15, 0.9, 0.95, 1.0]
    axes = plot.reliability(truth, p, bins=5)
    line = next(line for line in axes.get_lines() if line.get_label() == "predictions")
    np.testing.assert_allclose(line.get_xydata(), [[0.125, 0.5], [0.95, 2.0 / 3.0]])
    assert "error 32.0%" in axes.get_title()
    assert texts(axes) == ["2", "0", "0", "0", "3"]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights[0] / heights[4] == pytest.approx(2.0 / 3.0) and heights[2] == 0.0
    assert "class 1" in axes.get_xlabel() and axes.get_ylabel() == "share of class 1"
    _, ax = pyplot.subplots()
    several = plot.reliability([0, 2], np.eye(3)[[0, 1]], ax=ax)
    assert several is ax and several.get_ylabel() == "share that is right"


# --- decision boundary ------------------------------------------------------------------------------------


def lines_of(axes):
    """Return the points of all contours."""
    return np.concatenate([path.vertices for one in axes.collections for path in one.get_paths() if len(path.vertices)])


@pytest.mark.parametrize("last", ["sigmoid", None])
def test_the_boundary_of_two_classes_is_where_the_score_is_zero(last):
    loss = "binary_cross_entropy" if last else fnn.BinaryCrossEntropy(from_logits=True)
    model = classifier(1, last, loss)
    model.set_weights([np.array([[3.0], [-1.0]]), np.array([0.5])])
    axes = plot.decision_boundary(model, bounds=(-1.0, 1.0, -2.0, 2.0), names=["no", "yes"], labels=("width", "height"))
    points = np.concatenate([path.vertices for one in axes.collections[:2] for path in one.get_paths()])
    assert len(points) > 100
    assert abs(3.0 * points[:, 0] - points[:, 1] + 0.5).max() < 0.05
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width", "height")
    assert axes.get_xlim() == (-1.0, 1.0) and axes.get_ylim() == (-2.0, 2.0)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["no", "yes"]
    # right of the line the class is 1, and the colour stronger further away
    image = axes.images[0].get_array()
    assert image.shape == (200, 200, 4)
    assert (image[100, -1, :3] != image[100, 0, :3]).any()
    if last:
        assert image[100, -1, 3] > image[100, 110, 3]


def test_samples_have_markers_by_class():
    model = classifier(3, "softmax")
    x = np.random.default_rng(0).normal(size=(30, 2))
    axes = plot.decision_boundary(model, x, np.arange(30) % 3, resolution=20)
    points = [one for one in axes.collections if one.get_label() in ("0", "1", "2")]
    np.testing.assert_allclose(points[1].get_offsets(), x[1::3])
    shapes = {tuple(map(tuple, one.get_paths()[0].vertices)) for one in points}
    assert len(shapes) == 3
    left, right = axes.get_xlim()
    assert left < x[:, 0].min() and right > x[:, 0].max()
    axes.figure.canvas.draw()


def test_many_classes_have_their_names_in_the_plane():
    model = classifier(12, "softmax")
    model.set_weights([3.0 * np.random.default_rng(0).normal(size=(2, 12)), np.zeros(12)])
    axes = plot.decision_boundary(model, resolution=50)
    x = np.stack(np.meshgrid(np.linspace(-1, 1, 50), np.linspace(-1, 1, 50)), -1).reshape(-1, 2)
    assert set(texts(axes)) == {str(label) for label in model.predict(x).argmax(1)}
    # each name is within its region
    for text in axes.texts:
        assert model.predict(np.array([text.get_position()])).argmax() == int(text.get_text())
    assert axes.get_legend() is None


def test_values_have_a_bar():
    model = classifier(1, None, "mse")
    x = np.random.default_rng(0).normal(size=(30, 2))
    axes = plot.decision_boundary(model, x, x[:, 0] * 5.0, resolution=20)
    values = axes.images[0].get_array()
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    corner = model.predict(np.array([[left, low], [right, high]]))[:, 0]
    np.testing.assert_allclose([values[0, 0], values[-1, -1]], corner, rtol=1e-6)
    assert axes.get_title() == "Output of sequential" and axes.figure.axes[1].get_ylabel() == "dense"
    assert axes.images[0].norm.vmax >= (x[:, 0] * 5.0).max()


def test_values_that_are_no_numbers_are_blank():
    for columns, last, loss in ((1, None, "mse"), (3, "softmax", "cross_entropy")):
        model = classifier(columns, last, loss)
        model.set_weights([np.full((2, columns), np.nan), np.zeros(columns)])
        axes = plot.decision_boundary(model, resolution=8)
        assert "(0% finite)" in axes.get_title()
        axes.figure.canvas.draw()


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plot.confusion_matrix([0, 1], [0]), "expected as many targets as predictions, got 2 and 1"),
        (lambda: plot.confusion_matrix([0, 1], np.array([0.5, np.nan])), "got 1 rows of others, first row 1"),
        (lambda: plot.confusion_matrix([0, 1], np.array([0.5, 1.5])), "from 0 to 1, got shape .* from 0.5 to 1.5"),
        (lambda: plot.confusion_matrix([0, 0.5], [0, 1]), "y_true: expected whole numbers from 0 on"),
        (lambda: plot.confusion_matrix([0, -1], [0, 1]), "y_true: expected whole numbers from 0 on"),
        (lambda: plot.confusion_matrix([], []), "y_true: expected at least one label"),
        (lambda: plot.confusion_matrix(["a"], ["b"]), "y_true: expected labels .* of whole numbers, got <U1"),
        (lambda: plot.confusion_matrix(np.ones((2, 2)), [0, 1]), "rows that are one-hot"),
        (lambda: plot.confusion_matrix([0, 1], [0, 1], names=["a"]), "names: expected a list of at least 2 names"),
        (lambda: plot.confusion_matrix([0, 1], [0, 1], x=[1]), "x: expected None unless y_pred is a model"),
        (lambda: plot.confusion_matrix([0, 1], classifier(2, "softmax")), "x: expected the model's inputs"),
        (lambda: plot.confusion_matrix([0, 1], [0, 1], label=["a"]), "unexpected keyword argument 'label'"),
        (lambda: plot.calibration([0, 1], np.ones((2, 3))), "rows of probabilities, whose sum is 1"),
        (lambda: plot.calibration([0, 3], np.eye(3)[:2]), "expected labels below 3, got 3"),
        (lambda: plot.calibration([0, 2], [0.1, 0.2]), "expected labels 0 and 1, got 2"),
        (lambda: plot.calibration([0, 1], [0.1, 0.2], bins=0), "calibration: bins"),
        (lambda: plot.decision_boundary(classifier(2, "softmax", inputs=3)), r"inputs of shape \(2,\), got \(3,\)"),
        (lambda: plot.decision_boundary(fnn.Sequential([fnn.Dense(2)])), "has no shapes and weights yet"),
        (lambda: plot.decision_boundary(classifier(2, "softmax"), np.ones((3, 3))), r"x: expected shape \(n, 2\)"),
        (lambda: plot.decision_boundary(classifier(2, "softmax"), y=[1]), "y: expected one for each sample of x"),
        (
            lambda: plot.decision_boundary(classifier(2, "softmax"), bounds=(0, 0, 1, 2)),
            "bounds: expected left < right",
        ),
        (lambda: plot.decision_boundary(classifier(2, "softmax"), bounds=(0, 1)), "bounds: expected four numbers"),
        (lambda: plot.decision_boundary(classifier(2, "softmax"), labels=["a"]), "labels: expected two"),
        (lambda: plot.decision_boundary(classifier(2, "softmax"), resolution=1), "resolution"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call()
