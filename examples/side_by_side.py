"""scikit-learn's multi-layer perceptron and fastnn's, side by side: the same parameters, the same seed.

`fastnn.sklearn.MLPClassifier` takes the parameters of `sklearn.neural_network.MLPClassifier`, and draws the same random
numbers: both begin with the same weights and take the rows in the same order. So their losses agree to rounding, which
training amplifies, more in float32 than in float64. How good a network gets depends on its seed, so scores are compared
seed by seed. While they are timed the two take turns, so both suffer alike from whatever else the computer does.
"""

import argparse
import time

import numpy as np
from sklearn.neural_network import MLPClassifier

import fastnn as fnn
import fastnn.sklearn as fsk

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw losses, scores and times (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images and seeds, for a test")
args = parser.parse_args()

ROWS, SEEDS, TURNS = (300, 2, 100) if args.quick else (1437, 10, 1000)
# training ends by itself: when ten epochs in a row have not made the loss smaller by tol
PARAMETERS = {"hidden_layer_sizes": (64, 32), "tol": 1e-3, "max_iter": 500}
PEER, MINE = "scikit-learn", "fastnn"
LIBRARIES = {PEER: MLPClassifier, MINE: fsk.MLPClassifier}
DTYPES = ("float64", "float32")

X_train, y_train = (part[:ROWS] for part in fnn.datasets.load_digits("train"))
X_test, y_test = fnn.datasets.load_digits("test")


def in_turn(count):
    """Go through numbers and libraries, which take turns to be the first."""
    return [(number, name) for number in range(count) for name in list(LIBRARIES)[:: 1 if number % 2 else -1]]


networks, times = {}, {}
for dtype in DTYPES:
    X, X_new = X_train.astype(dtype), X_test.astype(dtype)
    for make in LIBRARIES.values():
        make(**PARAMETERS).partial_fit(X, y_train, classes=range(10))  # the first step also loads compiled kernels
    for seed, name in in_turn(SEEDS):
        network = LIBRARIES[name](random_state=seed, **PARAMETERS)
        begin = time.perf_counter()
        network.fit(X, y_train)
        times.setdefault(("fit", dtype, name), []).append(1e3 * (time.perf_counter() - begin))
        networks[dtype, name, seed] = network
    for turn, name in in_turn(TURNS):
        network, row = networks[dtype, name, 0], X_new[turn % len(X_new)][None]
        begin = time.perf_counter()
        network.predict(row)
        times.setdefault(("predict one row", dtype, name), []).append(1e3 * (time.perf_counter() - begin))

print(f"{ROWS} images of digits, network 64-64-32-10; score: share of {len(y_test)} other images that is right\n")
print(f"{'epochs':>25s} {'largest difference':>31s} {'score':>20s}")
print(f"{'seed':>12s}  scikit-learn  fastnn        of the losses  scikit-learn  fastnn  difference")
scores, apart = {}, {}
for dtype in DTYPES:
    for seed in range(SEEDS):
        pair = [networks[dtype, name, seed] for name in LIBRARIES]
        epochs = min(network.n_iter_ for network in pair)
        apart[dtype, seed] = abs(np.subtract(*[network.loss_curve_[:epochs] for network in pair]))
        its, mine = scores[dtype, seed] = [network.score(X_test.astype(dtype), y_test) for network in pair]
        counts = "".join(f"{network.n_iter_:{width}d}" for network, width in zip(pair, (14, 8), strict=True))
        print(f"{dtype} {seed:4d}{counts} {apart[dtype, seed].max():20.0e} {its:13.3f}{mine:8.3f} {mine - its:+11.4f}")
    its, mine = np.transpose([scores[dtype, seed] for seed in range(SEEDS)])
    print(f"{dtype} mean {its.mean():56.3f}{mine.mean():8.3f} {(mine - its).mean():+11.4f}\n")

print(f"{'median time':24s} {'scikit-learn':>14s} {'fastnn':>12s} {'ratio':>7s}")
medians = {key: np.median(values) for key, values in times.items()}
for what in ("fit", "predict one row"):
    for dtype in DTYPES:
        its, mine = (medians[what, dtype, name] for name in LIBRARIES)
        print(f"{what:16s} {dtype} {its:11.3f} ms {mine:9.3f} ms {its / mine:7.1f}")
print(f"({SEEDS} fits and {TURNS} predictions of each, in turn; up to {fnn.get_num_threads()} threads)")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    curves, differences, paired, bars = axes.flat
    curves.plot(networks["float64", PEER, 0].loss_curve_, color="C1", linewidth=5, alpha=0.5, label=PEER)
    curves.plot(networks["float64", MINE, 0].loss_curve_, "k--", label=MINE)
    curves.set(title="loss, float64, seed 0", xlabel="epoch", ylabel="loss", yscale="log")
    for dtype, color in zip(DTYPES, ("C0", "C1"), strict=True):
        for seed in range(SEEDS):
            # a difference of 0 has no place on a logarithmic axis
            line = np.maximum(apart[dtype, seed], 1e-17)
            differences.plot(line, color=color, alpha=0.7, linewidth=1, label=None if seed else dtype)
    differences.set(title="difference of the two losses, all seeds", xlabel="epoch", ylabel="difference", yscale="log")
    for dtype, marker in zip(DTYPES, ("o", "x"), strict=True):
        paired.plot(*np.transpose([scores[dtype, seed] for seed in range(SEEDS)]), marker, label=dtype)
    paired.axline((scores["float64", 0][0],) * 2, slope=1, color="grey", linewidth=0.8)
    paired.set(title="score per seed (some points coincide)", xlabel=PEER, ylabel=MINE)
    keys = [(what, dtype) for what in ("fit", "predict one row") for dtype in DTYPES]
    for shift, (name, color) in enumerate(zip(LIBRARIES, ("C1", "C0"), strict=True)):
        heights = [medians[*key, name] for key in keys]
        drawn = bars.bar(np.arange(4) + 0.4 * shift - 0.2, heights, 0.4, color=color, label=name)
        bars.bar_label(drawn, [f"{height:.0f}" if height > 1 else f"{height:.3f}" for height in heights])
    bars.set_xticks(range(4), ["fit\nfloat64", "fit\nfloat32", "one row\nfloat64", "one row\nfloat32"])
    bars.set(title="median time of fit, and of predict for one row", ylabel="ms", yscale="log")
    bars.margins(y=0.15)
    for panel in axes.flat:
        panel.legend()
    figure.savefig(args.plot)
