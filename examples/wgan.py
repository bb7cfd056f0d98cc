"""Two networks trained against each other, with a penalty on a gradient (WGAN-GP).

The generator turns noise into points of the plane. The critic gives points a score, high for data and low for made
points; the generator moves its points to where the score is higher. The critic learns best if its slope is near 1, so
its loss contains the norm of its gradient for points between data and made ones (Gulrajani et al., 2017): a gradient
in a loss, whose own gradient trains the critic. `gan.py` trains the older form of the two players in compiled code.
"""

import argparse
import math
import time

import numpy as np

import fastnn as fnn
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw data and made points over time (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer steps, for a test")
args = parser.parse_args()

CLUSTERS, SPREAD, NOISE, ROWS, CRITIC_STEPS = 8, 0.08, 4, 64, 5
ROUNDS, STEPS = (4, 100) if args.quick else (4, 1500)
ANGLES = 2.0 * np.pi * np.arange(CLUSTERS) / CLUSTERS
CENTRES = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def network(inputs, outputs, seed):
    """Make a network of two hidden layers."""
    layers = [fnn.Input(inputs), *(fnn.Dense(128, activation="leaky_relu") for _ in range(2)), fnn.Dense(outputs)]
    return fnn.Sequential(layers, seed=seed)


def draw_data(count, rng):
    """Return points around the centres."""
    points = CENTRES[rng.integers(0, CLUSTERS, count)] + rng.normal(0.0, SPREAD, (count, 2))
    return points.astype(np.float32)


generator, critic = network(NOISE, 2, seed=1), network(2, 1, seed=2)
data, noise = fnn.Input(2), fnn.Input(NOISE)
made = generator(noise)
share = ops.random_uniform((None, 1))
between = share * data + (1.0 - share) * made
slope = ops.norm(ops.gradients(critic(between), between), axis=-1)
penalty = ops.mean(ops.square(slope - 1.0))
gap = ops.mean(critic(data)) - ops.mean(critic(made))
train_critic = fnn.train_function(
    [data, noise], 0.1 * penalty - gap, update=[critic], optimizer=fnn.Adam(0.001, beta_1=0.5), seed=3
)
train_generator = fnn.train_function(
    noise, -ops.mean(critic(generator(noise))), update=[generator], optimizer=fnn.Adam(0.001, beta_1=0.5)
)
distance = fnn.function([data, noise], [gap, ops.mean(slope)], seed=4)


def judge(points):
    """Return the share of points within three standard deviations of a centre, and how many centres have points."""
    distances = np.linalg.norm(points[:, None, :] - CENTRES, axis=2)
    near = distances.min(axis=1) < 3.0 * SPREAD
    counts = np.bincount(distances.argmin(axis=1)[near], minlength=CLUSTERS)
    return near.mean(), int((counts > len(points) // 100).sum())


rng = np.random.default_rng(0)
test_data, test_noise = draw_data(4000, rng), rng.normal(size=(4000, NOISE)).astype(np.float32)
print(f"data: {judge(test_data)[0]:.1%} of the points are near one of {CLUSTERS} centres")
print("  step   made points near a centre   centres   distance   critic's slope")
snapshots, seconds = [], 0.0
for number in range(ROUNDS + 1):
    snapshots.append(generator.predict(test_noise))
    near, centres = judge(snapshots[-1])
    found, steep = distance(test_data, test_noise)
    print(f"{number * STEPS:6d} {near:27.1%} {centres:9d} {float(found):10.3f} {float(steep):16.3f}")
    if number < ROUNDS:
        begin = time.perf_counter()
        for _ in range(STEPS):
            for _ in range(CRITIC_STEPS):
                train_critic(draw_data(ROWS, rng), rng.normal(size=(ROWS, NOISE)))
            train_generator(rng.normal(size=(ROWS, NOISE)))
        seconds += time.perf_counter() - begin
each = seconds / (ROUNDS * STEPS)
print(f"{ROUNDS * STEPS} steps of the generator, {CRITIC_STEPS} of the critic for each: {1e6 * each:.0f} us together")
print("the generator's points in the end:")
counts, _, _ = np.histogram2d(snapshots[-1][:, 1], snapshots[-1][:, 0], bins=(17, 33), range=((-1.5, 1.5), (-1.5, 1.5)))
for line in counts[::-1]:
    print("    " + "".join(" .:*#@"[min(5, math.ceil(5 * count / counts.max()))] for count in line).rstrip())

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharex=True, sharey=True, layout="constrained")
    chosen = [("data", test_data)] + [(f"made, after {at * STEPS} steps", snapshots[at]) for at in (0, 1, ROUNDS)]
    for ax, (title, points) in zip(axes, chosen, strict=True):
        ax.plot(*points[:1500].T, ".", markersize=2, color="C0" if title == "data" else "C1")
        ax.set(title=title, xlabel="first coordinate", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
    axes[0].set_ylabel("second coordinate")
    figure.savefig(args.plot)
