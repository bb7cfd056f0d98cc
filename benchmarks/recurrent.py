"""Training steps of recurrent networks beside PyTorch's, with the same weights and batches.

    python benchmarks/recurrent.py
    python benchmarks/recurrent.py --threads 1 2 --only "LSTM 100"
    python benchmarks/recurrent.py --dtype float64

    python benchmarks/recurrent.py --steps
    python benchmarks/recurrent.py --lengths

Needs PyTorch, but for `--lengths`. A network is one recurrent layer, whose last state a dense layer turns into one
number; the loss is the mean squared error, the optimizer Adam. Before anything is timed, both must have trained to the
same losses. Both take turns; medians of several rounds. "lengths" are sequences of unequal lengths, whose mean is half
of the longest: a mask here, packed sequences there. "as ops" is a GRU that is written as a cell, for `fnn.RNN` here,
and called in a loop of Python there. With `--steps` it is one step of a cell: from compiled code here,
`torch.nn.GRUCell` and the like there, without gradients. With `--lengths` they are epochs of fastnn alone, on sequences
of unequal lengths: as if all were as long as the longest, with a mask, and with ``fit(..., lengths=...)``.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

import fastnn as fnn
from convolutions import measured
from fastnn import nopython as fnp
from fastnn import ops

Array = NDArray[Any]
RATE, EPSILON = 1e-3, 1e-14  # so small that it does not matter that the libraries add it at different places


@dataclass(frozen=True)
class Recurrent:
    """A network, and batches of sequences for it."""

    kind: str
    units: int
    features: int
    steps: int
    batch: int
    lengths: bool = False
    batches: int = 4
    as_ops: bool = False

    @property
    def name(self) -> str:
        """What tables call it."""
        more = ", lengths" if self.lengths else ", as ops" if self.as_ops else ""
        return f"{self.kind} {self.units}, {self.features} inputs, T {self.steps}, batch {self.batch}{more}"

    def data(self, dtype: str) -> tuple[Array, Array, Array]:
        """Return sequences, masks of their steps, and targets."""
        rng = np.random.default_rng(0)
        rows = self.batch * self.batches
        x = rng.standard_normal((rows, self.steps, self.features)).astype(dtype)
        lengths = np.full(rows, self.steps)
        if self.lengths:
            lengths = rng.permutation(np.linspace(1, self.steps, rows).round().astype(int))
        mask = (np.arange(self.steps) < lengths[:, None]).astype(dtype)
        x *= mask[:, :, None]
        return x, mask, np.tanh(x.sum(axis=(1, 2)) / self.steps)[:, None].astype(dtype)


WORKLOADS = (
    Recurrent("LSTM", 100, 1, 128, 32),
    Recurrent("LSTM", 128, 64, 100, 32),
    Recurrent("GRU", 128, 64, 100, 32),
    Recurrent("SimpleRNN", 128, 64, 100, 32),
    Recurrent("LSTM", 256, 128, 80, 64, batches=2),
    Recurrent("GRU", 16, 4, 20, 1, batches=64),
    Recurrent("LSTM", 128, 64, 100, 32, lengths=True),
    Recurrent("GRU", 128, 64, 100, 32, lengths=True),
    Recurrent("GRU", 128, 64, 100, 32, as_ops=True),
    Recurrent("GRU", 16, 4, 20, 1, batches=64, as_ops=True),
)


@dataclass(eq=False, repr=False)
class GatedCell(fnn.Cell):
    """A GRU, as users would write one of their own."""

    units: int

    def parameters(self, shape: tuple[int, ...]) -> tuple[fnn.layers.ParameterSpec, ...]:  # type: ignore[override]
        """Return those of `fastnn.GRU`."""
        return fnn.GRU(self.units).parameters((1, *shape))

    def call(self, inputs: Any, states: Any, *weights: Any) -> tuple[Any, Any]:
        """Compute one step."""
        kernel, recurrent, bias = weights
        n, h = self.units, states[0]
        a, b = inputs @ kernel + bias[0], h @ recurrent + bias[1]
        z, r = ops.sigmoid(a[:, :n] + b[:, :n]), ops.sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
        h = z * h + (1.0 - z) * ops.tanh(a[:, 2 * n :] + r * b[:, 2 * n :])
        return h, h


def step_by_step(layer: Any, sequences: Any) -> Any:
    """Return the last state of PyTorch's GRU, computed like that."""
    torch = importlib.import_module("torch")
    h = torch.zeros(len(sequences), layer.hidden_size, dtype=sequences.dtype)
    for x in sequences.unbind(1):
        a = torch.nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
        b = torch.nn.functional.linear(h, layer.weight_hh_l0, layer.bias_hh_l0)
        (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
        z, r = torch.sigmoid(az + bz), torch.sigmoid(ar + br)
        h = z * h + (1.0 - z) * torch.tanh(an + r * bn)
    return h[None]


#: cells whose single steps are timed: the kind, units, features
STEPS = {
    "GRU 32, 8 inputs": ("GRU", 32, 8),
    "GRU 16, 4 inputs": ("GRU", 16, 4),
    "LSTM 32, 8 inputs": ("LSTM", 32, 8),
}
REPEATS = 1000
#: of an epoch on sequences of unequal lengths
BATCHES = 32


@njit  # type: ignore[untyped-decorator]
def walk(net: Any, state: Any, x: Any, out: Any, repeats: int) -> None:
    """Take many steps."""
    for _ in range(repeats):
        fnp.step(net, state, x, out)


def stepping(kind: str, units: int, features: int) -> Callable[[], None]:
    """Return a function that takes `REPEATS` steps of a cell in compiled code."""
    layer = getattr(fnn, kind)(units)
    net = fnn.Sequential([fnn.Input((1, features)), layer], seed=0).freeze(stateful=True)
    x = np.random.default_rng(0).standard_normal(features).astype(np.float32)
    state, out = fnp.state(net), np.zeros(units, np.float32)
    return lambda: walk(net, state, x, out, REPEATS)


def their_stepping(kind: str, units: int, features: int) -> Callable[[], None]:
    """Return a function that takes as many steps of PyTorch's cell."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    cell, x = getattr(torch.nn, f"{kind}Cell")(features, units), torch.randn(1, features)

    def steps() -> None:
        with torch.inference_mode():
            state = None
            for _ in range(REPEATS):
                state = cell(x, state)

    return steps


def our_network(work: Recurrent, dtype: str) -> fnn.Model:
    """Return the network."""
    x = fnn.Input((work.steps, work.features), name="x")
    layer = fnn.RNN(GatedCell(work.units)) if work.as_ops else getattr(fnn, work.kind)(work.units)
    if work.lengths:
        mask = fnn.Input(work.steps, name="mask")
        model = fnn.Model([x, mask], fnn.Dense(1)(layer(x, mask=mask)), seed=0, dtype=dtype)
    else:
        model = fnn.Model(x, fnn.Dense(1)(layer(x)), seed=0, dtype=dtype)
    model.compile(fnn.Adam(RATE, epsilon=EPSILON), "mse")
    return model


def epochs_by_length(work: Recurrent, dtype: str, threads: int) -> dict[str, Callable[[], float]]:
    """Return functions that train an epoch on sequences of unequal lengths."""
    fnn.set_num_threads(threads)
    x, mask, y = work.data(dtype)
    lengths = mask.sum(axis=1).astype(np.int64)
    padded, masked = our_network(replace(work, lengths=False), dtype), our_network(work, dtype)
    samples = fnn.Input((None, work.features))
    cut = fnn.Model(samples, fnn.Dense(1)(getattr(fnn, work.kind)(work.units)(samples)), seed=0, dtype=dtype)
    cut.compile(fnn.Adam(RATE, epsilon=EPSILON), "mse")

    def trained(model: fnn.Model, given: Any, **options: Any) -> Callable[[], float]:
        def epoch() -> float:
            history = model.fit(given, y, batch_size=work.batch, epochs=1, verbose=0, **options)
            return float(history.history["loss"][-1])

        return epoch

    return {
        "padded": trained(padded, x),
        "mask": trained(masked, {"x": x, "mask": mask}),
        "lengths": trained(cut, x, lengths=lengths),
    }


def same_network(work: Recurrent, weights: Sequence[Array], dtype: str) -> Any:
    """Return PyTorch's network with the weights of ours."""
    torch = importlib.import_module("torch")
    kernel, recurrent, bias, dense, dense_bias = (np.asarray(each) for each in weights)
    kind = {"SimpleRNN": "RNN"}.get(work.kind, work.kind)
    layer = getattr(torch.nn, kind)(work.features, work.units, batch_first=True)
    order = [1, 0, 2] if work.kind == "GRU" else list(range(kernel.shape[1] // work.units))

    def turned(matrix: Array) -> Any:
        parts = np.split(matrix, len(order), axis=-1)
        return torch.from_numpy(np.ascontiguousarray(np.concatenate([parts[i] for i in order], axis=-1).T))

    biases = bias if work.kind == "GRU" else np.stack([bias, np.zeros_like(bias)])
    output = torch.nn.Linear(work.units, 1)
    layer, output = (each.to(getattr(torch, dtype)) for each in (layer, output))
    with torch.no_grad():
        for name, value in (("weight_ih_l0", kernel), ("weight_hh_l0", recurrent), ("bias_ih_l0", biases[0]),
                            ("bias_hh_l0", biases[1])):  # fmt: skip
            getattr(layer, name).copy_(turned(value))
        output.weight.copy_(torch.from_numpy(dense.T.copy()))
        output.bias.copy_(torch.from_numpy(dense_bias))
    if work.kind != "GRU":  # one bias there, as here
        layer.bias_hh_l0.requires_grad_(False)
    return layer, output


def contestants(work: Recurrent, dtype: str, threads: int) -> dict[str, Callable[[], float]]:
    """Return a function of each library that takes a step on every batch and returns the mean loss."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    fnn.set_num_threads(threads)
    x, mask, y = work.data(dtype)
    model = our_network(work, dtype)
    layer, output = same_network(work, model.get_weights(), dtype)
    given = {"x": x, "mask": mask} if work.lengths else x
    trained = [each for each in (*layer.parameters(), *output.parameters()) if each.requires_grad]
    optimizer = torch.optim.Adam(trained, RATE, eps=EPSILON)
    batches = [
        tuple(torch.from_numpy(part[at : at + work.batch]) for part in (x, mask, y))
        for at in range(0, len(x), work.batch)
    ]
    lengths = [each[1].sum(dim=1).long() for each in batches]

    def ours() -> float:
        history = model.fit(given, y, batch_size=work.batch, epochs=1, shuffle=False, verbose=0)
        return float(history.history["loss"][-1])

    def pytorch() -> float:
        total = 0.0
        for (sequences, _, targets), counts in zip(batches, lengths, strict=True):
            optimizer.zero_grad(set_to_none=True)
            if work.lengths:
                packed = torch.nn.utils.rnn.pack_padded_sequence(sequences, counts, True, enforce_sorted=False)
                _, last = layer(packed)
            elif work.as_ops:
                last = step_by_step(layer, sequences)
            else:
                _, last = layer(sequences)
            state = last[0] if work.kind == "LSTM" else last
            loss = torch.nn.functional.mse_loss(output(state[0]), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return {"fastnn": ours, "PyTorch": pytorch}


def agree(calls: dict[str, Callable[[], float]], dtype: str, epochs: int = 3) -> float:
    """Return the largest difference of the losses of some epochs, as a part of the loss.

    Raises
    ------
    AssertionError
        If it is not within rounding.
    """
    ours, theirs = (np.array([call() for _ in range(epochs)]) for call in calls.values())
    worst = float(np.abs(ours / theirs - 1.0).max())
    assert worst < (1e-3 if dtype == "float32" else 1e-7), f"the losses differ by {worst:.1e}: {ours}, {theirs}"
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--only", default="", help="workloads whose names contain this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", action="store_true", help="single steps of cells")
    parser.add_argument(
        "--lengths", action="store_true", help="epochs on sequences of unequal lengths, without PyTorch"
    )
    given = parser.parse_args(arguments)
    if given.steps:
        print("ns a step, float32, one sample")
        for name, cell in STEPS.items():
            found = measured({"fastnn": stepping(*cell), "PyTorch": their_stepping(*cell)}, rounds=given.rounds)
            times = {library: 1e9 * each / REPEATS for library, each in found.items()}
            shown = "  ".join(f"{library} {each:8.0f}" for library, each in times.items())
            print(f"{name:20} {shown}  {times['PyTorch'] / times['fastnn']:6.1f} times", flush=True)
        return
    if given.lengths:
        for threads in given.threads:
            print(f"\nms an epoch of {BATCHES} batches, {given.dtype}, {threads} thread(s)")
            for work in WORKLOADS:
                if work.lengths and given.only in work.name:
                    calls = epochs_by_length(replace(work, batches=BATCHES), given.dtype, threads)
                    for call in calls.values():
                        call()
                    times = {name: 1e3 * each for name, each in measured(calls, rounds=given.rounds).items()}
                    shown = "  ".join(f"{name} {each:8.1f}" for name, each in times.items())
                    print(f"{work.name:50} {shown}  {times['lengths'] / times['padded']:.2f} of padded", flush=True)
        return
    for threads in given.threads:
        print(f"\nms a training step, {given.dtype}, {threads} thread(s)")
        for work in WORKLOADS:
            if given.only not in work.name:
                continue
            calls = contestants(work, given.dtype, threads)
            worst = agree(calls, given.dtype)
            times = {name: 1e3 * each / work.batches for name, each in measured(calls, rounds=given.rounds).items()}
            ratio = times["PyTorch"] / times["fastnn"]
            shown = "  ".join(f"{name} {each:8.3f}" for name, each in times.items())
            print(f"{work.name:50} {shown}  {ratio:6.2f} times  (losses within {worst:.0e})", flush=True)


if __name__ == "__main__":
    main()
