"""Small data and models, shared by the tests of whole trainings."""

import numpy as np

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
TARGET = (X @ RNG.normal(size=(4, 2)) + 0.3).astype(np.float32)


def classifier(dtype: str = "float32", seed: int = 1, optimizer="adam", **more) -> fnn.Sequential:
    layers = [fnn.Dense(8, "relu"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.Dense(3, "softmax")]
    model = fnn.Sequential([fnn.Input(4), *layers], seed=seed, dtype=dtype)
    model.compile(optimizer, "cross_entropy", metrics=["accuracy"], **more)
    return model


def regressor(*layers: fnn.layers.Layer, optimizer="sgd", dtype: str = "float32", **more) -> fnn.Sequential:
    model = fnn.Sequential([fnn.Input(4), *(layers or [fnn.Dense(2)])], seed=1, dtype=dtype)
    model.compile(optimizer, "mse", **more)
    return model


def assert_same_weights(a: fnn.Model, b: fnn.Model) -> None:
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
