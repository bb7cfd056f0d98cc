"""A surrogate: a network replaces an expensive simulation, and integrators call it as a C function.

How far does a damped pendulum swing back? The answer is the solution of a differential equation. A network learns it
from a few thousand solutions. Its mean over all starts is an integral over three variables, with tens of thousands
of evaluations. It is computed by SciPy's quadrature, which calls the network as a C function, and by a Monte Carlo loop
that Numba compiles, which calls `fastnn.nopython.predict`.
"""

import argparse
import time

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the network beside the simulation (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer solutions and epochs, for a test")
args = parser.parse_args()

SAMPLES, EPOCHS, DRAWS = (1000, 60, 100_000) if args.quick else (4000, 400, 1_000_000)
# angle (rad), angular velocity (rad/s), damping (1/s)
LOW, HIGH = np.array([-1.5, -1.0, 0.0]), np.array([1.5, 1.0, 1.0])


def simulate(starts, seconds=2.0, steps=400):
    """Return the angles of pendulums (1 m) after two seconds, by Runge-Kutta for all at once."""
    angle, speed, damping = starts.T

    def slope(state):
        return np.stack([state[1], -9.81 * np.sin(state[0]) - damping * state[1]])

    state, h = np.stack([angle, speed]), seconds / steps
    for _ in range(steps):
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
    return state[0]


@njit
def monte_carlo(rng, net, low, high, draws):
    """Return the mean of a network over a box, and its standard error."""
    x, y = np.empty(len(low)), np.empty(1)
    total = squares = 0.0
    for _ in range(draws):
        for i in range(len(low)):
            x[i] = rng.uniform(low[i], high[i])
        fnp.predict(net, x, y)
        total += y[0]
        squares += y[0] * y[0]
    mean = total / draws
    return mean, np.sqrt((squares / draws - mean * mean) / draws)


rng = np.random.default_rng(0)
starts = rng.uniform(LOW, HIGH, (SAMPLES + 1000, 3))
angles = simulate(starts)
swing = angles**2  # the square has a mean that is not 0

layers = [fnn.Input(3), fnn.Dense(32, activation="tanh"), fnn.Dense(32, activation="tanh"), fnn.Dense(1)]
model = fnn.Sequential(layers, seed=0, dtype="float64")
model.compile(fnn.Adam(fnn.schedules.CosineDecay(0.01, EPOCHS * -(-SAMPLES // 50))), "mse", metrics=["r2"])
model.fit(starts[:SAMPLES], swing[:SAMPLES, None], batch_size=50, epochs=EPOCHS, verbose=0)
r2 = model.evaluate(starts[SAMPLES:], swing[SAMPLES:, None])["r2"]
print(f"squared angle after 2 s, learnt from {SAMPLES} solutions: R^2 = {r2:.5f} on 1000 others")

nodes, weights = np.polynomial.legendre.leggauss(16)
grid = np.stack(np.meshgrid(*[nodes] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
volume = np.einsum("i,j,k->ijk", weights, weights, weights).ravel() / 8
truth = float(simulate(LOW + (grid + 1) / 2 * (HIGH - LOW)) ** 2 @ volume)
print(f"mean by 4096 solutions (Gauss-Legendre)         {truth:.5f}")

try:
    from scipy import LowLevelCallable, integrate
except ImportError:
    print("(SciPy is not installed: no quadrature by C function)")
else:
    call = LowLevelCallable(model.c_function("double (int, double *)").ctypes)
    begin = time.perf_counter()
    value, _, info = integrate.nquad(call, list(zip(LOW, HIGH, strict=True)), opts={"epsrel": 1e-6}, full_output=True)
    seconds = time.perf_counter() - begin
    each = 1e6 * seconds / info["neval"]
    print(f"mean by quadrature of the network (SciPy)       {value / np.prod(HIGH - LOW):.5f}", end="   ")
    print(f"{info['neval']} evaluations, {each:.2f} us each")

net = model.freeze()
monte_carlo(rng, net, LOW, HIGH, 1)
begin = time.perf_counter()
mean, error = monte_carlo(rng, net, LOW, HIGH, DRAWS)
each = 1e6 * (time.perf_counter() - begin) / DRAWS
print(f"mean by Monte Carlo over the network (Numba)    {mean:.5f}", end="   ")
print(f"{DRAWS} draws, standard error {error:.5f}, {each:.2f} us each")

if args.plot:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(swing[SAMPLES:], model.predict(starts[SAMPLES:])[:, 0], ".", markersize=3)
    left.axline((0, 0), slope=1, color="black", linewidth=0.8)
    left.set(xlabel="simulation", ylabel="network", title="squared angle, 1000 other starts")
    line = np.linspace(LOW, HIGH, 200) * [1, 0, 0] + [0, 0, 0.5]
    right.plot(line[:, 0], simulate(line) ** 2, label="simulation")
    right.plot(line[:, 0], model.predict(line)[:, 0], "--", label="network")
    right.set(xlabel="angle at the start (rad)", ylabel="squared angle after 2 s", title="from rest, damping 0.5 / s")
    right.legend()
    figure.savefig(args.plot)
