"""Transfer learning with convolutions: filters that have learnt circles and crosses help with digits.

There are as many images of shapes as one likes: they are made. So a network learns to tell circles, squares, triangles
and crosses apart, in noise. Its first two layers are then taken over by a network for handwritten digits, of which only
a few are labelled, as noisy, and moved by up to two pixels: once the filters stay as they are, once they are trained
further. Both are compared with the same network trained from nothing, and with one whose filters stay random.

Edges are edges, of shapes or of strokes. A network has to see many images to know them through noise; a few digits are
too few. With `NOISE = 0` the shapes help as well, most where there are fewest labels.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw accuracy over the number of labels (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images and repetitions, for a test")
args = parser.parse_args()

SIZE, NOISE, MOVE = 28, 0.3, 2
LABELS, TIMES, SHAPES, EPOCHS = ((3, 30), 1, 1500, 3) if args.quick else ((1, 3, 10, 30), 9, 6000, 6)
WAYS = ("random filters", "from nothing", "shapes' filters", "trained further")


def larger(digits):
    """Return digits of 8 x 8 pixels drawn on 20 x 20 of the pixels of larger images, by linear interpolation."""
    line = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
    between = np.maximum(0.0, 1.0 - np.abs(line[:, None] - np.arange(8)))
    # interpolation makes strokes paler
    return np.clip(1.5 * np.pad(between @ digits.reshape(-1, 8, 8) @ between.T, ((0, 0), (4, 4), (4, 4))), 0, 1)


def spoiled(images, rng):
    """Return images that are moved by a few pixels in both directions, with noise."""
    moves = rng.integers(-MOVE, MOVE, (len(images), 2), endpoint=True)
    moved = np.stack([np.roll(image, move, (0, 1)) for image, move in zip(images, moves, strict=True)])
    return np.clip(moved + rng.normal(0.0, NOISE, moved.shape), 0, 1)[..., None].astype(np.float32)


def make_filters(seed, trainable=True):
    """Make the layers that are taken over."""
    layers = [fnn.Input((SIZE, SIZE, 1))]
    for filters, width in ((16, 5), (32, 3)):
        layers += [fnn.Conv2D(filters, width, padding="same", activation="relu"), fnn.MaxPooling2D(2)]
    found = fnn.Sequential(layers, seed=seed, name="filters")
    found.trainable = trainable
    return found


def classifier(filters, classes, last, seed):
    """Make a network that begins with given layers."""
    image = fnn.Input((SIZE, SIZE, 1))
    x = fnn.Conv2D(32, 3, padding="same", activation="relu")(filters(image))
    scores = fnn.Dense(classes, activation="softmax")(last(fnn.MaxPooling2D(2)(x)))
    model = fnn.Model(image, scores, seed=seed)
    model.compile(fnn.Adam(0.003), "cross_entropy", metrics=["accuracy"])
    return model


shapes, kinds = fnn.datasets.make_shapes(SHAPES, SIZE, noise=NOISE, seed=0)
test_shapes, test_kinds = fnn.datasets.make_shapes(1000, SIZE, noise=NOISE, seed=1)
taught = make_filters(0)
# of a shape that may be anywhere only the largest answers count
model = classifier(taught, 4, fnn.GlobalMaxPooling2D(), 0)
model.fit(shapes, kinds, batch_size=32, epochs=EPOCHS, verbose=0)
learnt = taught.get_weights()
found = model.evaluate(test_shapes, test_kinds, verbose=0)["accuracy"]
print(f"{found:.1%} of other noisy shapes are recognised, after {len(shapes)} images\n")

digits, y = fnn.datasets.load_digits()
digits, pool = larger(digits), 1300
unseen = spoiled(digits[pool:], np.random.default_rng(0))


def accuracy(way, rows, seed):
    """Train a network on a few digits; returns its accuracy on others."""
    filters = make_filters(seed + 1, trainable=way in ("from nothing", "trained further"))
    if way in ("shapes' filters", "trained further"):
        filters.set_weights(learnt)
    model = classifier(filters, 10, fnn.Flatten(), seed)
    few = spoiled(digits[rows], np.random.default_rng(seed))
    model.fit(few, y[rows], batch_size=20, epochs=max(15, min(60, 3000 // len(rows))), verbose=0)
    return model.evaluate(unseen, y[pool:], verbose=0)["accuracy"]


print(f"accuracy on {len(unseen)} noisy digits, median of {TIMES} choices of the labelled ones")
print("labels a class" + "".join(f"{way:>18s}" for way in WAYS))
results = np.empty((len(LABELS), len(WAYS), TIMES))
for line, count in enumerate(LABELS):
    for time in range(TIMES):
        chosen = np.random.default_rng(time)
        rows = [chosen.choice(np.flatnonzero(y[:pool] == digit), count, replace=False) for digit in range(10)]
        results[line, :, time] = [accuracy(way, np.concatenate(rows), time) for way in WAYS]
    print(f"{count:14d}" + "".join(f"{median:18.1%}" for median in np.median(results[line], axis=1)))

if args.plot:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    axes = left.subplots(4, 6)
    rows = [shapes[:6], spoiled(digits[:6], np.random.default_rng(1))]
    filters = np.moveaxis(learnt[0][:, :, 0], -1, 0)
    order = np.argsort(-np.abs(filters).sum(axis=(1, 2)))
    for line, images in zip(axes, [*rows, filters[order[:6]], filters[order[6:12]]], strict=True):
        for ax, image in zip(line, images, strict=True):
            limit = np.abs(image).max()
            low, high = (0, 1) if image.ndim == 3 else (-limit, limit)
            ax.imshow(image.reshape(image.shape[:2]), cmap="gray", vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[])
    for ax, words in zip(axes[:, 0], ("learnt from", "used for", "filters", ""), strict=True):
        ax.set_ylabel(words)
    left.suptitle("noisy shapes, noisy digits, first-layer filters learnt from shapes")
    ax = right.subplots()
    for column, (way, marker) in enumerate(zip(WAYS, "xosD", strict=True)):
        low, middle, high = np.percentile(100 * results[:, column], (25, 50, 75), axis=1)
        ax.plot(LABELS, middle, marker=marker, label=way)
        ax.fill_between(LABELS, low, high, alpha=0.2)
    ax.set(xlabel="labelled images of each digit", ylabel="accuracy on other digits (%)", xscale="log")
    ax.set_xticks(LABELS, LABELS)
    ax.minorticks_off()
    ax.legend()
    figure.savefig(args.plot)
