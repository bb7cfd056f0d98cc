"""Learners: training in compiled code is `train_on_batch`, bit for bit."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp
from frozen import MODELS, RNG, chain, predict, rows, same_numbers  # noqa: F401

# some of the networks have batch normalisation, and steps on one row are among those that are compared
pytestmark = pytest.mark.filterwarnings("ignore:.*a training batch of one row:RuntimeWarning")

SIZES = (1, 2, 3, 5, 16, 17, 33)


@njit(nogil=True)
def step(learner, x, y):
    return fnp.train_step(learner, x, y)


@njit(nogil=True)
def step_with(learner, x, y, work, weights):
    return fnp.train_step(learner, x, y, work, weights)


@njit
def halves(learner, x, y, gradients, work):
    loss = fnp.loss_and_gradients(learner, x, y, gradients, work)
    fnp.apply_gradients(learner, gradients)
    return loss


@njit(nogil=True)
def one_by_one(learner, x, y):
    total = 0.0
    for i in range(len(x)):
        total += fnp.train_step(learner, x[i], y[i])
    return total


def weights_of(one):
    return (one if isinstance(one, fnp.Learner) else one._runtime).parameters.tobytes()


def compiled(name, dtype, optimizer="adam", loss="mse"):
    model = MODELS[name](dtype)
    model.compile(copy.deepcopy(optimizer), loss)
    return model


def targets_for(model, n, dtype="float32"):
    return RNG.uniform(0.1, 0.9, size=(n, *model._architecture.output_shapes[0])).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - {"softmax alone", "reshaped alone", "turned alone"}))
def test_steps_are_those_of_the_model(name, dtype):
    model = compiled(name, dtype)
    twin = copy.deepcopy(model)
    learner = twin.learner()
    work = fnp.workspace(learner, max(SIZES))
    for n in SIZES if name != "sequence" else SIZES[:5]:
        for call in (step, fnp.train_step, lambda *given: step_with(*given, work, None)):
            x, y = rows(model, n, dtype), targets_for(model, n, dtype)
            loss = model.train_on_batch(x, y)["loss"]
            assert call(learner, x, y) == loss
            assert weights_of(learner) == weights_of(model), n
    assert weights_of(twin) != weights_of(learner)
    twin.update_from(learner)
    assert weights_of(twin) == weights_of(model) and twin.step == model.step
    x, y = rows(model, 4, dtype), targets_for(model, 4, dtype)
    assert twin.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert weights_of(twin) == weights_of(model)


OPTIMIZERS = [
    fnn.SGD(0.05), fnn.SGD(0.05, momentum=0.9, nesterov=True), fnn.Adam(0.01, weight_decay=0.01, clipvalue=0.1),
    fnn.Adam(0.01, amsgrad=True, clipnorm=0.3), fnn.AdamW(0.01, global_clipnorm=0.5), fnn.Nadam(0.01),
    fnn.RMSprop(0.01, momentum=0.5, centered=True), fnn.AdaGrad(0.05), fnn.Adadelta(1.0), fnn.Lion(0.001),
    fnn.Nadam(0.01, clipnorm=0.3, gradient_accumulation_steps=3, use_ema=True, ema_overwrite_frequency=2),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one.formula)
def test_optimizers_penalties_and_constraints(optimizer):
    def make():
        dense = fnn.Dense(7, "tanh", kernel_regularizer=fnn.L2(0.01), kernel_constraint=fnn.MaxNorm(0.8))
        model = chain(dense, fnn.Dropout(0.3), fnn.Dense(3, kernel_regularizer=fnn.L1(0.01)), seed=5)
        model.compile(copy.deepcopy(optimizer), fnn.Huber(0.5), loss_weights=0.7)
        return model

    model, twin = make(), make()
    x, y = rows(model, 9), targets_for(model, 9)
    model.train_on_batch(x, y)
    twin.train_on_batch(x, y)
    learner = twin.learner()
    gradients = np.full(fnp.parameter_count(learner), np.nan, np.float32)
    work = fnp.workspace(learner, 9)
    for _ in range(4):
        losses = {model.train_on_batch(x, y)["loss"], step(learner, x, y)}
        losses |= {model.train_on_batch(x, y)["loss"], halves(learner, x, y, gradients, work)}
        assert len(losses) == 2
        model.train_on_batch(x, y)
        fnp.loss_and_gradients(learner, x, y, gradients)
        fnp.apply_gradients(learner, gradients)
        assert weights_of(learner) == weights_of(model)
    twin.update_from(learner)
    model.fit(x, y, batch_size=3, epochs=2, verbose=0)
    twin.fit(x, y, batch_size=3, epochs=2, verbose=0)
    assert weights_of(twin) == weights_of(model)


@pytest.mark.parametrize("optimizer", [fnn.Adam(0.001), fnn.Nadam(0.001, beta_2=0.99)], ids=lambda one: one.formula)
def test_corrections_over_thousands_of_steps(optimizer):
    model = chain(fnn.Dense(2), shape=(3,), dtype="float64")
    model.compile(optimizer, "mse")
    x, y = RNG.normal(size=(4500, 3)), RNG.normal(size=(4500, 2))
    learner = model.learner()
    one_by_one(learner, x, y)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    assert weights_of(learner) == weights_of(model)


LOSSES = [
    ("mse", "linear", lambda n: RNG.normal(size=(n, 3))),
    ("binary_cross_entropy", "sigmoid", lambda n: RNG.uniform(size=(n, 3))),
    (fnn.BinaryCrossEntropy(from_logits=True), "linear", lambda n: RNG.uniform(size=(n, 3))),
    ("hinge", "linear", lambda n: RNG.integers(0, 2, size=(n, 3)) * 2.0 - 1.0),
    ("poisson", "softplus", lambda n: RNG.integers(0, 5, size=(n, 3)) * 1.0),
    ("poisson", "exponential", lambda n: RNG.integers(0, 5, size=(n, 3)) * 1.0),
    ("cross_entropy", "softmax", lambda n: RNG.integers(0, 3, size=n)),
    (fnn.CrossEntropy(from_logits=True, label_smoothing=0.1), "linear", lambda n: RNG.integers(0, 3, size=n)),
]


@pytest.mark.parametrize(("loss", "activation", "make"), LOSSES, ids=lambda one: str(one) if type(one) is str else "")
def test_losses_and_weights_of_samples(loss, activation, make):
    model = chain(fnn.Dense(5, "tanh"), fnn.Dense(3, activation))
    model.compile("adam", loss)
    learner = model.learner()
    for n in (1, 8, 19):
        x, y, weights = rows(model, n), make(n), RNG.normal(size=n).astype(np.float32)
        y = y if y.dtype == np.int64 else y.astype(np.float32)
        work = fnp.workspace(learner, n)
        assert step_with(learner, x, y, work, weights) == model.train_on_batch(x, y, sample_weight=weights)["loss"]
        assert fnp.train_step(learner, x, y, sample_weight=weights) == model.train_on_batch(x, y, weights)["loss"]
        assert step(learner, x, y) == model.train_on_batch(x, y)["loss"]
        assert weights_of(learner) == weights_of(model)


def test_probabilities_as_targets():
    model = chain(fnn.Dense(4, "softmax"))
    model.compile("sgd", "cross_entropy")
    learner = model.learner(targets="dense")
    x, y = rows(model, 12), RNG.dirichlet(np.ones(4), size=12).astype(np.float32)
    assert step(learner, x, y) == model.train_on_batch(x, y)["loss"]
    with pytest.raises(ValueError, match="rows whose sum is 1"):
        step(learner, x, y * np.float32(1.1))
    model.update_from(learner)


@njit
def scalars(learner, x, y, weight):
    loss = fnp.train_step(learner, x, y)
    return loss + fnp.train_step(learner, x, y, None, weight)


def test_one_sample_with_numbers():
    for model, y in (
        (chain(fnn.Dense(3, "tanh"), fnn.Dense(1)), 0.25),
        (chain(fnn.Dense(3, "tanh"), fnn.Dense(1), dtype="float64"), -3),
        (chain(fnn.Dense(3, "softmax")), 2),
    ):
        model.compile("adam", "cross_entropy" if y == 2 else "mse")
        x = rows(model, 1, model.dtype)
        learner, other = model.learner(), model.learner()
        wanted = model.train_on_batch(x, np.array([y]))["loss"]
        wanted += model.train_on_batch(x, np.array([y]), sample_weight=np.array([0.5]))["loss"]
        assert scalars(learner, x[0], y, 0.5) == wanted
        assert fnp.train_step(other, x[0], y) + fnp.train_step(other, x[0], y, sample_weight=0.5) == wanted
        assert weights_of(learner) == weights_of(other) == weights_of(model)


def test_images_and_sequences_of_labels():
    model = chain(fnn.Dense(8, "relu"), fnn.Dense(5, "softmax"), shape=(4, 3))
    model.compile("adam", "cross_entropy")
    learner = model.learner()
    for n in (1, 6, 20):
        x, y = rows(model, n), RNG.integers(0, 5, size=(n, 4))
        weights = RNG.uniform(size=n).astype(np.float32)
        assert step(learner, x, y) == model.train_on_batch(x, y)["loss"]
        assert step_with(learner, x, y, None, weights) == model.train_on_batch(x, y, weights)["loss"]
        assert step(learner, x[0], y[0]) == model.train_on_batch(x[:1], y[:1])["loss"]
        assert weights_of(learner) == weights_of(model)


def test_what_is_not_trained_stays():
    model = chain(fnn.Dense(5, "relu"), fnn.Dense(2))
    model.layers[0].trainable = False
    model.compile("adam", "mse")
    learner, x, y = model.learner(), rows(model, 6), targets_for(model, 6)
    gradients = np.full(fnp.parameter_count(learner), np.nan, np.float32)
    fnp.loss_and_gradients(learner, x, y, gradients)
    wanted = model.gradients(x, y)
    assert not gradients[: 6 * 5 + 5].any()
    np.testing.assert_array_equal(gradients[35:], np.concatenate([g.ravel() for g in wanted]))
    assert step(learner, x, y) == model.train_on_batch(x, y)["loss"]
    assert weights_of(learner) == weights_of(model)
    model.layers[0].trainable = True
    with pytest.raises(ValueError, match="trainable"):
        model.update_from(learner)


@njit
def own_loss(learner, x, y, gradients, work):
    """A user-defined mean squared error: its gradient for the outputs is the seed."""
    out = np.empty_like(y)
    fnp.predict(learner, x, out, work)
    seed = 2 * (out - y) / np.float32(y.size)
    fnp.parameter_gradient(learner, x, seed, gradients, work)


@pytest.mark.parametrize("name", ["perceptron", "residual", "one output", "images", "wide"])
def test_losses_of_the_users_own(name):
    model = compiled(name, "float32", "sgd")
    learner = model.learner(gradients=True)
    count = fnp.parameter_count(learner)
    for n in (1, 5, 20):
        x, y = rows(model, n), targets_for(model, n)
        wanted, gradients, other = np.empty((3, count), np.float32)
        own_loss(learner, x, y, gradients, fnp.workspace(learner, n))
        fnp.loss_and_gradients(learner, x, y, wanted)
        np.testing.assert_allclose(gradients, wanted, rtol=1e-4, atol=1e-6)
        own_loss.py_func(learner, x, y, other, None)
        np.testing.assert_allclose(other, gradients, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="gradients=True"):
        own_loss(model.learner(), x, y, gradients, None)
    with pytest.raises(ValueError, match="gradients=True"):
        own_loss.py_func(model.learner(), x, y, gradients, None)


def test_schedules_and_rates():
    model = chain(fnn.Dense(2))
    model.compile(fnn.SGD(fnn.schedules.CosineDecay(0.1, 5)), "mse")
    x, y = rows(model, 4), targets_for(model, 4)
    model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="steps"):
        model.learner()
    with pytest.raises(ValueError, match="learner: steps: expected an integer >= 1, got 0"):
        model.learner(steps=0)
    learner = model.learner(steps=3)
    for _ in range(3):
        assert step(learner, x, y) == model.train_on_batch(x, y)["loss"]
        assert weights_of(learner) == weights_of(model)
    for call in (step, fnp.train_step):
        before = weights_of(learner)
        with pytest.raises(ValueError, match="fewer steps"):
            call(learner, x, y)
        assert weights_of(learner) == before
    rated(learner, 0.02)
    model.optimizer.learning_rate = 0.02
    step(learner, x, y)
    model.train_on_batch(x, y)
    assert weights_of(learner) == weights_of(model)
    for call in (rated, fnp.set_learning_rate):
        for rate in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match="finite number >= 0"):
                call(learner, rate)
        call(learner, 0)


@njit
def rated(learner, rate):
    fnp.set_learning_rate(learner, rate)


@njit(parallel=True)
def all_of_them(learners, x, y):
    for index in prange(fnp.count(learners)):
        one_by_one(fnp.member(learners, index), x, y)


def test_several_learners_at_once():
    models = [chain(fnn.Dense(9, "tanh"), fnn.Dense(2), seed=seed) for seed in range(5)]
    for model in models:
        model.compile("adam", "mse")
    x, y = rows(models[0], 40), targets_for(models[0], 40)
    learners = fnp.stack([model.learner() for model in models])
    all_of_them(learners, x, y)
    learners = pickle.loads(pickle.dumps(learners))
    assert fnp.count(learners) == 5 and "5 of (6,) -> (2,)" in repr(learners)
    for index in range(5):
        one_by_one(fnp.member(learners, index), x, y)
    for index, model in enumerate(models):
        model.fit(x, y, batch_size=1, shuffle=False, epochs=2, verbose=0)
        assert weights_of(fnp.member(learners, index)) == weights_of(model)
        models[0].update_from(fnp.member(learners, index))
    assert weights_of(models[0]) == weights_of(models[4])
    with pytest.raises(IndexError):
        fnp.member(learners, 5)
    with pytest.raises(IndexError):
        member(learners, 5)
    models[1].compile("sgd", "mse")
    with pytest.raises(ValueError, match="architecture"):
        fnp.stack([models[0].learner(), models[1].learner()])


@njit
def member(learners, index):
    return fnp.member(learners, index).progress[0]


def test_all_architectures_are_one_type():
    @njit
    def first(learner, x, y):
        return fnp.train_step(learner, x, y)

    for name in ("perceptron", "residual"):
        model = compiled(name, "float32")
        x, y = rows(model, 3), targets_for(model, 3)
        first(model.learner(), x, y)
        first(model.learner(gradients=True), x, y)
        first(pickle.loads(pickle.dumps(model.learner())), x, y)
    assert len(first.signatures) == 1


def _train_there(learner, x, y):
    one_by_one(learner, x, y)
    return learner


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    model = compiled("residual", "float32")
    x, y = rows(model, 30), targets_for(model, 30)
    with multiprocessing.get_context(method).Pool(1) as pool:
        learner = pool.apply(_train_there, (model.learner(gradients=True), x, y))
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    assert weights_of(learner) == weights_of(model)
    one_by_one(learner, x, y)
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    assert weights_of(learner) == weights_of(model)
    out = np.empty((30, 3), np.float32)
    predict(learner.network, x, out)
    assert out.tobytes() == model.predict(x).tobytes()
