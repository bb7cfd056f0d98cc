"""Bias, variance and regularisation: networks of several sizes learn a sine from twenty noisy points.

Every kind of network is trained on several training sets. The average of its predictions misses the sine by its
bias (the network is too simple), and single predictions scatter about their average by its variance (it follows
the noise). Test error = noise + bias^2 + variance.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--plot", metavar="FILE.png", help="draw the predictions (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer training sets, for a test")
args = parser.parse_args()

NOISE = 0.3
N_SETS, EPOCHS = (2, 300) if args.quick else (6, 2000)
x_test = np.linspace(-1, 1, 200)[:, None]
sine = np.sin(np.pi * x_test)


def make_set(seed, n=20):
    """Return n noisy points of the sine."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    return x, np.sin(np.pi * x) + rng.normal(0, NOISE, (n, 1))


def dense(units, l2=0.0):
    """Return a hidden layer whose weights cost l2 * sum w^2."""
    return fnn.Dense(units, activation="tanh", kernel_regularizer=fnn.L2(l2) if l2 else None)


KINDS = {
    "too small: 1 hidden neuron": lambda: [dense(1)],
    "about right: 4": lambda: [dense(4)],
    "too large: 64-64": lambda: [dense(64), dense(64)],
    "64-64 + L2 penalty": lambda: [dense(64, 3e-3), dense(64, 3e-3)],
    "64-64 + dropout": lambda: [dense(64), fnn.Dropout(0.2), dense(64), fnn.Dropout(0.2)],
    "64-64 + early stopping": lambda: [dense(64), dense(64)],
}

predictions, train_errors = {}, {}
for kind, hidden in KINDS.items():
    predictions[kind], train_errors[kind] = [], []
    for seed in range(N_SETS):
        x, y = make_set(seed)
        model = fnn.Sequential([*hidden(), fnn.Dense(1)], seed=seed)
        model.compile(fnn.Adam(0.01), loss="mse")
        options = {"batch_size": 20, "epochs": EPOCHS, "verbose": 0}
        if "early stopping" in kind:
            # Separate points decide when to stop; the weights of the best epoch are restored.
            options["validation_data"] = make_set(1000 + seed)
            options["callbacks"] = [fnn.EarlyStopping(patience=100)]
        model.fit(x, y, **options)
        predictions[kind].append(model.predict(x_test))
        train_errors[kind].append(((model.predict(x) - y) ** 2).mean())

print(f"mean squared errors, averages over {N_SETS} training sets of 20 points; noise^2 = {NOISE**2:.3f}")
print("network                       train    test    bias^2  variance")
for kind, results in predictions.items():
    results = np.array(results)
    mean = results.mean(axis=0)
    bias, variance = ((mean - sine) ** 2).mean(), ((results - mean) ** 2).mean()
    test = NOISE**2 + ((results - sine) ** 2).mean()
    print(f"{kind:27s} {np.mean(train_errors[kind]):7.3f} {test:7.3f} {bias:9.3f} {variance:9.3f}")
print("A small training error says little: the large network learns the noise by heart.")

for kind in ("too large: 64-64", "64-64 + L2 penalty"):
    picture = np.full((17, 67), " ")
    for character, curve in ((".", sine), ("#", predictions[kind][0])):
        height = np.interp(np.linspace(-1, 1, 67), x_test[:, 0], curve[:, 0])
        picture[np.clip(np.round((1.6 - height) / 0.2), 0, 16).astype(int), np.arange(67)] = character
    x, y = make_set(0)
    rows = np.clip(np.round((1.6 - y) / 0.2), 0, 16).astype(int)
    picture[rows, np.round((x + 1) * 33).astype(int)] = "O"
    print(f"\n{kind} (#), the sine (.) and the training points (O)")
    print("\n".join("    " + "".join(line) for line in picture))

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), sharex=True, sharey=True, layout="constrained")
    for ax, (kind, results) in zip(axes.flat, predictions.items(), strict=True):
        results = np.array(results)
        bias, variance = ((results.mean(axis=0) - sine) ** 2).mean(), results.var(axis=0).mean()
        for seed, result in enumerate(results):
            ax.plot(x_test, result, color="C0", alpha=0.3, label="networks, one per data set" if seed == 0 else None)
        ax.plot(x_test, results[0], color="C1", label="the first of them")
        ax.plot(*make_set(0), "o", color="C1", markersize=4, label="its 20 training points")
        ax.plot(x_test, sine, "k--", label="the true sine")
        ax.set(title=f"{kind}\nbias² {bias:.3f}, variance {variance:.3f}", ylim=(-2, 2))
    for ax in axes[1]:
        ax.set_xlabel("x")
    for ax in axes[:, 0]:
        ax.set_ylabel("y")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(args.plot)
