"""Estimators of fastnn beside scikit-learn's multi-layer perceptrons: fit, predict, and a grid search.

    python benchmarks/estimators.py --threads 1 2
    python benchmarks/estimators.py --only scores

Both train the same networks from the same initial weights on the same batches, for the same number of epochs; their
losses are compared. Runs take turns; a figure is the median of a contestant's times, a ratio that of the medians.
"scores" are those of test data, a third of the rows, for twenty seeds: each decides the split, the initial weights and
the order of the rows for both.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import sklearn.model_selection
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine, make_regression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastnn.sklearn

ROUNDS, SEEDS = 5, 20
PEERS = (sklearn.neural_network, fastnn.sklearn)


def data(name: str) -> tuple[Any, Any]:
    """Make the data of a case."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        return x / 16.0, y
    if name == "images":
        rng = np.random.default_rng(0)
        return rng.random((4000, 784)), rng.integers(0, 10, 4000)
    x, y = make_regression(20_000, 20, noise=10.0, random_state=0)
    return x, y


# name, class of estimators, data, parameters; the aim is the ratio to reach
CASES = [
    ("digits, 100", "MLPClassifier", "digits", {"hidden_layer_sizes": (100,), "max_iter": 100}, 8.0),
    (
        "digits, 100 tanh",
        "MLPClassifier",
        "digits",
        {"hidden_layer_sizes": (100,), "activation": "tanh", "max_iter": 100},
        8.0,
    ),
    ("784-256-128-10", "MLPClassifier", "images", {"hidden_layer_sizes": (256, 128), "max_iter": 5}, 3.0),
    ("regression, 64, 64", "MLPRegressor", "regression", {"hidden_layer_sizes": (64, 64), "max_iter": 5}, 6.0),
]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of a call in seconds, and its result."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def fits(threads: int, dtype: str) -> None:
    """Compare the times of `fit`."""
    for title, kind, which, parameters, aim in CASES:
        x, y = data(which)
        x = x.astype(dtype)
        times: dict[str, list[float]] = {"scikit-learn": [], "fastnn": []}
        losses = {}
        for turn in range(ROUNDS + 1):
            for name, module in (("scikit-learn", sklearn.neural_network), ("fastnn", fastnn.sklearn)):
                more = {"n_threads": threads} if name == "fastnn" else {}
                made = getattr(module, kind)(random_state=turn, tol=0.0, n_iter_no_change=10_000, **parameters, **more)
                took, _ = timed(partial(made.fit, x, y))
                losses[name] = made.loss_
                if turn:  # the first one warms up
                    times[name].append(took)
        peer, mine = (float(np.median(one)) for one in times.values())
        apart = abs(losses["fastnn"] / losses["scikit-learn"] - 1.0)
        print(
            f"fit      {title:20} {dtype} {threads} threads: scikit-learn {1e3 * peer:8.1f} ms, "
            f"fastnn {1e3 * mine:8.1f} ms, {peer / mine:5.1f} times as fast (aim {aim:g}); losses differ by {apart:.0e}"
        )


def one_by_one(made: Any, rows: list[Any]) -> list[Any]:
    """Predict rows, each by a call."""
    return [made.predict(row) for row in rows]


def predictions(dtype: str) -> None:
    """Compare the times of `predict` for one row: twenty, one after the other, in each turn."""
    x, y = data("digits")
    x = x.astype(dtype)
    made = [one.MLPClassifier(max_iter=5, random_state=0).fit(x, y) for one in PEERS]
    rows = [x[row : row + 1] for row in range(20)]
    times: list[list[float]] = [[], []]
    for _ in range(50):
        labels = []
        for index, one in enumerate(made):
            took, found = timed(partial(one_by_one, one, rows))
            times[index].append(took / len(rows))
            labels.append(np.concatenate(found))
        np.testing.assert_array_equal(labels[0], labels[1])
    peer, mine = (float(np.median(one)) for one in times)
    print(
        f"predict  one row              {dtype}: scikit-learn {1e6 * peer:.1f} µs, fastnn {1e6 * mine:.1f} µs, "
        f"{peer / mine:.1f} times as fast (aim 30)"
    )


def scores(dtype: str) -> None:
    """Compare the scores of test data, paired by the seed."""
    cases: list[tuple[str, str, Callable[..., Any], dict[str, Any]]] = [
        ("digits", "MLPClassifier", load_digits, {}),
        ("breast cancer", "MLPClassifier", load_breast_cancer, {"early_stopping": True}),
        ("wine", "MLPClassifier", load_wine, {"solver": "sgd", "learning_rate_init": 0.01}),
        ("diabetes", "MLPRegressor", load_diabetes, {"max_iter": 1000}),
    ]
    for title, kind, load, parameters in cases:
        x, y = load(return_X_y=True)
        found = []
        for seed in range(SEEDS):
            split = train_test_split(x, y, test_size=1 / 3, random_state=seed)
            scaler = StandardScaler().fit(split[0])
            train, test = (scaler.transform(part).astype(dtype) for part in split[:2])
            made = [getattr(one, kind)(random_state=seed, **parameters) for one in PEERS]
            found.append([one.fit(train, split[2]).score(test, split[3]) for one in made])
        peer, mine = np.array(found).T
        apart = mine - peer
        print(
            f"scores   {title:14} {dtype}: scikit-learn {peer.mean():.4f}, fastnn {mine.mean():.4f}, difference "
            f"{apart.mean():+.5f} +- {apart.std(ddof=1) / np.sqrt(SEEDS):.5f} (better {(apart > 0).sum()}, "
            f"equal {(apart == 0).sum()}, worse {(apart < 0).sum()})"
        )


def searches() -> None:
    """Compare grid searches of 3 x 3 candidates with 5 folds on the digits, two at a time."""
    x, y = data("digits")
    grid = {"hidden_layer_sizes": [(25,), (50,), (100,)], "alpha": [1e-4, 1e-2, 1.0]}
    times: dict[str, list[float]] = {"scikit-learn": [], "fastnn": []}
    for turn in range(3):
        found = {}
        for name, module, search in (
            ("scikit-learn", sklearn.neural_network, sklearn.model_selection.GridSearchCV),
            ("fastnn", fastnn.sklearn, fastnn.sklearn.GridSearchCV),
        ):
            made = search(module.MLPClassifier(random_state=0, max_iter=30), grid, cv=5, n_jobs=2)
            took, found[name] = timed(partial(made.fit, x, y))
            if turn:
                times[name].append(took)
        scores = [found[name].cv_results_["mean_test_score"] for name in found]
    peer, mine = (float(np.median(one)) for one in times.values())
    print(
        f"search   3 x 3, 5 folds: scikit-learn {peer:.1f} s, fastnn {mine:.2f} s, {peer / mine:.1f} times as fast "
        f"(aim 15); mean scores differ by at most {np.abs(scores[0] - scores[1]).max():.4f}"
    )


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parts = ["fit", "predict", "search"]
    parser.add_argument("--only", choices=[*parts, "scores"], nargs="+", default=parts)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if "fit" in arguments.only:
        for threads in arguments.threads:
            with threadpool_limits(threads):
                for dtype in ("float32", "float64"):
                    fits(threads, dtype)
    if "predict" in arguments.only:
        for dtype in ("float32", "float64"):
            predictions(dtype)
    if "search" in arguments.only:
        searches()
    if "scores" in arguments.only:
        for dtype in ("float32", "float64"):
            scores(dtype)


if __name__ == "__main__":
    main()
