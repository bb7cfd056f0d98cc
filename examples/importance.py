"""Which inputs matter? The answers of weights and of gradients, and a map of the pixels of a digit."""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the maps of all digits (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="less training, for a test")
args = parser.parse_args()

# Eight inputs of one scale, of which three matter: one linearly, two nonlinearly. The others are distractions.
rng = np.random.default_rng(0)
X = rng.normal(size=(500 if args.quick else 2000, 8))
y = 2 * X[:, 1] + 2 * np.sin(2 * X[:, 4]) + X[:, 6] ** 2
model = fnn.Sequential([fnn.Dense(64, activation="tanh", kernel_regularizer=fnn.L2(1e-4)), fnn.Dense(1)], seed=0)
model.compile(fnn.Adam(0.01), loss="mse", metrics=["r2"])
model.fit(X, y, epochs=20 if args.quick else 60, verbose=0)
score = model.evaluate(X, y)["r2"]

# Garson's idea (1991): an input's contribution is the sum over its paths of |weight in| * |weight out|.
kernel, _, output_kernel, _ = model.get_weights()
by_weights = (np.abs(kernel) @ np.abs(output_kernel))[:, 0]
# With targets 1/2 below the predictions, the slope of (prediction - target)^2 is the slope of the prediction.
slopes = model.input_gradients(X, model.predict(X) - 0.5) * len(X)
by_gradients = np.abs(slopes).mean(axis=0)
# How much worse does the model get when a column is shuffled, so that it has no information?
by_shuffling = []
for column in range(8):
    shuffled = X.copy()
    shuffled[:, column] = rng.permutation(X[:, column])
    by_shuffling.append(score - model.evaluate(shuffled, y)["r2"])

print("y = 2 x1 + 2 sin(2 x4) + x6^2;  R^2 of the network:", round(score, 3))
print("importance of the inputs, each column's sum is 100\ninput   weights  gradients  shuffling")
columns = [100 * np.array(v) / np.sum(v) for v in (by_weights, by_gradients, by_shuffling)]
for i, (w, g, s) in enumerate(zip(*columns, strict=True)):
    print(f"  x{i}   {w:8.1f} {g:10.1f} {s:10.1f}   {'#' * round(g)}")
print("The sign of the mean slope is the direction, if there is one:", end=" ")
print(", ".join(f"x{i} {slopes[:, i].mean():+.1f}" for i in (1, 4, 6)), "\n")

# For a digit, the gradient of the loss is a map of the pixels that affect the answer most.
X, y = fnn.datasets.load_digits()
model = fnn.Sequential([fnn.Dense(64, activation="relu"), fnn.Dense(10, activation="softmax")], seed=0)
model.compile("adam", loss="cross_entropy", metrics=["accuracy"])
model.fit(X, y, epochs=5 if args.quick else 20, verbose=0)
print(f"digits: accuracy {model.evaluate(X, y)['accuracy']:.1%} on the training images")

# Row by row: a gradient is small if the network is sure, so it is scaled to a largest value of 1.
gradients = model.input_gradients(X, y)
gradients /= np.abs(gradients).max(axis=1, keepdims=True)
maps = np.array([np.abs(gradients[y == digit]).mean(axis=0).reshape(8, 8) for digit in range(10)])
means = np.array([X[y == digit].mean(axis=0).reshape(8, 8) for digit in range(10)])


def ascii_art(image):
    """Return eight lines for an 8 x 8 image, darker characters for larger values."""
    shade = np.array(list(" .:-=+*#%@"))[(image / image.max() * 9).astype(int)]
    return ["".join(np.repeat(line, 2)) for line in shade]


for digit in (0, 3, 7):
    first = X[np.flatnonzero(y == digit)[0]].reshape(8, 8)
    print(f"\n{f'a {digit}':18s}{f'average {digit}':18s}pixels that matter for {digit}s")
    for lines in zip(ascii_art(first), ascii_art(means[digit]), ascii_art(maps[digit]), strict=True):
        print("  ".join(lines))

# A small step along the sign of the gradient is enough to fool the network, and hard to see (Goodfellow 2015).
print("\nthe same images with every pixel moved by at most epsilon against the network:")
signs = np.sign(gradients)
for epsilon in (0.0, 0.05, 0.1, 0.15, 0.2):
    moved = np.clip(X + epsilon * signs, 0, 1)
    print(f"  epsilon {epsilon:4.2f}: accuracy {model.evaluate(moved, y)['accuracy']:6.1%}")

if args.plot:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(15, 9.5), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.3, 3, 2.6))

    ax = top.subplots()
    for shift, name, column in zip((-0.27, 0.0, 0.27), ("weights", "gradients", "shuffling"), columns, strict=True):
        ax.bar(np.arange(8) + shift, column, width=0.25, label=f"by {name}")
    ax.set(ylabel="importance in %", xticks=range(8), xticklabels=[f"x{i}" for i in range(8)])
    ax.set_title("y = 2 x1 + 2 sin(2 x4) + x6²: which inputs matter?")
    ax.legend()

    axes = middle.subplots(2, 10)
    for digit in range(10):
        grey = axes[0, digit].imshow(means[digit], cmap="gray_r", vmin=0, vmax=1)
        red = axes[1, digit].imshow(maps[digit], cmap="Reds", vmin=0, vmax=maps.max())
        axes[0, digit].set_title(f"all {digit}s")
    middle.colorbar(grey, ax=axes[0], label="mean of the pixel")
    middle.colorbar(red, ax=axes[1], label="mean slope, scaled")
    middle.suptitle("above: the average image of each digit; below: the pixels that matter for the answer")

    # an image that is classified correctly, changed until it is classified as another digit, and the difference
    axes = bottom.subplots(1, 9)
    fooled = np.clip(X + 0.2 * signs, 0, 1)
    before, after = model.predict(X), model.predict(fooled)
    known = (before.argmax(axis=1) == y) & (after.argmax(axis=1) != y)
    for column, digit in zip((0, 3, 6), (0, 3, 7), strict=True):
        i = np.flatnonzero(known & (y == digit))[0]
        for ax, image, answer in ((axes[column], X[i], before[i]), (axes[column + 1], fooled[i], after[i])):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(f"taken for\na {answer.argmax()} ({answer.max():.0%})")
        change = axes[column + 2].imshow((fooled[i] - X[i]).reshape(8, 8), cmap="RdBu", vmin=-0.2, vmax=0.2)
        axes[column + 2].set_title("the\ndifference")
    bottom.colorbar(change, ax=axes, label="change of the pixel")
    bottom.suptitle("images before and after every pixel has been moved by at most 0.2 against the network")
    for ax in (*middle.axes, *bottom.axes):
        if ax.images:
            ax.set(xticks=[], yticks=[])
    figure.savefig(args.plot)
