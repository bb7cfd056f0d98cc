"""One artificial neuron and the perceptron rule: a line that moves until it separates two classes.

The neuron fires (1) where w1 x1 + w2 x2 + b >= 0. The perceptron loss max(0, -t score), t = -1 or 1, is zero
for a row on the right side, so a step of SGD changes the weights only for a mistake: w += learning_rate * t * x.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--plot", metavar="FILE.png", help="draw the moving line (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="less data, for a test")
args = parser.parse_args()


def make_neuron(activation=None):
    """Return a neuron with two inputs and weights of zero; activation "step" makes it fire or not."""
    layer = fnn.Dense(1, activation=activation, kernel_initializer="zeros")
    return fnn.Sequential([fnn.Input(2), layer], seed=0)


def draw(X, y, fires):
    """Print the plane: digits are the rows' labels, '.' marks where the neuron fires."""
    side = np.linspace(-3, 3, 41)
    grid = np.array([[x1, x2] for x2 in side[::-2] for x1 in side])
    picture = np.where(fires.predict(grid)[:, 0] == 1, ".", " ").reshape(-1, len(side))
    for (x1, x2), label in zip(X, y, strict=True):
        column, row = round((x1 + 3) / 0.15), round((3 - x2) / 0.3)
        if 0 <= column < picture.shape[1] and 0 <= row < picture.shape[0]:
            picture[row, column] = str(label)
    print("\n".join("    |" + "".join(line) + "|" for line in picture))


# Points on both sides of a line, none of them near it: classes that can be separated.
rng = np.random.default_rng(6)
X = rng.uniform(-2.9, 2.9, (30 if args.quick else 100, 2))
distance = X @ [0.8, 0.6] - 1.2
X, y = X[np.abs(distance) > 0.05], (distance[np.abs(distance) > 0.05] > 0).astype(int)

# A step has no gradient: `neuron` learns from its score, `fires` has the same weights and the threshold.
neuron, fires = make_neuron(), make_neuron("step")
neuron.compile(fnn.SGD(learning_rate=0.1), loss="perceptron")
lines = []
print("epoch     w1      w2       b   mistakes")
for epoch in range(20):
    w, b = neuron.get_weights()
    fires.set_weights([w, b])
    lines.append((*w[:, 0], b[0]))
    mistakes = int((fires.predict(X)[:, 0] != y).sum())
    print(f"{epoch:5d} {w[0, 0]:7.3f} {w[1, 0]:7.3f} {b[0]:7.3f} {mistakes:6d}")
    if mistakes == 0:
        break
    neuron.fit(X, 2 * y - 1, batch_size=1, shuffle=False, verbose=0)
draw(X, y, fires)

# The rule in plain Python takes the same steps.
w1 = w2 = bias = 0.0
for _ in range(epoch):
    for (x1, x2), t in zip(X, 2 * y - 1, strict=True):
        if t * (w1 * x1 + w2 * x2 + bias) <= 0:
            w1, w2, bias = w1 + 0.1 * t * x1, w2 + 0.1 * t * x2, bias + 0.1 * t
print(f"the same rule in plain Python ends at {w1:.3f} {w2:.3f} {bias:.3f}")

# A neuron computes AND and OR: their corners can be separated, too (see xor.py for corners that cannot).
corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
for gate, target in {"AND": np.array([0, 0, 0, 1]), "OR": np.array([0, 1, 1, 1])}.items():
    neuron, fires = make_neuron(), make_neuron("step")
    neuron.compile(fnn.SGD(learning_rate=1.0), loss="perceptron")
    neuron.fit(corners, 2 * target - 1, batch_size=1, epochs=10, shuffle=False, verbose=0)
    fires.set_weights(neuron.get_weights())
    outputs = fires.predict(corners)[:, 0].astype(int)
    w, b = neuron.get_weights()
    print(f"\n{gate}: fires where {w[0, 0]:g} x1 + {w[1, 0]:g} x2 {b[0]:+g} >= 0\n  x1 x2  output  expected")
    for (x1, x2), output, expected in zip(corners, outputs, target, strict=True):
        print(f"   {x1}  {x2}  {output:6d}  {expected:8d}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for label, color in zip(np.unique(y), ("C0", "C3"), strict=True):
        axes.plot(*X[y == label].T, "o", color=color, label=f"class {label:g}")
    last = len(lines) - 1
    for i, (w1, w2, bias) in enumerate(lines[1:], start=1):
        style = (
            {"color": "k", "linewidth": 2}
            if i == last
            else {"color": "grey", "linewidth": 1, "alpha": 0.3 + 0.7 * i / last}
        )
        axes.axline((0, -bias / w2), slope=-w1 / w2, label=f"line after epoch {i}" if i in (1, last) else None, **style)
    axes.set(xlim=(-3, 3), ylim=(-3, 3), xlabel="x1", ylabel="x2", title="the perceptron rule moves a line")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(args.plot)
