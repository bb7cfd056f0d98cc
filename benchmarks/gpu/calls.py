"""Single calls from NumPy arrays to NumPy arrays, by the host's clock: what a loop in Python waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastnn as fnn
from contestants import LEARNING_RATE
from fastnn.backend.cuda import available
from gpu.events import Job
from gpu.settings import Settings
from gpu.timing import race
from gpu.training import library
from workloads import Workload

TOLERANCE = 1e-4


def work(settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield the method and the number of rows."""
    for rows in settings.called:
        yield "predict", rows
    yield "train_on_batch", settings.called[-1]


def run(job: Job) -> None:
    """Time the calls."""
    settings, net = job.settings, job.settings.networks[0]
    torch, peer = library(settings)
    job.fact(peer=peer, network=net.name.partition(",")[0])
    data, weights = net.data(), net.initial_weights()
    for method, rows in work(settings):
        job.begin(f"{method} of {rows} rows")
        x, y = (np.resize(array, (rows, *array.shape[1:])) for array in data)
        calls = {"fastnn": _ours(net, weights, method, x, y)}
        if torch is not None:
            calls["PyTorch eager"] = _theirs(torch, settings.torch, net, weights, method, x, y)
        first = {who: np.asarray(call(), np.float64) for who, call in calls.items()}
        apart = max(float(np.abs(one - first["fastnn"]).max()) for one in first.values())
        times = race({who: _seconds(call) for who, call in calls.items()}, dict.fromkeys(calls, 1), job)
        job.item(method=method, rows=rows, off=apart, us={who: one.micro() for who, one in times.items()})
        if not apart <= TOLERANCE:
            job.fail(f"{method} of {rows} rows: results are {apart:.2g} apart")


def _seconds(call: Callable[[], Any]) -> Callable[[int], float]:
    def seconds(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - begin

    return seconds


def _ours(net: Workload, weights: list[Any], method: str, x: Any, y: Any) -> Callable[[], Any]:
    available.open_device(0)
    layers: list[Any] = [fnn.Input((net.sizes[0],)), *(fnn.Dense(units, net.activation) for units in net.sizes[1:-1])]
    model = fnn.Sequential([*layers, fnn.Dense(net.sizes[-1], "softmax")], seed=0, device="cuda")
    model.compile(fnn.Adam(LEARNING_RATE), "cross_entropy")
    model.set_weights(weights)
    if method == "predict":
        return lambda: model.predict(x)
    return lambda: model.train_on_batch(x, y)["loss"]


def _theirs(
    torch: Any, device: str, net: Workload, weights: list[Any], method: str, x: Any, y: Any
) -> Callable[[], Any]:
    layers: list[Any] = []
    for n_in, n_out in zip(net.sizes[:-1], net.sizes[1:], strict=True):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU() if net.activation == "relu" else torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    parameters = list(model.parameters())
    with torch.no_grad():
        for own, weight in zip(parameters, weights, strict=True):
            own.copy_(torch.from_numpy(np.ascontiguousarray(weight.T)))

    def predict() -> Any:
        with torch.inference_mode():
            return torch.softmax(model(torch.from_numpy(x).to(device)), 1).cpu().numpy()

    if method == "predict":
        return predict
    optimizer, criterion = torch.optim.Adam(parameters, LEARNING_RATE, fused=True), torch.nn.CrossEntropyLoss()

    def step() -> float:
        loss = criterion(model(torch.from_numpy(x).to(device)), torch.from_numpy(y).to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return step
