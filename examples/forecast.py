"""A forecast of the next day: a recurrent network beside yesterday, last week, and a linear model.

An invented town uses electricity: more by day than by night, less at weekends, more when it is cold and when it is hot,
and for days after the weather has changed, because houses warm up and cool down slowly. Known are the use and the
temperature of the last three days, hour by hour, and the day of the week. Asked for are the 24 hours that follow. An
LSTM reads the hours one after the other, and a dense layer turns its last state into the forecast. It learns from two
years, and is judged by half a year that follows.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw a week of forecasts")
parser.add_argument("--quick", action="store_true", help="fewer epochs and days, for a test")
args = parser.parse_args()

PAST, AHEAD = 72, 24
YEARS, EPOCHS = (1.0, 4) if args.quick else (2.5, 30)


def town(years, seed):
    """Return hours since Monday at midnight, temperatures, and use of electricity in megawatts."""
    rng = np.random.default_rng(seed)
    hours = np.arange(int(years * 365 * 24))
    weather = np.zeros(len(hours))
    for hour in range(1, len(hours)):
        weather[hour] = 0.985 * weather[hour - 1] + 0.7 * rng.standard_normal()
    day = 2.0 * np.pi * hours / 24.0
    temperature = 13.0 - 10.0 * np.cos(day / 365.0) - 4.0 * np.cos(day - 1.0) + weather
    inside = np.zeros(len(hours))  # the houses' walls
    inside[0] = temperature[0]
    for hour in range(1, len(hours)):
        inside[hour] = 0.96 * inside[hour - 1] + 0.04 * temperature[hour]
    weekend = hours // 24 % 7 >= 5
    people = np.where(weekend, 0.75, 1.0) * (1.0 + 0.35 * np.sin(day - 2.2) + 0.15 * np.sin(2.0 * day - 1.0))
    comfort = 0.06 * np.maximum(16.0 - inside, 0.0) + 0.10 * np.maximum(inside - 21.0, 0.0)
    return hours, temperature, 30.0 * people * (1.0 + comfort) + 1.0 * rng.standard_normal(len(hours))


hours, temperature, use = town(YEARS, 0)
scale = use.mean(), use.std()
columns = np.stack(
    [
        (use - scale[0]) / scale[1], (temperature - 13.0) / 10.0, hours // 24 % 7 / 6.0,
        np.sin(2.0 * np.pi * hours / 24.0), np.cos(2.0 * np.pi * hours / 24.0),
    ],
    axis=1,
).astype(np.float32)  # fmt: skip
# a forecast at every sixth hour; windows are views of the table, which batches are gathered from
starts = np.arange(7 * 24, len(hours) - AHEAD, 6)
windows = np.lib.stride_tricks.sliding_window_view(columns, PAST, axis=0).transpose(0, 2, 1)
X = windows[starts - PAST]
Y = np.lib.stride_tricks.sliding_window_view(columns[:, 0], AHEAD)[starts]
train = starts < len(hours) * 4 // 5 - AHEAD
test = starts >= len(hours) * 4 // 5


def error(forecast):
    """Return the mean absolute error of the test half-year in megawatts."""
    return np.abs(forecast - Y[test]).mean() * scale[1]


def linear():
    """Return the forecasts of a linear model of the last hours and the day, by least squares."""
    rows = np.concatenate([X.reshape(len(X), -1), np.eye(7)[hours[starts] // 24 % 7]], axis=1)
    weights = np.linalg.lstsq(rows[train], Y[train], rcond=1e-6)[0]
    return rows[test] @ weights


model = fnn.Sequential([fnn.Input((PAST, 5)), fnn.LSTM(48), fnn.Dense(AHEAD)], seed=0)
model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.005, EPOCHS * -(-int(train.sum()) // 32))), "mae")
history = model.fit(X[train], Y[train], batch_size=32, epochs=EPOCHS, verbose=0)
print(f"{train.sum()} windows of {PAST} hours to learn from, {test.sum()} to forecast {AHEAD} hours from")
losses = scale[1] * np.array(history.history["loss"])
print(f"error in training from {losses[0]:.2f} to {losses[-1]:.2f} megawatts")

forecasts = {
    "the same hour yesterday": columns[starts[test][:, None] + np.arange(AHEAD) - 24, 0],
    "the same hour last week": columns[starts[test][:, None] + np.arange(AHEAD) - 7 * 24, 0],
    "linear model": linear(),
    "LSTM": model.predict(X[test]),
}
print(
    f"mean absolute error of the following half-year; {scale[0]:.0f} megawatts are used on average, the noise's is 0.80"
)
for name, forecast in forecasts.items():
    early, late = (np.abs(forecast - Y[test])[:, part].mean() * scale[1] for part in (slice(6), slice(18, 24)))
    print(f"{name:26s}{error(forecast):6.2f} MW   first six hours {early:5.2f}   last six {late:5.2f}")

if args.plot:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(9, 4), layout="constrained")
    first = np.flatnonzero(test & (hours[starts] % 24 == 0))[10:17]
    for number, row in enumerate(first):
        at = np.arange(AHEAD) / 24.0 + number
        for values, style, label in (
            (Y[row], "k-", "use"),
            (forecasts["LSTM"][row - np.flatnonzero(test)[0]], "C0--", "LSTM, from midnight"),
            (forecasts["the same hour last week"][row - np.flatnonzero(test)[0]], "C1:", "last week"),
        ):
            panel.plot(at, values * scale[1] + scale[0], style, label=label if number == 0 else None)
    panel.set(title="A week, forecast at midnight", xlabel="days", ylabel="megawatts")
    panel.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
