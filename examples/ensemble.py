"""How sure is a network? An ensemble of many, each trained on different rows, disagrees where there were no data.

Networks with different initial weights, each trained on a random choice of the rows (bootstrap, Breiman 1996), agree
where there are data, and diverge in a gap (Lakshminarayanan, Pritzel and Blundell, 2017, arXiv:1612.01474). Far from
all data they are overconfident: there all of them make the same mistake. They are trained at the same time, one per
thread.
"""

import argparse
import time

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the bands (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer networks, for a test")
args = parser.parse_args()

MEMBERS, EPOCHS = (8, 200) if args.quick else (32, 400)

rng = np.random.default_rng(0)
x = np.concatenate([rng.uniform(-4.0, -1.5, 40), rng.uniform(1.5, 4.0, 40)]).astype(np.float32)[:, None]
y = np.sin(2.0 * x) * x / 3.0 + 0.1 * rng.normal(size=x.shape).astype(np.float32)


def build(seed):
    """Make a member: the seed decides its initial weights, and the order of its rows."""
    wide = fnn.initializers.RandomNormal(stddev=2.0)
    hidden = fnn.Dense(64, activation="tanh", kernel_initializer=wide, bias_initializer=wide)
    model = fnn.Sequential([fnn.Input(1), hidden, fnn.Dense(1)], seed=seed)
    model.compile(fnn.Adam(0.01), "mse")
    return model


models = [build(seed) for seed in range(MEMBERS)]
samples = [rng.integers(0, len(x), len(x)) for _ in models]
begin = time.perf_counter()
histories = fnn.train_many(models, x, y, rows=samples, epochs=EPOCHS, batch_size=16, verbose=0)
seconds = time.perf_counter() - begin
losses = [history.history["loss"][-1] for history in histories]
print(
    f"{MEMBERS} networks, {EPOCHS} epochs each, in {seconds:.2f} s; final losses {min(losses):.3f} to {max(losses):.3f}"
)

grid = np.linspace(-6.0, 6.0, 241, dtype=np.float32)[:, None]
truth = np.sin(2.0 * grid) * grid / 3.0
curves = np.stack([model.predict(grid) for model in models])[:, :, 0]
mean, spread = curves.mean(axis=0), curves.std(axis=0)
error = abs(mean - truth[:, 0])

size = abs(grid[:, 0])
for name, where in (("data", (size >= 1.5) & (size <= 4)), ("gap", size < 1.5), ("beyond", size > 4)):
    alone = abs(curves[:, where] - truth[where, 0]).mean()
    numbers = f"{spread[where].mean():.3f}; their mean is off by {error[where].mean():.3f}, one alone by {alone:.3f}"
    print(f"{name:6s}  the members disagree by {numbers}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for width, alpha in ((2, 0.2), (1, 0.3)):
        axes.fill_between(grid[:, 0], mean - width * spread, mean + width * spread, color="C0", alpha=alpha,
                          label=f"{width} standard deviation{'s' * (width > 1)}")  # fmt: skip
    axes.plot(grid, mean, label="mean of the networks")
    axes.plot(grid, truth, "k--", label="truth")
    axes.plot(x, y, ".", color="grey", label="data")
    axes.set(xlabel="x", ylabel="y", ylim=(-4, 4), title=f"{MEMBERS} networks: sure where they have seen data")
    axes.legend()
    figure.savefig(args.plot)
