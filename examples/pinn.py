"""A physics-informed network: it learns the solution of a differential equation from the equation alone.

The equation is that of a damped spring, u'' + 2 d u' + w^2 u = 0, released at rest from u = 1. The network u(t) is
trained so that the equation's left side is near zero at random times: the loss contains first and second derivatives of
the network's output for its input, which `ops.gradients` gives as symbols (Raissi, Perdikaris and Karniadakis, 2019).
No data are used; the known solution serves to judge.
"""

import argparse

import numpy as np

import fastnn as fnn
from fastnn import ops

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the solution and the error (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer steps, for a test")
args = parser.parse_args()

STEPS, ROWS, END = (2500 if args.quick else 25_000), 64, 6.0
DAMPING, FREQUENCY = 0.3, 2.0
network = fnn.Sequential([fnn.Input(1), *(fnn.Dense(32, activation="tanh") for _ in range(2)), fnn.Dense(1)],
                         seed=1, dtype="float64")  # fmt: skip


def exact(t):
    """Return the solution."""
    w = np.sqrt(FREQUENCY**2 - DAMPING**2)
    return np.exp(-DAMPING * t) * (np.cos(w * t) + DAMPING / w * np.sin(w * t))


def released(t):
    """Return a function with the right value and slope at 0, whatever the network gives."""
    return 1.0 + ops.square(t) / (1.0 + ops.square(t)) * network(t)


t = fnn.Input(1)
u = released(t)
speed = ops.gradients(u, t)
acceleration = ops.gradients(speed, t)
residual = acceleration + 2.0 * DAMPING * speed + FREQUENCY**2 * u
step = fnn.train_function(
    t, ops.mean(ops.square(residual)), update=[network],
    optimizer=fnn.Adam(fnn.schedules.CosineDecay(0.01, STEPS)),
)  # fmt: skip
solution = fnn.function(t, [u, residual])

rng = np.random.default_rng(0)
times = np.linspace(0.0, END, 301)[:, None]
print(f"u'' + {2 * DAMPING} u' + {FREQUENCY**2} u = 0, u(0) = 1, u'(0) = 0, for t up to {END:g}")
print("   step       loss   largest error of u")
losses, parts = [], 5
for part in range(parts + 1):
    error = np.abs(solution(times)[0] - exact(times)).max()
    shown = f"{losses[-1]:10.2e}" if losses else "          "
    print(f"{part * STEPS // parts:7d} {shown}   {error:.2e}")
    if part < parts:
        losses += [float(step(rng.uniform(0.0, END, (ROWS, 1)))) for _ in range(STEPS // parts)]
u_found, left = solution(times)
print("      t   network     exact")
for row in range(0, 301, 50):
    print(f"{times[row, 0]:7.2f} {u_found[row, 0]:9.5f} {exact(times[row, 0]):9.5f}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    top.plot(times, exact(times), color="0.6", linewidth=5, label="exact")
    top.plot(times, u_found, color="C0", label="network")
    top.set(ylabel="u(t)", title="A damped spring, learnt from its equation")
    top.legend()
    bottom.semilogy(times, np.abs(u_found - exact(times)), color="C1")
    bottom.set(xlabel="time t", ylabel="absolute error of u")
    figure.savefig(args.plot)
