"""Single calls from NumPy arrays to NumPy arrays, by the host's clock, as in a Python loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from contestants import LEARNING_RATE
from gpu.events import Job
from gpu.settings import Settings
from gpu.timing import race
from gpu.trainers import EPSILON, copy_weights, network, torch_network
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
    model = network(net).to("cuda")
    model.set_weights(weights)
    if method == "predict":
        return lambda: model.predict(x)
    return lambda: model.train_on_batch(x, y)["loss"]


def _theirs(
    torch: Any, device: str, net: Workload, weights: list[Any], method: str, x: Any, y: Any
) -> Callable[[], Any]:
    model = torch_network(torch, net).to(device)
    parameters = list(model.parameters())
    copy_weights(torch, parameters, weights)

    def predict() -> Any:
        with torch.inference_mode():
            return torch.softmax(model(torch.from_numpy(x).to(device)), 1).cpu().numpy()

    if method == "predict":
        return predict
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, eps=EPSILON, fused=True)
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> float:
        loss = criterion(model(torch.from_numpy(x).to(device)), torch.from_numpy(y).to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.item())

    return step
