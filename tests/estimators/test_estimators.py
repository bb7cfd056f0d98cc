"""What `fastnn.sklearn`'s perceptrons can do besides scikit-learn's, and their copies, files and speed."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from numba import njit
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn as fnn
import fastnn.nopython as fnp
import fastnn.sklearn as fsk
from fastnn.runtime import chunking
from fastnn.runtime.runtime import Runtime
from fastnn.sklearn.data import dense
from fastnn.sklearn.sharing import threads_of
from fastnn.threads import limited
from fastnn.training.state import state_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(160, 8, n_informative=5, n_classes=3, random_state=0)
NUMBERS = X[:, :2] ** 2 + X[:, 2:4]
SMALL = {"hidden_layer_sizes": (12, 6), "max_iter": 15, "random_state": 3, "batch_size": 40}


def classifier(**given):
    return fsk.MLPClassifier(**SMALL | given)


def alike(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    )


# --- more than scikit-learn's ------------------------------------------------------------------------------------


def test_dropout_and_batch_normalization():
    plain, dropped = classifier().fit(X, Y), classifier(dropout=0.5).fit(X, Y)
    assert not alike(plain, dropped) and alike(dropped, classifier(dropout=[0.5, 0.5]).fit(X, Y))
    # nothing is dropped in predictions
    assert np.array_equal(dropped.predict_proba(X), dropped.predict_proba(X))
    normal = classifier(batch_norm=True, max_iter=60, learning_rate_init=0.01).fit(X, Y)
    assert [type(layer).__name__ for layer in normal.to_model().layers].count("BatchNorm") == 2
    assert normal.score(X, Y) > 0.8
    again = pickle.loads(pickle.dumps(normal))
    assert np.array_equal(again.predict_proba(X), normal.predict_proba(X))
    with pytest.raises(ValueError, match="lbfgs"):
        classifier(solver="lbfgs", dropout=0.1).fit(X, Y)
    with pytest.raises(ValueError, match="one for each of 2 hidden layers"):
        classifier(dropout=[0.5]).fit(X, Y)


def test_weights_of_classes():
    rare = (X[:, 0] + 0.3 * X[:, 1] > 1.5).astype(int)
    plain = classifier(max_iter=60).fit(X, rare)
    balanced = classifier(max_iter=60, class_weight="balanced").fit(X, rare)
    assert balanced.predict(X).sum() > plain.predict(X).sum()
    by_hand = classifier(max_iter=60).fit(
        X, rare, sample_weight=np.where(rare, 160 / 2 / rare.sum(), 160 / 2 / (160 - rare.sum()))
    )
    assert alike(balanced, by_hand)
    named = np.array(["no", "yes"])[rare]
    both = classifier(class_weight={"yes": 3.0}).fit(X, named, sample_weight=np.full(160, 2.0))
    assert alike(both, classifier().fit(X, named, sample_weight=2.0 + 4.0 * rare))
    with pytest.raises(ValueError, match="balanced"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])


def test_other_optimizers_losses_and_activations():
    optimizer = fnn.AdamW(0.01, clipnorm=1.0)
    made = classifier(
        optimizer=optimizer, activation=fnn.activations.GELU(), loss=fnn.CrossEntropy(label_smoothing=0.1)
    )
    first = made.fit(X, Y).loss_
    assert made.set_params(max_iter=80).fit(X, Y).loss_ < first and made.score(X, Y) > 0.9
    assert made.optimizer is optimizer and type(made._optimizer) is fnn.AdamW
    assert alike(clone(made).fit(X, Y), made)
    robust = fsk.MLPRegressor(loss="huber", activation="swish", optimizer="rmsprop", max_iter=30, random_state=0)
    assert robust.fit(X, NUMBERS).predict(X).shape == (160, 2)
    decaying = classifier(optimizer=fnn.SGD(fnn.schedules.CosineDecay(0.1, 60)))
    assert decaying.fit(X, Y).loss_curve_[-1] < decaying.loss_curve_[0]


def test_validation_data_give_a_curve_and_decide():
    train, held = slice(0, 120), slice(120, None)
    made = classifier(max_iter=40).fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert alike(made, classifier(max_iter=40).fit(X[train], Y[train]))
    assert len(made.validation_scores_) == made.n_iter_ and made.validation_scores_[-1] == made.score(X[held], Y[held])
    assert len(made.validation_loss_curve_) == made.n_iter_
    assert made.validation_loss_curve_[-1] == pytest.approx(log_loss(Y[held], made.predict_proba(X[held])), rel=1e-6)
    numbers = fsk.MLPRegressor(max_iter=5, random_state=0)
    numbers.fit(X[train], NUMBERS[train], X_val=X[held], y_val=NUMBERS[held])
    half = 0.5 * mean_squared_error(NUMBERS[held], numbers.predict(X[held]))
    assert (
        numbers.validation_loss_curve_[-1] == pytest.approx(half)
        and numbers.fit(X, NUMBERS).validation_loss_curve_ is None
    )
    early = classifier(max_iter=200, early_stopping=True, n_iter_no_change=3)
    early.fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    assert early.best_validation_score_ == max(early.validation_scores_) == early.score(X[held], Y[held])
    with pytest.raises(ValueError, match="both or none"):
        made.fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="features"):
        made.fit(X, Y, X_val=X[:, :3], y_val=Y)


def test_validation_data_go_through_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = classifier(max_iter=5).set_fit_request(X_val=True, y_val=True)
        line = make_pipeline(StandardScaler(), estimator)
        line.set_params(transform_input=["X_val"])
        line.fit(X[:120], Y[:120], X_val=X[120:], y_val=Y[120:])
    fitted = line[-1]
    assert fitted.validation_scores_[-1] == line.score(X[120:], Y[120:])


def test_callbacks_see_epochs():
    seen = []
    counting = fnn.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])))
    made = classifier(callbacks=[counting], max_iter=4, alpha=0.0).fit(X, Y)
    assert [loss for _, loss in seen] == pytest.approx(made.loss_curve_)
    stopping = fnn.EarlyStopping("loss", patience=1, min_delta=10.0)
    assert classifier(callbacks=stopping, max_iter=50).fit(X, Y).n_iter_ < 5
    scores = classifier(callbacks=fnn.EarlyStopping("val_score", mode="max", min_delta=1.0, patience=2), max_iter=50)
    assert scores.fit(X[:120], Y[:120], X_val=X[120:], y_val=Y[120:]).n_iter_ < 6


def test_an_interrupted_training_leaves_a_fitted_estimator():
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    made = classifier(callbacks=[fnn.LambdaCallback(on_epoch_end=interrupt)])
    with pytest.warns(UserWarning, match="interrupted by user"):
        made.fit(X, Y)
    assert made.n_iter_ == len(made.loss_curve_) == 3 and alike(made, classifier(max_iter=3).fit(X, Y))


def test_sparse_data_that_are_too_large_are_refused():
    wide = csr_matrix((10, 2**40), dtype="float64")
    with pytest.raises(MemoryError, match="sparse data are made dense"):
        dense(wide)


def test_the_dtype_follows_the_data_unless_it_is_given():
    assert classifier().fit(X.astype("float32"), Y).coefs_[0].dtype == "float32"
    assert classifier().fit((10 * X).astype(int), Y).coefs_[0].dtype == "float64"
    single = classifier(dtype="float32").fit(X, Y)
    assert single.coefs_[0].dtype == "float32" and single.predict_proba(X).dtype == "float32"


def test_bars(capfd):
    classifier(verbose="bar", max_iter=3).fit(X, Y)
    assert "3/3" in capfd.readouterr().err


def test_a_model_for_compiled_code():
    made = classifier().fit(X, Y)
    model = made.to_model()
    assert np.array_equal(model.predict(X), made.predict_proba(X))
    frozen, out = model.freeze(), np.empty(3)

    @njit
    def follow(net, x, out):
        fnp.predict(net, x, out)
        return out.argmax()

    assert [follow(frozen, row, out) for row in X[:20]] == made.predict(X[:20]).tolist()
    model.set_weights([0.0 * one for one in model.get_weights()])
    assert made.coefs_[0].any()


# --- bits, copies, files -----------------------------------------------------------------------------------------


def test_threads_and_rows_do_not_change_bits():
    found = [classifier(n_threads=n, hidden_layer_sizes=(80, 40)).fit(X, Y) for n in (1, 2, 3)]
    assert alike(found[0], found[1]) and alike(found[0], found[2])
    whole = found[0].predict_proba(X)
    assert all(np.array_equal(found[0].predict_proba(X[n : n + 1])[0], whole[n]) for n in range(20))


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "joblib", "mapped"])
def test_copies_predict_and_go_on_alike(how, tmp_path):
    made = classifier().fit(X, Y)
    if how == "pickle":
        again = pickle.loads(pickle.dumps(made))
    elif how == "deepcopy":
        again = copy.deepcopy(made)
    else:
        joblib.dump(made, tmp_path / "made")
        again = joblib.load(tmp_path / "made", mmap_mode="r" if how == "mapped" else None)
    assert np.array_equal(again.predict_proba(X), made.predict_proba(X))
    before = made.coefs_[0].copy()
    again.partial_fit(X, Y)
    assert np.array_equal(made.coefs_[0], before)
    assert alike(again, made.partial_fit(X, Y))


def test_a_pickle_holds_no_compiled_code():
    made = classifier().fit(X, Y)
    for _ in range(3):
        made.predict(X[:1])
    weights = sum(one.nbytes for one in made.coefs_ + made.intercepts_)
    assert len(pickle.dumps(made)) < 5 * weights + 12_000


def test_weights_may_be_set():
    made = classifier().fit(X, Y)
    made.coefs_ = [np.zeros_like(one) for one in made.coefs_]
    assert np.unique(made.predict_proba(X), axis=0).shape == (1, 3)
    made.coefs_[0][:] = 1.0
    made.coefs_ = [one[:-1] for one in made.coefs_]
    with pytest.raises(ValueError, match="coefs_ and intercepts_: expected shapes"):
        made.predict(X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_are_refused(bad):
    made = classifier(activation="tanh").fit(X, Y)
    broken = X[:2].copy()
    broken[1, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        made.predict(broken)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        made.fit(broken, Y[:2])
    huge = np.full((1, 8), 1e308)
    assert made.predict(huge).shape == (1,)  # their sum is infinite, they are not


# --- with the rest of scikit-learn -------------------------------------------------------------------------------


GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(4,), (12,)]}
DRAWN = {"alpha": np.geomspace(1e-5, 1.0, 50)}


@pytest.mark.parametrize("n_jobs", [None, 1, 2])
def test_a_search_in_threads_finds_what_scikit_learns_finds(n_jobs):
    its = sklearn.model_selection.GridSearchCV(classifier(max_iter=5), GRID, cv=KFold(3)).fit(X, Y)
    mine = fsk.GridSearchCV(classifier(max_iter=5), GRID, cv=KFold(3), n_jobs=n_jobs).fit(X, Y)
    assert mine.n_jobs == n_jobs and mine.best_params_ == its.best_params_
    assert set(mine.cv_results_) == set(its.cv_results_)
    assert np.array_equal(mine.cv_results_["mean_test_score"], its.cv_results_["mean_test_score"])
    assert alike(mine.best_estimator_, its.best_estimator_)


def test_other_searches():
    drawn = fsk.RandomizedSearchCV(classifier(max_iter=3), GRID, n_iter=3, cv=2, random_state=0).fit(X, Y)
    assert len(drawn.cv_results_["params"]) == 3
    halving = fsk.HalvingGridSearchCV(classifier(max_iter=3, batch_size="auto"), GRID, cv=2, random_state=0).fit(X, Y)
    assert halving.n_iterations_ >= 1
    assert (
        fsk.HalvingRandomSearchCV(classifier(max_iter=3, batch_size="auto"), DRAWN, cv=2, random_state=0)
        .fit(X, Y)
        .best_score_
        > 0
    )


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_of_joblib(backend):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = cross_validate(classifier(max_iter=3), X, Y, cv=KFold(2), return_estimator=True)
    for (rows, _), made in zip(KFold(2).split(X), found["estimator"], strict=True):
        assert alike(made, classifier(max_iter=3).fit(X[rows], Y[rows]))


def test_threads_are_shared_out(monkeypatch):
    with limited(8):
        assert threads_of(None) == 8 and threads_of(3) == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert threads_of(None) == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(threads_of)(None) for _ in range(2)) == [1, 1]


def test_calibration_importance_dependence_and_html():
    made = classifier(max_iter=40)
    assert CalibratedClassifierCV(made, cv=2).fit(X, Y).predict_proba(X).shape == (160, 3)
    made.fit(X, Y)
    assert permutation_importance(made, X, Y, n_repeats=2, random_state=0).importances_mean.max() > 0.02
    assert partial_dependence(made, X, [0], grid_resolution=3)["average"].shape == (3, 3)
    assert "MLPClassifier" in made._repr_html_()


def test_frames_keep_names():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=[f"f{n}" for n in range(8)])
    made = classifier().fit(frame, Y)
    assert made.feature_names_in_.tolist() == frame.columns.tolist()
    assert np.array_equal(made.predict(frame), classifier().fit(X, Y).predict(X))
    with pytest.warns(UserWarning, match="feature names"):
        made.predict(X)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="feature names"):
        made.predict(frame[frame.columns[::-1]])


# --- epochs in one call, searches in threads -------------------------------------------------------------------


class Watching(fnn.Callback):
    """Looks at each epoch, so that none is trained before the one before it is recorded."""


@pytest.fixture
def calls(monkeypatch):
    """The numbers of epochs that calls of compiled code have trained, independent of the clock."""
    counted = []
    original = Runtime.run_epochs

    def counting(self, parts, work, laps):
        counted.append(len(laps))
        return original(self, parts, work, laps)

    monkeypatch.setattr(Runtime, "run_epochs", counting)
    monkeypatch.setattr(chunking, "TARGET_SECONDS", 1e9)
    return counted


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("kind", ["adam", "sgd", "early"])
def test_epochs_of_one_call_have_the_bits_of_single_ones(calls, kind, shuffle):
    more = {"solver": "sgd"} if kind == "sgd" else {"early_stopping": kind == "early"}
    given = {"max_iter": 60, "tol": 2e-2, "n_iter_no_change": 4, "shuffle": shuffle, "n_threads": 1, **more}
    made = []
    for callbacks in (None, [Watching()]):
        calls.clear()
        random = np.random.RandomState(5)
        one = fsk.MLPClassifier((7,), random_state=random, batch_size=32, callbacks=callbacks, **given)
        one.fit(X, Y)
        made.append((one, random.randint(2**31)))
        ahead = callbacks is None and kind != "early"
        assert max(calls) == 5 if ahead else set(calls) == {1}  # a stop takes at least 5 epochs from the best one on
    (together, drawn), (single, after) = made
    assert together.n_iter_ == single.n_iter_ >= 5
    assert together.n_iter_ < 60  # stopped
    assert together.loss_curve_ == single.loss_curve_
    assert drawn == after
    assert alike(together, single)


def test_weights_of_samples_keep_epochs_single(calls):
    fsk.MLPClassifier((7,), random_state=0, max_iter=20, n_threads=1, tol=0.0).fit(X, Y, np.linspace(0.5, 2.0, len(X)))
    assert set(calls) == {1}


def test_networks_of_different_alpha_share_their_programs():
    first, second = (
        fsk.MLPClassifier((9,), random_state=0, max_iter=2, n_threads=1, alpha=alpha).fit(X, Y) for alpha in (1e-4, 1.0)
    )
    mine, its = (state_of(one._network.model).runtime for one in (first, second))
    assert list(mine._programs.values()) == list(its._programs.values()) != []


@pytest.mark.parametrize("rows", [1, 60, 7000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_rows_that_are_not_finite_are_found(rows, value):
    one = fsk.MLPRegressor(hidden_layer_sizes=(3,), random_state=0, max_iter=2, dtype="float64").fit(
        X.astype(float), X[:, 0]
    )
    x = np.zeros((rows, X.shape[1]))
    x[rows // 2, 1] = value
    if np.isfinite(value):
        assert one.predict(x).shape == (rows,)  # its square is infinite
    else:
        with pytest.raises(ValueError, match="Input X contains"):
            one.predict(x)
