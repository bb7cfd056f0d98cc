"""Activation functions side by side: their values, their slopes (what backpropagation multiplies by), their shapes."""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw all of them (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer functions, for a test")
args = parser.parse_args()

NAMES = ["linear", "step", "sigmoid", "hard_sigmoid", "tanh", "softsign", "relu", "relu6", "leaky_relu"]
NAMES += ["elu", "selu", "softplus", "gelu", "silu", "mish"]
if args.quick:
    NAMES = ["step", "sigmoid", "tanh", "relu"]


def slopes(name, x):
    """Return the derivative at every x by backpropagation through a network of only the activation."""
    model = fnn.Sequential([fnn.Input(1), fnn.Activation(name)])
    model.compile("sgd", loss="mse")
    # With targets 1/2 below the outputs, the slope of a row's loss (output - target)^2 is 2 * 1/2 = 1, so the
    # gradient at the input is the activation's slope, divided by the number of rows.
    return model.input_gradients(x, model.predict(x) - 0.5).ravel() * len(x)


def picture(name, height=9, width=21):
    """Return lines that show y over x, both from -3 to 3."""
    lines = np.full((height, width), " ")
    lines[height // 2, :], lines[:, width // 2] = "-", "|"
    x = np.linspace(-3, 3, width)
    rows = np.round((3 - fnn.activations.get(name)(x)) / 6 * (height - 1)).astype(int)
    seen = (rows >= 0) & (rows < height)
    lines[rows[seen], np.arange(width)[seen]] = "o"
    return [name.center(width), *("".join(line) for line in lines)]


x = np.array([-5.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0])
print("values at x =" + "".join(f"{value:8g}" for value in x))
for name in NAMES:
    print(f"{name:13s}" + "".join(f"{value:z8.3f}" for value in fnn.activations.get(name)(x)))

print("\nslopes at x =" + "".join(f"{value:8g}" for value in x))
for name in NAMES:
    if name == "step":
        print(f"{name:13s}      0 everywhere except at its jump: gradient descent cannot learn through it")
    else:
        print(f"{name:13s}" + "".join(f"{value:z8.3f}" for value in slopes(name, x)))
print("Where sigmoid and tanh saturate (x = -5, 5) hardly any gradient passes; relu passes all of it or none.")

print("\nshapes, x and y from -3 to 3")
for first in range(0, len(NAMES), 4):
    print("\n".join("   ".join(lines) for lines in zip(*map(picture, NAMES[first : first + 4]), strict=True)))
    print()

scores = np.array([2.0, 1.0, 0.1, -1.0])
print(f"softmax turns a row of scores into probabilities: {scores} ->", end=" ")
print(np.round(fnn.activations.get("softmax")(scores), 3), "sum 1")

if args.plot:
    from matplotlib import pyplot as plt

    x = np.linspace(-4, 4, 401)
    figure, axes = plt.subplots(3, 5, figsize=(15, 8), sharex=True, sharey=True, layout="constrained")
    for ax, name in zip(axes.flat, NAMES, strict=False):
        ax.plot(x, fnn.activations.get(name)(x), label="value")
        if name != "step":
            ax.plot(x, slopes(name, x), "--", label="slope")
        ax.set(title=name, xlabel="x", ylim=(-2, 4))
        ax.grid(alpha=0.3)
        ax.legend(loc="upper left")
    for ax in axes.flat[len(NAMES) :]:
        ax.set_visible(False)
    figure.savefig(args.plot)
