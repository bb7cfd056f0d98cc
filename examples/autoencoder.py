"""Autoencoders of the digits: a network squeezes images through a few numbers, and draws new ones from noise.

An autoencoder learns to give back what it was given, through a narrow layer, the code. A variational autoencoder
(Kingma and Welling, 2014) makes the codes look like normal noise, so that noise can be decoded: its encoder gives a
mean and a variance for each code, from which it is drawn, and the distance of these from the normal distribution is
part of the loss. That loss is made of inner symbols, with `add_loss`.
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw digits, what the networks make of them, and new ones")
parser.add_argument("--quick", action="store_true", help="fewer epochs, for a test")
args = parser.parse_args()

EPOCHS, CODE = (15 if args.quick else 150), 8
X, y = fnn.datasets.load_digits()
train, test = X[:1500], X[1500:]


def decoder(seed):
    """Make a network from codes to the 64 pixels of an image."""
    layers = [fnn.Input(CODE), fnn.Dense(64, activation="relu"), fnn.Dense(64, activation="sigmoid")]
    return fnn.Sequential(layers, seed=seed, name="decoder")


def plain():
    """Make an autoencoder whose decoder is a network of its own."""
    image = fnn.Input(64)
    code = fnn.Dense(CODE)(fnn.Dense(64, activation="relu")(image))
    draw = decoder(2)
    return fnn.Model(image, draw(code), seed=1), fnn.Model(image, code, seed=1), draw


def variational():
    """Make a variational autoencoder: the decoder gets a random code around the encoder's mean."""
    image = fnn.Input(64)
    hidden = fnn.Dense(64, activation="relu")(image)
    mean, logvar = fnn.Dense(CODE)(hidden), fnn.Dense(CODE)(hidden)
    code = mean + ops.exp(0.5 * logvar) * ops.random_normal(mean)
    draw = decoder(2)
    model = fnn.Model(image, draw(code), seed=1)
    # the Kullback-Leibler divergence of the codes' distribution from the normal one, for each pixel of an image
    divergence = 0.5 * ops.sum(ops.square(mean) + ops.exp(logvar) - 1.0 - logvar, axis=-1)
    model.add_loss(ops.mean(divergence) / 64.0, name="divergence")
    model.add_metric(divergence, "divergence")
    return model, draw


def show(images, columns=8):
    """Print images side by side, as characters."""
    for start in range(0, len(images), columns):
        row = images[start : start + columns].reshape(-1, 8, 8)
        for line in range(8):
            print(
                "    " + "  ".join("".join(" .:*#@"[min(5, int(6 * v))] for v in image[line]) for image in row).rstrip()
            )
        print()


errors = {}
auto, _, auto_decoder = plain()
auto.compile(fnn.Adam(0.002), "binary_cross_entropy", metrics=["mse"])
auto.fit(train, train, epochs=EPOCHS, batch_size=50, verbose=0)
errors["autoencoder"] = auto.evaluate(test, test, verbose=0)["mse"]

vae, vae_decoder = variational()
vae.compile(fnn.Adam(0.002), "binary_cross_entropy", metrics=["mse"])
history = vae.fit(train, train, epochs=EPOCHS, batch_size=50, verbose=0)
found = vae.evaluate(test, test, verbose=0)
errors["variational autoencoder"] = found["mse"]

spread = float(((test - train.mean(axis=0)) ** 2).mean())
print(
    f"{CODE} numbers for the 64 pixels of a digit; mean squared errors of {len(test)} digits that were not trained on"
)
print(f"    the mean of all digits   {spread:.4f}")
for name, error in errors.items():
    print(f"    {name:24s} {error:.4f}  ({1 - error / spread:.0%} less)")
print(f"the codes' divergence from normal noise: {found['divergence']:.1f} nats a digit")
noise = np.random.default_rng(0).normal(size=(16, CODE)).astype(np.float32)
print("digits that the variational autoencoder makes of noise:")
made = vae_decoder.predict(noise)
show(made)

if args.plot:
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = [
        ("digits", test[:12]), ("autoencoder", auto.predict(test[:12])), ("variational", vae.predict(test[:12])),
        ("noise, decoded by the autoencoder", auto_decoder.predict(noise[:12])),
        ("noise, decoded by the variational one", vae_decoder.predict(noise[:12])),
    ]  # fmt: skip
    layout = ConstrainedLayoutEngine(h_pad=0.12, rect=(0.0, 0.0, 1.0, 0.97))
    figure, axes = plt.subplots(len(rows), 12, figsize=(10, 5), layout=layout)
    for (title, images), line in zip(rows, axes, strict=True):
        for image, ax in zip(images, line, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].text(0.0, 1.1, title, transform=line[0].transAxes, fontsize=9).set_in_layout(False)
    figure.savefig(args.plot)
