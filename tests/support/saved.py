"""Models and their comparison, shared by the tests of model files."""

import json

import numpy as np

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def make(optimizer=None, metrics=("accuracy",)) -> fnn.Sequential:
    layers = [fnn.Dense(8, "relu"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.Dense(3, "softmax")]
    model = fnn.Sequential([fnn.Input(4), *layers], seed=1)
    model.compile(optimizer or fnn.Adam(0.01), "cross_entropy", metrics=list(metrics))
    return model


def assert_same(one: fnn.Model, other: fnn.Model) -> None:
    """Compare two models completely, by the files that they would write."""
    from fastnn.saving.model_file import describe

    (tensors, document), (others, text) = (describe(each._state, each._kind, each.name) for each in (one, other))
    assert json.dumps(document, sort_keys=True) == json.dumps(text, sort_keys=True)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, others[name], name)
