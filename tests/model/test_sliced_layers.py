"""Layers of products of slices: predictions, codes and training, against NumPy."""

from dataclasses import dataclass

import numpy as np
import pytest

import fastnn as fnn
import fastnn.nopython as fnp
from fastnn.layers import ParameterSpec

RNG = np.random.default_rng(0)
X = RNG.normal(size=(301, 12)).astype(np.float32)
Y = RNG.normal(size=(301, 5)).astype(np.float32)


@dataclass(eq=False, repr=False)
class Halves(fnn.layers.Layer):
    """The halves of x times the same matrix, and columns of the result times the transpose of columns of another."""

    def parameters(self, *shapes):
        make = fnn.initializers.get("glorot_uniform")
        return ParameterSpec("w", (6, 9), make), ParameterSpec("v", (5, 10), make)

    def call(self, x, w, v):
        return (x[:, :6] @ w + x[:, 6:] @ w)[:, 1:8] @ fnn.ops.transpose(v[:, 2:9])


def model():
    return fnn.Sequential([fnn.Input(12), Halves()], seed=1)


def halves(x, w, v):
    return (x[:, :6] @ w + x[:, 6:] @ w)[:, 1:8] @ v[:, 2:9].T


def test_predictions():
    net = model()
    np.testing.assert_allclose(net.predict(X), halves(X, *net.get_weights()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 16, 17, 301])
def test_codes_choose_the_same_algorithms(rows):
    net = model()
    out = np.empty((rows, 5), np.float32)
    fnp.predict(net.freeze(), X[:rows], out)
    np.testing.assert_array_equal(out, net.predict(X[:rows]))


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_training(rows):
    """The second use of w adds to its gradient, which a product of many matrices cannot."""
    net = model()
    net.compile(fnn.optimizers.SGD(0.1), "mse")
    w, v = (each.astype(np.float64) for each in net.get_weights())
    x, y = X[:rows].astype(np.float64), Y[:rows].astype(np.float64)
    learner = net.learner()
    net.train_on_batch(X[:rows], Y[:rows])
    fnp.train_step(learner, X[:rows], Y[:rows])
    dy = 2.0 * (halves(x, w, v) - y) / y.size
    z = (x[:, :6] + x[:, 6:]) @ w
    dv, dz = np.zeros_like(v), np.zeros_like(z)
    dv[:, 2:9], dz[:, 1:8] = dy.T @ z[:, 1:8], dy @ v[:, 2:9]
    dw = (x[:, :6] + x[:, 6:]).T @ dz
    for got, expected in zip(net.get_weights(), (w - 0.1 * dw, v - 0.1 * dv), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    one = net.get_weights()
    net.update_from(learner)
    for got, expected in zip(net.get_weights(), one, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@dataclass(eq=False, repr=False)
class Columns(fnn.layers.Layer):
    """Columns of x times columns of a matrix, enough of them for packed blocks."""

    def parameters(self, *shapes):
        return (ParameterSpec("w", (520, 530), fnn.initializers.get("glorot_uniform")),)

    def call(self, x, w):
        return x[:, 4:524] @ w[:, 3:523]


def test_codes_pack_blocks():
    net = fnn.Sequential([fnn.Input(530), Columns()], seed=1)
    x = RNG.normal(size=(300, 530)).astype(np.float32)
    out = np.empty((300, 520), np.float32)
    fnp.predict(net.freeze(), x, out)
    expected = net.predict(x)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(out, x[:, 4:524] @ net.get_weights()[0][:, 3:523], rtol=1e-3, atol=1e-3)
    # the same bits as those of products without gaps
    (w,) = net.get_weights()
    np.testing.assert_array_equal(fnn.matmul(x[:256, 4:524].copy(), w[:, 3:523].copy()), expected[:256])
