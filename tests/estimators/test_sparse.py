"""Sparse data: made dense a batch at a time if they are large, with the results of dense ones."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline

import fastnn as fnn
import fastnn.sklearn as fsk
from fastnn.sklearn import data, minimize

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(150, 30, n_informative=8, n_classes=3, random_state=0)
X[np.abs(X) < 1.0] = 0.0
LABELS = np.stack([Y == 0, Y > 0, X[:, 0] > 0], axis=1).astype(int)
NUMBERS = X[:, :2] ** 2 + X[:, 2:4]
WEIGHTS = np.random.RandomState(0).rand(150)
HELD = {"X_val": X[:40], "y_val": Y[:40]}
SMALL = {"hidden_layer_sizes": (12, 6), "max_iter": 6, "random_state": 3, "batch_size": 40, "alpha": 0.5}
KINDS = [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array]


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Every sparse matrix counts as large, and predictions read eleven rows at a time."""
    monkeypatch.setattr(data, "WHOLE", 0)
    monkeypatch.setattr(data, "_BLOCK", 11 * 30 * 8)


def same(one, other):
    for name in ("coefs_", "intercepts_"):
        assert all(np.array_equal(a, b) for a, b in zip(getattr(one, name), getattr(other, name), strict=True))
    for name in ("loss_", "loss_curve_", "validation_scores_", "validation_loss_curve_", "n_iter_", "t_", "best_loss_"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "y", "weights", "held"),
    [
        ({}, Y, None, {}),
        ({"shuffle": False, "solver": "sgd"}, Y == 1, WEIGHTS, {}),
        ({"early_stopping": True}, Y, WEIGHTS, {}),
        ({"dropout": 0.3, "batch_norm": True}, LABELS, None, {}),
        ({"optimizer": fnn.AdamW(0.01, use_ema=True), "class_weight": "balanced"}, Y, None, HELD),
        ({"batch_size": 1000, "dtype": "float32"}, Y, WEIGHTS, {}),
        ({"solver": "lbfgs"}, Y, WEIGHTS, HELD),
    ],
)
@pytest.mark.filterwarnings("ignore:Got `batch_size` less")
def test_a_classifier_learns_and_predicts_the_same_bits(kind, given, y, weights, held, monkeypatch):
    monkeypatch.setattr(minimize, "_ROWS", 64)
    plain = fsk.MLPClassifier(**SMALL | given).fit(X, y, weights, **held)
    if held:
        held = held | {"X_val": kind(held["X_val"])}
    made = fsk.MLPClassifier(**SMALL | given).fit(kind(X), y, weights, **held)
    same(made, plain)
    assert np.array_equal(made.predict_proba(kind(X)), plain.predict_proba(X))
    assert np.array_equal(made.predict(kind(X[:1])), plain.predict(X[:1])) and made.score(kind(X), y) == plain.score(
        X, y
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_regressor_and_partial_fit(dtype):
    x = X.astype(dtype)
    made, plain = fsk.MLPRegressor(**SMALL), fsk.MLPRegressor(**SMALL)
    for _ in range(3):
        made.partial_fit(sparse.csr_matrix(x), NUMBERS, WEIGHTS)
        plain.partial_fit(x, NUMBERS, WEIGHTS)
    same(made, plain)
    assert made.coefs_[0].dtype == dtype and np.array_equal(made.predict(sparse.csr_matrix(x)), plain.predict(x))
    line = make_pipeline(fsk.Transformer(fsk.MLPRegressor(**SMALL))).fit(sparse.csr_matrix(x), NUMBERS)
    assert np.array_equal(line.transform(sparse.csr_matrix(x)), line.transform(x))


def test_wide_data_need_the_memory_of_a_batch(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(data, "_BLOCK", 2**22)
    rows, features = 10_000, 4_000  # 320 MB
    wide = sparse.random(rows, features, 0.002, "csr", random_state=0)
    y = np.asarray(wide[:, :50].sum(axis=1)).ravel() > 0.05
    made = fsk.MLPClassifier((4,), max_iter=2, random_state=0, early_stopping=True)
    tracemalloc.start()
    try:
        for _ in range(2):
            made.fit(wide, y).predict(wide)
            made.set_params(solver="lbfgs", early_stopping=False)
            monkeypatch.setattr(minimize, "_BYTES", 2**22)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # numbers that are not zero take 1 MB, a batch 6 MB, the rows that are held out 32 MB: they are small, and dense
    assert most < 80e6


def test_a_batch_that_is_too_large_is_refused():
    wide = sparse.csr_matrix((10, 2**40), dtype="float64")
    with pytest.raises(
        MemoryError, match="the rows of a batch are made dense, and 10 x 1099511627776 numbers would take"
    ):
        data.SparseRows(wide).take(slice(0, 10))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"activation": "identity", "dtype": "float32"},
        {"hidden_layer_sizes": (), "alpha": 0.0},
        {"batch_norm": True, "dropout": 0.3, "activation": "tanh"},
    ],
)
def test_predictions_multiply_rows_of_few_numbers_by_themselves(given, monkeypatch):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((150, 30)) < 0.07, X + 1.0, 0.0)
    made = fsk.MLPClassifier(**SMALL | given).fit(x, Y)
    monkeypatch.setattr(data.SparseRows, "take", lambda self, rows: pytest.fail("made dense"))
    found = made.predict_proba(sparse.csr_matrix(x))
    assert found.dtype == made.coefs_[0].dtype
    np.testing.assert_allclose(found, made.predict_proba(x), rtol=1e-4 if "dtype" in given else 1e-12)
    bad = sparse.csr_matrix(x)
    bad.data[3] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        made.predict(bad)
