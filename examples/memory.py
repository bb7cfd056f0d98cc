"""A policy with a memory inside a compiled simulation: a pole that is balanced without seeing how fast it moves.

The cart and the pole are those of `cartpole.py`, but the network sees the places of the cart and of the pole alone, not
their velocities. What is fast can only be told from what was seen before. A network without a memory has no chance
to balance for long; one with recurrent units remembers. Both are found by evolution strategies, as there. The memory of
each trial is an array of the simulation's own (`fnp.state`), and a step of the network is `fnp.step`, all of it in
compiled code on all processors.
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
POPULATION, TRIALS, GENERATIONS = 96, 6, 12 if args.quick else 150
SIGMA, RATE = 0.2, 0.4


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
def balance(net, cart, memory, remembers):
    """Return the number of steps for which a network keeps the pole within 12 degrees and the cart within 2.4 m."""
    seen, scores = np.empty(2, np.float32), np.empty(2, np.float32)
    memory[:] = 0.0
    for step in range(LONGEST):
        seen[0], seen[1] = cart[0] / 2.4, cart[2] / 0.2
        if remembers:
            fnp.step(net, memory, seen, scores)
        else:
            fnp.predict(net, seen, scores)
        push(cart, 10.0 if scores[1] > scores[0] else -10.0)
        if abs(cart[0]) > 2.4 or abs(cart[2]) > 0.2095:
            return step + 1
    return LONGEST


@njit(cache=True, parallel=True)
def evaluate(nets, starts, memories, remembers):
    """Return every network's mean number of steps over the same starts; each has a memory of its own."""
    steps = np.zeros(len(nets.parameters))
    for i in prange(len(nets.parameters)):
        net = fnp.member(nets, i)
        for start in starts:
            steps[i] += balance(net, start.copy(), memories[i], remembers) / len(starts)
    return steps


def starts(rng, n):
    """Return n states near the upright one."""
    return rng.uniform(-0.05, 0.05, (n, 4)).astype(np.float32)


def evolve(policy, remembers):
    """Find weights for a network; returns the progress, and how long it balances from 100 fresh starts."""
    memory = fnp.state(policy) if remembers else np.zeros((2, 1), np.float32)
    memories = np.zeros((POPULATION, *memory.shape), np.float32)
    nets, rng = fnp.stack([policy] * POPULATION), np.random.default_rng(0)
    weights = np.empty(fnp.parameter_count(policy), np.float32)
    fnp.get_parameters(policy, weights)
    progress = []
    for _ in range(GENERATIONS):
        half = rng.normal(size=(POPULATION // 2, len(weights))).astype(np.float32)
        noise = np.concatenate([half, -half])
        for i, one in enumerate(noise):
            fnp.set_parameters(fnp.member(nets, i), weights + np.float32(SIGMA) * one)
        steps = evaluate(nets, starts(rng, TRIALS), memories, remembers)
        progress.append(steps.mean())
        # ranks from -1/2 to 1/2 instead of steps: one lucky network does not dominate
        ranks = steps.argsort(kind="stable").argsort(kind="stable") / (POPULATION - 1) - 0.5
        weights += np.float32(RATE / (POPULATION * SIGMA)) * (ranks.astype(np.float32) @ noise)
    fnp.set_parameters(policy, weights)
    fresh = starts(np.random.default_rng(1), 100)
    lasted = np.array([balance(policy, start.copy(), memory, remembers) for start in fresh])
    begin = time.perf_counter()
    total = sum(balance(policy, start.copy(), memory, remembers) for start in fresh)
    return progress, lasted, (time.perf_counter() - begin) / total


blind = fnn.Sequential([fnn.Input(2), fnn.Dense(16, activation="tanh"), fnn.Dense(2)], seed=0)
recurrent = fnn.Sequential([fnn.Input((1, 2)), fnn.GRU(8), fnn.Dense(2)], seed=0)
policies = {
    "without memory": (blind.freeze(), False), "8 recurrent units": (recurrent.freeze(stateful=True), True),
}  # fmt: skip
print(f"{POPULATION} networks a generation, {TRIALS} trials of up to {LONGEST} steps each, {GENERATIONS} generations")
curves = {}
for name, (policy, remembers) in policies.items():
    curves[name], lasted, each = evolve(policy, remembers)
    marks = ", ".join(f"{curves[name][at]:.0f}" for at in range(0, GENERATIONS, max(1, GENERATIONS // 6)))
    print(f"{name}, {fnp.parameter_count(policy)} weights: mean steps {marks}")
    upright = (lasted == LONGEST).sum()
    print(f"  100 fresh starts: mean {lasted.mean():.1f} steps, {upright} to the end; {1e9 * each:.0f} ns a step")

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in curves.items():
        axes.plot(curve, label=name)
    axes.set(xlabel="generation", ylabel="steps balanced, mean", title="A pole whose speed is not seen")
    axes.legend()
    figure.savefig(args.plot)
