"""Forward propagation, backpropagation and one SGD step of a 2-2-1 network by hand, compared with fastnn's numbers."""

import argparse
from math import exp

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="accepted by all examples; this one is quick anyway")
parser.add_argument("--plot", metavar="FILE.png", help="draw the network with its numbers (needs matplotlib)")
args = parser.parse_args()

differences = []


def show(name, by_hand, fastnn):
    """Print a number next to fastnn's, and remember the difference."""
    differences.append(abs(by_hand - fastnn))
    print(f"  {name:10s} {by_hand:14.10f} {fastnn:14.10f}   {by_hand - fastnn:9.1e}")


def sigmoid(z):
    """Return 1 / (1 + exp(-z)), whose slope is s * (1 - s)."""
    return 1 / (1 + exp(-z))


# One row with two inputs, its target, and weights: w<from><to> into hidden neurons a and b, v into the output.
x1, x2, t = 0.6, -1.0, 1.0
w1a, w1b, w2a, w2b, ba, bb = 0.4, -0.7, 0.3, 0.9, 0.1, -0.2
va, vb, c = 0.8, -0.5, 0.2
learning_rate = 0.5

model = fnn.Sequential(
    [fnn.Input(2), fnn.Dense(2, activation="sigmoid"), fnn.Dense(1, activation="sigmoid")], dtype="float64"
)
model.set_weights([[[w1a, w1b], [w2a, w2b]], [ba, bb], [[va], [vb]], [c]])
model.compile(fnn.SGD(learning_rate), loss="mse")
x, y = np.array([[x1, x2]]), np.array([[t]])

print("forward                by hand         fastnn   difference")
a = sigmoid(w1a * x1 + w2a * x2 + ba)
b = sigmoid(w1b * x1 + w2b * x2 + bb)
p = sigmoid(va * a + vb * b + c)
loss = (p - t) ** 2
show("output p", p, model.predict(x)[0, 0])
show("loss", loss, model.evaluate(x, y)["loss"])

print("backward: the chain rule, from the loss to the weights (d<name> is the loss's slope for <name>)")
dp = 2 * (p - t)
dz = dp * p * (1 - p)  # through the output's sigmoid
dva, dvb, dc = dz * a, dz * b, dz
da, db = dz * va, dz * vb  # the output's error, sent back along the weights
dza, dzb = da * a * (1 - a), db * b * (1 - b)  # through the hidden sigmoids
dw1a, dw1b, dw2a, dw2b = dza * x1, dzb * x1, dza * x2, dzb * x2
dx1, dx2 = dza * w1a + dzb * w1b, dza * w2a + dzb * w2b
names = ["w1a", "w1b", "w2a", "w2b", "ba", "bb", "va", "vb", "c"]
gradient = [dw1a, dw1b, dw2a, dw2b, dza, dzb, dva, dvb, dc]
slopes = np.concatenate([slope.ravel() for slope in model.gradients(x, y)])
for name, by_hand, fastnn in zip(names, gradient, slopes, strict=True):
    show(f"d{name}", by_hand, fastnn)
for name, by_hand, fastnn in zip(["dx1", "dx2"], [dx1, dx2], model.input_gradients(x, y)[0], strict=True):
    show(name, by_hand, fastnn)

print(f"one SGD step: weight -= {learning_rate} * slope")
model.train_on_batch(x, y)
before = [w1a, w1b, w2a, w2b, ba, bb, va, vb, c]
after = np.concatenate([weights.ravel() for weights in model.get_weights()])
for name, weight, slope, fastnn in zip(names, before, gradient, after, strict=True):
    show(name, weight - learning_rate * slope, fastnn)
print(f"the loss falls from {loss:.6f} to {model.evaluate(x, y)['loss']:.6f}")
print(f"largest difference: {max(differences):.1e}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(11, 6), layout="constrained")
    places = {"x1": (0, 1), "x2": (0, -1), "a": (2, 1), "b": (2, -1), "p": (4, 0)}
    values = {"x1": x1, "x2": x2, "a": a, "b": b, "p": p}
    numbers = {name: (weight, slope) for name, weight, slope in zip(names, before, gradient, strict=True)}
    edges = [("x1", "a", "w1a", 0.5), ("x1", "b", "w1b", 0.3), ("x2", "a", "w2a", 0.3), ("x2", "b", "w2b", 0.5)]
    for start, end, name, at in [*edges, ("a", "p", "va", 0.5), ("b", "p", "vb", 0.5)]:
        (left, low), (right, high) = places[start], places[end]
        weight, slope = numbers[name]
        color = "C0" if weight > 0 else "C3"
        ax.plot([left, right], [low, high], color=color, linewidth=5 * abs(weight), zorder=1)
        text = f"{name} = {weight:g}\nslope {slope:+.4f}"
        middle = (left + at * (right - left), low + at * (high - low))
        ax.annotate(text, middle, ha="center", va="center", bbox={"facecolor": "white", "edgecolor": color})
    for name, (left, low) in places.items():
        ax.plot(left, low, "o", markersize=58, color="white", markeredgecolor="k", zorder=2)
        ax.annotate(f"{name}\n{values[name]:.4g}", (left, low), ha="center", va="center", zorder=3)
    for name, of in (("ba", "a"), ("bb", "b"), ("c", "p")):
        (left, low), (bias, slope) = places[of], numbers[name]
        ax.annotate(
            f"bias {name} = {bias:g}, slope {slope:+.4f}", (left, low + (-0.5 if of == "b" else 0.42)), ha="center"
        )
    ax.annotate(f"target {t:g}\nloss (p - target)² = {loss:.4f}", (4.45, 0), va="center")
    ax.plot([], [], color="C0", linewidth=3, label="positive weight")
    ax.plot([], [], color="C3", linewidth=3, label="negative weight")
    ax.legend(loc="upper right", title="a thicker line is a larger weight")
    ax.set(xlim=(-0.5, 6), ylim=(-1.7, 1.8), title="values forward, and slopes of the loss backward")
    ax.axis("off")
    figure.savefig(args.plot)
