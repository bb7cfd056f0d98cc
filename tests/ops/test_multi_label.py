"""Metrics of several labels per row, against loops written here: alone, in models of every kind, and streamed."""

import json
import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import metrics
from fastnn.config import from_config, to_config
from fastnn.registry import REGISTRY

RNG = np.random.default_rng(5)
N, K = 50, 4
Y = (RNG.random((N, K)) < [0.5, 0.3, 0.7, 0.1]).astype(np.int64)
P = np.clip(0.6 * RNG.random((N, K)) + 0.35 * Y, 0.0, 1.0)
W = RNG.random(N)
KINDS = [(0, metrics.Precision), (1, metrics.Recall), (2, metrics.F1Score)]
BY_NAME = ["precision", "recall", "f1"]
AVERAGES = ["auto", "macro", "micro", "weighted", None]


def naive_cells(y, p, weights, threshold):
    """Return true negatives, false positives, false negatives and true positives of every column."""
    cells = np.zeros((y.shape[1], 2, 2))
    for row in range(len(y)):
        for label in range(y.shape[1]):
            cells[label, int(y[row, label] > 0.5), int(p[row, label] > threshold)] += weights[row]
    return cells


def naive(y, p, which, average, weights=None, threshold=0.5):
    """Average precision, recall or F1 of labels by scikit-learn's formulas, with zero_division=0."""
    cells = naive_cells(y, p, np.ones(len(y)) if weights is None else weights, threshold)
    if average == "micro":
        cells = cells.sum(axis=0, keepdims=True)
    scores, supports = [], []
    for (_, false_positive), (false_negative, true_positive) in cells:
        predicted, actual = true_positive + false_positive, true_positive + false_negative
        precision = true_positive / predicted if predicted else 0.0
        recall = true_positive / actual if actual else 0.0
        both = precision + recall
        scores.append((precision, recall, 2 * precision * recall / both if both else 0.0)[which])
        supports.append(actual)
    if average is None:
        return np.array(scores)
    if average == "weighted":
        return np.dot(scores, supports) / sum(supports) if sum(supports) else 0.0
    return np.mean(scores)


def logit(p):
    return np.log(p) - np.log1p(-p)


def identity(activation, *layers, **more):
    """Make a model whose outputs are an activation of its inputs."""
    dense = fnn.Dense(K, activation, use_bias=False)
    model = fnn.Sequential([fnn.Input(K), dense, *layers], dtype="float64", **more)
    model.set_weights([np.eye(K)])
    return model


def concatenated():
    """Make a model of one sigmoid a column."""
    x = fnn.Input(K)
    parts = [fnn.Dense(1, "sigmoid", use_bias=False)(x) for _ in range(K)]
    model = fnn.Model(x, fnn.Concatenate()(parts), dtype="float64")
    model.set_weights([np.eye(K)[:, [column]] for column in range(K)])
    return model


# --- alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "cls"), KINDS)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("weights", [None, W])
def test_labels_are_cut_one_by_one(which, cls, average, weights):
    expected = naive(Y, P, which, average, weights)
    for y in (Y, Y.astype(float), Y == 1, 2 * Y - 1, Y.tolist(), np.where(Y == 1, 0.9, 0.2)):
        several = cls(average, multi_label=True)(y, P, weights)
        np.testing.assert_allclose(several, expected, rtol=1e-12)
    np.testing.assert_allclose(cls(average)(Y, P, weights), expected, rtol=1e-12)
    expected = naive(Y, P, which, average, weights, 0.7)
    np.testing.assert_allclose(cls(average, threshold=0.7)(Y, P, weights), expected, rtol=1e-12)
    cube = cls(average)(Y.reshape(10, 5, K), P.reshape(10, 5, K), None if weights is None else weights[:10])
    expected = naive(Y, P, which, average, None if weights is None else np.repeat(weights[:10], 5))
    np.testing.assert_allclose(cube, expected, rtol=1e-12)


def test_confusion_matrices_of_labels():
    got = metrics.ConfusionMatrix()(Y, P, W)
    assert got.shape == (K, 2, 2)
    np.testing.assert_allclose(got, naive_cells(Y, P, W, 0.5))
    np.testing.assert_allclose(metrics.ConfusionMatrix(threshold=0.8)(Y, P), naive_cells(Y, P, np.ones(N), 0.8))


def test_integer_labels_and_one_hot_targets_as_labels():
    labels = RNG.integers(0, K, N)
    one_hot = np.eye(K, dtype=int)[labels]
    for which, cls in KINDS:
        expected = naive(one_hot, P, which, "macro")
        for y in (labels, labels[:, None], one_hot):
            assert cls(multi_label=True)(y, P) == pytest.approx(expected)
            assert cls(threshold=0.5)(y, P) == pytest.approx(expected)
        # of one class a row, the highest score is predicted
        chosen = np.eye(K)[P.argmax(axis=1)]
        assert cls()(one_hot, P) == cls()(labels, P) == pytest.approx(naive(one_hot, chosen, which, "macro"))
    np.testing.assert_array_equal(metrics.ConfusionMatrix()(one_hot, P), metrics.ConfusionMatrix()(labels, P))


def test_labels_that_do_not_occur_and_weights_of_zero():
    # scikit-learn: f1_score(y, p > 0.5, average="macro", sample_weight=w, zero_division=0)
    y, p = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]]), np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.3], [0.2, 0.6, 0.1]])
    assert metrics.F1Score()(y, p) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics.F1Score("weighted")(y, p) == pytest.approx((2 * 1 + 2 / 3) / 3)
    # the second label has no row of another weight than 0, and still counts
    w = [1.0, 0.0, 0.0]
    assert metrics.F1Score()(y, p, w) == metrics.Precision()(y, p, w) == metrics.Recall()(y, p, w)
    assert metrics.F1Score()(y, p, w) == pytest.approx(1 / 3)
    assert metrics.F1Score("weighted")(y, p, w) == metrics.F1Score("micro")(y, p, w) == 1.0
    np.testing.assert_array_equal(metrics.F1Score(None)(y, p, w), [1.0, 0.0, 0.0])
    for average in ("macro", "micro", "weighted"):
        for _, cls in KINDS:
            assert cls(average)(np.zeros((3, 3)), np.zeros((3, 3))) == 0.0
            assert math.isnan(cls(average)(y, p, np.zeros(3)))
    assert np.isnan(metrics.F1Score(None)(y, p, np.zeros(3))).all()


def test_targets_of_minus_one_and_one_that_sum_to_one():
    y, p = np.array([[-1, 1, 1], [1, -1, -1]]), np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.7]])
    assert metrics.Recall(None)(y, p).tolist() == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match="row 0 has no single maximum"):
        metrics.Accuracy()(y, p)


def test_a_nan_score_predicts_nothing_of_its_label_alone():
    y, p = np.array([[1, 1], [0, 0], [1, 1]]), np.array([[np.nan, 0.9], [np.nan, 0.1], [0.8, 0.7]])
    assert metrics.Recall(None)(y, p).tolist() == [0.5, 1.0]
    assert metrics.Precision(None)(y, p).tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(metrics.ConfusionMatrix()(y, p)[0], [[0, 0], [0, 1]])


def test_one_column_as_a_label():
    y, p = Y[:, 0], P[:, 0]
    for which, cls in KINDS:
        expected = naive(Y[:, :1], P[:, :1], which, "macro")
        for average in ("auto", "binary", "macro", "micro", "weighted"):
            assert cls(average, multi_label=True)(y, p) == pytest.approx(expected)
        assert cls(None, multi_label=True)(y, p) == pytest.approx([expected])
        # else it has two classes
        assert cls(None)(y, p) == pytest.approx([naive(1 - Y[:, :1], 1 - P[:, :1], which, "macro"), expected])


def test_scores_of_every_class():
    labels = RNG.integers(0, K, N)
    one_hot, chosen = np.eye(K)[labels], np.eye(K)[P.argmax(axis=1)]
    for which, cls in KINDS:
        np.testing.assert_allclose(cls(None)(labels, P), naive(one_hot, chosen, which, None))


# rows of one label first, or last: only some batches tell that there are several
ORDER = np.argsort(Y.sum(axis=1) != 1, kind="stable")
STREAMED = [
    (Y[ORDER], P[ORDER]), (Y[ORDER[::-1]], P[ORDER[::-1]]), (np.eye(K)[RNG.integers(0, K, N)], P),
    (RNG.integers(0, K, N), P),
    (Y[ORDER].reshape(10, 5, K), P[ORDER].reshape(10, 5, K)),
]  # fmt: skip


@pytest.mark.parametrize(("y", "p"), STREAMED)
@pytest.mark.parametrize("cls", [metrics.Precision, metrics.F1Score, metrics.ConfusionMatrix])
@pytest.mark.parametrize("options", [{}, {"multi_label": True}, {"threshold": 0.6}])
def test_a_stream_gives_what_all_rows_give(y, p, cls, options):
    metric, weights = cls(**options), W[: len(y)]
    for first in range(0, len(y), 3):
        metric.update_state(y[first : first + 3], p[first : first + 3], weights[first : first + 3])
    np.testing.assert_allclose(metric.result(), metric(y, p, weights), rtol=1e-12)
    total = metric.initial(p.shape[1:])
    assert total.shape == (metric.size(p.shape[1:]),)
    metric.accumulate(total, y, p, weights)
    np.testing.assert_allclose(metric.result(total, p.shape[1:]), metric(y, p, weights), rtol=1e-12)


BAD_CALLS = [
    (
        {"multi_label": False},
        Y,
        P,
        "f1_score: y_true: expected .* one class per row; row .* multi_label=True",
    ),
    ({"average": "binary"}, Y[:, :2], P[:, :2], "no single maximum"),
    ({"average": "binary", "multi_label": True}, Y[:, :2], P[:, :2], "one output column for average='binary', got 2"),
    ({"multi_label": True}, Y + 1, P, r"targets 0 \(or -1\) and 1, or between.*for labels 1 and 2 pass y - 1"),
    ({"threshold": 0.5}, 3 * Y, P, "row .* has 3"),
    ({}, 5.0 * Y, P, "row .* has 5.0"),
    ({"multi_label": True}, Y[:, 0] + K, P, "class labels from 0 to 3"),
    ({"multi_label": True}, Y[:, :2], P, r"\(n, 4\)"),
    ({"multi_label": True}, np.full((N, K), np.nan), P, "row 0 has nan"),
]


@pytest.mark.parametrize(("options", "y", "p", "match"), BAD_CALLS)
def test_bad_calls(options, y, p, match):
    with pytest.raises(ValueError, match=match):
        metrics.F1Score(**options)(y, p)
    with pytest.raises(ValueError, match=match):
        metrics.F1Score(**options).update_state(y, p)


def test_hyperparameters():
    for cls in (metrics.Precision, metrics.ConfusionMatrix):
        with pytest.raises(TypeError, match="multi_label: expected True or False"):
            cls(multi_label=1)
    with pytest.raises(ValueError, match=r"average.*macro.*None.*'samples'"):
        metrics.Recall("samples")
    metric = metrics.Precision(None, multi_label=True)
    assert from_config(json.loads(json.dumps(to_config(metric))), REGISTRY["metric"], "metric") == metric
    with pytest.raises(ValueError, match="Precision, Recall or F1Score"):
        metrics.Accuracy()(Y, P)


# --- in models ------------------------------------------------------------------------------------------------

LOGITS = fnn.BinaryCrossEntropy(from_logits=True)
MODELS = {
    "sigmoid": (lambda: identity("sigmoid"), "bce"),
    "logits": (lambda: identity(None), LOGITS),
    "reshaped": (lambda: identity("sigmoid", fnn.Reshape((2, 2)), fnn.Flatten()), fnn.BinaryCrossEntropy()),
    "activation": (lambda: identity(None, fnn.Activation("sigmoid"), fnn.Reshape((K,))), "binary_crossentropy"),
    "concatenated": (concatenated, "bce"),
    "hinge": (lambda: identity(None), "hinge"),
    "squares of sigmoids": (lambda: identity("sigmoid", fnn.Flatten()), "mse"),
    "user-defined loss": (lambda: identity("sigmoid"), lambda t, p: (t - p) ** 4),
    "float32": (lambda: fnn.Sequential([fnn.Input(K), fnn.Activation("sigmoid")]), "bce"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_of_several_labels(case):
    make, loss = MODELS[case]
    objects = [cls(average) for _, cls in KINDS for average in ("macro", "micro", "weighted", None)]
    model = make()
    model.compile("sgd", loss, metrics=[*BY_NAME, *objects, metrics.ConfusionMatrix()], weighted_metrics=["f1"])
    got = model.evaluate(logit(P), Y, sample_weight=W, batch_size=7)
    for (which, _), name in zip(KINDS, BY_NAME, strict=True):
        assert got[name] == pytest.approx(naive(Y, P, which, "macro"))
    values = list(got.values())[4:]
    for which, _ in KINDS:
        for average in ("macro", "micro", "weighted", None):
            np.testing.assert_allclose(values.pop(0), naive(Y, P, which, average), rtol=1e-12)
    np.testing.assert_array_equal(got["confusion_matrix"], naive_cells(Y, P, np.ones(N), 0.5))
    assert got["weighted_f1"] == pytest.approx(naive(Y, P, 2, "macro", W))


@pytest.mark.parametrize("loss", ["bce", LOGITS])
def test_a_metric_alone_agrees_with_evaluate(loss):
    model = identity("sigmoid" if loss == "bce" else None)
    for metric in (metrics.F1Score(), metrics.Recall("micro"), metrics.Precision(threshold=0.3), metrics.AUC()):
        model.compile("sgd", loss, metrics=[metric])
        p = model.predict(logit(P))
        if metric.name == "auc" or metric.parameters == (0.5,):
            p = p if loss == "bce" else 1 / (1 + np.exp(-p))
        assert model.evaluate(logit(P), Y)[metric.name] == pytest.approx(metric(Y, p))


def test_logs_of_training_are_those_of_evaluate():
    model = identity("sigmoid", seed=0)
    model.compile(fnn.SGD(0.0), "bce", metrics=["f1", metrics.F1Score(None)], weighted_metrics=["recall"])
    x = logit(P)
    logs = model.fit(x, Y, sample_weight=W, validation_data=(x, Y, W), epochs=2, batch_size=8, verbose=0).history
    assert set(logs) == {"loss", "f1", "recall", "val_loss", "val_f1", "val_recall"}
    for name in ("f1", "recall"):
        expected = naive(Y, P, 2, "macro") if name == "f1" else naive(Y, P, 1, "macro", W)
        assert logs[name] == logs[f"val_{name}"] == pytest.approx([expected] * 2)
    stepped = model.train_on_batch(x, Y)
    assert stepped["f1"] == pytest.approx(naive(Y, P, 2, "macro"))
    assert set(stepped) == {"loss", "f1", "recall"}


def test_classes_stay_classes():
    labels = RNG.integers(0, K, N)
    one_hot, chosen = np.eye(K)[labels], np.eye(K)[P.argmax(axis=1)]
    expected = naive(one_hot, chosen, 2, "macro")
    for activation, loss, y in (
        ("softmax", "cross_entropy", labels), ("softmax", "categorical_crossentropy", one_hot),
        (None, fnn.CrossEntropy(from_logits=True), one_hot), (None, "mse", one_hot), ("softmax", "mse", one_hot),
    ):  # fmt: skip
        model = identity(activation)
        model.compile("sgd", loss, metrics=["f1", metrics.F1Score(), metrics.F1Score(multi_label=False)])
        assert list(model.evaluate(P, y).values())[1:] == pytest.approx([expected] * 3)
    # "accuracy" of several sigmoids is Keras': that of the highest score
    model = identity("sigmoid")
    model.compile("sgd", "bce", metrics=["accuracy", metrics.F1Score(multi_label=False)])
    got = model.evaluate(logit(P), one_hot)
    assert got["accuracy"] == pytest.approx((P.argmax(axis=1) == labels).mean())
    assert got["f1_score"] == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"for f1_score.*no single maximum; .* pass multi_label=True"):
        (model.compile("sgd", "bce", metrics=[metrics.F1Score(multi_label=False)]), model.evaluate(P, Y))


@pytest.mark.parametrize("activation", ["softmax", None])
def test_classes_as_labels(activation):
    labels = RNG.integers(0, K, N)
    model = identity(activation)
    loss = fnn.CrossEntropy(from_logits=activation is None)
    model.compile("sgd", loss, metrics=[metrics.Precision(multi_label=True), metrics.Precision(None, multi_label=True)])
    x = 4 * P
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    for y in (labels, np.eye(K)[labels]):
        macro, each = list(model.evaluate(x, y).values())[1:]
        assert macro == pytest.approx(naive(np.eye(K)[labels], p, 0, "macro"))
        np.testing.assert_allclose(each, naive(np.eye(K)[labels], p, 0, None))


def test_sequences_and_two_outputs():
    x = fnn.Input((5, K))
    model = fnn.Model(
        x, [fnn.Activation("sigmoid", name="tags")(x), fnn.Activation("softmax", name="kind")(x)], dtype="float64"
    )
    model.compile("sgd", {"tags": "bce", "kind": "cross_entropy"}, metrics=["f1"], weighted_metrics=["precision"])
    labels, w = RNG.integers(0, K, (10, 5)), W[:10]
    got = model.evaluate(logit(P).reshape(10, 5, K), {"tags": Y.reshape(10, 5, K), "kind": labels}, sample_weight=w)
    assert got["tags_f1"] == pytest.approx(naive(Y, P, 2, "macro"))
    assert got["tags_precision"] == pytest.approx(naive(Y, P, 0, "macro", np.repeat(w, 5)))
    chosen, one_hot = np.eye(K)[P.argmax(axis=1)], np.eye(K)[labels.reshape(-1)]
    assert got["kind_f1"] == pytest.approx(naive(one_hot, chosen, 2, "macro"))


def test_margins_of_minus_one_and_one():
    model = identity(None)
    model.compile("sgd", "perceptron", metrics=["precision", metrics.Precision(threshold=1.0)])
    got = list(model.evaluate(logit(P), 2 * Y - 1).values())[1:]
    assert got == pytest.approx([naive(Y, logit(P), 0, "macro", threshold=t) for t in (0.0, 1.0)])


def test_saving_keeps_what_was_asked_for(tmp_path):
    model = identity("sigmoid")
    chosen = [metrics.F1Score(), metrics.Recall(multi_label=False), metrics.ConfusionMatrix(), "precision"]
    y = np.eye(K)[Y.argmax(axis=1)]
    model.compile("sgd", "bce", metrics=chosen)
    model.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m")
    np.testing.assert_equal(dict(loaded.evaluate(logit(P), y)), dict(model.evaluate(logit(P), y)))


def test_binary_averages_are_refused_before_anything_runs():
    model = identity("sigmoid")
    with pytest.raises(ValueError, match="one output column for average='binary', got 4"):
        model.compile("sgd", "bce", metrics=[metrics.F1Score("binary", multi_label=True)])
    with pytest.raises(ValueError, match="one or two output columns for average='binary', got 4"):
        model.compile("sgd", "bce", metrics=[metrics.F1Score("binary")])


def test_class_weights_of_several_labels_are_refused():
    model = identity("sigmoid")
    model.compile("sgd", "bce", metrics=["f1"])
    with pytest.raises(ValueError, match="class_weight"):
        model.fit(logit(P), Y, class_weight={0: 1.0, 1: 2.0}, verbose=0)
