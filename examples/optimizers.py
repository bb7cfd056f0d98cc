"""Gradient descent, SGD, momentum, AdaGrad and Adam go down one loss surface from the same point.

The model has two weights, so that the surface can be drawn: y = w1 x1 + w2 x2. x2 is larger than x1 and
correlated with it, which makes the surface a long, tilted valley: steep across, flat along.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--plot", metavar="FILE.png", help="draw the paths on the surface (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer steps, for a test")
args = parser.parse_args()

rng = np.random.default_rng(0)
X = rng.normal(size=(128, 2)) @ np.array([[0.6, 1.0], [0.0, 1.2]])
y = X @ [2.0, -1.0] + rng.normal(0, 0.3, len(X))
START = [[-1.5], [1.0]]
N_STEPS = 40 if args.quick else 200
SHOWN = [k for k in (0, 1, 2, 5, 10, 20, 50, 100, 200) if k <= N_STEPS]

# name: optimizer and rows per step. Gradient descent uses all rows; the others a random sixteenth of them.
RUNS = {
    "gradient descent": (fnn.SGD(0.1), len(X)),
    "SGD": (fnn.SGD(0.1), 8),
    "momentum": (fnn.SGD(0.03, momentum=0.8), 8),
    "AdaGrad": (fnn.AdaGrad(0.5), 8),
    "Adam": (fnn.Adam(0.1), 8),
}


def descend(optimizer, batch_size):
    """Return the weights before every step and at the end, shape (N_STEPS + 1, 2)."""
    model = fnn.Sequential([fnn.Input(2), fnn.Dense(1, use_bias=False)])
    model.set_weights([START])
    model.compile(optimizer, loss="mse")
    order = np.random.default_rng(1)
    path = [model.get_weights()[0].ravel()]
    for _ in range(N_STEPS):
        rows = order.permutation(len(X))[:batch_size]
        model.train_on_batch(X[rows], y[rows])
        path.append(model.get_weights()[0].ravel())
    return np.array(path)


def surface(w):
    """Return the loss over all rows for weights of shape (..., 2)."""
    return ((w @ X.T - y) ** 2).mean(axis=-1)


paths = {name: descend(*run) for name, run in RUNS.items()}
best = np.linalg.lstsq(X, y, rcond=None)[0]
print(f"the bottom of the valley: w = ({best[0]:.3f}, {best[1]:.3f}), loss {surface(best):.4f}\n")
print("loss above the bottom after k steps")
print(f"{'k':18s}" + "".join(f"{k:9d}" for k in SHOWN))
for name, path in paths.items():
    print(f"{name:18s}" + "".join(f"{surface(path[k]) - surface(best):9.4f}" for k in SHOWN))
print("Gradient descent uses 16 times as many rows per step, and goes all the way down. The others have to estimate")
print("the slope from 8 rows: near the bottom they jitter, unless their steps shrink, as AdaGrad's do.")
print("\nweights (w1, w2) after k steps")
print(f"{'k':18s}" + "".join(f"{k:15d}" for k in SHOWN[::2]))
for name, path in paths.items():
    print(f"{name:18s}" + "".join(f"{path[k][0]:8.2f} {path[k][1]:6.2f}" for k in SHOWN[::2]))

# The surface, darker where the loss is higher, with the first steps of every optimizer marked by its letter.
w1, w2 = np.meshgrid(np.linspace(-2, 3, 71), np.linspace(2, -2.5, 25))
shade = np.digitize(surface(np.stack([w1, w2], axis=-1)), [0.15, 0.4, 1.0, 2.5, 6.0])
picture = np.array(list(" .:-=+"))[shade]
for name, path in paths.items():
    columns, rows = np.round((path[:60, 0] + 2) / 5 * 70), np.round((2 - path[:60, 1]) / 4.5 * 24)
    inside = (columns >= 0) & (columns <= 70) & (rows >= 0) & (rows <= 24)
    picture[rows[inside].astype(int), columns[inside].astype(int)] = {"AdaGrad": "a", "Adam": "A"}.get(name, name[0])
print("\nw1 from -2 to 3, w2 from -2.5 to 2; g gradient descent, S SGD, m momentum, a AdaGrad, A Adam")
print("\n".join("    " + "".join(line) for line in picture))

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    w1, w2 = np.meshgrid(np.linspace(-2, 3, 201), np.linspace(-2.5, 2, 201))
    loss = surface(np.stack([w1, w2], axis=-1))
    filled = axes[0].contourf(w1, w2, loss, levels=np.geomspace(0.05, 40, 16), cmap="Greys", norm="log", extend="both")
    figure.colorbar(filled, ax=axes[0], label="loss", format="%.2g")
    for name, path in paths.items():
        axes[0].plot(*path.T, ".-", markersize=3, linewidth=1, label=name)
        axes[1].semilogy(surface(path) - surface(best), label=name)
    axes[0].plot(*paths["SGD"][0], "ko", label="start")
    axes[0].plot(*best, "k*", markersize=12, label="bottom")
    axes[0].set(xlabel="w1", ylabel="w2", title="paths on the loss surface", xlim=(-2, 3), ylim=(-2.5, 2))
    axes[1].set(xlabel="step", ylabel="loss above the bottom", title="how fast they get down")
    axes[1].grid(alpha=0.3)
    for ax in axes:
        ax.legend()
    figure.savefig(args.plot)
