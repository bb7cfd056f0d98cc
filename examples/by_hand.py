"""Forward propagation, backpropagation and one SGD step of a 2-2-1 network by hand, beside fastnn's numbers."""

import argparse
from math import exp

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true", help="accepted by all examples; this one is quick anyway")
parser.parse_args()

differences = []


def show(name, by_hand, fastnn):
    """Print a number beside fastnn's, and remember the difference."""
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
