"""Contestants that train a network on data on their device: fastnn, and PyTorch in three variants.

A step is the same for all: the rows of a shuffled batch are gathered by their numbers, forward, loss, backward, Adam
with all state in float32; the losses are added on the device, and read once at the end.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from contestants import LEARNING_RATE
from fastnn.backend.cuda.driver import available
from gpu.peer import set_precision, torch_seconds
from workloads import Workload

Array = NDArray[Any]
WARM_UP = 3
# So small that it does not matter where it is added: Keras' Adam, and so fastnn's, adds it before the bias
# corrections. With 1e-7, and gradients of 1e-6, the wide network's losses were 7.34 and 7.41.
EPSILON = 1e-10


def network(work: Workload) -> Any:
    """Return fastnn's model of a network, compiled."""
    layers: list[Any] = [fnn.Input((work.sizes[0],))]
    layers += [fnn.Dense(units, work.activation) for units in work.sizes[1:-1]]
    model = fnn.Sequential([*layers, fnn.Dense(work.sizes[-1], "softmax")], seed=0)
    model.compile(fnn.Adam(LEARNING_RATE, epsilon=EPSILON), "cross_entropy")
    return model


def torch_network(torch: Any, work: Workload) -> Any:
    """Return PyTorch's module of a network, which ends in logits."""
    layers: list[Any] = []
    for n_in, n_out in zip(work.sizes[:-1], work.sizes[1:], strict=True):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU() if work.activation == "relu" else torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def copy_weights(torch: Any, parameters: list[Any], weights: list[Array]) -> None:
    """Copy weights into PyTorch's, which are transposed."""
    with torch.no_grad():
        for own, weight in zip(parameters, weights, strict=True):
            own.copy_(torch.from_numpy(np.ascontiguousarray(weight.T)))


class Fastnn:
    """`Model.fit`, on a GPU or on the CPU."""

    name = "fastnn"

    def __init__(self, work: Workload, data: tuple[Array, Array], device: str, precision: str = "float32") -> None:
        self.model = network(work)
        self.model.to(device, precision=precision)
        self.work, self.device = work, device
        self.x: Any = data[0]
        self.y = data[1]
        if device != "cpu":
            self._gpu = available.open_device(0)
            # data stay on the device; labels are few, and each call copies them
            self.x = self.model._runtime.placement.upload(self.x)

    def first_loss(self, weights: list[Array]) -> float:
        """Return the mean loss of an epoch in the order of the data, from given weights."""
        self.model.set_weights(weights)
        history = self.model.fit(self.x, self.y, self.work.batch_size, epochs=1, verbose=0, shuffle=False)
        return float(history.history["loss"][0])

    def seconds(self, count: int) -> float:
        """Train the epochs of a timed run `count` times; returns the device's time from the call to the last step."""
        if self.device == "cpu":
            begin = time.perf_counter()
            self._fit(count)
            return time.perf_counter() - begin
        return float(self._gpu.seconds(lambda: self._fit(count)))

    def _fit(self, count: int) -> None:
        self.model.fit(self.x, self.y, self.work.batch_size, epochs=count * self.work.epochs, verbose=0)


class PyTorch:
    """The usual loop, every operation called from Python, with the fused Adam."""

    name = "PyTorch eager"

    def __init__(self, torch: Any, device: str, work: Workload, data: tuple[Array, Array], precision: str) -> None:
        set_precision(torch, precision)
        self.torch, self.device, self.work = torch, device, work
        self.step_loss = _loss_module(torch, torch_network(torch, work), *map(torch.from_numpy, data))
        self.step_loss.to(device)
        self.parameters = list(self.step_loss.parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters, LEARNING_RATE, eps=EPSILON, fused=True, capturable=device == "cuda"
        )
        self.total = torch.zeros((), device=device)
        self.prepare()

    def prepare(self) -> None:
        """Prepare once."""

    def set_weights(self, weights: list[Array]) -> None:
        """Copy the weights, and reset the moments."""
        with self.torch.no_grad():
            copy_weights(self.torch, self.parameters, weights)
            for state in self.optimizer.state.values():
                for moment in state.values():
                    moment.zero_()

    def first_loss(self, weights: list[Array]) -> float:
        """Return the mean loss of an epoch in the order of the data, from given weights."""
        self.set_weights(weights)
        self.total.zero_()
        self.epoch(self.torch.arange(self.work.rows, device=self.device))
        return float(self.total) / self.work.steps_per_epoch

    def seconds(self, count: int) -> float:
        """Train the epochs of a timed run `count` times, each in a new order; returns the device's time."""
        return torch_seconds(self.torch, self.device, lambda: self._train(count * self.work.epochs))

    def _train(self, epochs: int) -> None:
        for _ in range(epochs):
            self.epoch(self.torch.randperm(self.work.rows, device=self.device))
        self.total.item()

    def epoch(self, order: Any) -> None:
        """Run the steps of an epoch, its rows in an order."""
        for rows in order.view(-1, self.work.batch_size):
            self.step(rows)

    def step(self, rows: Any) -> None:
        """Run one step on rows of the data."""
        loss = self.step_loss(rows)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.total.add_(loss.detach())


class PyTorchCompiled(PyTorch):
    """Gathering, forward, loss and backward compiled by `torch.compile(mode="reduce-overhead")`; the fused Adam."""

    name = "PyTorch compiled"

    def prepare(self) -> None:
        """Compile for the shapes of the network."""
        # compilations for other networks count as recompilations, of which PyTorch allows eight
        self.torch.compiler.reset()
        self.step_loss = self.torch.compile(self.step_loss, mode="reduce-overhead", fullgraph=True, dynamic=False)

    def step(self, rows: Any) -> None:
        """Run one step on rows of the data."""
        self.torch.compiler.cudagraph_mark_step_begin()
        super().step(rows)


class PyTorchGraph(PyTorch):
    """The eager step captured as one CUDA graph, with the number of the first row on the device; only on a GPU."""

    name = "PyTorch CUDA graph"

    def prepare(self) -> None:
        """Run some steps, and capture one."""
        torch, work = self.torch, self.work
        self._order = torch.arange(work.rows, device=self.device)
        self._offsets = torch.arange(work.batch_size, device=self.device)
        self._first = torch.zeros((), dtype=torch.int64, device=self.device)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._next()
                self._first.zero_()
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._next()

    def _next(self) -> None:
        self.step(self._order.index_select(0, self._first + self._offsets))
        self._first.add_(self.work.batch_size)

    def epoch(self, order: Any) -> None:
        """Replay the step for each batch of an epoch."""
        self._order.copy_(order)
        self._first.zero_()
        for _ in range(self.work.steps_per_epoch):
            self._graph.replay()


def _loss_module(torch: Any, net: Any, inputs: Any, targets: Any) -> Any:
    """Return a module from row numbers to the loss; the data are buffers of it, so that no graph copies them."""

    class StepLoss(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.criterion = net, torch.nn.CrossEntropyLoss()
            self.register_buffer("inputs", inputs)
            self.register_buffer("targets", targets)

        def forward(self, rows: Any) -> Any:
            return self.criterion(self.net(self.inputs.index_select(0, rows)), self.targets.index_select(0, rows))

    return StepLoss()
