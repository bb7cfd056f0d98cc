"""Sample weights in learners: for samples, for rows of samples, or absent; losses that are divided by their sum."""

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
import fastnn.nopython as fnp

RNG = np.random.default_rng(0)
WIDTH, CLASSES = 4, 3
SHAPES = pytest.mark.parametrize("shape", [(), (5,), (3, 2)], ids=["samples", "steps", "images"])


@njit
def step(learner, x, y, work, weights):
    return fnp.train_step(learner, x, y, work, weights)


STEPS_TAKEN = pytest.mark.parametrize("take", [step, fnp.train_step], ids=["compiled", "python"])


def network(shape, loss="cross_entropy", normalize="rows", dtype="float32", **compiled):
    model = fnn.Sequential([fnn.Input((*shape, WIDTH)), fnn.Dense(CLASSES, "softmax")], seed=1, dtype=dtype)
    model.compile("adam", type(fnn.losses.get(loss))(normalize=normalize), **compiled)
    return model


def data(n, shape, loss="cross_entropy", dtype="float32"):
    x = RNG.normal(size=(n, *shape, WIDTH)).astype(dtype)
    if loss == "cross_entropy":
        return x, RNG.integers(0, CLASSES, (n, *shape))
    return x, RNG.normal(size=(n, *shape, CLASSES)).astype(dtype)


def weights_for(n, shape, dtype):
    """Yield weights of every shape that an output takes, and of other dtypes and layouts."""
    yield None
    for axes in range(len(shape) + 1):
        wide = RNG.uniform(0.0, 3.0, (n, *shape[:axes]))
        yield from (wide.astype(dtype), wide, wide.astype(np.int16), wide.astype(dtype)[::-1], np.asfortranarray(wide))
    yield np.zeros(n, dtype)


@STEPS_TAKEN
@SHAPES
@pytest.mark.parametrize("normalize", ["rows", "weights"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_and_metrics_are_those_of_train_on_batch(take, shape, normalize, loss, dtype):
    metrics = ["accuracy", "cross_entropy"] if loss == "cross_entropy" else ["mse", "mae", fnn.metrics.R2Score()]
    model = network(shape, loss, normalize, dtype, metrics=metrics[:1], weighted_metrics=metrics)
    learner = model.learner(metrics=True)
    for n in (1, 2, 33):
        work = fnp.workspace(learner, n)
        for index, weights in enumerate(weights_for(n, shape, dtype)):
            x, y = data(n, shape, loss, dtype)
            model.reset_learner_logs(learner)
            wanted = model.train_on_batch(x, y, weights)
            assert take(learner, x, y, work if index % 2 else None, weights) == wanted["loss"]
            np.testing.assert_equal(model.learner_logs(learner), wanted)
            assert learner.parameters.tobytes() == model._runtime.parameters.tobytes()


@STEPS_TAKEN
def test_one_sample_without_its_axis(take):
    model, other = network((5,), normalize="weights"), network((5,), normalize="weights")
    learner = other.learner()
    x, y = data(1, (5,))
    for weights in (0.5, RNG.uniform(size=5).astype(np.float32)):
        batch = np.full(1, weights) if np.ndim(weights) == 0 else weights[None]
        assert take(learner, x[0], y[0], None, weights) == model.train_on_batch(x, y, batch)["loss"]


def test_logs_of_several_steps_are_those_of_an_epoch():
    options = dict(normalize="weights", weighted_metrics=["cross_entropy", "accuracy"], dtype="float64")
    model, reference = network((5,), **options), network((5,), **options)
    learner = model.learner(metrics=True)
    batches = [(*data(n, (5,), dtype="float64"), RNG.uniform(size=shape)) for n, shape in ((4, 4), (6, (6, 5)))]
    for x, y, weights in batches:
        step(learner, x, y, None, weights)
    wanted = reference.fit(batches, verbose=0).history
    logs = model.learner_logs(learner)
    assert logs == {name: pytest.approx(wanted[name][0], rel=1e-12) for name in logs}


@STEPS_TAKEN
def test_outputs_have_weights_of_different_shapes(take):
    x = fnn.Input((5, WIDTH))
    steps, whole = fnn.Dense(CLASSES, "softmax")(x), fnn.Dense(1)(fnn.Flatten()(x))
    model = fnn.Model(x, [steps, whole], seed=0)
    model.compile("sgd", [fnn.CrossEntropy(normalize="weights"), "mse"])
    learner, n = model.learner(), 6
    given, y = data(n, (5,))
    targets = y, RNG.normal(size=(n, 1)).astype(np.float32)
    once, each = RNG.uniform(size=n), RNG.uniform(size=(n, 5))
    for weights in ((each, once), (once, once)):
        assert (
            take(learner, given, targets, None, weights) == model.train_on_batch(given, [*targets], [*weights])["loss"]
        )
    # one array is for both outputs
    assert take(learner, given, targets, None, once) == model.train_on_batch(given, [*targets], once)["loss"]
    with pytest.raises(
        ValueError, match=r"sample_weight\[1\]: expected shape \(6,\), one number for each row of x, got"
    ):
        take(learner, given, targets, None, each)


REFUSED = [(4,), (7, 5), (6, 4), (5, 6), (6, 1), (6, 5, 1), (6, 5, 3), ()]


@STEPS_TAKEN
@pytest.mark.parametrize("shape", REFUSED)
def test_weights_of_other_shapes_are_refused(take, shape):
    learner, (x, y) = network((5,)).learner(), data(6, (5,))
    before = [array.copy() for array in learner]
    weights = np.ones(shape) if shape else 1.0
    text = (
        r"sample_weight: expected shape \(6,\) or \(6, 5\), one number for each row of the output or for several, got"
    )
    with pytest.raises(ValueError, match=text):
        take(learner, x, y, None, weights)
    with pytest.raises(ValueError, match=text):
        fnp.check(learner, x, y=y, sample_weight=weights)
    if len(shape) == 2 and shape[0] == 5:
        with pytest.raises(ValueError, match=r"sample_weight: expected shape \(\) or \(5,\), one number"):
            take(learner, x[0], y[0], None, weights)
    for array, kept in zip(learner, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@STEPS_TAKEN
@pytest.mark.parametrize(("shape", "place"), [((6,), (4,)), ((6, 5), (4, 3))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_place_of_a_bad_weight_is_that_in_the_given_array(take, shape, place, dtype):
    learner, (x, y) = network((5,)).learner(), data(6, (5,))
    weights = np.ones(shape, dtype)
    weights[place] = np.inf
    with pytest.raises(ValueError) as caught:
        take(learner, x, y, None, weights)
    assert f"sample_weight: expected no NaN or infinity, got inf at {place};" in str(caught.value)


@STEPS_TAKEN
def test_weights_of_samples_right_before_the_workspace_share_nothing(take):
    """They are fewer numbers than the outputs have rows."""
    model = network((5,), dtype="float64")
    learner, (x, y) = model.learner(), data(6, (5,), dtype="float64")
    memory = np.zeros(6 + len(fnp.workspace(learner, 6)), np.int64)
    weights, work = memory[:6].view(np.float64), memory[6:]
    weights[:] = 0.5
    assert take(learner, x, y, work, weights) == model.train_on_batch(x, y, np.full(6, 0.5))["loss"]
    with pytest.raises(ValueError, match="shares memory"):
        take(learner, x, y, memory[5:], weights)


def test_inputs_that_are_wider_than_the_model_share_memory_all_over():
    learner, (_, y) = network(()).learner(), data(6, ())
    wide = np.zeros(6 * WIDTH + len(fnp.workspace(learner, 6)), np.int64)
    given = wide[: 6 * WIDTH].view(np.float64).reshape(6, WIDTH)  # twice as long as float32 numbers are
    for call in (step, fnp.train_step):
        call(learner, given, y, wide[6 * WIDTH :], None)
        with pytest.raises(ValueError, match="shares memory"):
            call(learner, given, y, wide[5 * WIDTH :], None)
