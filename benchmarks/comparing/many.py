"""Many small networks at once: every library trains the same number for the same number of steps, in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from contestants import EPSILON, LEARNING_RATE
from many_contestants import Fastnn, ScikitLearn, Task, TorchBatched, TorchFunc, Trainer
from numpy_mlp import NumpyMLP

SECTION = "many"
NETWORKS, SIZES, BATCH = 64, (64, 32, 10), 32
EPOCHS, QUICK_EPOCHS = 20, 3
MOST_ROUNDS = 5  # scikit-learn's rounds take ten seconds each
# Seeds and orders differ: the mean loss of eight networks in NumPy is within 3 % of that of 64.
TOLERANCE = 0.1
REFERENCE_NETWORKS = 8
EXPLANATION = (
    f"Microseconds per training step of one network in float32, from the time of all {NETWORKS}: shuffling, gathering, "
    "forward, loss, backward, Adam; making the networks is not counted. Off by: the relative difference of the mean "
    f"loss of the last epoch from that of {REFERENCE_NETWORKS} networks in NumPy (at most {TOLERANCE:g}), and the "
    "share of correctly classified rows."
)
KINDS: tuple[type[Trainer], ...] = (Fastnn, ScikitLearn, TorchFunc, TorchBatched)


def compare(settings: Settings, kinds: Sequence[type[Trainer]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison, as soon as it has been measured."""
    name = f"{NETWORKS} networks {'-'.join(map(str, SIZES))}, batch {BATCH}"
    if settings.wants(name):
        import fastnn as fnn

        x, y = fnn.datasets.load_digits("train")
        epochs = QUICK_EPOCHS if settings.quick else EPOCHS
        yield compare_one(Task(x, y, SIZES, NETWORKS, BATCH, epochs), name, settings, settings.chosen(kinds))


def compare_one(task: Task, name: str, settings: Settings, kinds: Sequence[type[Trainer]]) -> Comparison:
    """Check and time the contestants on one task."""
    expected = reference_loss(task)
    makers = [(kind.name, required(kind.name), partial(train_first, kind, task, expected, settings)) for kind in kinds]
    entries, skipped = enter(makers)
    race(entries, min(settings.rounds, MOST_ROUNDS), settings.seconds, settings.threads)
    return Comparison(SECTION, name, "step", entries, skipped, group="relu, cross_entropy")


def train_first(kind: type[Trainer], task: Task, expected: float, settings: Settings) -> Entry:
    """Return the entry of a contestant, after a training that checks its loss."""
    one = kind(task, settings.threads)
    off = abs(one.train() / expected - 1.0)

    def run(count: int) -> None:
        # `restore` makes networks for one training
        assert count == 1
        one.train()

    return Entry(
        name=one.name,
        version=one.version(),
        run=run,
        deviation=f"{off:.1%}, {one.accuracy():.1%} right",
        agrees=off <= TOLERANCE,
        units=task.steps,
        count=1,
        restore=one.restore,
        note=one.differs,
    )


def reference_loss(task: Task) -> float:
    """Return the mean loss over the last epoch of networks in NumPy."""
    found = []
    for seed in range(REFERENCE_NETWORKS):
        net = NumpyMLP(task.sizes, batch_size=task.batch_size, learning_rate=LEARNING_RATE, epsilon=EPSILON)
        net.set_weights(task.weights(seed))
        rng = np.random.default_rng(seed)
        found.append([net.train_epoch(task.x, task.y, rng.permutation(len(task.x))) for _ in range(task.epochs)][-1])
    return float(np.mean(found))
