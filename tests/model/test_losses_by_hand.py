"""The losses of the examples, beside the same models in plain NumPy."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn import ops

RNG = np.random.default_rng(5)


def dense(x, model, name="dense"):
    kernel, bias = model.get_weights(name)
    return x @ kernel + bias


def silu(x):
    return x / (1.0 + np.exp(-x))


def silu_slope(x):
    s = 1.0 / (1.0 + np.exp(-x))
    return s * (1.0 + x * (1.0 - s))


def close(found, expected, digits=10):
    np.testing.assert_allclose(found, expected, rtol=10.0**-digits, atol=10.0**-digits)


def test_the_loss_of_a_variational_autoencoder():
    image = fnn.Input(6)
    mean, logvar = fnn.Dense(2, name="mean")(image), fnn.Dense(2, name="logvar")(image)
    noise = ops.random_normal(mean)
    code = mean + ops.exp(0.5 * logvar) * noise
    made = fnn.Dense(6, activation="sigmoid", name="made")(code)
    divergence = 0.5 * ops.sum(ops.square(mean) + ops.exp(logvar) - 1.0 - logvar, axis=-1)
    model = fnn.Model(image, made, seed=1, dtype="float64")
    model.add_loss(0.1 * divergence)
    model.add_metric(divergence, "divergence")
    model.compile("sgd", "mse")
    X = RNG.uniform(size=(20, 6))
    found = model.evaluate(X, X, batch_size=20, verbose=0)
    # the noise is found from the prediction, which draws the same numbers
    m, v = dense(X, model, "mean"), dense(X, model, "logvar")
    logits = np.log(model.predict(X) / (1.0 - model.predict(X)))
    kernel, bias = model.get_weights("made")
    z = np.linalg.lstsq(kernel.T, (logits - bias).T, rcond=None)[0].T
    eps = (z - m) / np.exp(0.5 * v)
    assert abs(eps.mean()) < 0.7 and 0.5 < eps.std() < 1.5
    kl = 0.5 * (m**2 + np.exp(v) - 1.0 - v).sum(-1)
    close(found["divergence"], kl.mean())
    y = 1.0 / (1.0 + np.exp(-dense(m + np.exp(0.5 * v) * eps, model, "made")))
    close(found["loss"], ((y - X) ** 2).mean() + 0.1 * kl.mean(), 8)


def test_the_contrastive_loss_and_its_gradient():
    def contrastive(labels, points):
        squares = ops.sum(ops.square(points[:, None] - points[None]), axis=-1)
        same = labels[:, None] == labels[None]
        apart = ops.square(ops.relu(2.0 - ops.sqrt(squares + 1e-9)))
        return ops.mean(same * squares + (1.0 - same) * apart)

    def plain(kernel):
        p = X @ kernel
        squares = ((p[:, None] - p[None]) ** 2).sum(-1)
        apart = np.maximum(2.0 - np.sqrt(squares + 1e-9), 0.0) ** 2
        return np.where(labels[:, None] == labels[None], squares, apart).mean()

    X, labels = RNG.normal(size=(12, 4)), RNG.integers(0, 3, 12)
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(2, use_bias=False)], seed=2, dtype="float64")
    model.compile("sgd", contrastive)
    (kernel,) = model.get_weights()
    close(model.evaluate(X, labels, verbose=0)["loss"], plain(kernel))
    (gradient,) = model.gradients(X, labels)
    for place in np.ndindex(kernel.shape):
        step = np.zeros_like(kernel)
        step[place] = 1e-6
        close(gradient[place], (plain(kernel + step) - plain(kernel - step)) / 2e-6, 6)


def critic_by_hand(critic, x):
    """Return the scores of 2-5-1 networks, and their gradients for x."""
    hidden = dense(x, critic, "dense")
    out = critic.get_weights("dense_1")[0][:, 0]
    score = silu(hidden) @ out + critic.get_weights("dense_1")[1]
    return score, (silu_slope(hidden) * out) @ critic.get_weights("dense")[0].T


def test_the_gradient_penalty_and_its_gradient():
    critic = fnn.Sequential([fnn.Input(2), fnn.Dense(5, activation="silu"), fnn.Dense(1)], seed=3, dtype="float64")
    x = fnn.Input(2)
    slope = ops.norm(ops.gradients(critic(x), x), axis=-1)
    penalty = ops.mean(ops.square(slope - 1.0))
    value = fnn.function(x, penalty)
    X = RNG.normal(size=(9, 2))

    def plain():
        return np.mean((np.linalg.norm(critic_by_hand(critic, X)[1], axis=-1) - 1.0) ** 2)

    close(float(value(X)), plain())
    before = critic.get_weights()
    fnn.train_function(x, penalty, update=[critic], optimizer=fnn.SGD(1.0))(X)
    moved = [old - new for old, new in zip(before, critic.get_weights(), strict=True)]
    for number, weight in enumerate(before[:3]):  # the last bias has no influence
        for place in np.ndindex(weight.shape):
            shifted = []
            for sign in (1.0, -1.0):
                weights = [w.copy() for w in before]
                weights[number][place] += sign * 1e-5
                critic.set_weights(weights)
                shifted.append(plain())
            close(moved[number][place], (shifted[0] - shifted[1]) / 2e-5, 7)


def test_the_residual_of_a_differential_equation():
    network = fnn.Sequential([fnn.Input(1), fnn.Dense(7, activation="tanh"), fnn.Dense(1)], seed=4, dtype="float64")
    t = fnn.Input(1)
    u = network(t)
    first = ops.gradients(u, t)
    second = ops.gradients(first, t)
    found = fnn.function(t, [u, first, second])(T := RNG.uniform(0.0, 3.0, (11, 1)))
    w, b = network.get_weights("dense")
    v, c = network.get_weights("dense_1")
    s = np.tanh(T @ w + b)
    close(found[0], s @ v + c)
    close(found[1], ((1 - s**2) * w) @ v)
    close(found[2], (-2 * s * (1 - s**2) * w**2) @ v)


def test_the_loss_of_an_actor_and_a_critic():
    actor = fnn.Sequential([fnn.Input(4), fnn.Dense(2)], seed=5, dtype="float64")
    critic = fnn.Sequential([fnn.Input(4), fnn.Dense(1)], seed=6, dtype="float64")
    state, taken, reached = fnn.Input(4), fnn.Input(2), fnn.Input(1)
    chances, value = ops.log_softmax(actor(state)), critic(state)
    better = ops.stop_gradient(reached - value)
    loss = 0.5 * ops.mean(ops.square(reached - value)) - ops.mean(better * ops.sum(taken * chances, -1, keepdims=True))
    S, A, R = RNG.normal(size=(10, 4)), np.eye(2)[RNG.integers(0, 2, 10)], RNG.normal(size=(10, 1))
    step = fnn.train_function([state, taken, reached], loss, update=[actor, critic], optimizer=fnn.SGD(1.0))
    logits, v = dense(S, actor), dense(S, critic)
    before = actor.get_weights(), critic.get_weights()
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = 0.5 * ((R - v) ** 2).mean() - ((R - v) * (A * np.log(p)).sum(-1, keepdims=True)).mean()
    assert step(S, A, R) == pytest.approx(expected, rel=1e-12)
    towards = (R - v) * (p - A) / 10  # the policy gradient of the logits
    close(before[0][0] - actor.get_weights()[0], S.T @ towards)
    close(before[1][0] - critic.get_weights()[0], S.T @ (v - R) / 10)
