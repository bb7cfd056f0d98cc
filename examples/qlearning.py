"""Learning inside a compiled simulation: Q-learning teaches a network to catch falling balls.

A ball falls through a grid of 10 x 10 cells, and a paddle of three cells below moves left, stays, or moves right. The
network sees the grid and says how good each move is. It learns from a reward of 1 for a catch and -1 for a
miss, and from its own estimate of the next position (Watkins, 1989). Game and training step are one function that
Numba compiles: it learns from every move as it is made.
"""

import argparse
import time

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the progress (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer games, for a test")
args = parser.parse_args()

SIZE, MOVES, DISCOUNT = 10, 3, 0.9
GAMES, ROUNDS = 200, 6 if args.quick else 15


@njit(cache=True)
def draw(grid, ball, height, paddle):
    """Show the ball in its column and row, and the paddle around its middle."""
    grid[:] = 0
    grid[height * SIZE + ball] = 1
    grid[(SIZE - 1) * SIZE + paddle - 1 : (SIZE - 1) * SIZE + paddle + 2] = 1


@njit(cache=True)
def best(values):
    """Return the move with the highest value."""
    move = 0
    for other in range(1, MOVES):
        if values[other] > values[move]:
            move = other
    return move


@njit(cache=True)
def play(learner, games, explore, rng):
    """Play and learn, with a share of random moves; only play if it is 0. Return the share of balls caught."""
    grid, next_grid = np.empty(SIZE * SIZE, np.float32), np.empty(SIZE * SIZE, np.float32)
    values, next_values = np.empty(MOVES, np.float32), np.empty(MOVES, np.float32)
    caught = 0
    for _ in range(games):
        ball, paddle = rng.integers(0, SIZE), rng.integers(1, SIZE - 1)
        draw(grid, ball, 0, paddle)
        for height in range(1, SIZE):
            fnp.predict(learner, grid, values)
            move = best(values) if rng.random() >= explore else rng.integers(0, MOVES)
            paddle = min(max(paddle + move - 1, 1), SIZE - 2)
            draw(next_grid, ball, height, paddle)
            if height == SIZE - 1:
                target = 1.0 if abs(ball - paddle) <= 1 else -1.0
                caught += target > 0
            else:
                fnp.predict(learner, next_grid, next_values)
                target = DISCOUNT * next_values[best(next_values)]
            if explore > 0.0:
                values[move] = target  # the other targets are the network's own values: no error, no gradient
                fnp.train_step(learner, grid, values)
            grid[:] = next_grid
    return caught / games


model = fnn.Sequential([fnn.Input(SIZE * SIZE), fnn.Dense(64, activation="relu"), fnn.Dense(MOVES)], seed=0)
model.compile(fnn.Adam(0.001), "mse")
learner = model.learner()
rng = np.random.default_rng(0)
weights = fnp.parameter_count(learner)
print(f"a network of {weights} weights catches {play(learner, 1000, 0.0, rng):.1%} before it has learned anything")

progress, seconds = [], 0.0
for number in range(ROUNDS):
    begin = time.perf_counter()
    play(learner, GAMES, 0.2, rng)
    seconds += time.perf_counter() - begin
    progress.append(play(learner, 1000, 0.0, rng))
    print(f"after {(number + 1) * GAMES:5d} games it catches {progress[-1]:6.1%} of 1000 balls")
steps = ROUNDS * GAMES * (SIZE - 1)
print(f"{steps} training steps, each with its game, in {seconds:.2f} s: {1e6 * seconds / steps:.1f} us per step")

model.update_from(learner)
grid = np.empty((3, SIZE * SIZE), np.float32)
for row, ball in enumerate((0, 5, 9)):
    draw(grid[row], ball, 5, 5)
for ball, opinion in zip((0, 5, 9), model.predict(grid), strict=True):
    print(
        f"ball in column {ball}, paddle in 5: left {opinion[0]:5.2f}  stay {opinion[1]:5.2f}  right {opinion[2]:5.2f}"
    )

if args.plot:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot([(number + 1) * GAMES for number in range(ROUNDS)], progress, marker="o")
    axes.set(xlabel="games", ylabel="share of balls caught", ylim=(0, 1.02), title="Q-learning, one sample per step")
    figure.savefig(args.plot)
