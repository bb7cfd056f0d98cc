"""Losses look through layers that only move values and use the logits, in all methods that train or evaluate."""

import itertools

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

X = np.ones((8, 4))
# logits so far from the targets that the probabilities are 0 and 1 in float32
FAR = 120.0


def chain(units, activation, *tail):
    """Make a model whose logits are FAR and 0 in turn, whatever the input."""
    a = fnn.Input(4)
    model = fnn.Model(a, _through(tail, fnn.Dense(units, activation, name="logits")(a)), seed=0)
    model.set_weights([np.zeros((4, units)), np.resize([FAR, 0.0], units)], "logits")
    return model


def _through(tail, symbol):
    for layer in tail:
        symbol = layer(symbol)
    return symbol


def joined(activation, units, parts, shape):
    """Make a model that joins outputs of equal layers; each one's logits are FAR and then 0."""
    a = fnn.Input(4)
    outputs = [fnn.Dense(units, activation, name=f"part_{i}")(a) for i in range(parts)]
    model = fnn.Model(a, fnn.Reshape(shape)(fnn.Concatenate()(outputs)), seed=0)
    model.set_weights([np.zeros((4, units)), np.r_[FAR, np.zeros(units - 1)]] * parts)
    return model


SIGMOIDS = {
    "alone": lambda: chain(2, "sigmoid"),
    "object": lambda: chain(2, fnn.activations.Sigmoid()),
    "activation layer": lambda: chain(2, None, fnn.Activation("sigmoid")),
    "linear activation layer": lambda: chain(2, "sigmoid", fnn.Activation("linear")),
    "reshape": lambda: chain(2, "sigmoid", fnn.Reshape((2, 1))),
    "flatten": lambda: chain(2, "sigmoid", fnn.Flatten()),
    "both": lambda: chain(2, "sigmoid", fnn.Reshape((1, 2, 1)), fnn.Flatten()),
    "no dropout": lambda: chain(2, "sigmoid", fnn.Dropout(0.0), fnn.Reshape((1, 2))),
}


def values_of(model, x, t):
    """Return the loss by every method (the rate is 0), and the gradient for the biases of the logits."""
    fitted = model.fit(x, t, batch_size=len(x), verbose=0).history["loss"][0]
    return model.evaluate(x, t)["loss"], model.train_on_batch(x, t)["loss"], fitted, model.gradients(x, t)[1]


@pytest.mark.parametrize("name", SIGMOIDS)
def test_a_saturated_sigmoid_has_its_loss_and_gradient(name):
    model = SIGMOIDS[name]()
    model.compile(fnn.SGD(0.0), "bce")
    t = np.zeros((8, 2)).reshape(model.predict(X).shape)
    *losses, gradient = values_of(model, X, t)
    # log(1 + exp(FAR)) and log 2, of which there is a mean
    assert losses == pytest.approx([0.5 * (FAR + np.log(2.0))] * 3)
    assert gradient == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("tail", [(), (fnn.Reshape((1, 2)),), (fnn.Reshape((1, 2)), fnn.Flatten())])
@pytest.mark.parametrize("labels", [True, False])
def test_a_saturated_softmax_has_its_loss_and_gradient(tail, labels):
    model = chain(2, "softmax", *tail)
    model.compile(fnn.SGD(0.0), "cross_entropy", metrics=["accuracy"])
    shape = model.predict(X).shape
    t = np.ones(shape[:-1], int) if labels else np.broadcast_to([0.0, 1.0], shape)
    *losses, gradient = values_of(model, X, t)
    assert losses == pytest.approx([FAR] * 3)
    assert gradient == pytest.approx([1.0, -1.0])
    assert model.evaluate(X, t)["accuracy"] == 0.0


def of_symbols():
    a = fnn.Input(4)
    return fnn.Model(a, fnn.ops.exp(fnn.Dense(2, name="logits")(a)))


RATES = {
    "alone": lambda: chain(2, "exponential"),
    "activation layer": lambda: chain(2, None, fnn.Activation("exp")),
    "function of symbols": of_symbols,
    "reshape": lambda: chain(2, "exponential", fnn.Reshape((2, 1))),
    "both": lambda: chain(2, "exponential", fnn.Reshape((1, 2, 1)), fnn.Flatten()),
}


@pytest.mark.parametrize("name", RATES)
def test_a_vanishing_rate_has_its_loss_and_gradient(name):
    """exp(-FAR) is 0 in float32, whose Poisson loss would be -log(1e-7) with almost no gradient."""
    model = RATES[name]()
    model.compile(fnn.SGD(0.0), "poisson", metrics=["poisson"])
    model.set_weights([np.zeros((4, 2)), np.array([-FAR, 0.0])])
    t = np.ones((8, 2)).reshape(model.predict(X).shape)
    *losses, gradient = values_of(model, X, t)
    assert losses == pytest.approx([0.5 * (FAR + 1.0)] * 3)
    assert gradient == pytest.approx([-0.5, 0.0])
    assert model.evaluate(X, t)["poisson"] == pytest.approx(0.5 * (FAR + 1.0))


def test_logarithms_of_rates_are_logits():
    """The loss of logits has the bits of that of an exponential, also among the metrics."""
    rng = np.random.default_rng(2)
    x, t = rng.normal(size=(16, 4)), rng.poisson(2.0, (16, 3))
    of_rates, of_logits = (fnn.Sequential([fnn.Input(4), fnn.Dense(3, last)], seed=1) for last in ("exponential", None))
    of_rates.compile("sgd", "poisson", metrics=["poisson", "mse"])
    of_logits.compile("sgd", fnn.Poisson(from_logits=True), metrics=["poisson", "mse"])
    one, other = of_rates.evaluate(x, t), of_logits.evaluate(x, t)
    assert (one["loss"], one["poisson"]) == (other["loss"], other["poisson"]) and one["mse"] != other["mse"]
    z = of_logits.predict(x)
    assert other["loss"] == pytest.approx((np.exp(z) - t * z).mean(), rel=1e-6)
    for left, right in zip(of_rates.gradients(x, t), of_logits.gradients(x, t), strict=True):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(ValueError, match=r"Poisson\(from_logits=True\) takes logits, but .* ends in exponential"):
        of_rates.compile("sgd", fnn.Poisson(from_logits=True))
    with pytest.raises(ValueError, match=r"activation='exponential' there, or Poisson\(from_logits=True\)"):
        of_logits.compile("sgd", "poisson")


def test_joined_sigmoids_have_their_gradients():
    model = joined("sigmoid", 3, 2, (2, 3))
    model.compile("sgd", "bce")
    assert model.evaluate(X, np.zeros((8, 2, 3)))["loss"] == pytest.approx((FAR + 2 * np.log(2.0)) / 3)
    for gradient in model.gradients(X, np.zeros((8, 2, 3)))[1::2]:
        assert gradient == pytest.approx(np.array([1.0, 0.5, 0.5]) / 6)


def test_softmaxes_joined_on_another_axis_than_classes_have_their_gradients():
    model = joined("softmax", 3, 2, (2, 3))
    model.compile("sgd", "cross_entropy")
    y = np.ones((8, 2), int)
    assert model.evaluate(X, y)["loss"] == pytest.approx(FAR)
    for gradient in model.gradients(X, y)[1::2]:
        assert gradient == pytest.approx([0.5, -0.5, 0.0])


def test_joined_and_plain_outputs_are_one_model():
    """Two heads of three sigmoids are six sigmoids: the same loss and the same gradients."""
    x, t = np.random.default_rng(0).normal(size=(16, 4)), np.random.default_rng(1).integers(0, 2, (16, 6))
    a = fnn.Input(4)
    heads = fnn.Model(a, fnn.Concatenate()([fnn.Dense(3, "sigmoid")(a) for _ in range(2)]), seed=0, dtype="float64")
    whole = fnn.Sequential([fnn.Input(4), fnn.Dense(6, "sigmoid")], dtype="float64")
    kernels = heads.get_weights()
    whole.set_weights([np.hstack(kernels[::2]), np.hstack(kernels[1::2])])
    for model in (heads, whole):
        model.compile("sgd", "bce", metrics=["binary_accuracy", "auc"])
    assert heads.evaluate(x, t) == pytest.approx(whole.evaluate(x, t))
    left = heads.gradients(x, t)
    right = whole.gradients(x, t)
    np.testing.assert_allclose(np.hstack(left[::2]), right[0], rtol=1e-12)
    np.testing.assert_allclose(np.hstack(left[1::2]), right[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["reshape", "flatten", "both"])
def test_a_learner_has_the_loss_of_the_model(name):
    model = SIGMOIDS[name]()
    model.compile(fnn.SGD(0.1), "bce")
    x = X.astype(np.float32)
    t = np.zeros(model.predict(x).shape, np.float32)
    learner = model.learner()
    assert fnp.train_step(learner, x, t) == model.train_on_batch(x, t)["loss"] == pytest.approx(0.5 * (FAR + np.log(2)))
    assert learner.parameters.tobytes() == model._runtime.parameters.tobytes()


def test_an_output_that_is_partly_something_else_keeps_its_probabilities():
    a = fnn.Input(4)
    heads = [fnn.Dense(1, "sigmoid")(a), fnn.Dense(1, "hard_sigmoid")(a)]
    model = fnn.Model(a, fnn.Concatenate()(heads), seed=0)
    model.compile("sgd", "bce")
    model.set_weights([np.zeros((4, 1)), np.array([FAR]), np.zeros((4, 1)), np.zeros(1)])
    # clipped to 1 - 1e-7, as its docstring says
    expected = 0.5 * (-np.log(np.float32(1) - np.float32(1.0 - 1e-7)) + np.log(2.0))
    assert model.evaluate(X, np.zeros((8, 2)))["loss"] == pytest.approx(expected, rel=1e-2)


def built(layers):
    return fnn.Sequential([fnn.Input(4), *layers], seed=0)


REFUSED = {
    "poisson": [None, "tanh", "elu", "selu", "gelu", "silu", "mish", "softsign", "leaky_relu", "log_softmax"],
    "kl_divergence": [None, "tanh", "relu", "softplus", "exponential", "log_softmax"],
    "cross_entropy": [None, "tanh", "relu", "sigmoid", "exponential", "log_softmax"],
    "bce": [None, "tanh", "relu", "relu6", "softplus", "exponential", "log_softmax"],
}
TAKEN = {
    "poisson": ["exponential", "relu", "softplus", "relu6", "sigmoid", "softmax", fnn.activations.LeakyReLU(0.0)],
    "kl_divergence": ["softmax", "sigmoid", "hard_sigmoid"],
    "cross_entropy": ["softmax"],
    "bce": ["sigmoid", "hard_sigmoid", "softmax"],
}


@pytest.mark.parametrize(("loss", "activation"), [(a, b) for a, each in REFUSED.items() for b in each])
@pytest.mark.parametrize("tail", [(), (fnn.Reshape((1, 4)),)], ids=["", "reshaped"])
def test_losses_refuse_outputs_that_mean_something_else(loss, activation, tail):
    name = type(fnn.losses.get(loss)).__name__
    model = built([fnn.Dense(4, activation), *tail])
    with pytest.raises(ValueError, match=f"loss: {name} takes .* ends in {activation or 'linear'}"):
        model.compile("sgd", loss)
    with pytest.raises(ValueError, match=name):
        built([fnn.Dense(4), fnn.Activation(activation or "linear"), *tail]).compile("sgd", loss)


@pytest.mark.parametrize(("loss", "activation"), [(a, b) for a, each in TAKEN.items() for b in each])
def test_losses_take_outputs_that_mean_the_same(loss, activation):
    built([fnn.Dense(4, activation), fnn.Flatten()]).compile("sgd", loss)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "poisson", "kl_divergence"])
@pytest.mark.parametrize("last", [fnn.BatchNorm(), fnn.LayerNorm(), fnn.RMSNorm()])
def test_normalised_outputs_may_be_negative(loss, last):
    with pytest.raises(ValueError, match=f"ends in {fnn.registry.snake_case(type(last).__name__)}"):
        built([fnn.Dense(4, "softmax"), last]).compile("sgd", loss)


def test_bounds_go_through_sums_and_products():
    a = fnn.Input(4)
    p, q = fnn.Dense(3, "sigmoid")(a), fnn.Dense(3, "sigmoid")(a)
    fnn.Model(a, fnn.Multiply()([p, q])).compile("sgd", "bce")
    fnn.Model(a, fnn.Add()([p, q])).compile("sgd", "poisson")
    with pytest.raises(ValueError, match="ends in add"):
        fnn.Model(a, fnn.Add()([p, q])).compile("sgd", "bce")
    with pytest.raises(ValueError, match="ends in multiply"):
        fnn.Model(a, fnn.Multiply()([p, fnn.Dense(3, "tanh")(a)])).compile("sgd", "poisson")


def test_one_bad_part_is_enough_to_refuse():
    a = fnn.Input(4)
    parts = [fnn.Dense(2, "sigmoid")(a), fnn.Dense(2)(a)]
    for order in itertools.permutations(parts):
        with pytest.raises(ValueError, match="'concatenate' ends in linear"):
            fnn.Model(a, fnn.Concatenate()(order)).compile("sgd", "bce")
        with pytest.raises(ValueError, match="takes logits, but the output 'concatenate' ends in sigmoid"):
            fnn.Model(a, fnn.Concatenate()(order)).compile("sgd", fnn.BinaryCrossEntropy(from_logits=True))


@pytest.mark.parametrize("loss", ["cross_entropy", "kl_divergence"])
def test_rows_that_do_not_sum_to_one_are_refused(loss):
    a = fnn.Input(4)
    parts = fnn.Concatenate()([fnn.Dense(3, "softmax")(a) for _ in range(2)])
    for output in (parts, fnn.Reshape((3, 2))(parts), fnn.Flatten()(fnn.Reshape((2, 3))(parts))):
        with pytest.raises(ValueError, match="has divided the classes"):
            fnn.Model(a, output).compile("sgd", loss)
    fnn.Model(a, fnn.Reshape((2, 3))(parts)).compile("sgd", loss)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_linear_activation_leaves_the_meaning_to_the_loss(activation):
    """An activation that is a separate layer is used as written: plain values, probabilities or logits."""
    layers = [fnn.Dense(4, activation), fnn.Activation("linear")]
    loss = {"sigmoid": fnn.BinaryCrossEntropy, "softmax": fnn.CrossEntropy}[activation]
    for from_logits in (False, True):
        built(layers).compile("sgd", loss(from_logits=from_logits))


def test_user_defined_functions_may_give_anything():
    def half(x):
        return 0.5 + 0.0 * x

    for loss in ("bce", "cross_entropy", "poisson", "kl_divergence"):
        built([fnn.Dense(4, half)]).compile("sgd", loss)


def test_a_permutation_keeps_rows_only_where_the_last_axis_stays():
    x = fnn.Input((2, 3, 4))
    y = fnn.Activation("softmax")(x)
    fnn.Model(x, fnn.Permute((2, 1, 3))(y)).compile("sgd", "cross_entropy")
    with pytest.raises(ValueError, match="ends in softmax"):
        fnn.Model(x, fnn.Permute((1, 3, 2))(y)).compile("sgd", "cross_entropy")
