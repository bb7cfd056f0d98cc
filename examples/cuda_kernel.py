"""A network inside a custom CUDA kernel: particles move in a force that a network has learnt.

Each thread moves one particle, and asks the network for the force at its place: no batch is assembled, and
nothing leaves the GPU between two steps. Two networks learn the force from samples; one kernel takes both. Without
a GPU, Numba's simulator runs the kernel with a few particles: then each thread is a slow Python thread.
"""

import argparse
import os
import time

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the force and the paths (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer particles and steps, for a test")
args = parser.parse_args()

ON_GPU = fnn.cuda.is_available()
if not ON_GPU:
    print(f"not on a GPU: {fnn.cuda.why_not()}")
    print("Numba's simulator runs the kernel")
    # before Numba is imported
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import numba  # noqa: E402
from numba import cuda  # noqa: E402

from fastnn import nopython as fnp  # noqa: E402

PARTICLES, STEPS = (65536, 800) if ON_GPU else (6, 40)
if args.quick:
    PARTICLES, STEPS = (4096, 200) if ON_GPU else (3, 20)
THREADS, PIECES = (128, 20) if ON_GPU else (4, 10)
STEP = np.float32(0.05)


def force(place):
    """Return the force of two wells, at (-1, 0) and (1, 0), with a rise between them."""
    x, y = place[..., 0], place[..., 1]
    return np.stack([x - x**3 - 0.5 * y, -2 * y - 0.5 * x], axis=-1)


rng = np.random.default_rng(0)
samples = rng.uniform(-2, 2, (6000, 2)).astype(np.float32)
targets = force(samples)
nets = {}
for hidden in ([12], [16, 16]):
    layers = [fnn.Dense(units, activation="tanh") for units in hidden]
    model = fnn.Sequential([fnn.Input(2), *layers, fnn.Dense(2)], seed=0)
    model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.02, 60 * 94)), "mse", metrics=["r2"])
    model.fit(samples, targets, epochs=60, batch_size=64, verbose=0)
    name = "-".join(map(str, [2, *hidden, 2]))
    print(f"{name:9s} has learnt the force: R^2 = {model.evaluate(samples, targets)['r2']:.4f}")
    nets[name] = model.freeze(device="cuda")

# a constant of the kernel; the larger one is as good for the smaller network
WORK = max(fnp.workspace_elements(net) for net in nets.values())


@cuda.jit
def move(net, states, steps):
    """Move all particles by leapfrog steps; a state is position and velocity."""
    i = cuda.grid(1)
    if i < len(states):
        work = cuda.local.array(WORK, numba.float32)
        pull = cuda.local.array(2, numba.float32)
        place = states[i, :2]
        for _ in range(steps):
            fnp.predict(net, place, pull, work)
            for axis in range(2):
                states[i, 2 + axis] += STEP * pull[axis]
                states[i, axis] += STEP * states[i, 2 + axis]


def move_exactly(states, steps):
    """Do the same with the force itself, in NumPy."""
    for _ in range(steps):
        states[:, 2:] += STEP * force(states[:, :2])
        states[:, :2] += STEP * states[:, 2:]


starts = np.concatenate([rng.uniform(-1.5, 1.5, (PARTICLES, 2)), np.zeros((PARTICLES, 2))], axis=1).astype(np.float32)
exact = [starts.astype(np.float64)]
for _ in range(PIECES):
    exact.append(exact[-1].copy())
    move_exactly(exact[-1], STEPS // PIECES)

print(f"{PARTICLES} particles, {STEPS} steps; how far from the exact paths, and on the same side in the end:")
paths = {}
for name, net in nets.items():
    states, found = cuda.to_device(starts), [starts]
    blocks = -(-PARTICLES // THREADS)
    # the first launch compiles, for both networks
    move[blocks, THREADS](net, states, 0)
    begin = time.perf_counter()
    for _ in range(PIECES):
        move[blocks, THREADS](net, states, STEPS // PIECES)
        found.append(states.copy_to_host())
    seconds = time.perf_counter() - begin
    distance = np.linalg.norm(found[-1][:, :2] - exact[-1][:, :2], axis=1)
    same = (np.sign(found[-1][:, 0]) == np.sign(exact[-1][:, 0])).mean()
    print(f"{name:9s} median {np.median(distance):.3f}, {100 * same:.0f} % on the same side; took {seconds:.2f} s")
    paths[name] = np.array(found)

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 21), np.linspace(-1.6, 1.6, 17)), axis=-1)
    axes.quiver(*grid.transpose(2, 0, 1), *force(grid).transpose(2, 0, 1), alpha=0.3)
    for path, true in zip(paths[name].transpose(1, 2, 0)[:6], np.array(exact).transpose(1, 2, 0)[:6], strict=True):
        axes.plot(*true[:2], color="black", linewidth=0.8)
        axes.plot(*path[:2], linestyle="--")
    axes.set(xlabel="x", ylabel="y", title="Exact paths (black) and those in the learnt force (dashed)")
    figure.savefig(args.plot)
