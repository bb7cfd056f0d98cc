"""What one call from Python costs: predict, train_on_batch and matmul, beside NumPy, onnxruntime and PyTorch.

`python benchmarks/calls.py` prints the median and the quartiles of interleaved blocks of calls, in microseconds.
Contestants that are not installed are left out. One thread each; the results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

import fastnn as fnn  # noqa: E402

NETWORKS = {"64-128-64-10": (64, 128, 64, 10), "784-256-128-10": (784, 256, 128, 10)}
_BLOCK_SECONDS = 0.002
Contestants = dict[str, Callable[[], Any]]


def interleave(contestants: Contestants, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return the quartiles of the seconds a call: contestants take turns, a block of calls each."""
    blocks = {}
    for name, call in contestants.items():
        for _ in range(3):
            call()
        begin = time.perf_counter()
        call()
        blocks[name] = max(1, int(_BLOCK_SECONDS / (time.perf_counter() - begin)))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            repeats = range(blocks[name])
            begin = time.perf_counter()
            for _ in repeats:
                call()
            seconds[name].append((time.perf_counter() - begin) / blocks[name])
    return {name: tuple(statistics.quantiles(values, n=4)) for name, values in seconds.items()}  # type: ignore[misc]


def report(title: str, contestants: Contestants, rounds: int) -> None:
    """Print a line for each contestant; ratios are to fastnn."""
    found = interleave(contestants, rounds)
    mine = found["fastnn"][1]
    print(f"\n{title}")
    for name, (low, median, high) in found.items():
        print(f"  {name:24s}{median * 1e6:10.2f} us  [{low * 1e6:.2f}, {high * 1e6:.2f}]  {median / mine:6.2f}x")


def network(sizes: tuple[int, ...]) -> fnn.Sequential:
    """Make relu layers with a softmax at the end."""
    layers: list[Any] = [fnn.Input((sizes[0],))]
    layers += [fnn.Dense(size, activation="relu") for size in sizes[1:-1]]
    return fnn.Sequential([*layers, fnn.Dense(sizes[-1], activation="softmax")], seed=1)


def onnx_session(weights: list[np.ndarray[Any, Any]]) -> Any:
    """Make an onnxruntime session of Gemm, Relu and Softmax; None where it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, value = [], "x"
    for index in range(0, len(weights), 2):
        last = index == len(weights) - 2
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"w{index + 1}"], [f"z{index}"]))
        value = "out" if last else f"a{index}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{index}"], [value]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights[0].shape[0]])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", weights[-1].shape[0]])],
        [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def numpy_forward(weights: list[np.ndarray[Any, Any]], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Compute the network with NumPy."""
    for index in range(0, len(weights), 2):
        x = x @ weights[index] + weights[index + 1]
        if index < len(weights) - 2:
            np.maximum(x, 0, out=x)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def torch_network(weights: list[np.ndarray[Any, Any]]) -> Any:
    """Make the network in PyTorch; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    layers: list[Any] = []
    for index in range(0, len(weights), 2):
        layer = torch.nn.Linear(*weights[index].shape)
        with torch.no_grad():
            layer.weight[...] = torch.from_numpy(weights[index].T.copy())
            layer.bias[...] = torch.from_numpy(weights[index + 1])
        layers += [layer, torch.nn.ReLU() if index < len(weights) - 2 else torch.nn.Softmax(dim=1)]
    return torch.nn.Sequential(*layers)


def prediction(sizes: tuple[int, ...], n: int) -> Contestants:
    """Return `predict` of n rows and the same by others."""
    model, x = network(sizes), np.random.default_rng(0).normal(size=(n, sizes[0])).astype(np.float32)
    weights = model.get_weights()
    contestants: Contestants = {"fastnn": lambda: model.predict(x)}
    session, net = onnx_session(weights), torch_network(weights)
    if session is not None:
        contestants["onnxruntime"] = lambda: session.run(None, {"x": x})[0]
    contestants["NumPy"] = lambda: numpy_forward(weights, x)
    if net is not None:
        import torch

        def forward() -> Any:
            with torch.inference_mode():
                return net(torch.from_numpy(x)).numpy()

        contestants["PyTorch eager"] = forward
    expected = numpy_forward(weights, x)
    for name, call in contestants.items():
        np.testing.assert_allclose(call(), expected, rtol=1e-4, atol=1e-6, err_msg=name)
    return contestants


def training(sizes: tuple[int, ...], n: int) -> Contestants:
    """Return `train_on_batch` of n rows, and the steps alone: many of them in one call of `fit`."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(n, sizes[0])).astype(np.float32), random.integers(0, sizes[-1], n)
    model = network(sizes)
    model.compile("sgd", "cross_entropy")
    many_x, many_y = np.tile(x, (200, 1)), np.tile(y, 200)
    return {
        "fastnn": lambda: model.train_on_batch(x, y),
        "fit, 200 steps": lambda: model.fit(many_x, many_y, batch_size=n, shuffle=False, verbose=0),
    }


def products(n: int) -> Contestants:
    """Return the product of square matrices into an existing one."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, n, n)).astype(np.float32)
    out, other = np.empty((2, n, n), np.float32)
    np.testing.assert_allclose(fnn.matmul(a, b, out=out), a @ b, rtol=1e-4, atol=1e-4)
    return {"fastnn": lambda: fnn.matmul(a, b, out=out), "NumPy": lambda: np.matmul(a, b, out=other)}


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    for name, sizes in NETWORKS.items():
        for n in (1, 32, 1024):
            report(f"predict, {name}, {n} rows", prediction(sizes, n), rounds)
    for name, sizes in NETWORKS.items():
        report(f"train_on_batch, {name}, 32 rows (fit: 200 times as many)", training(sizes, 32), rounds)
    for n in (4, 16, 64):
        report(f"matmul, {n} square", products(n), rounds)


if __name__ == "__main__":
    main()
