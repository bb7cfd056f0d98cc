"""Numbers that are finite in float64 and infinite in float32 are refused in every cast, before anything changes."""

import collections
import contextlib
import pickle

import numba
import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn import casts

LARGE = 1e39
X, Y = np.ones((8, 4)), np.ones((8, 1))
CLASSES = np.zeros(8, int)


def make(layer=None, optimizer="sgd", loss="mse", dtype="float32", **options):
    model = fnn.Sequential([fnn.Input(4), layer or fnn.Dense(1)], seed=0, dtype=dtype)
    model.compile(optimizer, loss, **options)
    return model


def classifier(**options):
    return make(fnn.Dense(1, "sigmoid"), loss="bce", **options)


def at(row, shape=(8, 1), value=LARGE):
    array = np.ones(shape)
    array[row] = value
    return array


# --- the cast itself -------------------------------------------------------------------------------------


def test_the_limit_is_where_numpy_rounds_to_infinity():
    limit = casts.LIMITS["float32"]
    below = np.nextafter(limit, 0)
    with np.errstate(over="ignore"):
        assert np.isinf(np.float32(limit))
    assert np.float32(below) == np.finfo(np.float32).max
    assert casts.first_too_large(np.array([[0.0, below], [-below, -limit]]), "float32") == (1, 1)
    assert casts.first_too_large(np.array([np.inf, -np.inf, np.nan, below]), "float32") is None
    assert casts.first_too_large(np.array([LARGE]), "float64") is None


def test_numbers_among_nan_and_infinity_are_found():
    array = np.array([np.nan, np.inf, -np.inf, -LARGE])
    with np.errstate(all="raise"):
        assert casts.first_too_large(array, "float32") == (3,)


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="long doubles are float64 here")
def test_long_doubles_that_overflow_float64_are_refused():
    x = np.ones((8, 4), np.longdouble)
    x[2, 3] = np.longdouble("1e400")
    with pytest.raises(ValueError, match=r"x: row 2 in column 3 is 1e\+400, too large for float64"):
        make().predict(x)


def test_memory_mapped_numbers_are_looked_through_in_chunks(tmp_path, monkeypatch):
    np.save(tmp_path / "y.npy", at(2_999_999, (3_000_000,)))
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    sizes = []
    chunks = casts.chunks

    def noted(array):
        for first, chunk in chunks(array):
            sizes.append(chunk.nbytes)
            yield first, chunk

    monkeypatch.setattr(casts, "chunks", noted)
    assert casts.first_too_large(y, "float32") == (2_999_999,)
    assert len(sizes) > 1 and max(sizes) <= 1 << 22


# --- data ------------------------------------------------------------------------------------------------

DATA = {
    "fit": (lambda model, y: model.fit(X, y, verbose=0), "y: row 5 is"),
    "validation data": (lambda model, y: model.fit(X, Y, validation_data=(X, y), verbose=0), "validation y: row 5"),
    "validation batches": (
        lambda model, y: model.fit(X, Y, validation_data=iter([(X, y)]), verbose=0),
        "batch 0: y: row 5",
    ),
    "batches": (lambda model, y: model.fit(iter([(X, Y), (X, y)]), verbose=0), "batch 1: y: row 5"),
    "evaluate": (lambda model, y: model.evaluate(X, y), "row 5"),
    "test_on_batch": (lambda model, y: model.test_on_batch(X, y), "row 5"),
    "evaluate batches": (lambda model, y: model.evaluate(iter([(X, y)])), "batch 0: y: row 5"),
    "train_on_batch": (lambda model, y: model.train_on_batch(X, y), "row 5"),
    "gradients": (lambda model, y: model.gradients(X, y), "row 5"),
    "input_gradients": (lambda model, y: model.input_gradients(X, y), "row 5"),
    "train_many": (lambda model, y: fnn.train_many([model], X, y, verbose=0), "row 5"),
    "train_many rows": (
        lambda model, y: fnn.train_many([model, make()], X, y, rows=[range(8)] * 2, verbose=0),
        "row 5",
    ),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("case", DATA)
def test_targets(case, sign):
    call, words = DATA[case]
    model = make()
    # batches and epochs before the one with the target may be trained
    trains_before = case in ("batches", "validation batches")
    before = model.get_weights()
    with pytest.raises(ValueError, match=words) as caught:
        call(model, at(5, value=sign * LARGE))
    assert "too large for float32" in str(caught.value)
    for weight, old in zip(model.get_weights(), before, strict=True):
        assert np.isfinite(weight).all() and (trains_before or (weight == old).all())


@pytest.mark.parametrize("metrics", [[], ["r2"]])
def test_targets_on_the_quick_path(metrics):
    model = make(metrics=metrics)
    for _ in range(4):
        model.train_on_batch(X, Y)
    before = model.get_weights()
    for bad in (at(5), at(5, value=-LARGE)):
        with pytest.raises(ValueError, match="row 5 is"):
            model.train_on_batch(X, bad)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="row 5 has"):
            model.train_on_batch(X, at(5, value=bad))
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert np.isfinite(model.train_on_batch(X, at(5, value=1e10))["loss"])


def test_targets_of_several_columns_and_frames_are_named():
    pd = pytest.importorskip("pandas")
    model = make(fnn.Dense(3))
    y = at((6, 1), (8, 3))
    with pytest.raises(ValueError, match=r"y: row 6 in column 1 is 1e\+39"):
        model.fit(X, y, verbose=0)
    with pytest.raises(ValueError, match=r"y: row 6 in column 1 \('weight'\) is 1e\+39"):
        model.fit(X, pd.DataFrame(y, columns=["height", "weight", "age"]), verbose=0)


def test_in_float64_they_are_fine():
    model = make(dtype="float64", optimizer=fnn.SGD(0.0))
    model.set_weights([np.full((4, 1), LARGE), np.zeros(1)])
    assert np.isfinite(model.evaluate(X, np.full((8, 1), LARGE))["loss"])
    assert np.isfinite(model.train_on_batch(X, np.full((8, 1), LARGE), np.full(8, 2.0))["loss"])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"sample_weight": at(3, 8)}, "sample_weight: row 3"),
        ({"class_weight": {0: LARGE}}, "class_weight: the weight of class 0"),
        ({"class_weight": {0: 1e20}, "sample_weight": at(3, 8, 1e20)}, "class_weight times sample_weight: row 3"),
    ],
)
def test_weights_of_samples_and_classes(options, words):
    model = classifier()
    before = model.get_weights()[0]
    for call in (
        lambda: model.fit(X, CLASSES, verbose=0, **options),
        lambda: model.train_on_batch(X, CLASSES, **options),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_products_of_weights_that_overflow_float64():
    with pytest.raises(ValueError, match="class_weight: times sample_weight"):
        classifier(dtype="float64").fit(X, CLASSES, class_weight={0: 1e300}, sample_weight=at(3, 8, 1e300), verbose=0)


# --- weights and hyperparameters -------------------------------------------------------------------------


def test_weights_that_are_set():
    model = make()
    before = model.get_weights()
    for weights, words in (
        ([at(2, (4, 1)), np.zeros(1)], "dense/kernel: row 2 is"),
        ([np.ones((4, 1)), np.array([-LARGE])], "dense/bias: row 0 is"),
        ([np.ma.array(np.ones((4, 1)), mask=True), np.zeros(1)], r"weights\[0\].*masked"),
        ([np.ones((4, 1)), [np.ma.array(np.ones(()), mask=True)]], r"weights\[1\].*masked"),
    ):
        with pytest.raises(ValueError, match=words):
            model.set_weights(weights)
        assert all((now == old).all() for now, old in zip(model.get_weights(), before, strict=True))
    model.set_weights([np.ma.array(np.ones((4, 1)), mask=False), np.array([-np.inf])])
    assert model.get_weights()[1] == -np.inf


LAYERS = {
    "kernel_regularizer: L1.l1": lambda: fnn.Dense(1, kernel_regularizer=fnn.regularizers.L1(LARGE)),
    "kernel_regularizer: L1L2.l2": lambda: fnn.Dense(1, kernel_regularizer=fnn.regularizers.L1L2(0.1, LARGE)),
    "kernel_constraint: MaxNorm.max_value": lambda: fnn.Dense(1, kernel_constraint=fnn.MaxNorm(LARGE)),
    "kernel_initializer: Constant.value": lambda: fnn.Dense(1, kernel_initializer=fnn.initializers.Constant(-LARGE)),
    "activation: LeakyReLU.negative_slope": lambda: fnn.Dense(1, fnn.activations.LeakyReLU(LARGE)),
    "GaussianNoise.stddev": lambda: fnn.GaussianNoise(LARGE),
    "dense/kernel: RandomNormal": lambda: fnn.Dense(
        100, kernel_initializer=fnn.initializers.RandomNormal(stddev=3.3e38), name="dense"
    ),
}


@pytest.mark.parametrize("words", LAYERS)
def test_hyperparameters_of_layers(words):
    with pytest.raises(ValueError, match=words) as caught:
        make(LAYERS[words]())
    assert "too large for float32" in str(caught.value)
    fnn.Sequential([fnn.Input(4), LAYERS[words]()], dtype="float64")


def test_initial_values_of_an_initializer_by_the_user():
    class Large(fnn.initializers.Initializer):
        def __call__(self, shape, rng, dtype="float32"):
            return np.full(shape, LARGE)

    with pytest.raises(ValueError, match=r"dense/kernel: row 0 is 1e\+39, too large for float32"):
        make(fnn.Dense(1, kernel_initializer=Large()))
    with pytest.raises(ValueError, match="Constant: row 0"):
        fnn.initializers.Constant(LARGE)((2,), np.random.default_rng(0))


OPTIMIZERS = {
    "SGD.learning_rate": lambda: fnn.SGD(LARGE),
    "ExponentialDecay.initial_learning_rate": lambda: fnn.SGD(fnn.schedules.ExponentialDecay(LARGE, 10, 0.5)),
    r"PiecewiseConstantDecay.values\[1\]": lambda: fnn.SGD(fnn.schedules.PiecewiseConstantDecay([5], [0.1, LARGE])),
    "AdamW.weight_decay": lambda: fnn.AdamW(weight_decay=LARGE),
    "Adam.epsilon": lambda: fnn.Adam(epsilon=LARGE),
    "SGD.clipnorm": lambda: fnn.SGD(clipnorm=LARGE),
    "SGD.clipvalue": lambda: fnn.SGD(clipvalue=LARGE),
}


@pytest.mark.parametrize("words", OPTIMIZERS)
def test_hyperparameters_of_optimizers(words):
    model = make()
    with pytest.raises(ValueError, match=words):
        model.compile(OPTIMIZERS[words](), "mse")
    # what was compiled before is still there
    assert np.isfinite(model.train_on_batch(X, Y)["loss"])


@pytest.mark.parametrize(
    "optimizer, words",
    [
        (lambda: fnn.SGD(lambda step: LARGE if step == 2 else 0.1), r"1e\+39 at step 2"),
        (lambda: fnn.AdamW(1e20, weight_decay=1e20), r"makes decay 1e\+40"),
    ],
)
@pytest.mark.parametrize("way", ["fit", "train_on_batch", "learner"])
def test_rates_of_steps(optimizer, words, way):
    model = make(optimizer=optimizer())
    with pytest.raises(ValueError, match=words):
        if way == "fit":
            model.fit(X, Y, batch_size=2, verbose=0)
        elif way == "learner":
            model.learner(steps=5)
        else:
            for _ in range(3):
                model.train_on_batch(X, Y)
    assert np.isfinite(model.get_weights()[0]).all()


def test_a_rate_that_is_assigned():
    model = make()
    for _ in range(3):
        model.train_on_batch(X, Y)
    before = model.get_weights()[0]
    model.optimizer.learning_rate = LARGE
    with pytest.raises(ValueError, match=r"1e\+39 at step 3"):
        model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize(
    "loss, options, words",
    [("mse", {"loss_weights": LARGE}, "loss_weights: of output 'dense'"), (fnn.Huber(LARGE), {}, "Huber.delta")],
)
def test_losses(loss, options, words):
    with pytest.raises(ValueError, match=words):
        make(loss=loss, **options)


# --- elsewhere -------------------------------------------------------------------------------------------


def test_learners():
    learner, x = make().learner(), np.ones(4, np.float32)
    before = learner.parameters.copy()
    for call, words in (
        (lambda: fnp.train_step(learner, x, LARGE), "y: expected finite numbers, got inf"),
        (
            lambda: fnp.train_step(learner, x, 1.0, sample_weight=-LARGE),
            "sample_weight: expected no NaN or infinity, got -inf",
        ),
        (lambda: fnp.set_learning_rate(learner, LARGE), "rate: .*too large"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    np.testing.assert_array_equal(learner.parameters, before)
    fnp.set_learning_rate(make(dtype="float64").learner(), LARGE)


def test_learners_in_compiled_code():
    @numba.njit
    def rate(learner, value):
        fnp.set_learning_rate(learner, value)

    @numba.njit
    def step(learner, x, y):
        return fnp.train_step(learner, x, y)

    learner = make().learner()
    before = learner.parameters.copy()
    with pytest.raises(ValueError, match="rate: too large"):
        rate(learner, LARGE)
    with pytest.raises(ValueError):
        step(learner, np.ones(4, np.float32), LARGE)
    np.testing.assert_array_equal(learner.parameters, before)


def test_matmul():
    a = np.ones((3, 3), np.float32)
    with pytest.raises(ValueError, match="bias: row 1 is"):
        fnn.matmul(a, a, bias=at(1, 3))
    with pytest.raises(ValueError, match=r"LeakyReLU\.negative_slope"):
        fnn.matmul(a, a, activation=fnn.activations.LeakyReLU(LARGE))
    for left, right in ((np.ma.array(a, mask=True), a), (a, np.ma.array(a, mask=np.eye(3)))):
        with pytest.raises(ValueError, match="masked"):
            fnn.matmul(left, right)


@pytest.mark.parametrize("what", ["x", "y", "sample_weight", "list"])
def test_masked_elements_are_refused(what):
    masked = np.ma.array(np.ones(8), mask=[True] + [False] * 7)
    model = make(fnn.Dense(1))
    data = {"x": X, "y": Y, "sample_weight": np.ones(8)}
    if what == "list":
        data["x"] = [np.ma.array(np.ones(4), mask=True)] * 8
    else:
        data[what] = np.ma.array(np.ones((8, 4)), mask=True) if what == "x" else masked
    with pytest.raises(ValueError, match="masked"):
        model.fit(data["x"], data["y"], sample_weight=data["sample_weight"], verbose=0)


@pytest.mark.parametrize("tiny", [1e-300, 1e-50, -1e-46])
def test_small_numbers_become_zero_in_peace(tiny):
    with np.errstate(all="raise"):
        model = make(fnn.Dense(1, kernel_initializer=fnn.initializers.Constant(tiny)), optimizer=fnn.SGD(abs(tiny)))
        assert not model.get_weights()[0].any()
        model.set_weights([np.full((4, 1), tiny), np.array([tiny])])
        assert not model.get_weights()[0].any()
        for _ in range(3):
            model.train_on_batch(X, np.full((8, 1), tiny))
        model.fit(X, np.full((8, 1), tiny), sample_weight=np.full(8, abs(tiny)), verbose=0)
        model.evaluate(X * tiny, np.full((8, 1), tiny), sample_weight=np.full(8, tiny))
        assert not model.predict(X * tiny).any()
        a = np.ones((3, 3), np.float32)
        np.testing.assert_array_equal(fnn.matmul(a, a, bias=np.full(3, tiny)), 3.0)
        classifier().fit(X, CLASSES, class_weight={0: abs(tiny)}, sample_weight=np.full(8, abs(tiny)), verbose=0)
        learner = model.learner()
        fnp.train_step(learner, np.ones(4, np.float32), tiny)
        fnp.set_learning_rate(learner, abs(tiny))


# --- which number of the inputs is not finite ------------------------------------------------------------


def kinds():
    pd = pytest.importorskip("pandas")
    x = X.copy()
    x[5, 2] = np.nan
    names = ["a", "b", "age", "d"]
    return {"array": (x, "nan in column 2"), "frame": (pd.DataFrame(x, columns=names), r"nan in column 2 \('age'\)")}


@contextlib.contextmanager
def using(threads):
    before = fnn.get_num_threads()
    fnn.set_num_threads(threads)
    try:
        yield
    finally:
        fnn.set_num_threads(before)


@pytest.mark.parametrize("kind", ["array", "frame"])
@pytest.mark.parametrize("threads", [1, 2])
def test_inputs_that_are_not_finite_are_named_with_their_column(kind, threads):
    x, words = kinds()[kind]
    model = make()
    with using(threads):
        for call in (
            lambda: model.fit(x, Y, verbose=0),
            lambda: model.fit(x, Y, batch_size=2, callbacks=[fnn.TerminateOnNaN()], verbose=0),
            lambda: [model.train_on_batch(x, Y)],
            lambda: [model.train_on_batch(X, Y), model.train_on_batch(X, Y), model.train_on_batch(x, Y)],
        ):
            with pytest.raises(ValueError, match=f"row 5 of the data holds NaN.*: {words};"):
                call()
    with pytest.raises(ValueError, match=f"{words} of batch 1"):
        model.fit(iter([(X, Y), (x, Y)]), verbose=0)


def test_an_input_that_overflows_is_named():
    with pytest.raises(ValueError, match=r"row 3 of the data.*: 1e\+39 in column 1;"):
        make().fit(at((3, 1), (8, 4)), Y, verbose=0)


def test_an_input_among_several_is_named():
    first, second = fnn.Input(4, name="first"), fnn.Input(2, name="second")
    model = fnn.Model([first, second], fnn.Dense(1)(fnn.Concatenate()([first, second])), seed=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"row 3 of the data.*: inf in column 1 of input 'second'"):
        model.fit([X, at((3, 1), (8, 2), np.inf)], Y, verbose=0)


def test_the_error_gets_through_a_pickle():
    with pytest.raises(ValueError, match="column 1") as caught:
        make().fit(at((3, 1), (8, 4), np.nan), Y, verbose=0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_targets_that_are_not_finite_are_named_with_their_column():
    pd = pytest.importorskip("pandas")
    y = pd.DataFrame(at((4, 1), (8, 2), np.nan), columns=["height", "weight"])
    with pytest.raises(ValueError, match=r"y: expected finite targets; row 4 has nan in column 1 \('weight'\)"):
        make(fnn.Dense(2)).fit(X, y, verbose=0)
    with pytest.raises(ValueError, match="sample_weight: row 4 is nan"):
        make().fit(X, Y, sample_weight=at(4, 8, np.nan), verbose=0)


def test_deques_are_checked_too():
    with pytest.raises(ValueError, match="y: row 5"):
        make().fit(X, collections.deque(at(5, 8).tolist()), verbose=0)
