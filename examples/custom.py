"""Custom functions in a network: an activation in ten lines, with a loss and an optimizer.

Networks learn a wave, and continue it beyond the data. There, the usual activations go on in straight lines or stay
constant, but "snake" continues the wave (Ziyin, Hartwig and Ueda, 2020, arXiv:2006.08195).
"""

import argparse
import math

import numpy as np

import fastnn as fnn
from fastnn.testing import check_op

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the curves (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer epochs, for a test")
args = parser.parse_args()
EPOCHS = 100 if args.quick else 600


# --- the ten lines: plain Python, which fastnn compiles into its loops


def snake(x):
    """Return a line plus waves."""
    return x + math.sin(2.0 * x) ** 2 / 2.0


def snake_gradient(x):
    """Return the slope of snake."""
    return 1.0 + math.sin(4.0 * x)


activation = fnn.activations.Custom(snake, gradient=snake_gradient)

# ---

print("snake:   ", check_op(activation))
print("without: ", check_op(snake), "(central differences instead of a gradient)")
try:
    check_op(fnn.activations.Custom(snake, gradient=lambda x: 1.0 + math.sin(2.0 * x)))
except AssertionError as error:
    print("mistaken:", error)


def cauchy(target, prediction):
    """Return a loss on which outliers have little influence."""
    return math.log(1.0 + ((prediction - target) / 0.2) ** 2)


def signed(p, g, m, learning_rate, step, beta):
    """Update a parameter by the sign of its running mean gradient, in shrinking steps."""
    m = beta * m + (1.0 - beta) * g
    return p - learning_rate / math.sqrt(step) * math.copysign(1.0, m), m


rng = np.random.default_rng(0)
x = rng.uniform(-3.0, 3.0, (400, 1)).astype(np.float32)
y = np.sin(2.0 * x) + x / 3.0 + 0.05 * rng.normal(size=x.shape).astype(np.float32)
y[::20] += 3.0  # outliers
beyond = np.linspace(-6.0, 6.0, 241, dtype=np.float32)[:, None]
truth = np.sin(2.0 * beyond) + beyond / 3.0
outside = np.abs(beyond[:, 0]) > 3.0

curves = {}
for name, function in (("tanh", "tanh"), ("relu", "relu"), ("snake", activation)):
    model = fnn.Sequential([fnn.Input(1), fnn.Dense(16, activation=function), fnn.Dense(1)], seed=0)
    optimizer = fnn.optimizers.Custom(signed, 0.01, state={"m": 0.0}, hyperparameters={"beta": 0.9})
    model.compile(optimizer, cauchy)
    model.fit(x, y, epochs=EPOCHS, verbose=0)
    curves[name] = model.predict(beyond)
    off = abs(curves[name] - truth)[:, 0]
    print(f"{name:5s}  error within the data {off[~outside].mean():.3f}, beyond {off[outside].mean():.3f}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(x, y, ".", color="grey", markersize=3, label="data")
    axes.plot(beyond, truth, "k--", label="truth")
    for name, curve in curves.items():
        axes.plot(beyond, curve, label=name)
    axes.set(xlabel="x", ylabel="y", ylim=(-4, 5), title="beyond the data, by activation")
    axes.legend()
    figure.savefig(args.plot)
