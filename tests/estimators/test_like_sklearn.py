"""`fastnn.sklearn`'s perceptrons beside scikit-learn's: the same losses, weights, attributes and stops."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import sklearn.neural_network as peers
from scipy.sparse import csr_matrix
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastnn.sklearn as fsk

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
LABELS = np.array(["ash", "oak", "elm"])[Y]
SEVERAL = make_multilabel_classification(120, n_features=6, n_classes=3, random_state=0)[1]
RNG = np.random.default_rng(0)
NUMBERS = X @ RNG.normal(size=(6, 2)) + 0.1 * RNG.normal(size=(120, 2))
WEIGHTS = RNG.uniform(0.0, 3.0, 120)
COUNTS = RNG.poisson(np.exp(0.2 * NUMBERS)).astype(float)
SMALL = {"hidden_layer_sizes": (9, 5), "max_iter": 12, "random_state": 3, "batch_size": 25}

CLASSIFIERS = {
    "plain": ({}, LABELS, None),
    "two classes": ({}, LABELS == "ash", None),
    "several labels": ({}, SEVERAL, None),
    "one hidden layer": ({"hidden_layer_sizes": 7}, Y, None),
    "no hidden layer": ({"hidden_layer_sizes": ()}, Y, None),
    "logistic": ({"activation": "logistic"}, Y, None),
    "tanh": ({"activation": "tanh"}, Y, None),
    "identity": ({"activation": "identity"}, Y, None),
    "alpha": ({"alpha": 1.0}, Y, None),
    "weights": ({"alpha": 1.0}, Y, WEIGHTS),
    "weights of several labels": ({}, SEVERAL, WEIGHTS),
    "in order": ({"shuffle": False}, Y, None),
    "in order, weights": ({"shuffle": False}, Y, WEIGHTS),
    "sgd": ({"solver": "sgd"}, Y, None),
    "sgd without momentum": ({"solver": "sgd", "momentum": 0.0}, Y, None),
    "sgd, plain momentum": ({"solver": "sgd", "nesterovs_momentum": False, "alpha": 0.1}, Y, None),
    "invscaling": ({"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1}, Y, None),
    "adaptive": (
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "max_iter": 60}, Y, None,
    ),
    "adam's numbers": ({"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "learning_rate_init": 0.02}, Y, None),
    "stops": ({"tol": 0.5, "n_iter_no_change": 2, "max_iter": 100}, Y, None),
    "early": ({"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3}, LABELS, None),
    "early, two classes": ({"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3}, Y == 1, None),
    "early, weights": ({"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3}, LABELS, WEIGHTS),
    "early, several labels": ({"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3}, SEVERAL, None),
    "lbfgs": ({"solver": "lbfgs"}, Y, None),
    "lbfgs, weights": ({"solver": "lbfgs", "alpha": 1.0}, LABELS, WEIGHTS),
    "lbfgs, several labels": ({"solver": "lbfgs"}, SEVERAL, None),
}  # fmt: skip
REGRESSORS = {
    "plain": ({}, NUMBERS[:, 0], None),
    "two outputs": ({"alpha": 1.0}, NUMBERS, None),
    "weights": ({"alpha": 1.0}, NUMBERS[:, 0], WEIGHTS),
    "early": ({"early_stopping": True, "max_iter": 60, "n_iter_no_change": 3}, NUMBERS[:, 0], None),
    "early, two outputs, weights": ({"early_stopping": True, "max_iter": 40}, NUMBERS, WEIGHTS),
    "sgd": ({"solver": "sgd"}, NUMBERS[:, 1], None),
    "lbfgs": ({"solver": "lbfgs", "alpha": 0.1}, NUMBERS[:, 0], None),
    "counts": ({"loss": "poisson"}, COUNTS[:, 0], None),
    "two counts": ({"loss": "poisson", "alpha": 1.0}, COUNTS, None),
    "counts, sgd, weights": ({"loss": "poisson", "solver": "sgd"}, COUNTS[:, 0], WEIGHTS),
    "counts, lbfgs": ({"loss": "poisson", "solver": "lbfgs"}, COUNTS[:, 0], None),
}


def same(mine, its, dtype):
    """Check that two fitted perceptrons have the same attributes."""
    tight = {"rtol": 1e-6, "atol": 1e-8} if dtype == "float64" else {"rtol": 2e-3, "atol": 2e-4}
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(mine, name) == getattr(its, name), name
    for ours, theirs in zip(mine.coefs_ + mine.intercepts_, its.coefs_ + its.intercepts_, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_allclose(ours, theirs, **tight)
    np.testing.assert_allclose(mine.loss_, its.loss_, rtol=1e-4 if dtype == "float32" else 1e-7)
    if its.solver != "lbfgs":
        np.testing.assert_allclose(mine.loss_curve_, its.loss_curve_, rtol=1e-3 if dtype == "float32" else 1e-7)
        for name in ("best_loss_", "validation_scores_", "best_validation_score_"):
            ours, theirs = getattr(mine, name), getattr(its, name)
            assert (ours is None) == (theirs is None), name
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, rtol=1e-3 if dtype == "float32" else 1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CLASSIFIERS)
def test_a_classifier_learns_the_same(case, dtype):
    given, y, weights = CLASSIFIERS[case]
    if dtype == "float32" and "solver" in given and given["solver"] == "lbfgs":
        pytest.skip("scikit-learn's minimizer amplifies the rounding of float32, so the steps differ")
    x = X.astype(dtype)
    mine = fsk.MLPClassifier(**SMALL | given).fit(x, y, weights)
    its = peers.MLPClassifier(**SMALL | given).fit(x, y, weights)
    same(mine, its, dtype)
    assert np.array_equal(mine.classes_, its.classes_)
    tolerance = 2e-3 if dtype == "float32" else 1e-6
    np.testing.assert_allclose(mine.predict_proba(x), its.predict_proba(x), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(mine.predict_log_proba(x), its.predict_log_proba(x), rtol=1e-2, atol=1e-2)
    if dtype == "float64":
        assert np.array_equal(mine.predict(x), its.predict(x))
        assert mine.predict(x).dtype == its.predict(x).dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", REGRESSORS)
def test_a_regressor_learns_the_same(case, dtype):
    given, y, weights = REGRESSORS[case]
    if dtype == "float32" and "solver" in given and given["solver"] == "lbfgs":
        pytest.skip("scikit-learn's minimizer amplifies the rounding of float32, so the steps differ")
    x = X.astype(dtype)
    mine = fsk.MLPRegressor(**SMALL | given).fit(x, y, weights)
    its = peers.MLPRegressor(**SMALL | given).fit(x, y, weights)
    same(mine, its, dtype)
    tolerance = 2e-3 if dtype == "float32" else 1e-6
    np.testing.assert_allclose(mine.predict(x), its.predict(x), rtol=tolerance, atol=tolerance)
    assert mine.predict(x).shape == its.predict(x).shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [Y, Y == 1], ids=["three", "two"])
def test_losses_of_data_that_are_not_scaled_are_clipped(y, dtype):
    x = (300.0 * X).astype(dtype)
    for solver in ("adam", "lbfgs"):
        given = SMALL | {"max_iter": 3, "solver": solver, "alpha": 0.0}
        mine, its = (module.MLPClassifier(**given).fit(x, y) for module in (fsk, peers))
        assert mine.loss_ == pytest.approx(its.loss_, rel=1e-2 if dtype == "float32" else 1e-4)
    # without the bound it would be larger by far
    most = -np.log(np.finfo(dtype).eps)
    assert 0.1 * most < classifier_loss(x, y) < most


def classifier_loss(x, y):
    """Return the loss of one epoch."""
    return fsk.MLPClassifier(**SMALL | {"max_iter": 1, "learning_rate_init": 1e-6}).fit(x, y).loss_


def test_several_outputs_of_lbfgs_have_one_objective():
    """scikit-learn's loss is a mean over the outputs, its gradient a sum: its minimizer sees two functions."""
    given = SMALL | {"solver": "lbfgs", "max_iter": 200}
    mine, its = fsk.MLPRegressor(**given).fit(X, NUMBERS), peers.MLPRegressor(**given).fit(X, NUMBERS)
    assert mine.loss_ <= 1.05 * its.loss_


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("how", ["partial", "warm", "warm, early", "partial after fit"])
def test_training_goes_on_the_same(kind, how):
    y = LABELS if kind == "MLPClassifier" else NUMBERS[:, 0]
    found = []
    for module in (fsk, peers):
        given = SMALL | {"warm_start": "warm" in how, "early_stopping": "early" in how, "max_iter": 4}
        made = getattr(module, kind)(**given)
        if how == "partial":
            for first in range(0, 120, 40):
                part = slice(first, first + 40)
                more = {"classes": np.unique(LABELS)} if kind == "MLPClassifier" and first == 0 else {}
                made.partial_fit(X[part], y[part], **more)
        else:
            made.fit(X, y)
            made.fit(X, y) if "warm" in how else made.partial_fit(X, y).partial_fit(X, y, WEIGHTS)
        found.append(made)
    same(*found, "float64")


def test_the_order_of_rows_is_that_of_a_random_state_of_the_users():
    states = [np.random.RandomState(5), np.random.RandomState(5)]
    found = [
        module.MLPClassifier(**SMALL | {"random_state": state}).fit(X, Y)
        for module, state in zip((fsk, peers), states, strict=True)
    ]
    same(*found, "float64")
    assert states[0].randint(1 << 30) == states[1].randint(1 << 30)


def test_sparse_data_are_those_that_are_dense():
    dense = fsk.MLPClassifier(**SMALL).fit(X, Y)
    for kind in (csr_matrix, lambda x: csr_matrix(x).tocsc()):
        sparse = fsk.MLPClassifier(**SMALL).fit(kind(X), Y)
        assert np.array_equal(sparse.coefs_[0], dense.coefs_[0])
        assert np.array_equal(sparse.predict(kind(X)), dense.predict(X))


def test_what_it_prints_and_warns_is_the_same(capsys):
    given = SMALL | {"verbose": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1}
    said = []
    for module in (fsk, peers):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.MLPClassifier(**given | {"batch_size": 500}).fit(X, Y)
        said.append((capsys.readouterr().out, [(one.category, str(one.message)) for one in caught]))
    assert said[0] == said[1]
    assert "Setting learning rate to" in said[0][0] and said[0][1][-1][0] is ConvergenceWarning


@pytest.mark.parametrize(
    "given",
    [
        {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (3, 0)}, {"solver": "rprop"}, {"alpha": -1},
        {"batch_size": 0}, {"learning_rate": "fast"}, {"learning_rate_init": 0}, {"max_iter": 0}, {"tol": -1},
        {"momentum": 2}, {"validation_fraction": 1.0}, {"beta_1": 1.0}, {"epsilon": -0.5}, {"n_iter_no_change": -1},
        {"activation": "rleu"}, {"dropout": 1.0}, {"dropout": (0.1, 0.2, 0.3)}, {"batch_norm": 2}, {"dtype": "half"},
        {"n_threads": 0}, {"device": "gpu"}, {"optimizer": "adm"}, {"class_weight": "even"}, {"loss": "none"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_parameter_is_an_error(given):
    with pytest.raises(ValueError):
        fsk.MLPClassifier(**SMALL | given).fit(X, Y)


@parametrize_with_checks(
    [
        fsk.MLPClassifier(max_iter=100),
        fsk.MLPClassifier(max_iter=100, solver="lbfgs"),
        fsk.MLPRegressor(max_iter=100),
        fsk.MLPRegressor(max_iter=100, solver="lbfgs"),
    ]
)
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_scikit_learns_own_tests_pass():
    code = [sys.executable, "-m", "pytest", "-q", "-p", "fastnn.testing.sklearn_swap", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*code, "--pyargs", "sklearn.neural_network.tests.test_mlp"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
