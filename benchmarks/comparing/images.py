"""Networks of convolutions: every library takes the same training steps from the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from comparing.race import Comparison, Entry, enter, race
from comparing.settings import Settings, required
from image_contestants import Fastnn, Jax, PyTorch, Trainer
from image_networks import NETWORKS, Array, Network

SECTION = "images"
BATCHES = 4
# Rounding errors decide about relus and maxima: losses of the first four steps differ by less than this.
TOLERANCE = 2e-3
EXPLANATION = (
    "Microseconds per training step in float32: forward, loss, backward, Adam. cnn: 28 x 28 pixels, convolutions of "
    "16 and 32 filters, each followed by the largest of 2 x 2; lenet: LeNet-5; convnet: convolutions of 32 and 64 "
    "filters, a dense layer of 128; signal: four convolutions of 64 filters over 256 steps; resnet20: 32 x 32 pixels "
    f"(He et al. 2015). Off by: the relative difference of the loss of the first {BATCHES} steps from fastnn's in "
    f"float64 (at most {TOLERANCE:g})."
)
KINDS: tuple[type[Trainer], ...] = (Fastnn, PyTorch, Jax)


def compare(settings: Settings, kinds: Sequence[type[Trainer]] = KINDS) -> Iterator[Comparison]:
    """Yield the comparison of each network, as soon as it has been measured."""
    for network in NETWORKS.values():
        name = f"{network.name}, batch {network.batch}"
        if settings.wants(name, network.large):
            yield compare_one(network, name, settings, settings.chosen(kinds))


def compare_one(network: Network, name: str, settings: Settings, kinds: Sequence[type[Trainer]]) -> Comparison:
    """Check and time the contestants on one network."""
    x, y = network.data(BATCHES)
    exact = network.fastnn("adam", "float64")
    weights = [each.astype("float32") for each in exact.get_weights()]
    exact.set_weights(weights)
    rows = x.reshape(-1, *network.shape), y.reshape(-1)
    history = exact.fit(*rows, batch_size=network.batch, epochs=1, shuffle=False, verbose=0)
    expected = float(history.history["loss"][0])
    makers = [
        (kind.name, required(kind.name), partial(train_first, kind, network, weights, (x, y), expected, settings))
        for kind in kinds
    ]
    entries, skipped = enter(makers)
    race(entries, min(settings.rounds, 7) if network.large else settings.rounds, settings.seconds, settings.threads)
    return Comparison(SECTION, name, "step", entries, skipped, group="convolutions")


def train_first(
    kind: type[Trainer], network: Network, weights: list[Array], data: tuple[Array, Array], expected: float,
    settings: Settings,
) -> Entry:  # fmt: skip
    """Return the entry of a contestant, after the steps that check its loss."""
    one = kind(network, weights, *data, settings.threads)
    off = abs(one.train(1) / expected - 1.0)
    return Entry(
        name=one.name,
        version=one.version(),
        run=one.train,
        deviation=f"{off:.0e}",
        agrees=off <= TOLERANCE,
        units=BATCHES,
        count=1 if network.large else 4,
        restore=one.restore,
        note=one.differs,
    )
