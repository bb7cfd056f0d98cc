"""Regression judged by correlation: a straight line and a network predict a number from four inputs.

R^2 is the share of the targets' variance that the predictions explain. Pearson's r says how well the predictions
follow the targets along a line, whatever its slope: a model can have a high r and a poor R^2, not the reverse.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--plot", metavar="FILE.png", help="draw predictions over targets (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="less data, for a test")
args = parser.parse_args()
n = 400 if args.quick else 2000


def train(model, X, y):
    """Train on the first three quarters of the rows; return metrics and predictions for the last quarter."""
    cut = len(X) * 3 // 4
    model.compile(fnn.Adam(0.01), loss="mse", metrics=["r2", "pearson"])
    model.fit(X[:cut], y[:cut], epochs=40, verbose=0)
    return model.evaluate(X[cut:], y[cut:]), model.predict(X[cut:])[:, 0], y[cut:]


def scatter(targets, predictions, title):
    """Print predictions over targets, darker where there are more points, with the diagonal."""
    low, high = targets.min(), targets.max()
    columns = ((targets - low) / (high - low) * 56).astype(int)
    rows = ((high - predictions) / (high - low) * 18).astype(int)
    counts = np.zeros((19, 57), int)
    inside = (rows >= 0) & (rows < 19)
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    picture = np.array(list(" .oO#"))[np.minimum(counts, 4)]
    for row in range(19):
        column = round((18 - row) / 18 * 56)
        if counts[row, column] == 0:
            picture[row, column] = "/"
    print(f"\n{title}: predictions (upwards) over targets, both from {low:.1f} to {high:.1f}")
    print("\n".join("    |" + "".join(line) for line in picture) + "\n    +" + "-" * 57)


# A linear problem with noise: the weights that a single linear neuron learns are the coefficients.
X, y, coef = fnn.datasets.make_regression(n, 4, noise=0.5, seed=0, bias=1.0, return_coef=True)
line = fnn.Sequential([fnn.Dense(1)], seed=0)
scores, _, _ = train(line, X, y)
kernel, bias = line.get_weights()
print("linear data: y = X @ coef + 1 + noise")
print("  true coefficients   ", np.round(coef, 2), "and 1.0")
print("  learned by a line   ", np.round(kernel[:, 0], 2), f"and {bias[0]:.1f}")
print(f"  on unseen rows: R^2 {scores['r2']:.3f}, r {scores['pearson']:.3f}")

# A curved problem: each input matters in its own way, and two of them only together.
rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (n, 4))
y = 2 * np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + X[:, 2] * X[:, 3] + rng.normal(0, 0.3, n)
print("\ncurved data: y = 2 sin(2 x0) + x1^2 + x2 x3 + noise")
print("                    test R^2   test r")
models = {
    "line": fnn.Sequential([fnn.Dense(1)], seed=0),
    "4-64-64-1 network": fnn.Sequential(
        [fnn.Dense(64, activation="relu"), fnn.Dense(64, activation="relu"), fnn.Dense(1)], seed=0
    ),
}
results = {name: train(model, X, y) for name, model in models.items()}
for name, (scores, _, _) in results.items():
    print(f"  {name:17s} {scores['r2']:8.3f} {scores['pearson']:8.3f}")
print(f"  (the best possible, for this noise: R^2 {1 - 0.09 / y.var():.3f})")
for name, (_, predictions, targets) in results.items():
    scatter(targets, predictions, name)

# Doubling all predictions does not change r, but ruins R^2.
_, predictions, targets = results["4-64-64-1 network"]
r2 = 1 - ((targets - 2 * predictions) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()
print(f"\npredictions times 2: r {np.corrcoef(targets, 2 * predictions)[0, 1]:.3f}, R^2 {r2:.3f}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 5), sharex=True, sharey=True, layout="constrained")
    for ax, (name, (scores, predictions, targets)) in zip(axes, results.items(), strict=True):
        ax.scatter(targets, predictions, s=8)
        ax.axline((0, 0), slope=1, color="k", linewidth=0.8)
        ax.set(title=f"{name}: R² {scores['r2']:.3f}", xlabel="target", ylabel="prediction")
    figure.savefig(args.plot)
