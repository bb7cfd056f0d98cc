"""Training steps of convolutional networks beside PyTorch's and JAX's.

    python benchmarks/images.py
    python benchmarks/images.py --network cnn lenet --threads 2

PyTorch runs with the channels last and oneDNN, and starts from the same weights: the losses of the first steps are
compared. All take turns; medians, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from image_networks import NETWORKS, Network

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

#: The Adam of both: PyTorch's defaults.
RATE, EPSILON = 0.001, 1e-8


def steps(network: Network, dtype: str) -> dict[str, Callable[[], float]]:
    """Return a training step of each contestant, which gives the loss, on the same batch."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((network.batch, *network.shape)).astype(dtype)
    y = rng.integers(0, 10, network.batch)
    model = network.fastnn(fnn.Adam(RATE, epsilon=EPSILON), dtype)

    def ours() -> float:
        return float(model.train_on_batch(x, y)["loss"])

    found: dict[str, Callable[[], float]] = {"fastnn": ours}
    if torch is not None:
        found["PyTorch"] = _torch_step(network, model, x, y, dtype)
    return found


def _torch_step(network: Network, model: fnn.Model, x: Any, y: Any, dtype: str) -> Callable[[], float]:
    assert torch is not None
    module = network.torch(torch, model, dtype)
    inputs = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    if x.ndim == 4:
        inputs = inputs.to(memory_format=torch.channels_last)
    labels = torch.from_numpy(y)
    optimizer = torch.optim.Adam(module.parameters(), RATE, eps=EPSILON)
    loss_of = torch.nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(module(inputs), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def measured(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each step, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(2):
                call()
            for _ in range(5):
                begin = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Print a line for each network and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    print(f"{'':12}{'batch':>6}{'threads':>8}{'fastnn':>9}{'PyTorch':>9}{'times':>7}")
    for name in options.network:
        network = NETWORKS[name]
        for threads in options.threads:
            fnn.set_num_threads(threads)
            if torch is not None:
                torch.set_num_threads(threads)
            calls = steps(network, options.dtype)
            losses = {who: [call() for _ in range(3)] for who, call in calls.items()}
            for who, each in losses.items():
                np.testing.assert_allclose(each, losses["fastnn"], rtol=2e-3, err_msg=f"{name}: {who}")
            taken = measured(calls, options.rounds)
            line = f"{name:12}{network.batch:6}{threads:8}{taken['fastnn']:9.2f}"
            if "PyTorch" in taken:
                line += f"{taken['PyTorch']:9.2f}{taken['PyTorch'] / taken['fastnn']:7.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
