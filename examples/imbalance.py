"""Rare classes: machines of which 2 in 100 break down within a day, and what it costs to find them or to miss them.

A network that answers "breaks down" where its probability exceeds one half misses most breakdowns: they are rare, so
their probability is seldom that high. With weights of classes (`class_weight="balanced"`) it gives alarm far more
often, as if a miss cost as many alarms as there are machines per broken one. What is best depends on what alarms and
misses do cost, so the threshold is chosen by cost, on machines that were not learnt from. The machines are
made from a seed, so their true chances are known: no network can be better than these.
"""

import argparse

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.sklearn import MLPClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw precision, recall and costs (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer machines, for a test")
args = parser.parse_args()

ROWS = 4000 if args.quick else 20_000
INSPECTION, BREAKDOWN = 200, 2000  # euros: for every alarm, and for every breakdown without one
rng = np.random.default_rng(0)


def machines(count):
    """Return a day of machines, which of them break down, and how probable that was."""
    load, age, days = rng.beta(4, 2, count), rng.uniform(0, 15, count), rng.integers(0, 60, count)
    vibration = rng.gamma(6, 0.35, count) + 0.02 * days  # mm/s; days since the service
    temperature = 45 + 25 * load + rng.normal(0, 6, count)  # °C
    logit = -6.2 + np.maximum(vibration - 2.5, 0) ** 1.5 + 0.09 * np.maximum(temperature - 70, 0)
    # an old machine does not bear vibration, a loaded one needs its service
    logit += 0.12 * age * (vibration > 3) + 0.05 * np.maximum(days - 30, 0) * (load > 0.8)
    chance = 1 / (1 + np.exp(-logit))
    return np.stack([load, age, days, vibration, temperature], axis=1), rng.random(count) < chance, chance


def cost(broken, alarms):
    """Return euros per 1000 machines."""
    return 1000 * (INSPECTION * alarms.mean() + BREAKDOWN * (broken & ~alarms).mean())


X_train, y_train, _ = machines(ROWS)
X_val, y_val, chance_val = machines(ROWS)
X_test, y_test, chance_test = machines(2 * ROWS)
print(f"{ROWS} machines to learn from, of which {y_train.mean():.1%} break down; {ROWS} to choose thresholds;")
print(f"{2 * ROWS} to judge. An alarm costs {INSPECTION} euros, a breakdown without one {BREAKDOWN}.\n")

validation, test = {}, {}
for name, weights in (("plain", None), ("balanced", "balanced")):
    network = MLPClassifier((16, 16), alpha=0.01, max_iter=1000, random_state=0, class_weight=weights)
    model = make_pipeline(StandardScaler(), network).fit(X_train, y_train)
    validation[name], test[name] = (model.predict_proba(X)[:, 1] for X in (X_val, X_test))
validation["true chances"], test["true chances"] = chance_val, chance_test

grid = np.geomspace(0.001, 0.999, 200)
costs = {name: np.array([cost(y_val, found > limit) for limit in grid]) for name, found in validation.items()}
chosen = {name: grid[values.argmin()] for name, values in costs.items()}

print("                          threshold   alarms   recall   precision   euros per 1000 machines")
rules = [("plain", 0.5), ("balanced", 0.5), *chosen.items()]
for name, limit in rules:
    alarms = test[name] > limit
    found, right = recall_score(y_test, alarms), precision_score(y_test, alarms)
    title = f"{name:14s} {'one half' if limit == 0.5 else 'by cost'}"
    print(f"{title:23s} {limit:11.3f} {alarms.mean():8.1%} {found:8.1%} {right:11.1%} {cost(y_test, alarms):12.0f}")
for name, alarms in (("no alarm at all", np.zeros_like(y_test)), ("alarm for all", np.ones_like(y_test))):
    print(f"{name:23s} {'':11s} {alarms.mean():8.1%} {alarms.mean():8.1%} {'':11s} {cost(y_test, alarms):12.0f}")

print("\naverage precision:", ", ".join(f"{name} {average_precision_score(y_test, test[name]):.3f}" for name in test))
print(f"mean probability: plain {test['plain'].mean():.3f}, balanced {test['balanced'].mean():.3f};", end=" ")
print(f"share that breaks down: {y_test.mean():.3f}")
print(f"If probabilities are right, an alarm pays above {INSPECTION} / {BREAKDOWN} = {INSPECTION / BREAKDOWN:.2f}.")

if args.plot:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    colors = {"plain": "C0", "balanced": "C1", "true chances": "black"}
    for name, color in colors.items():
        precision, recall, _ = precision_recall_curve(y_test, test[name])
        style = "--" if name == "true chances" else "-"
        left.plot(recall, precision, style, color=color, label=name)
        right.plot(grid, costs[name] / 1000, style, color=color, label=name)
        right.plot(chosen[name], costs[name].min() / 1000, "o", color=color)
    for name, limit in rules:
        alarms = test[name] > limit
        left.plot(recall_score(y_test, alarms), precision_score(y_test, alarms), "s" if limit == 0.5 else "o",
                  color=colors[name], markersize=9)  # fmt: skip
    left.plot([], [], "s", color="grey", label="threshold one half")
    left.plot([], [], "o", color="grey", label="threshold by cost")
    left.set(xlabel="recall: share of breakdowns with an alarm", ylabel="precision: share of alarms that are right")
    left.set(title="machines to judge", ylim=(0, 1))
    right.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    right.plot([], [], "o", color="grey", label="least cost: chosen")
    right.set(xscale="log", xlabel="threshold (dotted: one half)", ylabel="thousand euros per 1000 machines")
    right.set(title="machines to choose thresholds", ylim=(0, 100))
    left.legend()
    right.legend()
    figure.savefig(args.plot)
