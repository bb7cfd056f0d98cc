"""Transfer learning: an encoder that has learnt without labels helps where there are few labels.

The images are digits that were moved by up to a pixel, with noise. An autoencoder learns from 1,300 of them to restore
the digit, without knowing which one it is. Its encoder, a model of its own, then becomes the first part of a classifier
that sees a few labelled images: once with the encoder as it is, once trained further. Both are compared with the same
network trained from nothing.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw accuracy over the number of labels (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a test")
args = parser.parse_args()

LABELS, NOISE = (1, 2, 5, 10, 20), 0.2
TIMES, EPOCHS = (3, 30) if args.quick else (15, 100)
X, y = fnn.datasets.load_digits()
pool, test = np.arange(1300), slice(1300, None)


def spoiled(images, rng):
    """Return images that are moved by up to a pixel in both directions, with noise."""
    moves = rng.integers(-1, 2, (len(images), 2))
    moved = [np.roll(image, move, (0, 1)) for image, move in zip(images.reshape(-1, 8, 8), moves, strict=True)]
    return np.reshape(moved, images.shape) + rng.normal(0.0, NOISE, images.shape).astype(np.float32)


def make_encoder(seed, trainable=True):
    """Make a network from images to 32 features."""
    layers = [fnn.Input(64), fnn.Dense(128, activation="relu"), fnn.Dense(32, activation="relu")]
    encoder = fnn.Sequential(layers, seed=seed, name="encoder")
    encoder.trainable = trainable
    return encoder


taught, rng = make_encoder(1), np.random.default_rng(0)
image = fnn.Input(64)
auto = fnn.Model(image, fnn.Dense(64, activation="sigmoid")(taught(image)), seed=2)
auto.compile(fnn.Adam(0.002), "binary_cross_entropy")
for _ in range(EPOCHS):
    auto.fit(spoiled(X[pool], rng), X[pool], batch_size=50, verbose=0)
learnt = taught.get_weights()
unseen = spoiled(X[test], rng)


def accuracy(encoder, rows, rng, seed):
    """Train a classifier, which shares the weights of an encoder, on a few images; returns its accuracy on others."""
    image = fnn.Input(64)
    model = fnn.Model(image, fnn.Dense(10, activation="softmax")(encoder(image)), seed=seed)
    model.compile(fnn.Adam(0.003), "cross_entropy", metrics=["accuracy"])
    model.fit(spoiled(X[rows], rng), y[rows], epochs=100, batch_size=20, verbose=0)
    return model.evaluate(unseen, y[test], verbose=0)["accuracy"]


print(f"accuracy on {len(unseen)} spoiled digits, median of {TIMES} choices of the labelled ones")
print("labels a class   from nothing   encoder as it is   encoder trained further")
results = np.empty((len(LABELS), 3, TIMES))
for line, count in enumerate(LABELS):
    for time in range(TIMES):
        chosen = np.random.default_rng(time)
        rows = [chosen.choice(pool[y[pool] == digit], count, replace=False) for digit in range(10)]
        for column, (knows, trained) in enumerate(((False, True), (True, False), (True, True))):
            encoder = make_encoder(time, trained)
            if knows:
                encoder.set_weights(learnt)
            results[line, column, time] = accuracy(encoder, np.concatenate(rows), np.random.default_rng(time), time)
    medians = np.median(results[line], axis=1)
    print(f"{count:14d} {medians[0]:14.1%} {medians[1]:18.1%} {medians[2]:25.1%}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    names = ("from nothing", "encoder as it is", "encoder trained further")
    for column, (name, marker) in enumerate(zip(names, "osD", strict=True)):
        low, middle, high = np.percentile(100 * results[:, column], (25, 50, 75), axis=1)
        ax.plot(LABELS, middle, marker=marker, label=name)
        ax.fill_between(LABELS, low, high, alpha=0.2)
    ax.set(xlabel="labelled images of each digit", ylabel="accuracy on other images (%)", xscale="log")
    ax.set(xticks=LABELS, xticklabels=LABELS, title="An encoder that has restored digits without knowing them")
    ax.minorticks_off()
    ax.legend()
    figure.savefig(args.plot)
