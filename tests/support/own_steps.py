"""Data and models, shared by the tests of training steps of one's own; and data that call something."""

import numpy as np

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype(np.float32)
T = RNG.normal(size=(24, 2)).astype(np.float32)


def network(name="net", seed=0, inputs=3, outputs=2, **more):
    layers = [fnn.Input(inputs), fnn.Dense(6, "tanh"), fnn.BatchNorm(), fnn.Dropout(0.25), fnn.Dense(outputs)]
    return fnn.Sequential(layers, seed=seed, name=name, **more)


def same(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def differ(one, other):
    return [bool((left != right).any()) for left, right in zip(one, other, strict=True)]


class Calling:
    """Data that call something when they are read."""

    def __init__(self, act, x):
        self.act, self.x = act, x

    def __array__(self, dtype=None, copy=None):
        self.act()
        return self.x
