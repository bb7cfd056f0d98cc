"""Metrics against loops over rows written here: values, streaming, weights, ties, NaN scores, errors."""

import copy
import json
import math

import numpy as np
import pytest

import fastnn as fnn
from fastnn import losses, metrics
from fastnn.callbacks.monitor import Monitor
from fastnn.config import from_config, to_config
from fastnn.registry import REGISTRY

RNG = np.random.default_rng(1)
N, C = 60, 4
W = RNG.random(N)


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


LABELS = RNG.integers(0, C - 1, N)  # the last class never occurs
SCORES = softmax(RNG.normal(size=(N, C)) + 1.5 * np.eye(C)[LABELS])
BINARY = RNG.integers(0, 2, N)
PROBABILITY = np.clip(0.5 * RNG.random(N) + 0.4 * BINARY, 0, 1)
TARGETS = RNG.normal(size=(N, 3))
PREDICTIONS = TARGETS + 0.5 * RNG.normal(size=(N, 3))


def naive_matrix(labels, predicted, weights, n_classes):
    matrix = np.zeros((n_classes, n_classes))
    for label, guess, weight in zip(labels, predicted, weights, strict=True):
        matrix[label, guess] += weight
    return matrix


def naive_scores(labels, predicted, weights, n_classes):
    """Return precision, recall, F1 and the weight of every class; None for a class that does not occur."""
    rows = []
    for c in range(n_classes):
        both = sum(w for t, p, w in zip(labels, predicted, weights, strict=True) if t == c and p == c)
        guessed = sum(w for p, w in zip(predicted, weights, strict=True) if p == c)
        actual = sum(w for t, w in zip(labels, weights, strict=True) if t == c)
        precision = both / guessed if guessed else 0.0
        recall = both / actual if actual else 0.0
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        rows.append(((precision, recall, f1), actual, bool(guessed or actual)))
    return rows


def naive_average(labels, predicted, weights, n_classes, which, average):
    rows = naive_scores(labels, predicted, weights, n_classes)
    if average == "binary":
        return rows[1][0][which]
    if average == "macro":
        return np.mean([scores[which] for scores, _, occurs in rows if occurs])
    if average == "weighted":
        return sum(scores[which] * actual for scores, actual, _ in rows) / sum(actual for _, actual, _ in rows)
    # Every row has one label and one prediction, so all micro averages are the accuracy.
    hits = sum(w for t, p, w in zip(labels, predicted, weights, strict=True) if t == p)
    return hits / sum(weights)


@pytest.mark.parametrize("weights", [None, W])
def test_accuracy(weights):
    w = np.ones(N) if weights is None else weights
    expected = sum(w[i] for i in range(N) if max(range(C), key=lambda c: SCORES[i, c]) == LABELS[i]) / w.sum()
    for y in (LABELS, LABELS[:, None], np.eye(C)[LABELS], 2 * np.eye(C)[LABELS] - 1):
        assert metrics.Accuracy()(y, SCORES, weights) == pytest.approx(expected)
    assert metrics.TopKAccuracy(k=1)(LABELS, SCORES, weights) == pytest.approx(expected)
    expected = sum(w[i] for i in range(N) if (PROBABILITY[i] > 0.6) == BINARY[i]) / w.sum()
    for metric in (metrics.Accuracy(threshold=0.6), metrics.BinaryAccuracy(threshold=0.6)):
        for y in (BINARY, BINARY[:, None], BINARY.astype(float), BINARY == 1):
            assert metric(y, PROBABILITY, weights) == pytest.approx(expected)


def test_binary_accuracy_of_several_columns():
    y = RNG.integers(0, 2, (N, 3))
    p = RNG.random((N, 3))
    hits = [W[i] for i in range(N) for c in range(3) if (p[i, c] > 0.5) == y[i, c]]
    assert metrics.BinaryAccuracy()(y, p, W) == pytest.approx(sum(hits) / (3 * W.sum()))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_top_k_accuracy(k):
    hits = sum(W[i] for i in range(N) if LABELS[i] in np.argsort(-SCORES[i])[:k])
    assert metrics.TopKAccuracy(k=k)(LABELS, SCORES, W) == pytest.approx(hits / W.sum())


def test_ties():
    scores = [[0.4, 0.4, 0.2]] * 3
    assert metrics.Accuracy()([0, 1, 2], scores) == pytest.approx(1 / 3)
    assert metrics.TopKAccuracy(k=1)([0, 1, 2], scores) == pytest.approx(2 / 3)
    assert metrics.TopKAccuracy(k=2)([0, 1, 2], scores) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(metrics.ConfusionMatrix()([0, 1, 2], scores), [[1, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert metrics.Accuracy()([1, 0], [0.5, 0.5]) == 0.5


def test_nan_scores_are_never_correct():
    nan = math.nan
    scores = [[nan, 0.1], [0.9, nan], [nan, nan], [0.2, 0.8]]
    assert metrics.Accuracy()([0, 0, 1, 1], scores) == 0.25
    assert metrics.TopKAccuracy(k=2)([0, 1, 1, 1], scores) == 0.25
    assert metrics.TopKAccuracy(k=1)([1, 0, 0, 1], scores) == 0.25
    np.testing.assert_array_equal(metrics.ConfusionMatrix()([0, 0, 1, 1], scores), [[0, 0], [0, 1]])
    assert metrics.Recall(average="macro")([0, 0, 1, 1], scores) == 0.25
    assert metrics.Precision(average="macro")([0, 0, 1, 1], scores) == 0.5
    assert metrics.Accuracy()([0, 1], [nan, nan]) == 0.0
    assert metrics.BinaryAccuracy()([0, 1], [nan, 0.9]) == 0.5
    assert metrics.AUC()([0, 1, 0, 1], [0.1, 0.9, nan, nan]) == pytest.approx(0.25)
    for name in ("mse", "rmse", "mae", "r2", "pearson"):
        assert math.isnan(metrics.get(name)([1.0, 2.0, 4.0], [1.0, nan, 3.0]))
        assert math.isnan(metrics.get(name)([1.0, 2.0, 4.0], [nan, 1.0, 3.0]))


@pytest.mark.parametrize("weights", [None, W])
def test_confusion_matrix(weights):
    w = np.ones(N) if weights is None else weights
    expected = naive_matrix(LABELS, SCORES.argmax(axis=1), w, C)
    np.testing.assert_allclose(metrics.ConfusionMatrix()(LABELS, SCORES, weights), expected)
    expected = naive_matrix(BINARY, (PROBABILITY > 0.7).astype(int), w, 2)
    np.testing.assert_allclose(metrics.ConfusionMatrix(threshold=0.7)(BINARY, PROBABILITY, weights), expected)


@pytest.mark.parametrize("which, cls", [(0, metrics.Precision), (1, metrics.Recall), (2, metrics.F1Score)])
@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted"])
def test_precision_recall_f1(which, cls, average):
    if average != "binary":
        expected = naive_average(LABELS, SCORES.argmax(axis=1), W, C, which, average)
        assert cls(average)(LABELS, SCORES, W) == pytest.approx(expected)
    predicted = (PROBABILITY > 0.6).astype(int)
    expected = naive_average(BINARY, predicted, W, 2, which, average)
    assert cls(average, threshold=0.6)(BINARY, PROBABILITY, W) == pytest.approx(expected)
    two = np.stack([0.6 - PROBABILITY, PROBABILITY - 0.6], axis=1)
    assert cls(average)(BINARY, two, W) == pytest.approx(expected)


def test_average_auto_and_division_by_zero():
    assert metrics.F1Score()(BINARY, PROBABILITY) == metrics.F1Score("binary")(BINARY, PROBABILITY)
    assert metrics.F1Score()(LABELS, SCORES) == metrics.F1Score("macro")(LABELS, SCORES)
    assert metrics.Precision()([1, 1], [0.1, 0.2]) == 0.0
    assert metrics.Recall()([0, 0], [0.1, 0.2]) == 0.0
    assert metrics.F1Score()([0, 0], [0.1, 0.2]) == 0.0


@pytest.mark.parametrize("weights", [None, W])
def test_auc(weights):
    w = np.ones(N) if weights is None else weights
    # On a grid coarser than the thresholds, the AUC is the share of ordered pairs, ties counting half.
    score = np.round(PROBABILITY * 20) / 20
    pairs = [(i, j) for i in range(N) for j in range(N) if BINARY[i] == 1 and BINARY[j] == 0]
    won = sum(w[i] * w[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j])) for i, j in pairs)
    expected = won / sum(w[i] * w[j] for i, j in pairs)
    assert metrics.AUC()(BINARY, score, weights) == pytest.approx(expected, rel=1e-12)
    one_hot = np.eye(2)[BINARY]
    both = np.stack([1 - score, score], axis=1)
    assert metrics.AUC()(BINARY, both, weights) == pytest.approx(metrics.AUC()(one_hot, both, weights))
    assert metrics.AUC()(BINARY, PROBABILITY) == pytest.approx(metrics.AUC(2000)(BINARY, PROBABILITY), abs=0.02)


@pytest.mark.parametrize("n", [2, 200, 1000])
def test_auc_thresholds_are_as_close_as_those_of_keras(n):
    metric = metrics.AUC(num_thresholds=n)
    score = np.unique(np.concatenate([[0.0, 1.0], RNG.random(5000), 10.0 ** -RNG.uniform(0, 37, 5000)]))
    score = np.unique(np.concatenate([score, 1.0 - 10.0 ** -RNG.uniform(0, 7, 5000)]).astype(np.float32).astype(float))
    places = np.array([np.flatnonzero(_histogram(metric, one))[0] for one in score])
    assert (np.diff(places) >= 0).all()
    tied = np.diff(places) == 0
    below, above = score[:-1][tied], score[1:][tied]
    assert (above - below <= 1.0 / n).all() or n == 2
    bound = 4.0 / n + 1e-6
    smallest = np.maximum(np.minimum(below, 1.0 - above), 2.0**-53)
    assert (above - below <= np.maximum(bound * smallest, 2.0**-126)).all()


def _histogram(metric, score):
    total = metric.initial((1,))
    metric.accumulate(total, np.ones((1, 1)), np.array([[score]]))
    return total


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", [1.0, -1.0], ids=["rare", "frequent"])
def test_auc_of_rare_events(dtype, way):
    y, p = np.r_[np.zeros(990), np.ones(10)], np.linspace(1e-5, 4e-3, 1000)
    score = p if way == 1.0 else 1.0 - p[::-1]
    assert metrics.AUC()(y, score) == pytest.approx(1.0, abs=0.02)
    assert metrics.AUC()(y, score[::-1]) == pytest.approx(0.0, abs=0.02)
    # the logits of a model that ranks rightly
    x = np.linspace(-11, -6, 1000)[:, None] if way == 1.0 else np.linspace(6, 11, 1000)[:, None]
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, kernel_initializer="ones")], seed=0, dtype=dtype)
    model.compile("sgd", fnn.BinaryCrossEntropy(from_logits=True), metrics=["auc"])
    assert model.evaluate(x, y)["auc"] == pytest.approx(1.0, abs=0.02)
    p = 1.0 / (1.0 + np.exp(-x[:, 0]))
    shuffled = np.random.default_rng(0).permutation(y)
    expected = np.mean(p[shuffled == 1][:, None] > p[shuffled == 0])
    assert model.evaluate(x, shuffled)["auc"] == pytest.approx(expected, abs=0.01)


def test_auc_of_certain_and_equal_scores():
    assert metrics.AUC()([0, 1], [0.2, 0.8]) == 1.0
    assert metrics.AUC()([1, 0], [0.2, 0.8]) == 0.0
    assert metrics.AUC()([1, 0], [0.0, 0.0]) == 0.5
    assert metrics.AUC()([1, 0], [1.0, 1.0]) == 0.5
    assert math.isnan(metrics.AUC()([1, 1], [0.2, 0.8]))


@pytest.mark.parametrize("weights", [None, W])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_regression(weights, offset):
    w = np.ones(N) if weights is None else weights
    y, p = TARGETS + offset, PREDICTIONS + offset
    error = (p - y) ** 2
    mse = sum(w[i] * error[i].mean() for i in range(N)) / w.sum()
    mae = sum(w[i] * abs(p[i] - y[i]).mean() for i in range(N)) / w.sum()
    r2, pearson = [], []
    for c in range(3):
        dy = y[:, c] - (w * y[:, c]).sum() / w.sum()
        dp = p[:, c] - (w * p[:, c]).sum() / w.sum()
        r2.append(1 - (w * error[:, c]).sum() / (w * dy * dy).sum())
        pearson.append((w * dy * dp).sum() / math.sqrt((w * dy * dy).sum() * (w * dp * dp).sum()))
    assert metrics.MeanSquaredError()(y, p, weights) == pytest.approx(mse, rel=1e-12)
    assert metrics.RootMeanSquaredError()(y, p, weights) == pytest.approx(math.sqrt(mse), rel=1e-12)
    assert metrics.MeanAbsoluteError()(y, p, weights) == pytest.approx(mae, rel=1e-12)
    assert metrics.R2Score()(y, p, weights) == pytest.approx(np.mean(r2), rel=1e-8)
    assert metrics.PearsonCorrelation()(y, p, weights) == pytest.approx(np.mean(pearson), rel=1e-8)


def test_constant_columns():
    assert metrics.R2Score()([2.5, 2.5], [2.5, 2.5]) == 1.0
    assert metrics.R2Score()([2.5, 2.5], [2.0, 3.0]) == 0.0
    assert math.isnan(metrics.PearsonCorrelation()([1.0, 2.0], [3.0, 3.0]))
    assert metrics.PearsonCorrelation()([0.1, 0.2, 0.4], [-1.0, -2.0, -4.0]) == pytest.approx(-1.0)
    assert metrics.R2Score()([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == pytest.approx(0.0)


STREAMED = [
    *[(m, LABELS, SCORES) for m in ("accuracy", "precision", "recall", "f1", "auc", "confusion_matrix")],
    (metrics.TopKAccuracy(k=2), LABELS, SCORES),
    *[(m, BINARY, PROBABILITY) for m in ("accuracy", "binary_accuracy", "f1", "auc", "confusion_matrix")],
    *[(m, TARGETS, PREDICTIONS) for m in ("mse", "rmse", "mae", "r2", "pearson")],
    (metrics.Accuracy(), LABELS.reshape(12, 5), SCORES.reshape(12, 5, C)),
    (metrics.R2Score(), TARGETS.reshape(12, 5, 3), PREDICTIONS.reshape(12, 5, 3)),
]


@pytest.mark.parametrize("metric, y, p", STREAMED)
@pytest.mark.parametrize("weighted", [False, True])
def test_streaming_equals_one_shot(metric, y, p, weighted):
    metric = metrics.get(metric)
    w = W[: len(y)] if weighted else None
    whole = metric(y, p, w)
    assert metric.update_state(y, p, None) is None
    metric.reset_state()
    start = 0
    for rows in (1, 2, 7, len(y)):
        part = slice(start, start + rows)
        metric.update_state(y[part], p[part], None if w is None else w[part])
        start += rows
    np.testing.assert_allclose(metric.result(), whole, rtol=1e-10)
    metric(y[:3], p[:3])
    np.testing.assert_allclose(metric.result(), whole, rtol=1e-10)
    metric.reset_state()
    with pytest.raises(RuntimeError, match="update_state"):
        metric.result()


@pytest.mark.parametrize("metric, y, p", STREAMED)
def test_accumulators(metric, y, p):
    metric = metrics.get(metric)
    predictions = p if p.ndim > 1 else p[:, None]
    output_shape = predictions.shape[1:]
    targets = y.astype(float)[:, None] if p.ndim == 1 else y
    total = metric.initial(output_shape)
    assert total.dtype == np.float64
    assert total.shape == (metric.size(output_shape),)
    metric.accumulate(total, targets, predictions)
    np.testing.assert_allclose(metric.result(total, output_shape), metric(y, p))
    with pytest.raises(ValueError, match="shape"):
        metric.result(total[1:], output_shape)
    with pytest.raises(ValueError, match="both"):
        metric.result(total)


def test_weights_of_rows_of_sequences_and_weights_of_zero():
    y, p = LABELS.reshape(12, 5), SCORES.reshape(12, 5, C)
    w = W[:12]
    assert metrics.Accuracy()(y, p, w) == pytest.approx(metrics.Accuracy()(LABELS, SCORES, np.repeat(w, 5)))
    for name in ("accuracy", "f1", "auc"):
        assert math.isnan(metrics.get(name)(LABELS, SCORES, np.zeros(N)))
    for name in ("mse", "rmse", "mae", "r2", "pearson"):
        assert math.isnan(metrics.get(name)(TARGETS, PREDICTIONS, np.zeros(N)))


@pytest.mark.parametrize("owner", [metrics.MeanSquaredError(), metrics.Accuracy(), losses.MeanSquaredError()])
def test_data_that_evaluate_refuses(owner):
    y, p = np.array([0.0, 1.0, 1.0]), np.array([0.25, 0.5, 0.75])
    masked = np.ma.array(y, mask=[False, False, True])
    for arguments in ((masked, p), (y, np.ma.array(p, mask=masked.mask)), (y, p, masked)):
        with pytest.raises(ValueError, match="masked elements"):
            owner(*arguments)
    assert owner(np.ma.array(y), p) == owner(y, p)
    scipy = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="sparse"):
        owner(scipy.csr_matrix(y[:, None]), p)
    with pytest.raises(TypeError, match="function"):
        owner(np.ones, p)
    with pytest.raises(TypeError, match="array of numbers"):
        owner([[1.0], [1.0, 2.0]], p)


def test_a_class_of_rows_of_weight_zero_counts_in_macro_averages():
    # as scikit-learn, whose f1_score(y, p, sample_weight=w, average="macro") is 0.6667
    y, w = np.array([0, 1, 2, 0, 0, 2]), np.array([1.0, 0, 1, 1, 0, 1])
    p = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    for cls in (metrics.Precision, metrics.Recall, metrics.F1Score):
        assert cls()(y, p, w) == pytest.approx(2 / 3)
        assert cls("weighted")(y, p, w) == cls("micro")(y, p, w) == 1.0
        # a class that is only predicted, and in a row of weight 0
        assert cls()([0, 0], np.eye(2), [1.0, 0.0]) == pytest.approx(0.5)
    np.testing.assert_array_equal(metrics.ConfusionMatrix()(y, p, w), np.diag([2.0, 0.0, 2.0]))
    model = fnn.Sequential([fnn.Input(3), fnn.Flatten()])
    model.compile("sgd", "mse", weighted_metrics=["f1", metrics.ConfusionMatrix()])
    logs = model.evaluate(p, np.eye(3)[y], sample_weight=w, batch_size=2)
    assert logs["weighted_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("callback", [fnn.EarlyStopping, fnn.ReduceLROnPlateau])
def test_all_metrics_have_a_direction(callback):
    # those of the library by name, alias and class
    known = {"accuracy": "max", "auc": "max", "f1": "max", "mae": "min", "mse": "min", "precision": "max", "r2": "max"}
    known |= {"recall": "max", "rmse": "min", "pearson": "max", "r2_score": "max", "pearson_correlation": "max"}
    for name, better in known.items():
        for label in (name, f"val_{name}", f"val_weighted_{name}", f"head_{name}_2"):
            assert Monitor("Test", label).larger is (better == "max"), label
            callback(label)
    for kind in REGISTRY["metric"].values():
        assert kind.better in ("min", "max") or kind in (metrics.ConfusionMatrix, metrics.Function)
        # the name of `MeanLoss` is its loss's
        names = REGISTRY["loss"].keys() - {"Custom", "Function"} if kind is metrics.MeanLoss else {kind.name}
        for name in names if kind.better else ():
            callback(f"val_{name}")
    with pytest.raises(ValueError, match="mode="):
        callback("val_confusion_matrix")


def test_states_are_apart():
    a, b = metrics.Accuracy(), metrics.Accuracy()
    a.update_state([0, 1], [0.1, 0.9])
    c = copy.deepcopy(a)
    c.update_state([0, 1], [0.9, 0.1])
    assert (a.result(), c.result()) == (1.0, 0.5)
    with pytest.raises(RuntimeError):
        b.result()
    assert a == b
    assert hash(a) == hash(b)
    with pytest.raises(ValueError, match=r"reset_state"):
        a.update_state([0, 1], [[0.1, 0.9], [0.2, 0.8]])


BAD_CALLS = [
    (metrics.Accuracy(), [0, 4], SCORES[:2], ValueError, "accuracy: y_true: .*from 0 to 3.*row 1 has 4"),
    (metrics.Accuracy(), [0.0, 1.0], SCORES[:2], TypeError, "integer class labels"),
    (metrics.Accuracy(), [0, 1, 2], SCORES[:2], ValueError, "got 3 and 2"),
    (
        metrics.Accuracy(),
        [[1, 1, 0, 0]],
        SCORES[:1],
        ValueError,
        "row 0 has no single maximum.*BinaryAccuracy",
    ),
    (metrics.Accuracy(), [math.nan], [0.5], ValueError, "row 0 has nan"),
    (metrics.F1Score(multi_label=False), np.zeros((2, 4)), SCORES[:2], ValueError, "row 0 .*pass multi_label=True"),
    (metrics.F1Score("binary"), LABELS, SCORES, ValueError, "average='binary', got 4"),
    (metrics.TopKAccuracy(), LABELS, SCORES, ValueError, "k <= 4 classes; got k=5"),
    (metrics.TopKAccuracy(k=1), BINARY, PROBABILITY, ValueError, "two or more output columns"),
    (metrics.BinaryAccuracy(), LABELS, SCORES, ValueError, r"\(n, 4\), got \(60,\)"),
    (metrics.AUC(), BINARY, PROBABILITY + 1, ValueError, "probabilities from 0 to 1"),
    (metrics.AUC(), [0, 2], [0.1, 0.2], ValueError, "row 1 has 2"),
    (metrics.R2Score(), LABELS, SCORES, ValueError, r"\(n, 4\), got \(60,\)"),
    (metrics.R2Score(), [math.inf], [0.5], ValueError, "row 0 has inf"),
    (metrics.MeanSquaredError(), [], [], ValueError, r"got shape \(0,\)"),
]


@pytest.mark.parametrize("metric, y, p, error, match", BAD_CALLS)
def test_bad_calls(metric, y, p, error, match):
    with pytest.raises(error, match=match):
        metric(y, p)
    with pytest.raises(error, match=match):
        metric.update_state(y, p)


def test_bad_hyperparameters():
    with pytest.raises(ValueError, match=r"average.*macro.*'mean'"):
        metrics.F1Score("mean")
    with pytest.raises(ValueError, match="k"):
        metrics.TopKAccuracy(k=0)
    with pytest.raises(TypeError, match="k"):
        metrics.TopKAccuracy(k=True)
    with pytest.raises(ValueError, match="num_thresholds"):
        metrics.AUC(num_thresholds=1)
    with pytest.raises(ValueError, match="threshold"):
        metrics.Precision(threshold=math.inf)


NAMES = {
    "accuracy": "accuracy",
    "acc": "accuracy",
    "binary_accuracy": "binary_accuracy",
    "top_k_accuracy": "top_k_accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1_score",
    "f1_score": "f1_score",
    "auc": "auc",
    "confusion_matrix": "confusion_matrix",
    "mse": "mean_squared_error",
    "rmse": "root_mean_squared_error",
    "mae": "mean_absolute_error",
    "r2": "r2_score",
    "r2_score": "r2_score",
    "pearson": "pearson_correlation",
    "pearson_correlation": "pearson_correlation",
}


@pytest.mark.parametrize("name", NAMES)
def test_get(name):
    metric = metrics.get(name)
    assert metric.name == NAMES[name]
    assert metrics.get(metric) is metric
    assert metrics.get(metric.name) == metric
    metric.update_state([0, 1], [0.2, 0.8]) if name != "top_k_accuracy" else None
    config = json.loads(json.dumps(to_config(metric)))
    assert from_config(config, REGISTRY["metric"], "metric") == metric


def test_get_errors():
    with pytest.raises(ValueError, match=r"accurcy.*accuracy.*f1_score"):
        metrics.get("accurcy")
    with pytest.raises(TypeError, match="metric"):
        metrics.get(None)
