"""Training: every library trains the same network from the same weights on the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import numpy as np

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from compiled_contestants import Jax, PyTorch, PyTorchCompiled
from contestants import Array, Contestant, Fastnn, Numpy, ScikitLearn
from reference import train_epoch
from workloads import WORKLOADS, Workload

SECTION = "training"
LOSS_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 2e-3
# A relu that a rounding error switches on or off changes a gradient by its whole part: 1e-2 for fastnn after 128 steps
# of 784-256-128-10, on one processor of two. Adam's first steps are as long for a tiny gradient as for a large one,
# which amplifies rounding errors in sums of thousands of products: up to 8e-3. A wrongly scaled loss: 0.2.
RELU_WEIGHT_TOLERANCE = 2e-2
EXPLANATION = (
    "Microseconds per step in float32: gathering the batch, forward, loss, backward, Adam. Off by: after one epoch, "
    f"the relative difference of the loss from a float64 computation (at most {LOSS_TOLERANCE:g}), and the "
    f"distance between the weights relative to their change from the initial ones (at most {WEIGHT_TOLERANCE:g}, "
    f"with relu {RELU_WEIGHT_TOLERANCE:g})."
)
KINDS: tuple[type[Contestant], ...] = (Fastnn, Numpy, ScikitLearn, PyTorch, PyTorchCompiled, Jax)


def compare(settings: Settings, kinds: Sequence[type[Contestant]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison of each workload, as soon as it has been measured."""
    for work in WORKLOADS:
        if settings.wants(work.name, work.large):
            yield compare_one(work, settings, settings.chosen(kinds))


def compare_one(work: Workload, settings: Settings, kinds: Sequence[type[Contestant]]) -> Comparison:
    """Check and time the contestants on one workload."""
    makers = [(kind.name, required(kind.name), partial(train_first, kind, work, settings)) for kind in kinds]
    entries, skipped = enter(makers)
    race(entries, min(settings.rounds, 5) if work.large else settings.rounds, settings.seconds, settings.threads)
    return Comparison(SECTION, work.name, "step", entries, skipped, group=f"{work.activation}, {work.loss}")


def train_first(kind: type[Contestant], work: Workload, settings: Settings) -> Entry:
    """Return the entry of a contestant, after one epoch that checks its results."""
    initial = work.initial_weights()
    one = kind(work, *work.data(), initial, settings.threads)
    loss, weights = deviation(one, one.train(1))
    allowed = RELU_WEIGHT_TOLERANCE if work.activation == "relu" else WEIGHT_TOLERANCE
    return Entry(
        name=one.name,
        version=one.version(),
        run=one.train,
        deviation=f"{loss:.0e}, {weights:.0e}",
        agrees=loss <= LOSS_TOLERANCE and weights <= allowed,
        units=work.steps_per_epoch,
        count=max(1, work.epochs // 8) if settings.quick else work.epochs,
        # A network that has converged computes with subnormal numbers, which are slow.
        restore=partial(one.set_weights, initial),
        note=one.differs,
    )


def deviation(one: Contestant, first_loss: float) -> tuple[float, float]:
    """Return a contestant's difference from the float64 reference after its first epoch.

    Returns
    -------
    tuple of float
        Relative difference of the mean loss; norm of the difference of the weights, relative to the norm of
        their change from the initial weights.
    """
    initial = one.workload.initial_weights()
    loss, exact = reference(one.workload, one.epsilon_last)
    flat = [np.concatenate([w.ravel() for w in weights]) for weights in (initial, exact, one.get_weights())]
    way, apart = np.linalg.norm(flat[1] - flat[0]), np.linalg.norm(flat[2] - flat[1])
    return abs(first_loss - loss) / loss, float(apart / way)


@lru_cache(maxsize=2)
def reference(work: Workload, epsilon_last: bool) -> tuple[float, list[Array]]:
    """Return the loss and the weights after one epoch in float64."""
    return train_epoch(work, *work.data(), work.initial_weights(), epsilon_last)
