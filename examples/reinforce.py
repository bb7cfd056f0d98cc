"""Policy gradient (REINFORCE): a network learns to land on the moon with little fuel.

A lander falls from 100 m, with an engine that is on or off. It gets no advice while it flies, only a score at the end:
how softly it has landed, and how much fuel it has saved. The network gives the probabilities of "off" and "on". The
moves of landings that were better than the average of their group become more likely, those of worse ones less
(Williams, 1992). No loss has that gradient: the seed of `parameter_gradient` is computed in a compiled function, and
so are the landings.
"""

import argparse
import math
import time

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the progress and some landings (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer landings, for a test")
args = parser.parse_args()

GRAVITY, THRUST, DT, LIMIT, SOFT = 1.6, 4.0, 0.25, 200, 2.0  # m/s^2, m/s^2, s, steps of time, m/s
GROUP = 32
ROUNDS, STEPS = (4, 10) if args.quick else (8, 20)


@njit(cache=True)
def start(state, rng):
    """Put the lander about 100 m high, slowly rising or falling."""
    state[0] = rng.uniform(90.0, 110.0)
    state[1] = rng.uniform(-5.0, 5.0)
    return 0.0


@njit(cache=True)
def see(state, seen):
    """Write the network's inputs: height and speed, scaled to about 1."""
    seen[0] = state[0] / 50.0 - 1.0
    seen[1] = state[1] / 10.0
    seen[2] = math.sqrt(max(state[0], 0.0)) / 10.0


@njit(cache=True)
def fly(net, rng, rows, moves, heights, sure):
    """Land once: fill inputs, moves and heights. Return the number of steps, the speed and the fuel."""
    state, logits = np.empty(2), np.empty(2, np.float32)
    burnt = start(state, rng)
    for step in range(LIMIT):
        see(state, rows[step])
        fnp.predict(net, rows[step], logits)
        on = 1.0 / (1.0 + math.exp(logits[0] - logits[1]))
        moves[step] = (on > 0.5) if sure else (rng.random() < on)
        burnt += moves[step] * DT
        state[1] += (THRUST * moves[step] - GRAVITY) * DT
        state[0] += state[1] * DT
        heights[step] = state[0]
        if state[0] <= 0.0:
            return step + 1, abs(state[1]), burnt
    return LIMIT, 50.0, burnt  # still in flight: as bad as a crash


@njit(cache=True)
def improve(learner, steps, rng, work):
    """Take training steps, each after a group of landings."""
    rows, moves = np.empty((GROUP * LIMIT, 3), np.float32), np.empty(GROUP * LIMIT, np.int64)
    heights, ends, scores = np.empty(LIMIT), np.empty(GROUP + 1, np.int64), np.empty(GROUP)
    logits, seed = np.empty((GROUP * LIMIT, 2), np.float32), np.empty((GROUP * LIMIT, 2), np.float32)
    gradients = np.empty(fnp.parameter_count(learner), np.float32)
    for _ in range(steps):
        ends[0] = 0
        for flight in range(GROUP):
            at = ends[flight]
            count, speed, burnt = fly(learner, rng, rows[at:], moves[at:], heights, False)
            ends[flight + 1] = at + count
            scores[flight] = -speed - 0.3 * burnt
        scores -= scores.mean()
        scores /= scores.std() + 1e-6
        n = ends[GROUP]
        fnp.predict(learner, rows[:n], logits[:n], work)
        for flight in range(GROUP):
            for row in range(ends[flight], ends[flight + 1]):
                # the gradient of -score * log(probability of the move), for the two logits
                on = 1.0 / (1.0 + math.exp(logits[row, 0] - logits[row, 1]))
                seed[row, 1] = scores[flight] * (on - moves[row]) / n
                seed[row, 0] = -seed[row, 1]
        fnp.parameter_gradient(learner, rows[:n], seed[:n], gradients, work)
        fnp.apply_gradients(learner, gradients)


def trial(net, landings, seed):
    """Return speeds and burning times of landings in which the likelier move is made, and the last one's heights."""
    rng, rows, moves, heights = np.random.default_rng(seed), np.empty((LIMIT, 3), np.float32), np.empty(LIMIT), []
    found = []
    for _ in range(landings):
        track = np.empty(LIMIT)
        count, speed, burnt = fly(net, rng, rows, moves, track, True)
        found.append((speed, burnt))
        heights.append((track[:count], moves[:count].copy()))
    return np.array(found), heights


model = fnn.Sequential([fnn.Input(3), fnn.Dense(32, activation="tanh"), fnn.Dense(2)], seed=0)
model.compile(fnn.Adam(0.01), "mse")  # the loss is not used: its gradient is computed above
learner = model.learner(gradients=True)
rng, work = np.random.default_rng(0), fnp.workspace(learner, GROUP * LIMIT)
improve(learner, 0, rng, work)  # Numba compiles it

progress, seconds = [], 0.0
for number in range(ROUNDS + 1):
    results, tracks = trial(learner, 200, seed=1)
    soft = (results[:, 0] <= SOFT).mean()
    progress.append((number * STEPS * GROUP, soft, np.median(results[:, 0])))
    print(
        f"after {progress[-1][0]:6d} landings: touchdown at {np.median(results[:, 0]):5.1f} m/s, engine on for "
        f"{results[:, 1].mean():5.1f} s, {soft:6.1%} soft (below {SOFT:.0f} m/s)"
    )
    if number < ROUNDS:
        begin = time.perf_counter()
        improve(learner, STEPS, rng, work)
        seconds += time.perf_counter() - begin
print(f"{ROUNDS * STEPS * GROUP} landings, and a training step after every {GROUP}, in {seconds:.2f} s")

print("a landing: time, height, and # while the engine is on")
heights, engine = tracks[0]
for at in range(0, len(heights), 4):
    height = max(heights[at], 0.0)
    print(f"    {at * DT:5.1f} s {height:6.1f} m  {'#' if engine[at] else '.'}{' ' * int(height / 2)}A")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    landings, soft, speed = zip(*progress, strict=True)
    axes[0].plot(landings, speed, "o-", label="speed at touchdown, median")
    axes[0].axhline(SOFT, color="grey", linestyle="--", label="soft")
    axes[0].set(xlabel="landings to learn from", ylabel="speed in m/s", ylim=(0, None), title="what it has learned")
    axes[0].legend()
    for heights, engine in tracks[:5]:
        seconds = DT * np.arange(1, len(heights) + 1)
        axes[1].plot(seconds, heights, color="C0", linewidth=1, label="engine off")
        burning = np.where(engine > 0, heights, np.nan)
        axes[1].plot(seconds, burning, color="C1", linewidth=3, label="engine on")
    handles, labels = axes[1].get_legend_handles_labels()
    axes[1].legend(handles[:2], labels[:2])
    axes[1].set(xlabel="time in s", ylabel="height in m", ylim=(0, None), title="five landings in the end")
    figure.savefig(args.plot)
