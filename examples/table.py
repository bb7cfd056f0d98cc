"""A table with numbers, categories, dates and gaps: cleaned, learnt, and asked what mattered.

How many bicycles are hired at a station in a day? The table is made from a seed by a known rule, and then damaged as
tables are: thermometers fail in the cold, notes on the sky are missing or spelled in two ways, and some columns say
nothing.
"""

import argparse
import os
import tempfile

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--plot", metavar="FILE.png", help="draw what mattered (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer days and epochs, for a test")
args = parser.parse_args()

DAYS, EPOCHS, NOISE = (1500, 12, 0.25) if args.quick else (8000, 40, 0.25)
rng = np.random.default_rng(0)
SIDES, PLACES = ["North", "South", "East", "West", "Old", "New"], ["Gate", "Market", "Bridge", "Park", "Mill"]
STATIONS = [f"{side} {place}" for side in SIDES for place in PLACES]
POPULAR = dict(zip(STATIONS, rng.normal(3.5, 0.5, len(STATIONS)), strict=True))
SKY = {"sun": 0.25, "clouds": 0.0, "rain": -0.6, "storm": -1.2}


def log_hires(days):
    """Return the logarithm of the hires that the rule expects."""
    weekday = (days["date"].astype(int) + 3) % 7  # 1970 began with a Thursday
    return (
        np.array([POPULAR[each] for each in days["station"]])
        - 0.0025 * (days["temperature"] - 24.0) ** 2
        + np.array([SKY[each] for each in days["sky"]])
        - 0.03 * days["wind"]
        - 0.4 * (weekday >= 5)
        - 0.5 * days["holiday"]
    )


def make_days(count):
    """Return the columns as they were, and as they are in the table."""
    date = np.datetime64("2023-01-01") + rng.integers(0, 730, count)
    summer = -np.cos(2 * np.pi * (date.astype(int) % 365.25 - 20) / 365.25)
    true = {
        "station": rng.choice(STATIONS, count),
        "date": date,
        "temperature": 11.0 + 9.0 * summer + rng.normal(0.0, 4.0, count),
        "wind": rng.gamma(2.0, 3.0, count),
        "sky": rng.choice([*SKY], count, p=[0.4, 0.35, 0.22, 0.03]),
        "holiday": rng.random(count) < 0.05,
    }
    table = {name: column.astype(object) for name, column in true.items()}
    frozen = rng.random(count) < np.where(true["temperature"] < 3.0, 0.5, 0.05)
    table["temperature"][frozen] = None
    table["wind"][rng.random(count) < 0.15] = None
    table["sky"][rng.random(count) < 0.1] = "?"
    table["sky"] = np.array([f" {each}" if rng.random() < 0.1 else each for each in table["sky"]], object)
    table["battery"] = rng.uniform(20.0, 100.0, count)  # of the thermometer: it has no influence
    table["record"] = [f"day {number:05d}" for number in rng.permutation(count)]
    table["city"] = ["Middleton"] * count
    table["degrees"] = table["temperature"]
    table["hires"] = log_hires(true) + rng.normal(0.0, NOISE, count)  # as logarithms
    return true, table


true, table = make_days(DAYS)
prepared = fnn.data.frame(table, target="hires", scale_target=True)
train, test = prepared.split(0.25, seed=0)
print(train)


def fit(model, x, y):
    """Train a model with a learning rate that falls."""
    steps = EPOCHS * -(-len(y) // 32)
    model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.005, steps)), "mse")
    model.fit(x, y, epochs=EPOCHS, verbose=0)
    return model


def r2(y, found):
    """Return which part of the variance is explained."""
    return 1.0 - ((y - found) ** 2).mean() / y.var()


actual = np.array(table["hires"])
rows = test.index

# Before: the numbers as they are, and only days without a gap. For the others there is nothing but the mean.
raw = np.array([table[name] for name in ("temperature", "wind", "battery")], float).T
whole = np.isfinite(raw).all(axis=1)
learnt, asked = train.index[whole[train.index]], rows[whole[rows]]
mean, deviation = raw[learnt].mean(axis=0), raw[learnt].std(axis=0)
plain = fnn.Sequential([fnn.Input(3), fnn.Dense(32, "relu"), fnn.Dense(32, "relu"), fnn.Dense(1)], seed=0)
fit(plain, (raw[learnt] - mean) / deviation, actual[learnt])
before = np.full(len(actual), actual[learnt].mean())
before[asked] = plain.predict((raw[asked] - mean) / deviation)[:, 0]

# After: all columns and all days.
model = fit(fnn.applications.Tabular(train, (32, 32), seed=0), train.x, train.y)
after = model.preparation.decode(model.predict(test.x))

limit = r2(actual[rows], log_hires({name: column[rows] for name, column in true.items()}))
print(f"\nR^2 on {len(rows)} days that were not learnt from")
print(f"  numbers alone, {len(asked):4d} days without gaps {r2(actual[asked], before[asked]):8.3f}")
print(f"  numbers alone, all days                {r2(actual[rows], before[rows]):8.3f}")
print(f"  prepared table, all days               {r2(actual[rows], after):8.3f}")
print(f"  the rule itself, without gaps          {limit:8.3f}\n")

# A model file holds how rows are prepared: so the loaded model takes a table as it is.
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "hires.safetensors")
    model.save(path)
    loaded = fnn.load(path)
day = {"station": ["Old Mill", "Old Mill"], "date": ["2025-07-12", "2025-01-15"], "temperature": [24.0, None],
       "wind": [3.0, None], "sky": ["sun", "hail"], "holiday": [False, False], "battery": [80.0, 80.0]}  # fmt: skip
new = loaded.preparation.transform(day)
hires = np.exp(loaded.preparation.decode(loaded.predict(new.x)))
print(f"a sunny Saturday in July: {hires[0]:.0f} hires; hail on a Wednesday in January: {hires[1]:.0f}")
print("said of these days:", "; ".join(new.notes), "\n")

# What mattered? How much worse does the model get when a column of the table is shuffled? And the rule?
gradients = loaded.input_gradients(test.x, loaded.predict(test.x) - 0.5)
slopes = np.abs((gradients[0] if isinstance(gradients, list) else gradients) * len(rows)).mean(axis=0)
shuffling = np.random.default_rng(1)
importance = {}
place = 0
for column in loaded.preparation.columns:
    width = len(column.features())
    slope, place = slopes[place : place + width].sum(), place + width
    if not (width or column.rows):
        continue
    name, order = column.name, shuffling.permutation(rows)
    damaged = {each: np.array(values, object)[rows] for each, values in table.items()}
    damaged[name] = np.array(table[name], object)[order]
    found = loaded.preparation.decode(loaded.predict(loaded.preparation.transform(damaged).x))
    loss, rule = r2(actual[rows], after) - r2(actual[rows], found), 0.0
    if name in true:
        other = {each: values[order if each == name else rows] for each, values in true.items()}
        rule = limit - r2(actual[rows], log_hires(other))
    importance[name] = loss, rule, slope if width else np.nan

print("what mattered: R^2 lost when a column is shuffled, by the network and by the rule; and the sum of its slopes")
print("column        network     rule   slopes")
for name, (loss, rule, slope) in sorted(importance.items(), key=lambda item: -item[1][0]):
    slope = f"{slope:8.2f}" if np.isfinite(slope) else "embedded"
    print(f"{name:12s} {loss:8.3f} {rule:8.3f} {slope}   {'#' * max(0, round(40 * loss))}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    names = sorted(importance, key=lambda each: importance[each][0])
    place = np.arange(len(names))
    left.barh(place + 0.2, [importance[each][0] for each in names], 0.4, label="network, with gaps")
    left.barh(place - 0.2, [importance[each][1] for each in names], 0.4, label="rule, without gaps", color="C1")
    left.set(yticks=place, yticklabels=names, xlabel="R² lost when the column is shuffled", title="What mattered")
    left.legend(loc="lower right")
    degrees = np.arange(-5.0, 33.0)
    curves = []
    for value in degrees:
        days = {name: np.array(values, object)[rows] for name, values in table.items()}
        days["temperature"] = np.full(len(rows), value)
        curves.append(model.preparation.decode(model.predict(model.preparation.transform(days).x)).mean())
    truth = -0.0025 * (degrees - 24.0) ** 2
    right.plot(degrees, np.array(curves) - np.mean(curves), label="network, mean of the test days")
    right.plot(degrees, truth - truth.mean(), "--", color="C1", label="rule")
    right.set(xlabel="temperature (°C)", ylabel="log hires, minus their mean", title="What temperature does")
    right.legend()
    figure.savefig(args.plot)
