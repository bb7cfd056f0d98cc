"""Edges first, then parts: what the layers of a convolutional network have learnt to look for.

A small network learns to tell circles, squares, triangles and crosses apart, of any size, place and rotation. Nobody
tells it how. Its first layer then turns out to look for edges, each filter for those of one orientation: images of
single edges at known angles show which. The second layer looks at neighbouring edges together. The pieces of images
that excite its filters most are parts of shapes: corners, bends, tips, the notches of crosses.

Noise that is drawn anew in every step, a penalty on large weights, and small initial weights keep the filters smooth:
what does not matter becomes zero, instead of staying as random as it was. `fnn.inspect` gives what layers answer.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw filters, their answers, and parts (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images and epochs, for a test")
args = parser.parse_args()

SHAPES, SIZE, FILTERS, WINDOW, ANGLES = ("circle", "square", "triangle", "cross"), 28, 8, 5, 16
COUNT, EPOCHS = (2000, 8) if args.quick else (4000, 15)

X, y = fnn.datasets.make_shapes(COUNT, SIZE, seed=1)
X_test, y_test = fnn.datasets.make_shapes(1000, SIZE, seed=2)
edges, angle = fnn.datasets.make_edges(300 * ANGLES, SIZE, orientations=ANGLES, noise=0.0, seed=3)

model = fnn.Sequential(
    [
        fnn.Input((SIZE, SIZE, 1)),
        fnn.GaussianNoise(0.1),
        fnn.Conv2D(
            FILTERS,
            WINDOW,
            activation="relu",
            kernel_initializer=fnn.initializers.RandomNormal(stddev=0.03),
            kernel_regularizer=fnn.L2(0.003),
            name="edges",
        ),
        fnn.MaxPooling2D(2),
        fnn.Conv2D(16, 3, activation="relu", name="parts"),
        fnn.GlobalMaxPooling2D(),
        fnn.Dense(len(SHAPES), activation="softmax", name="shapes"),
    ],
    seed=0,
)
model.compile(fnn.Adam(0.003), "cross_entropy", metrics=["accuracy"])


def pieces(images, window):
    """Return all square pieces of images, of a width and height: (n, rows, columns, window, window)."""
    return np.lib.stride_tricks.sliding_window_view(images[..., 0], (window, window), axis=(1, 2))


def likeness():
    """Return the correlation of each first-layer filter with the piece of an edge that it is most like, and its angle.

    It is 1 if a filter is such a piece, but for brightness and contrast.
    """
    every, few = pieces(edges[:800], WINDOW), angle[:800]
    there = every.std(axis=(3, 4)) > 0.2  # there is an edge in it
    which = np.broadcast_to(few[:, None, None], there.shape)[there]
    edge = every[there].reshape(-1, WINDOW**2)
    kernel = model.get_weights("edges")[0].reshape(WINDOW**2, FILTERS)
    edge, kernel = edge - edge.mean(axis=1, keepdims=True), kernel - kernel.mean(axis=0)
    product = (edge / np.linalg.norm(edge, axis=1, keepdims=True)) @ (kernel / np.linalg.norm(kernel, axis=0))
    return product.max(axis=0), 180 / ANGLES * which[product.argmax(axis=0)]


before, _ = likeness()
model.fit(X, y, batch_size=32, epochs=EPOCHS, verbose=0)
after, preferred = likeness()
accuracy = model.evaluate(X_test, y_test, verbose=0)["accuracy"]
print(f"{accuracy:.1%} of {len(X_test)} other images are recognised, by {model.count_params()} parameters\n")

# How much more does a filter answer to an edge than to a dark and a bright surface?
flat = fnn.inspect.feature_maps(model, np.stack([np.zeros_like(X[0]), np.ones_like(X[0])]), "edges").max(axis=(0, 1, 2))
above = np.maximum(fnn.inspect.feature_maps(model, edges, "edges").max(axis=(1, 2)) - flat, 0.0)
answers = np.array([above[angle == number].mean(axis=0) for number in range(ANGLES)])
print(
    f"The {FILTERS} filters of the first layer have a mean correlation of {after.mean():.2f} with the piece of an edge"
)
print(f"that they are most like. Before training it was {before.mean():.2f}.")
print("filter   correlation   with an edge at   answers to edges from 0 to 180 degrees")
for number, curve in enumerate(answers.T):
    shade = np.round(9 * curve / max(curve.max(), 1e-9)).astype(int)
    drawn = "".join(" .:-=+*#%@"[each] for each in shade)
    print(f"{number:6d} {after[number]:13.2f} {preferred[number]:13.0f} deg   |{drawn}|")

maps = fnn.inspect.feature_maps(model, X_test, "parts")
largest = maps.max(axis=(1, 2))
used = np.argsort(-np.ptp(model.get_weights("shapes")[0], axis=1) * largest.std(axis=0))[:8]
print("\nThe second layer: mean of the largest answer in images of each shape, for the filters that count most")
print("filter" + "".join(f"{name:>10s}" for name in SHAPES))
for number in used:
    means = [largest[y_test == label, number].mean() for label in range(len(SHAPES))]
    print(f"{number:6d}" + "".join(f"{mean:10.2f}" for mean in means) + f"   most to a {SHAPES[np.argmax(means)]}")

# A network that knows only shapes sees the edges of other images, too: a handwritten digit, made larger.
line = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
between = np.maximum(0.0, 1.0 - np.abs(line[:, None] - np.arange(8)))
digit = np.pad(between @ fnn.datasets.load_digits()[0][2].reshape(8, 8) @ between.T, 4)

if args.plot:
    from matplotlib import pyplot as plt

    def show(ax, image, title="", lowest=0.0, highest=1.0):
        """Draw one image."""
        ax.imshow(image, cmap="gray", vmin=lowest, vmax=highest)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])

    def table(part, rows, title, words):
        """Make rows of axes, with words to the left."""
        part.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=11)
        axes = part.subplots(rows, 9, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        axes[0, 0].text(0.0, 1.0, words, transform=axes[0, 0].transAxes, va="top", fontsize=9)
        return axes

    figure = plt.figure(figsize=(12, 12), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.1, 2.2, 3.4))
    axes = table(
        top, 2, "the first layer looks for edges", "filters\n(white: positive)\nand what they\nanswer to\nedges"
    )
    for number, (ax, under) in enumerate(axes[:, 1:].T):
        kernel = model.get_weights("edges")[0][:, :, 0, number]
        show(ax, kernel, f"{preferred[number]:.0f}°", -np.abs(kernel).max(), np.abs(kernel).max())
        ax.set_axis_on()
        under.set_axis_on()
        under.fill_between(180 / ANGLES * np.arange(ANGLES), answers[:, number])
        under.set(yticks=[], xticks=(0, 90, 180), xlim=(0, 180), ylim=(0, None))
    axes = table(
        middle, 2, "its answers to a shape, and to a digit, though it has never seen one; each in its own range", ""
    )
    for row, image in zip(axes, (X_test[np.flatnonzero(y_test == 2)[0]], digit[..., None]), strict=True):
        show(row[0], image)
        found = fnn.inspect.feature_maps(model, image[None].astype(np.float32), "edges")[0]
        for number, ax in enumerate(row[1:]):
            show(ax, found[..., number], highest=max(found[..., number].max(), 1e-9))
    # a filter of the second layer sees 10 x 10 pixels: 3 x 3 places, 2 pixels apart, of the pooled first layer
    axes = table(
        bottom,
        4,
        "the second layer looks for parts of shapes",
        "the pieces that\nexcite a filter\nmost, each of\nanother image",
    )
    parts = pieces(X_test, 10)[:, ::2, ::2]
    for column, number in zip(axes[:, 1:].T, used, strict=True):
        for ax, i in zip(column, np.argsort(-largest[:, number]), strict=False):
            at = np.unravel_index(maps[i, ..., number].argmax(), maps.shape[1:3])
            show(ax, parts[i][at], f"filter {number}" if ax is column[0] else "")
    figure.savefig(args.plot)
