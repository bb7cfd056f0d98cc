"""A small U-Net removes noise from images, beside filters made by hand.

Images of shapes, from 0 to 1, are buried in normal noise with a standard deviation of 0.5. A network that has seen
pairs of a noisy and a clean image gives back the clean one. A U-Net (Ronneberger, Fischer and Brox, 2015) makes the
image smaller twice, so that it sees more at once, and larger again; bridges hand over the fine detail that would be
lost on the way. A weighted mean of neighbours (Gaussian filter) and a median know nothing of shapes: they blur the
edges together with the noise.

The network has learnt shapes, not images. Of digits, which it has never seen, it makes something with straight sides.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw noisy and restored images (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer images and epochs, for a test")
args = parser.parse_args()

SIZE, NOISE = 28, 0.5
COUNT, EPOCHS = (400, 3) if args.quick else (4000, 10)


def gaussian(images, sigma):
    """Return the mean around each pixel, weighted by a normal distribution; the edge goes on outside."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        around = [(reach, reach) if each == axis else (0, 0) for each in range(4)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(images, around, mode="edge"), len(weights), axis)
        images = windows @ weights
    return images


def median(images, width):
    """Return the median of the square around each pixel."""
    half = width // 2
    wide = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(wide, (width, width), axis=(1, 2)), axis=(-2, -1))


def unet(bridges=True):
    """Make a U-Net of two levels, with or without bridges."""

    def twice(x, filters):
        for _ in range(2):
            x = fnn.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    image = fnn.Input((SIZE, SIZE, 1))
    large = twice(image, 8)
    middle = twice(fnn.MaxPooling2D(2)(large), 16)
    x = twice(fnn.MaxPooling2D(2)(middle), 32)
    for filters, bridge in ((16, middle), (8, large)):
        x = fnn.Conv2DTranspose(filters, 2, 2)(x)
        x = twice(fnn.Concatenate()([bridge, x]) if bridges else x, filters)
    return fnn.Model(image, fnn.Conv2D(1, 1, activation="sigmoid")(x), seed=0)


def larger(digits):
    """Return digits of 8 x 8 pixels drawn on 20 x 20 of the pixels of larger images, by linear interpolation."""
    line = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
    between = np.maximum(0.0, 1.0 - np.abs(line[:, None] - np.arange(8))).astype(np.float32)
    return np.pad(between @ digits.reshape(-1, 8, 8) @ between.T, ((0, 0), (4, 4), (4, 4)))[..., None]


rng = np.random.default_rng(0)


def noisy(clean):
    """Return images with noise; they are not cut off at black and white."""
    return clean + rng.normal(0.0, NOISE, clean.shape).astype(np.float32)


def error(restored, clean):
    """Return the root of the mean squared error of all pixels."""
    return float(np.sqrt(np.mean((restored - clean) ** 2)))


def learnt(bridges):
    """Train a U-Net, on new noise in every epoch; returns it."""
    model = unet(bridges)
    model.compile(fnn.Adam(0.003), "binary_cross_entropy")
    for _ in range(EPOCHS):
        model.fit(noisy(clean), clean, batch_size=32, verbose=0)
    return model


clean, _ = fnn.datasets.make_shapes(COUNT, SIZE, noise=0.0, seed=1)
shapes, kinds = fnn.datasets.make_shapes(1000, SIZE, noise=0.0, seed=2)
digits = larger(fnn.datasets.load_digits("test")[0])
seen, seen_digits = noisy(shapes), noisy(digits)

# The filters by hand get the sizes that are best for images to learn from.
spoiled = noisy(clean[:400])
sigma = min((0.7, 1.0, 1.3, 1.6, 2.0), key=lambda size: error(gaussian(spoiled, size), clean[:400]))
width = min((3, 5, 7), key=lambda size: error(median(spoiled, size), clean[:400]))
with_bridges, without = learnt(True), learnt(False)
methods = [
    ("noisy", lambda images: images),
    (f"Gaussian filter, {sigma} pixels", lambda images: gaussian(images, sigma)),
    (f"median of {width} x {width} pixels", lambda images: median(images, width)),
    ("network without bridges", without.predict),
    ("U-Net", with_bridges.predict),
]
restored = {name: (method(seen), method(seen_digits)) for name, method in methods}
print(f"U-Net: {with_bridges.count_params()} parameters; it has seen {COUNT} shapes, and no digit")
print("root mean squared error             shapes   digits")
for name, (of_shapes, of_digits) in restored.items():
    print(f"{name:34s} {error(of_shapes, shapes):7.3f} {error(of_digits, digits):8.3f}")


def drawn(image):
    """Return lines of characters for an image, of half its width and height."""
    small = image[..., 0].reshape(SIZE // 2, 2, SIZE // 2, 2).mean(axis=(1, 3))
    shade = np.array(list(" .:-=+*#%@"))[np.clip(small * 9.99, 0, 9).astype(int)]
    return ["".join(np.repeat(line, 2)) for line in shade]


print(f"\n{'clean':30s}{'noisy':30s}U-Net")
cross = np.flatnonzero(kinds == 3)[0]
for lines in zip(*(drawn(images[cross]) for images in (shapes, seen, restored["U-Net"][0])), strict=True):
    print("  ".join(lines).rstrip())

if args.plot:
    from matplotlib import pyplot as plt

    columns = [("clean", shapes, digits)] + [(name, *found) for name, found in restored.items()]
    rows = [(0, np.flatnonzero(kinds == label)[0]) for label in range(4)] + [(1, 0), (1, 3)]
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(11, 11), layout="constrained")
    for line, (kind, i) in zip(axes, rows, strict=True):
        for ax, (name, *images) in zip(line, columns, strict=True):
            ax.imshow(images[kind][i, :, :, 0], cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            if ax in axes[0]:
                ax.set_title(name.replace(", ", ",\n").replace(" of ", " of\n").replace(" without", "\nwithout"))
            if name != "clean":
                ax.set_xlabel(f"error {error(images[kind][i], columns[0][1 + kind][i]):.2f}", fontsize=9)
    figure.savefig(args.plot)
