"""Handwritten digits: a network compared with k-nearest neighbours, which remembers instead of learning."""

import argparse
import time

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the misclassified digits (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="less data, for a test")
args = parser.parse_args()

X_train, y_train = fnn.datasets.load_digits("train")
X_test, y_test = fnn.datasets.load_digits("test")
if args.quick:
    X_train, y_train = X_train[:500], y_train[:500]
print(f"{len(X_train)} images of 8 x 8 pixels to learn from, {len(X_test)} to test on\n")


def nearest_neighbours(X, k=3):
    """Return for every row the most frequent label of its k nearest training rows."""
    distances = (X**2).sum(axis=1)[:, None] - 2 * X @ X_train.T + (X_train**2).sum(axis=1)
    nearest = np.argpartition(distances, k, axis=1)[:, :k]
    votes = (y_train[nearest][:, :, None] == np.arange(10)).sum(axis=1)
    return votes.argmax(axis=1)


def network(X):
    """Return the most probable label for every row."""
    return model.predict(X).argmax(axis=1)


def seconds(function, *arguments):
    """Return the time of a call, the best of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


model = fnn.Sequential(
    [fnn.GaussianNoise(0.2), fnn.Dense(64, activation="relu"), fnn.Dense(10, activation="softmax")], seed=0
)
model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy", "confusion_matrix"])
start = time.perf_counter()
history = model.fit(X_train, y_train, batch_size=32, epochs=10 if args.quick else 60, verbose=0)
train_time = time.perf_counter() - start
print(history)

print("\n                        accuracy   training   360 images   one image   numbers kept")
for name, predict, spent, size in [
    ("3 nearest neighbours", nearest_neighbours, 0.0, X_train.size),
    ("64-64-10 network", network, train_time, model.count_params()),
]:
    accuracy = (predict(X_test) == y_test).mean()
    many, one = seconds(predict, X_test), seconds(predict, X_test[:1])
    print(f"{name:22s} {accuracy:8.1%} {spent:9.2f} s {many * 1e3:9.2f} ms {one * 1e6:8.0f} us {size:14,d}")
print("Neighbours are hard to beat on a few small images; they pay for it with every answer.")
print("(The first training on a machine also compiles fastnn's kernels.)")

print("\nconfusion matrix of the network: rows are the true digits, columns the predicted ones")
print("    " + "".join(f"{digit:4d}" for digit in range(10)))
for digit, row in enumerate(model.evaluate(X_test, y_test)["confusion_matrix"].astype(int)):
    print(f"{digit:4d}" + "".join(f"{count or '.':>4}" for count in row))

probabilities = model.predict(X_test)
predicted = probabilities.argmax(axis=1)
wrong = np.flatnonzero(predicted != y_test)
print(f"\n{len(wrong)} digits are misclassified; the first of them, and how sure the network was:")
shown = wrong[:5]
titles = [f"{y_test[i]} as {predicted[i]} ({probabilities[i].max():.0%})" for i in shown]
print("   ".join(f"{title:16s}" for title in titles))
images = np.array(list(" .:-=+*#%@"))[(X_test[shown].reshape(-1, 8, 8) * 9).astype(int)]
for row in range(8):
    print("   ".join("".join(np.repeat(image[row], 2)) for image in images))

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(12, 5), layout="constrained", height_ratios=(3, 2))
    for column in axes.T:
        for ax in column:
            ax.set_visible(False)
    for (image, bars), i, title in zip(axes.T, shown, titles, strict=False):
        image.set(visible=True, title=title, xticks=[], yticks=[])
        image.imshow(X_test[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        bars.set(visible=True, xticks=range(10), xlabel="digit", ylim=(0, 1))
        colors = ["C2" if digit == y_test[i] else "C3" if digit == predicted[i] else "grey" for digit in range(10)]
        bars.bar(range(10), probabilities[i], color=colors)
    axes[1, 0].set_ylabel("probability")
    figure.suptitle("misclassified digits: the true digit in green, the predicted one in red")
    figure.savefig(args.plot)
