"""A search of 60 networks: twelve candidates, each trained on five folds, several networks at a time.

How many hidden units, and how large a penalty on the weights (`alpha`), suit noisy images of digits? The search of
`fastnn.sklearn` is scikit-learn's, but its networks train in threads of one process: compiled code does not hold
Python's lock, so no processes are started, and no data copied to them. Beside it scikit-learn searches among its own
networks, in processes, with the same candidates, folds and seed: the scores are the same, but for rounding.
"""

import argparse
import time

import numpy as np
from sklearn import model_selection, neural_network

import fastnn as fnn
import fastnn.sklearn as fsk

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the scores over both parameters (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images, and only fastnn's search, for a test")
args = parser.parse_args()

ROWS, NOISE, TOLERANCE = (250, 0.3, 1e-2) if args.quick else (1437, 0.3, 1e-3)
ALPHAS, UNITS = (0.01, 0.1, 0.5, 2.0), (8, 32, 128)
GRID = {"alpha": ALPHAS, "hidden_layer_sizes": UNITS}
FOLDS = model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
# training ends by itself: when ten epochs in a row have not made the loss smaller by tol
FIXED = {"batch_size": 32, "tol": TOLERANCE, "max_iter": 1000, "random_state": 0}
THREADS = fnn.get_num_threads()

rng = np.random.default_rng(0)
X, y = fnn.datasets.load_digits()
X = X + NOISE * rng.normal(size=X.shape)  # in float64
order = rng.permutation(len(X))
X_train, y_train, X_test, y_test = X[order[:ROWS]], y[order[:ROWS]], X[order[-360:]], y[order[-360:]]

searches = {"fastnn": fsk.GridSearchCV(fsk.MLPClassifier(**FIXED), GRID, cv=FOLDS)}
if not args.quick:
    peer = neural_network.MLPClassifier(**FIXED)
    searches["scikit-learn"] = model_selection.GridSearchCV(peer, GRID, cv=FOLDS, n_jobs=THREADS)
for units in UNITS:  # the first step also loads compiled kernels
    fsk.MLPClassifier(units, **FIXED).partial_fit(X_train, y_train, classes=range(10)).score(X_test, y_test)

print(f"{len(ALPHAS) * len(UNITS)} candidates on 5 folds of {ROWS} images, {THREADS} networks at a time")
seconds = {}
for name, search in searches.items():
    begin = time.perf_counter()
    search.fit(X_train, y_train)
    # the best is trained once more, on all images: that is not counted
    seconds[name] = time.perf_counter() - begin - search.refit_time_
    best = search.best_params_
    print(
        f"{name:13s} {seconds[name]:7.1f} s; best: {best['hidden_layer_sizes']} units, alpha {best['alpha']}", end=", "
    )
    print(f"score {search.best_score_:.3f}; on {len(y_test)} other images {search.score(X_test, y_test):.3f}")

found = {name: search.cv_results_["mean_test_score"] for name, search in searches.items()}
if "scikit-learn" in found:
    apart, ratio = abs(found["fastnn"] - found["scikit-learn"]).max(), seconds["scikit-learn"] / seconds["fastnn"]
    print(f"largest difference of the 12 scores {apart:.4f}; ratio of the times {ratio:.1f}")

results = searches["fastnn"].cv_results_
scores, spread = (results[key].reshape(len(ALPHAS), len(UNITS)) for key in ("mean_test_score", "std_test_score"))
print("\nscore: share of a fold's images that is right, mean and standard deviation over five folds")
print("alpha " + "".join(f"{units:10d} units" for units in UNITS))
for alpha, row, deviations in zip(ALPHAS, scores, spread, strict=True):
    cells = (f"{score:.3f} ± {deviation:.3f}" for score, deviation in zip(row, deviations, strict=True))
    print(f"{alpha:<6}" + "".join(f"{cell:>16s}" for cell in cells))

if args.plot:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    image = left.imshow(scores, cmap="cividis", aspect="auto")
    middle = (scores.min() + scores.max()) / 2
    for (row, column), score in np.ndenumerate(scores):
        star = " *" if score == scores.max() else ""
        left.text(column, row, f"{score:.3f}{star}", ha="center", color="black" if score > middle else "white")
    left.set_xticks(range(len(UNITS)), UNITS)
    left.set_yticks(range(len(ALPHAS)), ALPHAS)
    left.set(xlabel="hidden units", ylabel="alpha", title="mean score over five folds (*: best)")
    figure.colorbar(image, ax=left, label="score")
    for column, (units, marker, color) in enumerate(zip(UNITS, "os^", ("C0", "C1", "black"), strict=True)):
        # side by side, so that the bars can be told apart
        right.errorbar(np.array(ALPHAS) * 1.08 ** (column - 1), scores[:, column], spread[:, column], fmt=f"{marker}-",
                       color=color, capsize=3, label=f"{units} hidden units")  # fmt: skip
    right.set(xscale="log", xlabel="alpha", ylabel="score", title="bars: standard deviation over the folds")
    right.legend()
    figure.savefig(args.plot)
