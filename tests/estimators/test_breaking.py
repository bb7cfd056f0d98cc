"""Odd data, parameters and sequences of calls: errors that say what was expected, and no silent wrong numbers."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import sklearn.neural_network as peers
from scipy.sparse import csr_matrix, issparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, learning_curve
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline

import fastnn as fnn
import fastnn.sklearn as fsk

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(60, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
BINARY = Y == 0
LABELS = np.stack([Y == 0, Y == 1], axis=1).astype(int)
NUMBERS = X @ np.arange(5.0)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0, "batch_size": 20}


def classifier(**given):
    return fsk.MLPClassifier(**SMALL | given)


def regressor(**given):
    return fsk.MLPRegressor(**SMALL | given)


def softmax(input_shape, n_outputs, seed):
    layers = [fnn.Input(input_shape), fnn.Dense(6, "relu"), fnn.Dense(n_outputs, "softmax")]
    return fnn.Sequential(layers, seed=seed)


def sigmoid(input_shape, n_outputs, seed):
    return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(n_outputs, "sigmoid")], seed=seed)


def linear(input_shape, n_outputs, seed):
    return fnn.Sequential([fnn.Input(input_shape), fnn.Dense(n_outputs)], seed=seed)


def alike(one, other):
    pairs = zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    return all(np.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in pairs)


# --- data ----------------------------------------------------------------------------------------------------------


def test_numbers_too_large_for_float32_are_refused():
    large = r"Input X contains infinity or a value too large for dtype\('float32'\)"
    for made in (classifier(dtype="float32"), classifier(dtype="float32", solver="lbfgs"), fsk.Classifier(softmax)):
        with pytest.raises(ValueError, match=large):
            made.fit(1e39 * X, Y)
        made.fit(X, Y)
        with pytest.raises(ValueError, match=large):
            made.predict(1e39 * X)
    single = classifier().fit(X.astype("float32"), Y)
    for one in (1e39 * X, csr_matrix(1e39 * X)):
        with pytest.raises(ValueError, match=large):
            single.predict(one)
    with pytest.raises(ValueError, match=large):
        fsk.Transformer(classifier(dtype="float32")).fit(X, Y).transform(1e39 * X)
    assert np.isfinite(classifier().fit(1e39 * X, Y).predict_proba(1e39 * X)).all()


def test_sparse_labels_are_predicted_sparse():
    its = peers.MLPClassifier(**SMALL).fit(X, csr_matrix(LABELS))
    mine = classifier().fit(X, csr_matrix(LABELS))
    assert issparse(mine.predict(X)) and (mine.predict(X) != its.predict(X)).nnz == 0
    assert mine.predict(X).dtype == its.predict(X).dtype
    assert mine.score(X, csr_matrix(LABELS)) == its.score(X, csr_matrix(LABELS))
    assert isinstance(mine.fit(X, LABELS).predict(X), np.ndarray)


def test_weights_of_zero_are_refused():
    with pytest.raises(ValueError, match="at least one non-zero number"):
        classifier(class_weight={0: 0, 1: 0, 2: 0}).fit(X, Y)


def test_validation_data_may_lack_classes_and_must_have_the_outputs():
    held = {"X_val": X[Y < 2], "y_val": Y[Y < 2]}
    assert len(classifier(warm_start=True).fit(X, Y, **held).fit(X, Y, **held).validation_scores_) == 10
    with pytest.raises(ValueError, match=r"y_val: expected rows of shape \(1,\), as y has, got \(2,\)"):
        regressor().fit(X, NUMBERS, X_val=X, y_val=np.stack([NUMBERS, NUMBERS], axis=1))


def test_a_fitted_estimator_holds_no_data():
    for given in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
        x, y = X.copy(), NUMBERS.copy()
        held = weakref.ref(x), weakref.ref(y)
        made = regressor(**given).fit(x, y)
        made.predict(x)
        del x, y
        gc.collect()
        assert held[0]() is None and held[1]() is None


# --- parameters ----------------------------------------------------------------------------------------------------


def test_parameters_that_mean_nothing_are_errors():
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        classifier(hidden_layer_sizes=(4.5,)).fit(X, Y)
    with pytest.raises(ValueError, match="'activation' parameter of MLPClassifier must be"):
        classifier(activation=None).fit(X, Y)
    with pytest.raises(ValueError, match="could not convert string to float"):
        classifier(dropout=["a"]).fit(X, Y)
    for wrong, said in (
        (fnn.EarlyStopping, "expected a list of callbacks"),
        ([fnn.EarlyStopping], r"callbacks\[0\] is the class EarlyStopping"),
        ("x", r"callbacks\[0\]: expected a fastnn callback"),
    ):
        with pytest.raises(TypeError, match=said):
            classifier(callbacks=wrong).fit(X, Y)


def test_numbers_may_be_bools_as_in_scikit_learn():
    given = {"max_iter": True, "learning_rate_init": True}
    assert alike(classifier(**given).fit(X, Y), peers.MLPClassifier(**SMALL | given).fit(X, Y))


@pytest.mark.parametrize("loss", ["mse", "mae", "bce", "huber"])
def test_losses_of_columns_train_more_than_two_classes(loss):
    made = classifier(loss=loss, max_iter=150, learning_rate_init=0.02, class_weight="balanced").fit(X, Y)
    assert made.score(X, Y) > 0.7 and set(made.predict(X)) <= {0, 1, 2}
    early = classifier(loss=loss, early_stopping=True).fit(X, Y)
    assert early.predict_proba(X).shape == (60, 3) and len(early.validation_scores_) == 5
    with pytest.raises(ValueError, match="unknown loss"):
        classifier(loss="none").fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("loss", ["cross_entropy", fnn.losses.CrossEntropy(from_logits=True), "kld"], ids=str)
def test_cross_entropy_of_two_classes_is_the_log_loss(loss, solver):
    plain = classifier(solver=solver).fit(X, BINARY)
    made = classifier(loss=loss, solver=solver).fit(X, BINARY)
    assert alike(made, plain) and made.loss_ == pytest.approx(plain.loss_)
    assert made.n_outputs_ == 1 and made.predict(X).dtype == bool
    # of three classes it is, too
    assert classifier(loss=loss, solver=solver).fit(X, Y).predict_proba(X).shape == (60, 3)


def test_smoothed_labels_of_two_classes():
    smooth = fnn.losses.CrossEntropy(label_smoothing=0.2)
    made = classifier(loss=smooth, solver="lbfgs", alpha=0.0).fit(X, BINARY)
    # of two classes each target is 0.9 or 0.1
    targets = np.where(np.stack([~BINARY, BINARY], axis=1), 0.9, 0.1)
    assert made.loss_ == pytest.approx(-(targets * np.log(made.predict_proba(X))).sum(axis=1).mean())
    assert not alike(made, classifier(solver="lbfgs", alpha=0.0).fit(X, BINARY))


def test_losses_that_do_not_fit_say_what_does():
    for loss in ("cross_entropy", "kl_divergence"):
        with pytest.raises(ValueError, match="is for one class per row, and y has several labels per row: use 'log_l"):
            classifier(loss=loss).fit(X, LABELS)
        with pytest.raises(ValueError, match="is for rows of y that sum to 1, and y has one column: use 'binary_cross"):
            regressor(loss=loss).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="Perceptron is of scores with a sign"):
        classifier(loss="perceptron").fit(X, Y)
    with pytest.raises(ValueError, match="'log_loss' is for classes, which MLPClassifier learns"):
        regressor(loss="log_loss").fit(X, NUMBERS)
    with pytest.raises(TypeError, match=r"as in scikit-learn it is MLPRegressor's first argument: write hidden_layer"):
        fsk.MLPRegressor((8,)).fit(X, NUMBERS)
    assert classifier(loss="squared_error").fit(X, Y).predict_proba(X).shape == (60, 3)


def test_the_loss_of_a_regressor_decides_its_outputs():
    shares = np.exp(X[:, :3]) / np.exp(X[:, :3]).sum(axis=1, keepdims=True)
    given = {"max_iter": 300, "learning_rate_init": 0.02}
    for loss in ("cross_entropy", "kld"):
        made = regressor(loss=loss, **given).fit(X, shares)
        assert made.out_activation_ == "softmax" and np.allclose(made.predict(X).sum(axis=1), 1.0)
        assert made.score(X, shares) > 0.8
    for loss in ("bce", fnn.losses.BinaryCrossEntropy(from_logits=True)):
        made = regressor(loss=loss, **given).fit(X, shares[:, 0])
        assert made.out_activation_ == "logistic" and made.score(X, shares[:, 0]) > 0.8
    counts = np.floor(np.exp(X[:, 0]))
    for loss in (fnn.losses.Poisson(), fnn.losses.Poisson(from_logits=True)):
        made = regressor(loss=loss, **given).fit(X, counts)
        assert made.out_activation_ == "exp" and made.predict(X).min() > 0.0 and made.score(X, counts) > 0.8
    wrapped = fsk.Regressor(linear, loss=fnn.losses.Poisson(from_logits=True), epochs=1, random_state=0).fit(X, counts)
    assert np.allclose(wrapped.predict(X), np.exp(wrapped.model_.predict(X)[:, 0]))


# --- trainings that go on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["warm", "partial"])
@pytest.mark.parametrize("change", [{"alpha": 5.0}, {"activation": "tanh"}, {"solver": "sgd"}], ids=str)
def test_parameters_that_are_set_between_trainings_count(how, change):
    for begun in ({}, {"alpha": 0.0}):
        found = []
        for module in (fsk, peers):
            made = module.MLPClassifier(**SMALL | begun, warm_start=how == "warm").fit(X, Y)
            made.set_params(**change)
            for _ in range(2):
                made.fit(X, Y) if how == "warm" else made.partial_fit(X, Y)
            found.append(made)
        assert alike(*found) and found[0].loss_ == pytest.approx(found[1].loss_)


def test_dropout_and_dtype_that_are_set_between_trainings_count():
    made = classifier(warm_start=True).fit(X, Y)
    plain = copy.deepcopy(made).fit(X, Y)
    assert not alike(made.set_params(dropout=0.5).fit(X, Y), plain)
    made = classifier().fit(X, Y).set_params(dtype="float32").partial_fit(X, Y)
    assert made.coefs_[0].dtype == np.float32
    same = classifier().fit(X, Y).partial_fit(X, Y)
    assert np.allclose(made.coefs_[0], same.coefs_[0], atol=1e-5)


def test_averages_of_weights_go_on_with_other_parameters():
    optimizer = fnn.SGD(0.1, use_ema=True, ema_momentum=0.9)
    made = classifier(optimizer=optimizer, alpha=1e-3).fit(X, Y)
    other = copy.deepcopy(made).set_params(alpha=1.1e-3)
    for one in (made, other):
        one.partial_fit(X, Y).partial_fit(X, Y)
    apart = np.abs(made.coefs_[0] - other.coefs_[0]).max()
    assert 0.0 < apart < 1e-5


def test_sizes_that_are_set_between_trainings_are_an_error():
    for sizes in ((3,), (6, 4), ()):
        made = classifier(warm_start=True).fit(X, Y)
        with pytest.raises(ValueError, match=r"hidden_layer_sizes: expected \(6,\), those of the weights"):
            made.set_params(hidden_layer_sizes=sizes).fit(X, Y)
        assert made.n_layers_ == 3 and made.predict(X).shape == (60,)
        assert made.set_params(warm_start=False).fit(X, Y).n_layers_ == len(sizes) + 2
    with pytest.raises(ValueError, match="batch_norm: expected False"):
        classifier().fit(X, Y).set_params(batch_norm=True).partial_fit(X, Y)


def test_early_stopping_and_solvers_may_be_set_between_trainings():
    made = classifier(warm_start=True).fit(X, Y)
    made.set_params(early_stopping=True).fit(X, Y)
    assert len(made.validation_scores_) == 5 and made.best_validation_score_ == max(made.validation_scores_)
    assert made.best_loss_ is None and len(made.loss_curve_) == 10
    made.set_params(early_stopping=False).fit(X, Y)
    assert made.best_loss_ == min(made.loss_curve_[-5:]) and made.best_validation_score_ is None
    made.set_params(solver="lbfgs").fit(X, Y)
    other = classifier(solver="lbfgs", warm_start=True).fit(X, Y).set_params(solver="adam")
    assert len(other.fit(X, Y).loss_curve_) == 10
    assert len(classifier(solver="lbfgs").fit(X, Y).set_params(solver="sgd").partial_fit(X, Y).loss_curve_) == 6


def test_a_loss_that_is_set_between_trainings_has_its_outputs():
    made = regressor(warm_start=True).fit(X, Y).set_params(loss="poisson").fit(X, Y)
    assert made.out_activation_ == "exp" and (made.predict(X) > 0.0).all()


# --- several threads -----------------------------------------------------------------------------------------------


def test_an_estimator_predicts_while_it_is_trained():
    made, faults, done = classifier().fit(X, Y), [], threading.Event()

    def follow():
        try:
            while not done.is_set():
                if not np.isfinite(made.predict_proba(X)).all():
                    raise ValueError("not finite")
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for one in threads:
        one.start()
    for _ in range(5):
        made.fit(X, Y)
        made.set_params(alpha=made.alpha * 1.5).partial_fit(X, Y)
    done.set()
    for one in threads:
        one.join()
    assert not faults


# --- functions that build networks -----------------------------------------------------------------------------------


def test_a_wrapper_learns_parts_that_lack_classes():
    made = fsk.Classifier(softmax, random_state=0)
    made.partial_fit(X[Y < 2], Y[Y < 2], classes=[0, 1, 2]).partial_fit(X, Y, classes=[2, 1, 0])
    assert made.classes_.tolist() == [0, 1, 2] and made.predict_proba(X).shape == (60, 3)
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        made.partial_fit(X, Y, classes=[0, 1])
    several = MultiOutputClassifier(fsk.Classifier(softmax, random_state=0))
    several.partial_fit(X, np.stack([Y, BINARY], axis=1), classes=[[0, 1, 2], [0, 1]])
    assert several.predict(X).shape == (60, 2)
    curve = learning_curve(fsk.Classifier(softmax), X, Y, cv=2, exploit_incremental_learning=True, train_sizes=[0.5, 1])
    assert np.isfinite(curve[2]).all()


def test_a_wrapper_of_one_class_and_of_sparse_labels():
    made = fsk.Classifier(softmax, epochs=1).fit(X, np.full(60, "ash"))
    assert made.predict(X).tolist() == ["ash"] * 60 and np.array_equal(made.predict_proba(X), np.ones((60, 1)))
    sparse = csr_matrix(LABELS)
    assert fsk.Classifier(sigmoid, epochs=1).fit(X, sparse, X_val=X, y_val=sparse).predict(X).shape == (60, 2)
    with pytest.raises(ValueError, match="several columns of classes"):
        fsk.Classifier(softmax).fit(X, np.stack([Y, Y], axis=1))


def test_a_wrapper_checks_data_as_scikit_learn_does():
    made = fsk.Classifier(softmax, epochs=1, random_state=0).fit(X, Y)
    assert made.n_features_in_ == 5
    for call in (made.predict, lambda x: made.partial_fit(x, Y)):
        with pytest.raises(ValueError, match="X has 3 features, but Classifier is expecting 5 features as input"):
            call(X[:, :3])
    assert np.array_equal(made.predict_proba(X.astype(object)), made.predict_proba(X))
    with pytest.raises(ValueError, match="not compatible with arrays of bytes/strings"):
        made.predict(X.astype(str))
    for half in ({"X_val": X}, {"y_val": Y}):
        with pytest.raises(ValueError, match="expected both or none"):
            made.fit(X, Y, **half)
    for wrong in (made.model_, "softmax"):
        with pytest.raises(TypeError, match="expected a function that returns"):
            fsk.Classifier(wrong).fit(X, Y)


def test_a_wrapper_whose_fit_failed_predicts_no_classes_of_another():
    made = fsk.Classifier(softmax, epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="no parameters"):
        made.set_params(model__depth=2).fit(X, BINARY)
    with pytest.raises(NotFittedError):
        made.predict(X)


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
def test_a_wrapper_that_goes_on_follows_its_parameters(how):
    def sized(input_shape, n_outputs, seed, units=6):
        layers = [fnn.Input(input_shape), fnn.Dense(units, "relu"), fnn.Dense(n_outputs, "softmax")]
        return fnn.Sequential(layers, seed=seed)

    def begun(**given):
        return fsk.Classifier(sized, epochs=1, random_state=0, warm_start=True, **given).fit(X, Y)

    made = begun(model__units=5)
    getattr(made.set_params(model__units=5, epochs=2, batch_size=10), how)(X, Y)
    for change, said in (
        (
            {"model__units": 8},
            "model__units: the training goes on with a model that was built with 5, got 8; `fit` with",
        ),
        (
            {"model": softmax, "model__units": 5},
            "model: the training goes on with a model that was built with <function",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            getattr(made.set_params(**change), how)(X, Y)
    assert made.set_params(warm_start=False, model=sized, model__units=8).fit(X, Y).model_.count_params() == 6 * 8 + 27
    with pytest.raises(
        ValueError, match="model__units: the training goes on with a model that was built with no value"
    ):
        getattr(begun().set_params(model__units=6), how)(X, Y)

    # what the model is compiled with counts
    still = begun(optimizer=fnn.SGD(0.1))
    before = still.model_.get_weights()
    getattr(still.set_params(optimizer=fnn.SGD(0.0), metrics=["accuracy"]), how)(X, Y)
    assert all(np.array_equal(one, other) for one, other in zip(before, still.model_.get_weights(), strict=True))
    assert len(still.history_["accuracy"]) == 1 and len(still.history_["loss"]) == 2
    adam, other = begun(), begun()
    for one, given in ((adam, {}), (other, {"optimizer": "adam", "metrics": None})):
        getattr(one.set_params(**given), how)(X, Y)
    assert np.array_equal(adam.predict_proba(X), other.predict_proba(X))


def test_a_regressor_keeps_the_shape_of_its_targets():
    column = NUMBERS[:, None]
    made = fsk.Regressor(linear, epochs=1, random_state=0).fit(X, NUMBERS, X_val=X, y_val=column)
    assert made.predict(X).shape == (60,) and made.partial_fit(X, column).predict(X).shape == (60,)
    assert made.fit(X, column).predict(X).shape == (60, 1)


def test_hidden_activations_have_the_dtype_and_take_the_data_of_the_estimator():
    made = fsk.Transformer(classifier()).fit(X, Y)
    assert made.transform(X).dtype == np.float64 and made.transform(X[:1]).shape == (1, 6)
    w, b = made.estimator_.coefs_[0], made.estimator_.intercepts_[0]
    assert np.allclose(made.transform(X), np.maximum(X @ w + b, 0.0))
    assert np.array_equal(pickle.loads(pickle.dumps(made)).transform(X), made.transform(X))
    sparse = fsk.Transformer(regressor()).fit(csr_matrix(X), NUMBERS)
    assert np.array_equal(sparse.transform(csr_matrix(X)), sparse.transform(X))
    line = make_pipeline(fsk.Transformer(classifier(dropout=0.5, batch_norm=True)), LogisticRegression())
    grid = {"transformer__estimator__alpha": [0.1, 1.0]}
    assert GridSearchCV(clone(line), grid, cv=2, error_score="raise").fit(X, Y).best_score_ > 0.2
    with pytest.raises(TypeError, match="Sparse data"):
        fsk.Transformer(fsk.Classifier(softmax)).fit(csr_matrix(X), Y)
    with pytest.raises(TypeError, match=r"expected one of fastnn\.sklearn, got LogisticRegression"):
        fsk.Transformer(LogisticRegression()).fit(X, Y)
