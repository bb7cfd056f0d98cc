"""A convolutional network for signals: it finds a short pattern anywhere in a long, noisy recording.

Each recording has 256 samples of noise. Somewhere in it is a pattern of 48 samples: a tone whose pitch rises, falls or
stays, or a click that rings and fades. A fifth class has noise only. The filters of a one-dimensional convolution are
laid over every place of a recording, and the largest answer counts: a pattern is recognised where it has never been
before. A dense network has to learn each pattern at each place. A dense network that gets the spectrum is not
concerned with places either, but a spectrum does not tell what comes first: rising and falling look the same.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw signals, and where the network finds the patterns")
parser.add_argument("--quick", action="store_true", help="fewer recordings and epochs, for a test")
args = parser.parse_args()

STEPS, LENGTH, NOISE = 256, 48, 0.5
CLASSES = ("rising", "falling", "steady", "click", "noise")
COUNTS, EPOCHS = ((500, 1000), 8) if args.quick else ((500, 2000, 8000), 20)


def make(count, seed, places=(0.0, 1.0)):
    """Return recordings (count, steps, 1), their classes, and where their patterns begin."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(count) % len(CLASSES)
    begin = ((STEPS - LENGTH) * rng.uniform(*places, count)).astype(int)
    X = NOISE * rng.normal(size=(count, STEPS))
    at = np.linspace(0.0, 1.0, LENGTH)
    for signal, label, start in zip(X, y, begin, strict=True):
        phase, pitch, change = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(5.0, 7.0), rng.uniform(2.0, 4.0)
        bend = {"rising": change, "falling": -change}.get(CLASSES[label], 0.0)
        # the pitch is this phase's derivative: it goes from pitch - bend to pitch + bend
        wave = np.sin(phase + 2.0 * np.pi * (pitch * at + bend * (at**2 - at)))
        loudness = {"click": 2.0 * np.exp(-6.0 * at), "noise": 0.0}.get(CLASSES[label], np.sqrt(np.sin(np.pi * at)))
        signal[start : start + LENGTH] += loudness * wave
    return X[..., None].astype(np.float32), y, begin


def spectrum(X):
    """Return how much of each pitch is in a recording, as logarithms."""
    return np.log(np.abs(np.fft.rfft(X[:, :, 0])) + 1.0).astype(np.float32)


def convolutional():
    """Make a network for which the largest answers of 32 filters over all places count."""
    layers = [fnn.Input((STEPS, 1))]
    for filters in (16, 32):
        layers += [fnn.Conv1D(filters, 9, padding="same", activation="relu"), fnn.MaxPooling1D(2)]
    layers.append(fnn.Conv1D(32, 9, padding="same", activation="relu"))
    answers, signal = fnn.Sequential(layers, seed=0, name="answers"), fnn.Input((STEPS, 1))
    largest = fnn.GlobalMaxPooling1D()(answers(signal))
    return fnn.Model(signal, fnn.Dense(len(CLASSES), activation="softmax", name="classes")(largest), seed=1)


def dense(*shape):
    """Make a network of two hidden layers."""
    layers = [fnn.Input(shape), fnn.Flatten(), fnn.Dense(128, activation="relu"), fnn.Dropout(0.3)]
    layers += [fnn.Dense(64, activation="relu"), fnn.Dense(len(CLASSES), activation="softmax")]
    return fnn.Sequential(layers, seed=0)


def trained(model, X, y):
    """Train a network; returns it."""
    model.compile(fnn.Adam(0.002), "cross_entropy", metrics=["accuracy", "confusion_matrix"])
    model.fit(X, y, batch_size=32, epochs=EPOCHS, verbose=0)
    return model


X, y, _ = make(COUNTS[-1], 1)
X_test, y_test, begin = make(2000, 2)
early, y_early, _ = make(COUNTS[-1], 3, (0.0, 0.5))
late, y_late, _ = make(2000, 4, (0.5, 1.0))
print(f"five kinds of recordings: {', '.join(CLASSES)}; guessing is right about 20%")
print(f"accuracy on {len(X_test)} others, by the number of recordings to learn from:")
print(f"{'':24s}" + "".join(f"{count:8d}" for count in COUNTS) + "   learnt early, asked late   parameters")
results = {}
for name, network, view in [
    ("dense network", lambda: dense(STEPS, 1), lambda X: X),
    ("dense, of the spectrum", lambda: dense(STEPS // 2 + 1), spectrum),
    ("convolutional network", convolutional, lambda X: X),
]:
    found = []
    for count in COUNTS:
        model = trained(network(), view(X[:count]), y[:count])
        found.append(model.evaluate(view(X_test), y_test, verbose=0))
    results[name] = [each["accuracy"] for each in found]
    elsewhere = trained(network(), view(early), y_early).evaluate(view(late), y_late, verbose=0)["accuracy"]
    shown = "".join(f"{accuracy:8.1%}" for accuracy in results[name])
    print(f"{name:24s}{shown} {elsewhere:26.1%} {model.count_params():12,d}")
print("(early: patterns begin in the first half of the recordings to learn from, in the second half of the others)")

print("\nconfusion matrix of the convolutional network: rows are the true classes, columns the predicted ones")
print(" " * 9 + "".join(f"{name:>9s}" for name in CLASSES))
for name, row in zip(CLASSES, found[-1]["confusion_matrix"].astype(int), strict=True):
    print(f"{name:9s}" + "".join(f"{count or '.':>9}" for count in row))

# The score of a class is a sum over the filters, of the largest answers. The same sum at each place shows where it is.
maps, (kernel, _) = model.get_layer("answers").predict(X_test), model.get_weights("classes")
scores = np.einsum("ntf,nf->nt", maps, kernel.T[y_test])
centres = STEPS / maps.shape[1] * (np.arange(maps.shape[1]) + 0.5)
places = centres[scores.argmax(axis=1)]
inside = (places >= begin) & (places < begin + LENGTH)
pattern = y_test != CLASSES.index("noise")
print(f"\nwhere the score of the class is largest, there is the pattern: in {inside[pattern].mean():.1%} of recordings")
print(f"(by chance: in {LENGTH / STEPS:.0%}); the network was never told where it is")
block = " .:-=+*#%@"
for label, name in enumerate(CLASSES[:-1]):
    i = np.flatnonzero(y_test == label)[0]
    shade = np.clip(scores[i] / scores[i].max() * 9, 0, 9).astype(int)
    print(f"\n{name:9s}|" + "".join(block[each] for each in shade) + "| score")
    there = (centres >= begin[i]) & (centres < begin[i] + LENGTH)
    print(" " * 9 + "|" + "".join("#" if each else " " for each in there) + "| pattern")

if args.plot:
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.2, 1))
    axes = left.subplots(len(CLASSES), 1, sharex=True)
    left.suptitle("recordings, their patterns in orange, and the score of the right class at each place in blue")
    for label, (name, ax) in enumerate(zip(CLASSES, axes, strict=True)):
        i = np.flatnonzero(y_test == label)[0]
        ax.plot(X_test[i, :, 0], color="0.6", linewidth=0.8)
        ax.set(ylabel=name, yticks=[], xlim=(0, STEPS - 1))
        if pattern[i]:
            part = np.arange(begin[i], begin[i] + LENGTH)
            ax.plot(part, X_test[i, part, 0], color="C1", linewidth=1.2)
            score = ax.twinx()
            score.plot(centres, scores[i], color="C0")
            score.set(yticks=[])
    axes[-1].set_xlabel("sample")
    above, below = right.subplots(2, 1)
    for (name, accuracies), marker in zip(results.items(), "sDo", strict=True):
        above.plot(COUNTS, 100 * np.array(accuracies), marker=marker, label=name)
    above.set(xscale="log", xlabel="recordings to learn from", ylabel="accuracy (%)", ylim=(0, 105))
    above.set_xticks(COUNTS, COUNTS)
    above.minorticks_off()
    above.legend(loc="center", bbox_to_anchor=(0.5, 0.68))
    for label, name in enumerate(CLASSES):
        line = spectrum(X_test[y_test == label]).mean(axis=0)
        below.plot(line, label=name, linestyle="--" if name == "falling" else "-", linewidth=3 - 0.4 * label)
    below.set(xlabel="periods in the recording", ylabel="mean spectrum (log)", xlim=(0, 100))
    below.set_title("rising and falling have the same spectrum", fontsize=10)
    below.legend()
    figure.savefig(args.plot)
