"""Functions of symbols as losses, and the same in NumPy."""

import math

import numpy as np

import fastnn as fnn
from fastnn import ops

N = 37
rng = np.random.default_rng(5)
X = rng.normal(size=(N, 4))
Y = rng.normal(size=(N, 3))
LABELS = rng.integers(0, 5, N)
W = rng.uniform(0.1, 2.0, N)


def squares(y_true, y_pred):
    return ops.square(y_true - y_pred)


def per_sample(y_true, y_pred):
    return ops.sum(ops.exp(0.3 * y_pred) * ops.square(y_true - y_pred), axis=-1)


def dice(y_true, y_pred):
    both = ops.sum(y_true * ops.sigmoid(y_pred))
    return 1.0 - (2.0 * both + 1.0) / (ops.sum(ops.square(y_true)) + ops.sum(ops.sigmoid(y_pred)) + 1.0)


def correlation(y_true, y_pred):
    a, b = y_true - ops.mean(y_true, axis=0), y_pred - ops.mean(y_pred, axis=0)
    return 1.0 - ops.sum(a * b) / ops.sqrt(ops.sum(a * a) * ops.sum(b * b))


def contrastive(y_true, y_pred):
    """Pairs of rows of one label are to be near each other, others at least 1 apart."""
    apart = ops.sum(ops.square(y_pred[:, None] - y_pred[None, :]), axis=-1)
    same = y_true[:, None] == y_true[None, :]
    return ops.mean(ops.where(same, apart, ops.square(ops.maximum(0.0, 1.0 - ops.sqrt(apart + 1e-6)))), axis=1)


def np_sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def np_dice(t, p):
    s = np_sigmoid(p)
    return 1.0 - (2.0 * (t * s).sum() + 1.0) / ((t * t).sum() + s.sum() + 1.0)


def np_contrastive(t, p):
    total = np.zeros(len(p))
    for i in range(len(p)):
        for j in range(len(p)):
            d = ((p[i] - p[j]) ** 2).sum()
            total[i] += d if t[i] == t[j] else max(0.0, 1.0 - math.sqrt(d + 1e-6)) ** 2
    return total / len(p)


def np_correlation(t, p):
    return 1.0 - np.corrcoef((t - t.mean(0)).ravel(), (p - p.mean(0)).ravel())[0, 1]


#: function, targets, the same in NumPy: a number, or one for each sample
CASES = {
    "elements": (squares, Y, lambda t, p: ((t - p) ** 2).mean(axis=1)),
    "samples": (per_sample, Y, lambda t, p: (np.exp(0.3 * p) * (t - p) ** 2).sum(axis=1)),
    "dice": (dice, Y, np_dice),
    "correlation": (correlation, Y, np_correlation),
    "contrastive": (contrastive, LABELS, np_contrastive),
}
BY_SAMPLE = ("elements", "samples", "contrastive")


def build(loss, dtype="float64", *, optimizer=None, **options):
    model = fnn.Sequential([fnn.Input(4), fnn.Dense(5, activation="tanh"), fnn.Dense(3)], seed=1, dtype=dtype)
    model.compile(optimizer or fnn.SGD(0.1), loss, **options)
    return model


def forward(weights, x):
    k1, b1, k2, b2 = weights
    return np.tanh(x @ k1 + b1) @ k2 + b2


def differences(loss, weights, step=1e-5):
    """Central differences of a function of weights."""
    found = []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            value = weight[index]
            weight[index] = value + step
            above = loss(weights)
            weight[index] = value - step
            gradient[index] = (above - loss(weights)) / (2 * step)
            weight[index] = value
        found.append(gradient)
    return found


def mean(rows, weights=None, normalize="rows"):
    rows = np.asarray(rows)
    if weights is None or rows.ndim == 0:
        return rows.mean()
    return (rows * weights).sum() / (weights.sum() if normalize == "weights" else len(weights))
