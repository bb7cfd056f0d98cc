"""A network inside a compiled simulation: a policy that balances a pole, found by evolution strategies.

A cart on a track is pushed left or right so that the pole on it stays up. The network sees position, velocity, angle
and angular velocity; the larger of its two outputs decides. It is never told which push was right: a population of
networks, each a little different, is tried, and the weights move towards those that balanced longer (Salimans et al.,
2017, arXiv:1703.03864). Numba compiles whole trials, including the network.
"""

import argparse
import math
import time

import numpy as np
from numba import njit, prange

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the progress (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer generations, for a test")
args = parser.parse_args()

LONGEST = 500
POPULATION, TRIALS, GENERATIONS = 64, 4, 12 if args.quick else 40
SIGMA, RATE = 0.3, 0.3


# Barto, Sutton and Anderson, 1983: cart 1 kg, pole 0.1 kg and 1 m long, pushes of 10 N for 20 ms
@njit(cache=True)
def push(state, force):
    """Move on by one step."""
    velocity, angle, spin = state[1], state[2], state[3]
    sine, cosine = math.sin(angle), math.cos(angle)
    pull = (force + 0.05 * spin * spin * sine) / 1.1
    turn = (9.8 * sine - cosine * pull) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
    state[0] += 0.02 * velocity
    state[1] += 0.02 * (pull - 0.05 * turn * cosine / 1.1)
    state[2] += 0.02 * spin
    state[3] += 0.02 * turn


@njit(cache=True)
def balance(net, state, scores):
    """Return the number of steps for which a network keeps the pole within 12 degrees and the cart within 2.4 m."""
    for step in range(LONGEST):
        fnp.predict(net, state, scores)
        push(state, 10.0 if scores[1] > scores[0] else -10.0)
        if abs(state[0]) > 2.4 or abs(state[2]) > 0.2095:
            return step + 1
    return LONGEST


@njit(cache=True, parallel=True)
def evaluate(nets, starts):
    """Return every network's mean number of steps over the same starts."""
    steps = np.zeros(len(nets.parameters))
    for i in prange(len(nets.parameters)):
        net, scores = fnp.member(nets, i), np.empty(2, np.float32)
        for start in starts:
            steps[i] += balance(net, start.copy(), scores) / len(starts)
    return steps


def starts(rng, n):
    """Return n states near the upright one."""
    return rng.uniform(-0.05, 0.05, (n, 4)).astype(np.float32)


model = fnn.Sequential([fnn.Input(4), fnn.Dense(16, activation="tanh"), fnn.Dense(2)], seed=0)
policy = model.freeze()
nets = fnp.stack([policy] * POPULATION)
rng = np.random.default_rng(0)
weights = np.empty(fnp.parameter_count(policy), np.float32)
fnp.get_parameters(policy, weights)

print(f"{POPULATION} networks of {len(weights)} weights per generation, {TRIALS} trials of up to {LONGEST} steps each")
progress, begin = [], time.perf_counter()
for generation in range(GENERATIONS + 1):
    half = rng.normal(size=(POPULATION // 2, len(weights))).astype(np.float32)
    noise = np.concatenate([half, -half])
    for i, one in enumerate(noise):
        fnp.set_parameters(fnp.member(nets, i), weights + np.float32(SIGMA) * one)
    steps = evaluate(nets, starts(rng, TRIALS))
    progress.append((steps.min(), steps.mean(), steps.max()))
    if generation % max(1, GENERATIONS // 6) == 0:
        print(f"generation {generation:2d}: mean {steps.mean():5.1f} steps, best {steps.max():5.1f}")
    # ranks from -1/2 to 1/2 instead of steps: one lucky network does not dominate
    ranks = steps.argsort(kind="stable").argsort(kind="stable") / (POPULATION - 1) - 0.5
    weights += np.float32(RATE / (POPULATION * SIGMA)) * (ranks.astype(np.float32) @ noise)
seconds = time.perf_counter() - begin

fnp.set_parameters(policy, weights)
fresh = starts(np.random.default_rng(1), 100)
scores = np.empty(2, np.float32)
lasted = np.array([balance(policy, start.copy(), scores) for start in fresh])
upright = (lasted == LONGEST).sum()
print(f"after {GENERATIONS} generations, 100 fresh starts: mean {lasted.mean():.1f} steps, {upright} to the end")

total, begin = 0, time.perf_counter()
for _ in range(20):
    total += sum(balance(policy, start.copy(), scores) for start in fresh)
each = (time.perf_counter() - begin) / total
print(f"a step of physics and network takes {1e9 * each:.0f} ns; all of the above {seconds:.1f} s")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    least, mean, most = np.array(progress).T
    axes.fill_between(range(len(mean)), least, most, alpha=0.2, label="worst to best of a generation")
    axes.plot(mean, label="mean")
    axes.set(xlabel="generation", ylabel="steps balanced", title="Evolution strategies on cart-pole")
    axes.legend()
    figure.savefig(args.plot)
