"""Estimators of `fastnn.sklearn` that train and predict on a GPU."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn.sklearn as fsk
from fastnn.sklearn import data

RNG = np.random.RandomState(0)
X, Y, WEIGHTS = RNG.rand(20, 4).astype("float32"), np.arange(20) % 3, RNG.rand(20)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
def test_a_classifier_learns_as_on_the_cpu(weights):
    found = []
    for device in ("cpu", "cuda"):
        made = fsk.MLPClassifier((5,), max_iter=2, random_state=0, batch_size=8, alpha=0.5, device=device)
        found.append(made.fit(X, Y, weights))
    here, there = found
    for one, other in zip(here.coefs_ + here.intercepts_, there.coefs_ + there.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(here.predict_proba(X), there.predict_proba(X), atol=1e-6)
    # with weights it is the mean over the rows there, here that of the batches' means
    np.testing.assert_allclose(here.loss_, there.loss_, rtol=1e-6 if weights is None else 0.02)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lbfgs_takes_the_steps_of_the_cpu():
    found = []
    for device in ("cpu", "cuda"):
        made = fsk.MLPClassifier((5,), max_iter=3, random_state=0, alpha=0.5, solver="lbfgs", device=device)
        found.append(made.fit(X, Y, WEIGHTS, X_val=X, y_val=Y))
    here, there = found
    for one, other in zip(here.coefs_ + here.intercepts_, there.coefs_ + there.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(here.loss_curve_, there.loss_curve_, rtol=1e-5)
    np.testing.assert_allclose(here.validation_loss_curve_, there.validation_loss_curve_, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
def test_sparse_rows_are_learned_as_dense_ones(weights, monkeypatch):
    monkeypatch.setattr(data, "WHOLE", 0)
    found = []
    for x in (X, csr_matrix(X)):
        made = fsk.MLPClassifier((5,), max_iter=2, random_state=0, batch_size=8, alpha=0.5, device="cuda")
        found.append(made.fit(x, Y, weights))
    dense, sparse = found
    for one, other in zip(dense.coefs_ + dense.intercepts_, sparse.coefs_ + sparse.intercepts_, strict=True):
        assert np.array_equal(one, other)
    assert dense.loss_curve_ == sparse.loss_curve_
    assert np.array_equal(dense.predict_proba(X), sparse.predict_proba(csr_matrix(X)))
