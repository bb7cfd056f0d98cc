"""Calibrated uncertainty: a network that says it is sure of 90 % should be right in 90 of 100 cases.

Networks that have learnt few noisy images by heart are too sure of themselves. A temperature (Guo et al. 2017,
arXiv:1706.04599) divides the logarithms of their probabilities. It is found on images that were not learnt from: here
by cross-validation, so that none is lost for training. The mean of several networks that differ in their seeds
(Lakshminarayanan, Pritzel and Blundell 2017, arXiv:1612.01474) is a little less sure, but still too sure.
`CalibratedClassifierCV` of scikit-learn finds the temperature of one network, or makes an ensemble of networks of which
each has learnt from other folds and has its own. The networks are `fastnn.sklearn`'s; temperatures need scikit-learn
1.8 or newer.
"""

import argparse

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import log_loss

import fastnn as fnn
from fastnn.sklearn import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw reliability before and after (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images, for a test")
args = parser.parse_args()

ROWS, NOISE, MEMBERS = 300 if args.quick else 800, 0.35, 5
rng = np.random.default_rng(0)
X, y = fnn.datasets.load_digits()
X = X + NOISE * rng.normal(size=X.shape)
order = rng.permutation(len(X))
X_train, y_train, X_test, y_test = X[order[:ROWS]], y[order[:ROWS]], X[order[ROWS:]], y[order[ROWS:]]


def network(seed=0):
    """Return a classifier; training ends when ten epochs in a row have not made the loss smaller by tol."""
    return MLPClassifier((64,), learning_rate_init=0.003, tol=1e-3, max_iter=1000, random_state=seed)


calibrated = {"method": "temperature", "cv": 5}
models = {
    "one network": network(),
    "with a temperature": CalibratedClassifierCV(network(), ensemble=False, **calibrated),
    f"{MEMBERS} networks": VotingClassifier([(f"{seed}", network(seed)) for seed in range(MEMBERS)], voting="soft"),
    f"{MEMBERS}, each with its own": CalibratedClassifierCV(network(), ensemble=True, **calibrated),
}
print(f"{ROWS} noisy images of digits to learn from, {len(y_test)} to judge\n")
print(f"{'':22s} {'right':>7s} {'sure':>7s}   calibration error   log loss   right of the surest 80 %")
found = {}
for name, model in models.items():
    p = found[name] = model.fit(X_train, y_train).predict_proba(X_test)
    sure, right = p.max(axis=1), p.argmax(axis=1) == y_test
    error = fnn.plot.calibration(y_test, p).error
    surest = right[np.argsort(-sure)[: len(sure) * 8 // 10]].mean()
    print(f"{name:22s} {right.mean():7.1%} {sure.mean():7.1%} {error:19.1%} {log_loss(y_test, p):10.3f} {surest:16.1%}")

before, after = "one network", "with a temperature"
(calibrator,) = models[after].calibrated_classifiers_[0].calibrators
print(f"\nthe temperature is {1 / calibrator.beta_:.2f}; the images by how sure it is of them:")
print("  sure         before: images   sure  right      after: images   sure  right")
bins = [fnn.plot.calibration(y_test, found[name]) for name in (before, after)]
for number, low in enumerate(bins[0].edges[:-1]):
    if any(each.counts[number] for each in bins):
        row = ((each.counts[number], each.predicted[number], each.observed[number]) for each in bins)
        cells = (f"{n:15d} {sure:6.0%} {right:6.0%}" if n else f"{'-':>15s}{'':14s}" for n, sure, right in row)
        print(f"{low:4.0%} to {bins[0].edges[number + 1]:4.0%} " + "    ".join(cells))

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 5.4), layout="constrained")
    for panel, name in zip(axes, (before, after), strict=True):
        fnn.plot.reliability(y_test, found[name], ax=panel)
        panel.set_title(f"{name}\n{panel.get_title()}", fontsize="medium")
    figure.savefig(args.plot)
