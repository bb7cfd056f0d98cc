"""An actor and a critic learn to balance a pole inside compiled code (advantage actor-critic).

A cart on a track is pushed left or right so that the pole on it stays up. The actor gives the probabilities of the two
pushes, the critic says how long the pole will stay up, discounted. Pushes that end better than the critic expected
become more likely (Mnih et al., 2016). The loss is a function of symbols, made of both networks' outputs; its training
step, the carts and the networks all run in one function that Numba compiles.
"""

import argparse
import math
import time

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the return over episodes (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer steps, for a test")
args = parser.parse_args()

CARTS, HORIZON, LONGEST, DISCOUNT = 16, 16, 500, 0.99
REWARD = 1.0 - DISCOUNT  # of a step: returns are at most 1
ROUNDS, UPDATES = (5, 100) if args.quick else (8, 150)


# Barto, Sutton and Anderson, 1983: cart 1 kg, pole 0.1 kg and 1 m long, pushes of 10 N for 20 ms
@njit(cache=True)
def push(state, force):
    """Move on by one step; returns whether the pole is within 12 degrees and the cart within 2.4 m."""
    velocity, angle, spin = state[1], state[2], state[3]
    sine, cosine = math.sin(angle), math.cos(angle)
    pull = (force + 0.05 * spin * spin * sine) / 1.1
    turn = (9.8 * sine - cosine * pull) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
    state[0] += 0.02 * velocity
    state[1] += 0.02 * (pull - 0.05 * turn * cosine / 1.1)
    state[2] += 0.02 * spin
    state[3] += 0.02 * turn
    return abs(state[0]) <= 2.4 and abs(state[2]) <= 0.2095


@njit(cache=True)
def train(learner, nets, carts, ages, updates, lengths, rng):
    """Play and learn; fills `lengths` with those of the episodes that ended, and returns their number."""
    rows = CARTS * HORIZON
    states, pushes = np.empty((rows, 4), np.float32), np.zeros((rows, 2), np.float32)
    returns, alive = np.empty((rows, 1), np.float32), np.empty(rows, np.bool_)
    logits, value = np.empty(2, np.float32), np.empty(1, np.float32)
    weights = np.empty(fnp.parameter_count(nets), np.float32)
    ended = 0
    for _ in range(updates):
        pushes[:] = 0.0
        for step in range(HORIZON):
            for cart in range(CARTS):
                row, state = step * CARTS + cart, carts[cart]
                states[row] = state
                fnp.predict(nets, state, (value, logits))
                right = rng.random() * (1.0 + math.exp(logits[0] - logits[1])) < 1.0
                pushes[row, int(right)] = 1.0
                returns[row, 0] = REWARD
                alive[row] = push(state, 10.0 if right else -10.0)
                ages[cart] += 1
                if not alive[row] or ages[cart] == LONGEST:
                    lengths[ended % len(lengths)] = ages[cart]
                    ended += 1
                    if alive[row]:  # it would go on: the critic says for how long
                        fnp.predict(nets, state, (value, logits))
                        returns[row, 0] += DISCOUNT * value[0]
                        alive[row] = False
                    ages[cart] = 0
                    for i in range(4):
                        state[i] = rng.uniform(-0.05, 0.05)
        for cart in range(CARTS):
            fnp.predict(nets, carts[cart], (value, logits))
            after = value[0]
            for step in range(HORIZON - 1, -1, -1):
                row = step * CARTS + cart
                if alive[row]:
                    returns[row, 0] += DISCOUNT * after
                after = returns[row, 0]
        fnp.train_step(learner, (states, pushes, returns))
        fnp.get_parameters(learner, weights)
        fnp.set_parameters(nets, weights)
    return ended


def network(outputs, seed):
    """Make a network that sees position, velocity, angle and angular velocity."""
    return fnn.Sequential([fnn.Input(4), fnn.Dense(32, activation="tanh"), fnn.Dense(outputs)], seed=seed)


actor, critic = network(2, seed=1), network(1, seed=2)
state, taken, reached = fnn.Input(4), fnn.Input(2), fnn.Input(1)
logits, value = actor(state), critic(state)
chances = ops.log_softmax(logits)
better = ops.stop_gradient(reached - value)
likelier = -ops.mean(better * ops.sum(taken * chances, axis=-1, keepdims=True))
error = ops.mean(ops.square(reached - value))
doubt = -ops.mean(ops.sum(ops.exp(chances) * chances, axis=-1))
step = fnn.train_function(
    [state, taken, reached], likelier + 0.5 * error - 0.001 * doubt, update=[actor, critic],
    optimizer=fnn.Adam(fnn.schedules.CosineDecay(0.005, ROUNDS * UPDATES), clipnorm=0.5),
)  # fmt: skip
# one network for the carts, whose weights are in the order of the step's
both = fnn.Model(state, [value, logits])
assert [w.shape for w in both.get_weights()] == [w.shape for w in step.get_weights()]

learner, nets = step.learner(steps=ROUNDS * UPDATES), both.freeze()
rng = np.random.default_rng(0)
carts, ages = rng.uniform(-0.05, 0.05, (CARTS, 4)).astype(np.float32), np.zeros(CARTS, np.int64)
lengths = np.zeros(100_000, np.int64)
train(learner, nets, carts, ages, 0, lengths, rng)  # Numba compiles it
print(f"{CARTS} carts; each update learns from {HORIZON} steps of all; a pole stays up for at most {LONGEST} steps")
print("updates   episodes   mean steps of the last 50")
history, seconds = [], 0.0
for number in range(1, ROUNDS + 1):
    begin = time.perf_counter()
    count = train(learner, nets, carts, ages, UPDATES, lengths, rng)
    seconds += time.perf_counter() - begin
    history.append(lengths[:count].copy())
    print(f"{number * UPDATES:7d} {sum(map(len, history)):10d} {np.concatenate(history)[-50:].mean():12.1f}")
total = ROUNDS * UPDATES
print(f"{total} updates and {total * CARTS * HORIZON} steps of carts: {1e6 * seconds / total:.0f} us an update")
step.update_from(learner)
upright = 0
for seed in range(20):
    one = np.random.default_rng(seed).uniform(-0.05, 0.05, 4).astype(np.float32)
    while upright < LONGEST * (seed + 1) and push(one, 10.0 if np.diff(actor.predict(one[None]))[0, 0] > 0 else -10.0):
        upright += 1
print(f"the better push each time: {upright / 20:.0f} steps on average over 20 starts")

if args.plot:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    found = np.concatenate(history)
    ax.plot(found, ".", markersize=2, color="0.7", label="an episode")
    window = min(50, len(found))
    mean = np.convolve(found, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(window - 1, len(found)), mean, color="C0", label=f"mean of {window}")
    ax.set(xlabel="episode", ylabel="steps that the pole stayed up", title="An actor and a critic learn to balance")
    ax.legend(loc="upper left")
    figure.savefig(args.plot)
