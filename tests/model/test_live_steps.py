"""Small training steps are calls of one code on the model's own buffers: the bits, errors and counters of the rest."""

import copy
import gc
import pickle
import threading
import warnings
import weakref

import numpy as np
import pytest

import fastnn as fnn
from small_calls import bits, counted, growth, taken  # noqa: F401
from small_calls import general_step as general

RNG = np.random.default_rng(11)
#: the code takes the steps after these
GENERAL = 2


def network(optimizer="adam", loss="cross_entropy", metrics=None, dtype="float32", last="softmax"):
    layers = [fnn.Input(6), fnn.Dense(9, "tanh"), fnn.Dropout(0.3), fnn.Dense(4, last, kernel_regularizer=fnn.L2(0.01))]
    model = fnn.Sequential(layers, seed=3, dtype=dtype)
    model.compile(copy.deepcopy(optimizer), loss, metrics=metrics)
    return model


def batch(n, dtype=np.float32):
    return RNG.normal(size=(n, 6)).astype(dtype), RNG.integers(0, 4, n)


def ready(make=network, data=batch):
    """Return two equal models of which one is about to take steps by its code, and the other not."""
    model, other = make(), make()
    for _ in range(GENERAL):
        x, y = data(8)
        assert model.train_on_batch(x, y) == general(other, x, y)
    assert taken(model) == 0
    return model, other


def test_integers_and_weights_of_time_steps():
    def make():
        layers = [
            fnn.Input((5,), dtype="int64"), fnn.OneHot(7), fnn.Dense(6, "tanh"), fnn.Dense(3, "softmax"),
        ]  # fmt: skip
        model = fnn.Sequential(layers, seed=3)
        loss = fnn.CrossEntropy(normalize="weights")
        model.compile("adam", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        return model

    def data(n):
        return RNG.integers(0, 7, (n, 5)).astype(np.int16), RNG.integers(0, 3, (n, 5))

    model, other = ready(make, data)
    for n in (1, 6, 20):
        x, y = data(n)
        assert model.train_on_batch(x, y) == general(other, x, y)
        for weights in (RNG.uniform(size=n), RNG.uniform(size=(n, 5)), np.zeros((n, 5))):
            got, expected = model.train_on_batch(x, y, weights), general(other, x, y, sample_weight=weights)
            assert repr(got) == repr(expected)  # there is NaN where all weights are 0
        assert bits(model) == bits(other)
    assert taken(model) == 12
    for bad in (x - 1, x + 1, x.astype(float)):
        with pytest.raises((TypeError, ValueError)) as got:
            model.train_on_batch(bad, y)
        with pytest.raises((TypeError, ValueError)) as expected:
            general(other, bad, y)
        assert str(got.value) == str(expected.value) and bits(model) == bits(other)


class Counting:
    """A learning rate that is any Python function of the step."""

    def __call__(self, step):
        return 0.01 / (1 + step % 5)


OPTIMIZERS = [
    fnn.SGD(0.05), fnn.SGD(fnn.schedules.CosineDecay(0.1, 7), momentum=0.9), fnn.Adam(Counting()),
    fnn.Adam(0.01, clipnorm=0.3, weight_decay=0.01), fnn.AdamW(fnn.schedules.ExponentialDecay(0.01, 3, 0.5)),
    fnn.Nadam(0.01, gradient_accumulation_steps=3, use_ema=True, ema_overwrite_frequency=2), fnn.RMSprop(0.01),
    fnn.Lion(0.001, gradient_accumulation_steps=2), fnn.Adadelta(np.float64(1.0)),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one.formula)
def test_whatever_happens_between_steps(optimizer, tmp_path):
    model, other = ready(lambda: network(optimizer, metrics=["accuracy"]))
    dense = [one.layers[0] for one in (model, other)]
    wide = RNG.normal(size=(40, 12))

    def steps():
        for n in (3, 16, 1, 40):
            x, y = batch(n)
            assert model.train_on_batch(x, y) == general(other, x, y)
        x, y = wide[:20, ::2], RNG.integers(0, 4, 40).astype(np.uint8)[::2]
        assert model.train_on_batch(x, y) == general(other, x, y)
        assert bits(model) == bits(other)

    def both(act):
        for one in (model, other):
            act(one)

    steps()
    assert taken(model) == 5
    x, y = batch(24)
    changes = [
        lambda one: one.fit(x, y, epochs=2, batch_size=7, verbose=0),
        lambda one: one.fit(x, y, epochs=3, batch_size=7, verbose=0, resume=True),
        lambda one: one.set_weights([0.5 * weight for weight in one.get_weights()]),
        lambda one: setattr(one.optimizer, "learning_rate", 0.003),
        lambda one: setattr(one.optimizer, "learning_rate", fnn.schedules.CosineDecay(0.01, 90)),
        lambda one: one.gradients(x, y),
        lambda one: one.finalize_variable_values(),
        lambda one: one.compile(one.optimizer, "cross_entropy", metrics=["accuracy"]),
        lambda one: one.predict(np.zeros((3000, 6))),
        lambda one: one.update_from(one.learner(steps=90)),
        lambda one: one.compile("nadam", "cross_entropy"),
    ]
    for change in changes:
        before = taken(model)
        both(change)
        steps()
        steps()
        assert taken(model) > before
    for layer in dense:
        layer.trainable = False
    steps()
    for layer in dense:
        layer.trainable = True
    steps()
    model.save(tmp_path / "one.safetensors")
    other.save(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    model, other = fnn.load(tmp_path / "one.safetensors"), pickle.loads(pickle.dumps(other))
    steps()
    steps()


def momentum(p, g, m, learning_rate, step, beta):
    m = beta * m - learning_rate * g
    return p + m, m


def test_an_optimizer_from_a_function():
    update = fnn.optimizers.Custom(momentum, Counting(), state={"m": 0.0}, hyperparameters={"beta": 0.9})
    model, other = ready(lambda: network(update))
    for n in (1, 7, 7, 20):
        x, y = batch(n)
        assert model.train_on_batch(x, y) == general(other, x, y)
    assert bits(model) == bits(other) and taken(model) == 4


def test_another_model_freezes_a_shared_layer():
    def make():
        shared = fnn.Dense(9, "tanh")
        models = [fnn.Sequential([fnn.Input(6), shared, fnn.Dense(4)], seed=seed) for seed in (1, 2)]
        for one in models:
            one.compile("adam", "mse")
        return models

    pairs = [make(), make()]
    for frozen in (False, True, False):
        for pair in pairs:
            pair[1].trainable = not frozen
        for _ in range(4):
            x, y = batch(5)[0], RNG.normal(size=(5, 4))
            for one, other in zip(*pairs, strict=True):
                assert one.train_on_batch(x, y) == general(other, x, y)
                assert bits(one) == bits(other)
    assert taken(pairs[0][0]) > 8


TARGETS = {
    "mse": lambda n: RNG.normal(size=(n, 4)),
    "mae": lambda n: RNG.integers(-5, 5, (n, 4)),
    "huber": lambda n: RNG.normal(size=(n, 4)).astype(np.float32),
    "poisson": lambda n: RNG.uniform(size=(n, 4)).astype(np.float32),
    "hinge": lambda n: RNG.integers(0, 2, (n, 4)) * 2 - 1,
    "binary_cross_entropy": lambda n: RNG.integers(0, 2, (n, 4)).astype(bool),
    "cross_entropy": lambda n: np.eye(4, dtype=np.float32)[RNG.integers(0, 4, n)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", TARGETS)
def test_losses_and_weights_of_samples(loss, dtype):
    last = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "softplus"}.get(loss)

    def data(n):
        return batch(n)[0], TARGETS[loss](n)

    model, other = ready(lambda: network("sgd", loss, dtype=dtype, last=last), data)
    for n in (4, 17, 1):
        x, y = data(n)
        weights = RNG.normal(size=n)
        assert model.train_on_batch(x, y) == general(other, x, y)
        for given in (weights, weights.astype(np.float32), np.arange(n)):
            got = model.train_on_batch(x, y, sample_weight=given)
            assert got == general(other, x, y, sample_weight=given)
        assert bits(model) == bits(other)
    assert taken(model) == 12


def test_labels_with_an_axis_of_length_one():
    model, other = ready()
    x, y = batch(5)
    assert model.train_on_batch(x, y[:, None]) == general(other, x, y[:, None])
    assert bits(model) == bits(other) and taken(model) == 1


def two_ends():
    a, b = fnn.Input((3,), name="a"), fnn.Input((2, 2), name="b")
    joined = fnn.Concatenate()([fnn.Dense(5, "relu")(a), fnn.Flatten()(b)])
    model = fnn.Model([a, b], [fnn.Dense(1)(joined), fnn.Dense(3, "softmax")(joined)], seed=2)
    model.compile("adam", ["mse", "cross_entropy"], metrics=[["mae"], ["accuracy"]], loss_weights=[0.3, 2.0])
    return model


def test_several_inputs_and_outputs():
    def data(n):
        x = [RNG.normal(size=(n, 3)), RNG.normal(size=(n, 2, 2)).astype(np.float32)]
        return x, [RNG.normal(size=n), RNG.integers(0, 3, n)]

    model, other = ready(two_ends, data)
    for n in (1, 9, 30):
        x, y = data(n)
        assert model.train_on_batch(x, y) == general(other, x, y)
        assert model.train_on_batch(tuple(x), tuple(y)) == general(other, x, y)
        weights = RNG.uniform(size=n)
        assert model.train_on_batch(x, y, weights) == general(other, x, y, sample_weight=weights)
    assert bits(model) == bits(other) and taken(model) == 6
    for x, y in (([*data(3)[0], data(3)[0][0]], data(3)[1]), (data(3)[0], data(3)[1][:1]), (data(3)[0], data(4)[1])):
        with pytest.raises((TypeError, ValueError)):
            model.train_on_batch(x, y)
    assert bits(model) == bits(other)


BAD = {
    "one sample": lambda x, y: (x[0], y),
    "one sample and its label": lambda x, y: (x[0], np.array(y[0])),
    "columns": lambda x, y: (x[:, :5], y),
    "axes": lambda x, y: (x[:, None], y),
    "no rows": lambda x, y: (x[:0], y[:0]),
    "more targets": lambda x, y: (x, np.append(y, 0)),
    "float labels": lambda x, y: (x, y.astype(float)),
    "label": lambda x, y: (x, y + 1),
    "negative label": lambda x, y: (x, y - 1),
    "large label": lambda x, y: (x, y.astype(np.uint64) + np.uint64(2**63)),
    "text": lambda x, y: (x, y.astype(str)),
    "nothing": lambda x, y: (x, None),
    "complex": lambda x, y: (x.astype(complex), y),
    "masked": lambda x, y: (np.ma.masked_less(x, 0.0), y),
    "one-hot of another sum": lambda x, y: (x, 0.9 * np.eye(4)[y]),
    "one-hot of another sum, float32": lambda x, y: (x, np.float32(0.9) * np.eye(4, dtype=np.float32)[y]),
    "NaN": lambda x, y: (np.where(np.arange(48).reshape(8, 6) == 20, np.nan, x), y),
    "infinite in float32": lambda x, y: (np.where(np.arange(48).reshape(8, 6) == 21, 1e39, x.astype(float)), y),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_wrong_is_said_by_the_general_path(bad):
    model, other = ready()
    x, y = BAD[bad](RNG.normal(size=(8, 6)).astype(np.float32), np.arange(8) % 4)
    before = bits(model)
    with pytest.raises((TypeError, ValueError)) as got:
        model.train_on_batch(x, y)
    with pytest.raises((TypeError, ValueError)) as expected:
        general(other, x, y) if isinstance(x, np.ndarray) and x.ndim == 2 and type(x) is np.ndarray else (
            other.train_on_batch(x, y)
        )
    assert type(got.value) is type(expected.value) and str(got.value) == str(expected.value)
    assert bits(model) == before == bits(other)
    x, y = batch(8)
    assert model.train_on_batch(x, y) == general(other, x, y)
    assert bits(model) == bits(other) and taken(model) == 1


@pytest.mark.parametrize("bad", [np.ones(7), np.full(8, np.nan), np.full(8, 1e39), np.ones((8, 2)), "x", 1.0])
def test_wrong_weights_of_samples(bad):
    model, other = ready()
    x, y = batch(8)
    before = bits(model)
    with pytest.raises((TypeError, ValueError)) as got:
        model.train_on_batch(x, y, bad)
    with pytest.raises((TypeError, ValueError)) as expected:
        general(other, x, y, sample_weight=bad)
    assert str(got.value) == str(expected.value) and bits(model) == before


def test_targets_are_compared_before_they_are_rounded():
    def data(n):
        return batch(n)[0], RNG.uniform(size=(n, 4)).astype(np.float32)

    model, _ = ready(lambda: network("sgd", "binary_cross_entropy", last="sigmoid"), data)
    x, y = batch(3)[0], np.full((3, 4), 1 + 1e-12)
    assert y.astype(np.float32).max() == 1.0
    with pytest.raises(ValueError, match="<= 1"):
        model.train_on_batch(x, y)


def test_learning_rates_are_checked_in_every_step():
    model, _ = ready()
    x, y = batch(4)
    before = bits(model)
    for rate, error in (
        (lambda step: -1.0, ValueError), (lambda step: "x", TypeError), (lambda step: float("nan"), ValueError),
        (1e300, ValueError), (lambda step: 1e300, ValueError),
    ):  # fmt: skip
        model.optimizer.learning_rate = rate
        with pytest.raises(error, match="learning"):
            model.train_on_batch(x, y)
        assert bits(model) == before
    model.optimizer.learning_rate = 1e20  # large, but not too large
    model.train_on_batch(x, y)
    assert bits(model) != before


def test_losses_that_are_not_finite_give_a_warning():
    def data(n):
        return np.full((n, 6), 1e30, np.float32), np.full((n, 4), 1e30)

    model = network("sgd", "mse", last=None)
    small = batch(8)[0], np.zeros((8, 4))
    for _ in range(GENERAL + 1):
        model.train_on_batch(*small)
    with pytest.warns(RuntimeWarning, match=r"NaN or infinite at training step 4;") as caught:
        for _ in range(3):
            model.train_on_batch(*data(8))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert taken(model) == 4


def test_one_row_for_batch_normalisation():
    model = fnn.Sequential([fnn.Input(6), fnn.BatchNorm(), fnn.Dense(4)], seed=1)
    model.compile("sgd", "mse")
    for n in (8, 8, 8, 5):
        model.train_on_batch(batch(n)[0], np.zeros((n, 4)))
    with pytest.warns(RuntimeWarning, match="one row"):
        model.train_on_batch(batch(1)[0], np.zeros((1, 4)))


def test_large_batches_are_left_to_the_general_path():
    model, other = ready()
    for n in (20_000, 20_000):
        x, y = batch(n)
        assert model.train_on_batch(x, y) == general(other, x, y)
    assert taken(model) == 0


def test_threads_train_the_same_model_in_turn():
    model, _ = ready()
    alone = [network() for _ in range(3)]
    data, errors = [batch(4) for _ in range(200)], []

    def work(own):
        try:
            for x, y in data:
                model.train_on_batch(x, y)
                own.train_on_batch(x, y)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(own,)) for own in alone]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors and model.step == GENERAL + 600
    assert bits(alone[0]) == bits(alone[1]) == bits(alone[2])


def test_models_share_a_code_and_are_freed():
    model, other = ready(), ready()
    x, y = batch(3)
    for one in (model[0], other[0]):
        one.train_on_batch(x, y)
    steps = [one._runtime.quick_step for one in (model[0], other[0])]
    assert steps[0]._bound is steps[1]._bound
    seen = [weakref.ref(model[0]._runtime), weakref.ref(steps[0]._bound)]
    gc.disable()
    try:
        del model, one
        assert seen[0]() is None
    finally:
        gc.enable()
    del other, steps
    gc.collect()
    assert seen[1]() is None


def test_no_memory_is_lost():
    model, _ = ready()
    x, y = batch(4)

    assert growth(lambda: model.train_on_batch(x, y)) < 20_000


def test_a_function_that_raises():
    def checked(x):
        if x > 100:
            raise ValueError("too large")
        return 0.5 * x

    def make():
        layers = [fnn.Input(6), fnn.Dense(9, fnn.activations.Custom(checked)), fnn.BatchNorm(), fnn.Dense(4)]
        model = fnn.Sequential(layers, seed=3)
        model.compile("adam", "mse")
        return model

    def data(n):
        return batch(n)[0], RNG.normal(size=(n, 4))

    model, other = ready(make, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for n in (1, 5, 5):
            x, y = data(n)
            assert model.train_on_batch(x, y) == general(other, x, y)
            for _ in range(2):
                messages = []
                for step in (model.train_on_batch, lambda x, y: general(other, x, y)):
                    with pytest.raises(RuntimeError, match=r"'checked' .* raised ValueError\('too large'\)") as caught:
                        step(1e6 * x, y)
                    messages.append(str(caught.value))
                assert messages[0] == messages[1] and bits(model) == bits(other)
    assert taken(model) == 2
