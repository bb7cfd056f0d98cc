"""A siamese network: one network maps digits to a plane so that equal ones are near and others are apart.

The contrastive loss (Hadsell, Chopra and LeCun, 2006) compares all pairs of a batch: it pulls digits of one class
together, and pushes those of two classes apart until a margin. It mixes the rows of a batch, so it is a function of
symbols with the batch axis.
"""

import argparse
import math

import numpy as np

import fastnn as fnn
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the map of the digits (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer epochs, for a test")
args = parser.parse_args()

EPOCHS, MARGIN = (20 if args.quick else 100), 2.0
X, y = fnn.datasets.load_digits()
train, test = slice(0, 1300), slice(1300, None)


def contrastive(labels, points):
    """Return the mean loss of all pairs of rows: labels (B,), points (B, 2)."""
    apart = points[:, None] - points[None]
    squares = ops.sum(ops.square(apart), axis=-1)
    distances = ops.sqrt(squares + 1e-9)
    same = labels[:, None] == labels[None]
    return ops.mean(same * squares + (1.0 - same) * ops.square(ops.relu(MARGIN - distances)))


def neighbours(known, known_labels, points, labels, k=5):
    """Return the accuracy of the most frequent class among the k nearest known points."""
    distances = np.linalg.norm(points[:, None] - known[None], axis=-1)
    nearest = known_labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]
    return float(
        np.mean([np.bincount(row, minlength=10).argmax() == label for row, label in zip(nearest, labels, strict=True)])
    )


model = fnn.Sequential(
    [fnn.Input(64), fnn.Dense(128, activation="relu"), fnn.Dense(64, activation="relu"), fnn.Dense(2)], seed=2
)
model.compile(fnn.Adam(0.002), contrastive)
before = neighbours(model.predict(X[train]), y[train], model.predict(X[test]), y[test])
history = model.fit(X[train], y[train], epochs=EPOCHS, batch_size=100, verbose=0)
known, points = model.predict(X[train]), model.predict(X[test])
centred = X[train] - X[train].mean(axis=0)
directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
principal = neighbours(centred @ directions.T, y[train], (X[test] - X[train].mean(axis=0)) @ directions.T, y[test])
print(f"two numbers for a digit; 5 nearest neighbours then find the class of {len(points)} digits not trained on")
print(f"    the network before training  {before:.1%}")
print(f"    two principal components     {principal:.1%}")
print(f"    the trained network          {neighbours(known, y[train], points, y[test]):.1%}")
losses = history.history["loss"]
print(f"contrastive loss: {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last of {EPOCHS}")
print("the map of the digits that were not trained on:")
low, high = points.min(axis=0), points.max(axis=0)
cells = np.full((20, 60), " ")
for point, label in zip(points, y[test], strict=True):
    column, line = (((point - low) / (high - low)) * (59, 19)).astype(int)
    cells[line, column] = str(label)
for line in cells[::-1]:
    print("    " + "".join(line).rstrip())

if args.plot:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 6), layout="constrained")
    for digit in range(10):
        mine = points[y[test] == digit]
        ax.scatter(*mine.T, s=12, color=plt.cm.tab10(digit), label=str(digit))
        angle = 2 * math.pi * digit / 10
        ax.annotate(
            str(digit), np.median(mine, axis=0) + 0.15 * np.array([math.cos(angle), math.sin(angle)]), weight="bold"
        )
    ax.set(xlabel="first number", ylabel="second number", title="Digits that were not trained on", aspect="equal")
    ax.legend(title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(args.plot)
