"""Images that fool: after a small change, a network takes one digit for another, though a person does not; what helps.

The gradient of the loss with respect to the image says how each pixel has to change for the network to be wrong. One
step along its sign (Goodfellow, Shlens and Szegedy, 2015), or better several small ones that never move a pixel by more
than a given size (Madry et al., 2018), and the network sees another digit. Random changes of the same size hardly
matter.

It helps to train on such images: every training step first changes its batch against the network as it is. Here that
is part of the step itself, `fnn.train_function` of a loss that contains gradients with respect to the image.
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw images, changes and changed images (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images and epochs, for a test")
args = parser.parse_args()

SIZE, SIZES = 0.15, (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
EPOCHS, BATCH = (8 if args.quick else 40), 50
X, y = fnn.datasets.load_digits("train", as_images=True)
X_test, y_test = fnn.datasets.load_digits("test", as_images=True)
X, X_test = X[..., None], X_test[..., None]
if args.quick:
    X_test, y_test = X_test[::3], y_test[::3]
rng = np.random.default_rng(0)


def network():
    """Make a network for images of 8 x 8 pixels; it gives scores, whose softmax are probabilities."""
    layers = [fnn.Input((8, 8, 1))]
    layers += [fnn.Conv2D(32, 3, padding="same", activation="relu") for _ in range(2)]
    layers += [fnn.MaxPooling2D(2), fnn.Flatten(), fnn.Dense(64, activation="relu"), fnn.Dense(10)]
    return fnn.Sequential(layers, seed=0)


def losses(model, image, label):
    """Return the cross entropy of each image."""
    return -ops.sum(ops.log_softmax(model(image)) * ops.one_hot(label, 10), axis=-1)


def trainer(model):
    """Make a training step on images that are changed against the network, by pixels of up to a size."""
    image, label, size = fnn.Input((8, 8, 1)), fnn.Input((), dtype="int64"), fnn.Input((1, 1, 1))
    low, high = ops.maximum(image - size, 0.0), ops.minimum(image + size, 1.0)
    x = low + (high - low) * ops.random_uniform(image)
    for _ in range(2):
        slope = ops.gradients(losses(model, x, label), x)
        x = ops.minimum(ops.maximum(x + 0.75 * size * ops.sign(slope), low), high)
    loss = ops.mean(losses(model, ops.stop_gradient(x), label))
    return fnn.train_function([image, label, size], loss, update=[model], optimizer=fnn.Adam(0.002), seed=1)


def train(size):
    """Train a network on images that are changed by a size; returns it, and what computes gradients for images."""
    model, order = network(), np.random.default_rng(1)
    step = trainer(model)
    for _ in range(EPOCHS):
        for rows in np.array_split(order.permutation(len(X)), len(X) // BATCH):
            step(X[rows], y[rows], np.full((len(rows), 1, 1, 1), size, np.float32))
    image, label = fnn.Input((8, 8, 1)), fnn.Input((), dtype="int64")
    return model, fnn.function([image, label], ops.gradients(losses(model, image, label), image))


def changed(slope, images, labels, size, steps, direction=1.0):
    """Move images along the sign of the gradient, no pixel by more than a size: away from labels, or towards them."""
    low, high = np.maximum(images - size, 0.0), np.minimum(images + size, 1.0)
    x = images if steps == 1 else low + (high - low) * rng.random(images.shape, np.float32)
    for _ in range(steps):
        along = np.sign(slope(x, labels)) * np.float32(direction * size * (1.0 if steps == 1 else 2.5 / steps))
        x = np.clip(x + along, low, high)
    return x


def accuracy(model, images):
    """Return the share of test images that are recognised."""
    return (model.predict(images).argmax(axis=1) == y_test).mean()


networks = {"trained on the images": train(0.0), "trained on changed images": train(SIZE)}
print(f"accuracy on {len(X_test)} digits; no pixel is changed by more than a size, and all are from 0 to 1")
print(f"{'size':28s}" + "".join(f"{size:8.2f}" for size in SIZES))
curves = {}
for name, (model, slope) in networks.items():
    print(name)
    for way, change in [
        ("random signs", lambda size: np.clip(X_test + size * rng.choice([-1, 1], X_test.shape), 0, 1)),
        ("sign of the gradient", lambda size, slope=slope: changed(slope, X_test, y_test, size, 1)),
        ("20 steps", lambda size, slope=slope: changed(slope, X_test, y_test, size, 20)),
    ]:
        curves[name, way] = [accuracy(model, change(np.float32(size)).astype(np.float32)) for size in SIZES]
        print(f"    {way:24s}" + "".join(f"{found:8.1%}" for found in curves[name, way]))

print(f"\nShare of the other digits that a change of {SIZE} turns into a")
print(" " * 28 + "".join(f"{digit:6d}" for digit in range(10)))
for name, (model, slope) in networks.items():
    shares = []
    for digit in range(10):
        other = X_test[y_test != digit]
        towards = changed(slope, other, np.full(len(other), digit), SIZE, 20, -1.0)
        shares.append((model.predict(towards).argmax(axis=1) == digit).mean())
    print(f"{name:28s}" + "".join(f"{share:6.0%}" for share in shares))


def probabilities(model, images):
    """Return the probability of each digit."""
    scores = np.exp(model.predict(images).astype(np.float64))
    return scores / scores.sum(axis=1, keepdims=True)


shown = np.array([np.flatnonzero(y_test == digit)[2] for digit in range(10)])
answers = {}
for name, (model, slope) in networks.items():
    after = changed(slope, X_test[shown], y_test[shown], SIZE, 20)
    answers[name] = after, probabilities(model, X_test[shown]), probabilities(model, after)
_, before, after = answers["trained on the images"]
print("\nTen digits, what the network trained on the images takes them for, and what after the change:")
for start in (0, 5):
    ten = range(start, start + 5)
    print(
        "   ".join(
            f"{before[i].argmax()} ({before[i].max():4.0%}) -> {after[i].argmax()} ({after[i].max():4.0%})" for i in ten
        )
    )

if args.plot:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 9.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(5.6, 3.2))
    axes = top.subplots(5, 10)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for column, i in enumerate(shown):
        axes[0, column].imshow(X_test[i, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        axes[0, column].set_title(f"a {y_test[i]}", fontsize=10)
        for row, (images, _, found) in zip((1, 3), answers.values(), strict=True):
            difference = images[column] - X_test[i]
            axes[row, column].imshow(difference[..., 0], cmap="RdBu", vmin=-0.3, vmax=0.3)
            axes[row + 1, column].imshow(images[column, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
            right = found[column].argmax() == y_test[i]
            axes[row + 1, column].set_title(
                f"{found[column].argmax()} ({found[column].max():.0%})", fontsize=10, color="C2" if right else "C3"
            )
    for row, words in enumerate(["digit", "change", "taken for", "change", "taken for"]):
        axes[row, 0].set_ylabel(words)
    top.suptitle(
        f"pixels change by up to {SIZE} (blue: darker, red: lighter)\n"
        "first against a network trained on the digits, then against one trained on changed digits"
    )
    for ax, name in zip(bottom.subplots(1, 2, sharey=True), networks, strict=True):
        for way, marker in (("random signs", "s"), ("sign of the gradient", "D"), ("20 steps", "o")):
            ax.plot(SIZES, 100 * np.array(curves[name, way]), marker=marker, label=way)
        ax.set(title=name, xlabel="largest change of a pixel", ylabel="accuracy (%)", ylim=(0, 102))
        ax.legend()
    figure.savefig(args.plot)
