"""Two networks trained against each other (GAN): one makes points, the other distinguishes them from data.

The generator turns noise into points of the plane; the discriminator says how real a point looks. Each step needs two
gradients that no loss function of the library computes: the discriminator's, for distinguishing both kinds of points,
and the generator's, which reaches it through the discriminator's input (Goodfellow et al., 2014). Both networks are
learners in one compiled function: `parameter_gradient` takes the gradient of the outputs, `input_gradient` passes it
to the other network, `apply_gradients` takes the optimizer's step.
"""

import argparse
import math
import time

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw data and made points (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer steps, for a test")
args = parser.parse_args()

CLUSTERS, SPREAD, NOISE, ROWS = 8, 0.08, 4, 64
ROUNDS, STEPS = (6, 500) if args.quick else (6, 2500)


@njit(cache=True)
def draw_data(points, rng):
    """Fill rows with points around eight centres on a circle of radius 1."""
    for row in range(len(points)):
        angle = 2.0 * math.pi * rng.integers(0, CLUSTERS) / CLUSTERS
        points[row, 0] = math.cos(angle) + rng.normal(0.0, SPREAD)
        points[row, 1] = math.sin(angle) + rng.normal(0.0, SPREAD)


@njit(cache=True)
def draw_noise(noise, rng):
    """Fill the generator's input."""
    for row in range(len(noise)):
        for column in range(noise.shape[1]):
            noise[row, column] = rng.normal()


@njit(cache=True)
def push(logits, real, seed):
    """Fill the gradient of the mean cross-entropy: towards "real" (1) or towards "made" (0)."""
    for row in range(len(logits)):
        seed[row, 0] = (1.0 / (1.0 + math.exp(-logits[row, 0])) - real) / len(logits)


@njit(cache=True)
def train(generator, discriminator, steps, rng, work):
    """Take steps of both networks in turn."""
    noise, points = np.empty((ROWS, NOISE), np.float32), np.empty((2 * ROWS, 2), np.float32)
    data, made = points[:ROWS], points[ROWS:]
    logits, seed = np.empty((2 * ROWS, 1), np.float32), np.empty((2 * ROWS, 1), np.float32)
    towards = np.empty((ROWS, 2), np.float32)
    of_generator = np.empty(fnp.parameter_count(generator), np.float32)
    of_discriminator = np.empty(fnp.parameter_count(discriminator), np.float32)
    for _ in range(steps):
        draw_data(data, rng)
        draw_noise(noise, rng)
        fnp.predict(generator, noise, made, work)
        # the discriminator: data are real, made points are not
        fnp.predict(discriminator, points, logits, work)
        push(logits[:ROWS], 1.0, seed[:ROWS])
        push(logits[ROWS:], 0.0, seed[ROWS:])
        fnp.parameter_gradient(discriminator, points, seed, of_discriminator, work)
        fnp.apply_gradients(discriminator, of_discriminator)
        # the generator: where would its points have to move to look real?
        fnp.predict(discriminator, made, logits[:ROWS], work)
        push(logits[:ROWS], 1.0, seed[:ROWS])
        fnp.input_gradient(discriminator, made, seed[:ROWS], towards, work)
        fnp.parameter_gradient(generator, noise, towards, of_generator, work)
        fnp.apply_gradients(generator, of_generator)


def judge(points):
    """Return the share of points within three standard deviations of a centre, and each centre's number of points."""
    angles = 2.0 * np.pi * np.arange(CLUSTERS) / CLUSTERS
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    distances = np.linalg.norm(points[:, None, :] - centres, axis=2)
    near = distances.min(axis=1) < 3.0 * SPREAD
    return near.mean(), np.bincount(distances.argmin(axis=1)[near], minlength=CLUSTERS)


def show(points):
    """Print the density of points: a map of 33 x 17 characters."""
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(17, 33), range=((-1.5, 1.5), (-1.5, 1.5)))
    for line in counts[::-1]:
        print("    " + "".join(" .:*#@"[min(5, math.ceil(5 * count / counts.max()))] for count in line).rstrip())


def network(inputs, outputs, seed):
    """Make a network of two hidden layers, with an optimizer that both players use."""
    layers = [fnn.Input(inputs), *(fnn.Dense(64, activation="leaky_relu") for _ in range(2)), fnn.Dense(outputs)]
    model = fnn.Sequential(layers, seed=seed)
    model.compile(fnn.Adam(0.0005, beta_1=0.5), "mse")  # the loss is not used: its gradient is computed above
    return model


generator = network(NOISE, 2, seed=1).learner(gradients=True)
discriminator = network(2, 1, seed=2).learner(gradients=True)
rng = np.random.default_rng(0)
work = np.empty(max(len(fnp.workspace(each, 2 * ROWS)) for each in (generator, discriminator)), np.int64)
noise, data = np.empty((4000, NOISE), np.float32), np.empty((4000, 2), np.float32)
draw_noise(noise, rng)
draw_data(data, rng)
made = np.empty((4000, 2), np.float32)

print(f"data: {judge(data)[0]:.1%} of the points are within three standard deviations of one of {CLUSTERS} centres")
snapshots, seconds = [], 0.0
train(generator, discriminator, 0, rng, work)  # Numba compiles it
for number in range(ROUNDS + 1):
    fnp.predict(generator, noise, made)
    share, counts = judge(made)
    snapshots.append(made.copy())
    centres = (counts > len(made) // 100).sum()
    print(f"after {number * STEPS:5d} steps {share:6.1%} of the made points are, around {centres} centres")
    if number < ROUNDS:
        begin = time.perf_counter()
        train(generator, discriminator, STEPS, rng, work)
        seconds += time.perf_counter() - begin
print(f"{ROUNDS * STEPS} steps of both networks, {ROWS} points each, in {seconds:.2f} s")
print("the generator's points in the end:")
show(snapshots[-1])

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharex=True, sharey=True, layout="constrained")
    chosen = [("data", data)] + [(f"made, after {at * STEPS} steps", snapshots[at]) for at in (0, 1, ROUNDS)]
    for ax, (title, points) in zip(axes, chosen, strict=True):
        ax.plot(*points[:1500].T, ".", markersize=2, color="C0" if title == "data" else "C1")
        ax.set(title=title, xlabel="first coordinate", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    axes[0].set_ylabel("second coordinate")
    figure.savefig(args.plot)
