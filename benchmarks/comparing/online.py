"""Learning and simulation step by step: fastnn inside functions that Numba compiles, the others called from Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from comparing.training import train_first
from compiled_contestants import Jax, PyTorch
from contestants import Array, Contestant, Fastnn, Numpy, ScikitLearn
from workloads import Workload

ONLINE = Workload("4-32-2, batch 1", (4, 32, 2), "tanh", "mse", 1, 256, 1)
POLICY = Workload("4-32-2, batch 32", (4, 32, 2), "tanh", "mse", 32, 64, 1)
STEPS, CHECKED, TOLERANCE = 200, 20, 1e-4


class FastnnLearner(Fastnn):
    """`fastnn.nopython.train_step`, one sample at a time in a compiled loop."""

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights into the learner, which keeps its optimizer's state."""
        nopython = self.library.nopython
        self.model.set_weights(weights)
        if not hasattr(self, "learner"):
            self.learner = self.model.learner()
        nopython.set_parameters(self.learner, np.concatenate([weight.ravel() for weight in weights]))

    def get_weights(self) -> list[Array]:
        """Return the weights, through the model."""
        self.model.update_from(self.learner)
        return super().get_weights()

    def train(self, epochs: int) -> float:
        """Run the compiled loop."""
        return float(learning_loop()(self.learner, self.X, self.y, epochs))


class JaxScan(Jax):
    """JAX with the whole epoch as one compiled scan: the data have to be known in advance."""

    differs = "all steps of an epoch are one compiled scan"


@cache
def learning_loop() -> Any:
    """Compile the user's function: `loop(learner, x, y, epochs)` returns the mean loss of the last epoch."""
    from numba import njit

    from fastnn import nopython

    @njit  # type: ignore[untyped-decorator]
    def loop(learner: Any, x: Array, y: Array, epochs: int) -> float:
        total = 0.0
        for _ in range(epochs):
            total = 0.0
            for row in range(len(x)):
                total += nopython.train_step(learner, x[row], y[row])
        return total / len(x)

    return loop


def compare_learning(section: str, settings: Settings, kinds: Sequence[type[Contestant]] | None = None) -> Comparison:
    """Compare training steps on one sample each."""
    chosen: Sequence[type[Contestant]] = kinds or settings.chosen((FastnnLearner, Numpy, ScikitLearn, PyTorch, JaxScan))
    makers = [(kind.name, required(kind.name), partial(_learner, kind, settings)) for kind in chosen]
    entries, skipped = enter(makers)
    race(entries, settings.rounds, settings.seconds, settings.threads)
    return Comparison(section, "4-32-2, one training step", "call", entries, skipped, group="learning online")


def _learner(kind: type[Contestant], settings: Settings) -> Entry:
    return replace(train_first(kind, ONLINE, settings), count=0)


# --- a simulation --------------------------------------------------------------------------------------------------


@cache
def simulation() -> tuple[Any, Any]:
    """Compile the physics of a cart with a pole, `push(state, force)`, and `simulate(net, starts, steps)`."""
    from numba import njit, prange

    from fastnn import nopython

    # Barto, Sutton and Anderson, 1983
    @njit  # type: ignore[untyped-decorator]
    def push(state: Array, force: float) -> None:
        velocity, angle, spin = state[1], state[2], state[3]
        sine, cosine = math.sin(angle), math.cos(angle)
        pull = (force + 0.05 * spin * spin * sine) / 1.1
        turn = (9.8 * sine - cosine * pull) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
        state[0] += 0.02 * velocity
        state[1] += 0.02 * (pull - 0.05 * turn * cosine / 1.1)
        state[2] += 0.02 * spin
        state[3] += 0.02 * turn

    @njit(parallel=True)  # type: ignore[untyped-decorator]
    def simulate(net: Any, states: Array, steps: int) -> None:
        for index in prange(len(states)):
            scores = np.empty(2, np.float32)
            for _ in range(steps):
                nopython.predict(net, states[index], scores)
                push(states[index], 1.0 if scores[1] > scores[0] else -1.0)

    return push, simulate


def starts(count: int) -> Array:
    """Return `count` states, with the pole leaning more and more to the right."""
    states = np.zeros((count, 4), np.float32)
    states[:, 2] = np.linspace(-0.1, 0.1, count)
    return states


def simulator(one: Contestant, threads: int) -> Callable[[Array, int], None]:
    """Return the function that advances states by a number of steps, with the contestant's network as the policy."""
    push, simulate = simulation()
    if isinstance(one, Fastnn):
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return partial(simulate, one.model.freeze())

    def simulated(states: Array, steps: int) -> None:
        for index in range(len(states)):
            state = states[index : index + 1]
            for _ in range(steps):
                scores = one.predict(state)
                push(state[0], 1.0 if scores[0, 1] > scores[0, 0] else -1.0)

    return simulated


def compare_simulation(section: str, settings: Settings, kinds: Sequence[type[Contestant]] | None = None) -> Comparison:
    """Compare steps of a simulation that calls a network at every step; the physics are compiled for all."""
    chosen: Sequence[type[Contestant]] = kinds or settings.chosen((Fastnn, Numpy, PyTorch, Jax))
    makers = [(kind.name, required(kind.name), partial(_simulator, kind, settings)) for kind in chosen]
    entries, skipped = enter(makers)
    race(entries, settings.rounds, settings.seconds, settings.threads)
    return Comparison(section, "4-32-2, one step of cart-pole", "call", entries, skipped, group="simulation")


def _simulator(kind: type[Contestant], settings: Settings) -> Entry:
    """Return the entry of a contestant, after a few steps that check its results."""
    work = POLICY
    one = kind(work, *work.data(), work.initial_weights(), settings.threads)
    run = simulator(one, settings.threads)
    states, wanted = starts(8), starts(8).astype(np.float64)
    run(states, CHECKED)
    exact(work, wanted)
    off = float(np.abs(states - wanted).max())
    return Entry(
        one.name, one.version(), lambda count: run(starts(count), STEPS), f"{off:.0e}", off <= TOLERANCE, units=STEPS
    )


def exact(work: Workload, states: Array) -> None:
    """Advance states in float64."""
    from reference import predict

    push, _ = simulation()
    for _ in range(CHECKED):
        scores = predict(work, states, work.initial_weights())
        for state, (left, right) in zip(states, scores, strict=True):
            push(state, 1.0 if right > left else -1.0)
