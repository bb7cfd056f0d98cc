"""Predictions of MobileNetV1 beside onnxruntime's and PyTorch's, with the same weights.

    python benchmarks/mobilenet.py
    python benchmarks/mobilenet.py --size 224 --alpha 1 --threads 1 2

Needs PyTorch, which also writes the file that onnxruntime loads. Before anything is timed, all three must have computed
the same scores. They take turns, images come as NumPy arrays in the order of channels that each library has, and scores
go back into one; medians of several rounds.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from convolutions import measured

Array = NDArray[Any]
CLASSES = 10


def our_network(size: int, alpha: float) -> fnn.Model:
    """Return the network, whose moving averages and scales are not those of the first step."""
    model = fnn.applications.MobileNetV1((size, size, 3), CLASSES, alpha, seed=0, classifier_activation=None)
    rng = np.random.default_rng(0)
    weights = [np.asarray(each) for each in model.get_weights()]
    model.set_weights([rng.uniform(0.5, 1.5, each.shape) if (each == 1.0).all() else each for each in weights])
    return model


def images_of(size: int, count: int) -> Array:
    """Return random images."""
    return np.random.default_rng(1).standard_normal((count, size, size, 3), dtype=np.float32)


def same_network(model: fnn.Model) -> Any:
    """Return PyTorch's network with the weights of ours."""
    torch = importlib.import_module("torch")
    nn, layers = torch.nn, []
    for layer in model.layers:
        if isinstance(layer, (fnn.Conv2D, fnn.DepthwiseConv2D)):
            (kernel,), by_channel = model.get_weights(layer), isinstance(layer, fnn.DepthwiseConv2D)
            # (window, window, inputs, filters); by channel (window, window, channels, 1)
            window, channels, filters = kernel.shape[0], kernel.shape[2], kernel.shape[2 if by_channel else 3]
            stride = tuple(layer.strides)  # type: ignore[arg-type]
            if window > 1:
                # of even sizes, as "same" has them
                layers.append(nn.ZeroPad2d((0, 1, 0, 1) if stride == (2, 2) else 1))
            made = nn.Conv2d(channels, filters, window, stride, groups=channels if by_channel else 1, bias=False)
            turned = kernel.transpose(2, 3, 0, 1) if by_channel else kernel.transpose(3, 2, 0, 1)
            with torch.no_grad():
                made.weight.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
        elif isinstance(layer, fnn.BatchNorm):
            gamma, beta, mean, variance = (torch.from_numpy(np.array(each)) for each in model.get_weights(layer))
            made = nn.BatchNorm2d(len(gamma), eps=layer.epsilon)
            made.load_state_dict(
                {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}, strict=False
            )
        elif isinstance(layer, fnn.Activation):
            made = nn.ReLU6()
        elif isinstance(layer, fnn.GlobalAveragePooling2D):
            layers.append(nn.AdaptiveAvgPool2d(1))
            made = nn.Flatten()
        elif isinstance(layer, fnn.Dense):
            kernel, bias = model.get_weights(layer)
            made = nn.Linear(*kernel.shape)
            with torch.no_grad():
                made.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.T)))
                made.bias.copy_(torch.from_numpy(np.array(bias)))
        elif isinstance(layer, fnn.Dropout):
            continue
        else:
            raise TypeError(f"MobileNetV1 has a layer that is not known here: {layer}")
        layers.append(made)
    return nn.Sequential(*layers).eval()


def contestants(model: fnn.Model, images: Array, threads: int) -> dict[str, Callable[[], Array]]:
    """Return a call of each library that predicts the same images."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    fnn.set_num_threads(threads)
    network, first = same_network(model), np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    found: dict[str, Callable[[], Array]] = {"fastnn": lambda: np.asarray(model.predict(images))}
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        print("onnxruntime is not installed")
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this exporter needs no other package, and is the old one
            path = str(Path(folder) / "mobilenet.onnx")
            torch.onnx.export(network, (torch.from_numpy(first),), path, dynamo=False)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        found["onnxruntime"] = lambda: np.asarray(session.run(None, {name: first})[0])
    network = network.to(memory_format=torch.channels_last)
    last = torch.from_numpy(first).to(memory_format=torch.channels_last)

    def pytorch() -> Array:
        with torch.inference_mode():
            return np.asarray(network(last).numpy())

    found["PyTorch"] = pytorch
    return found


def agree(calls: dict[str, Callable[[], Array]]) -> float:
    """Return the largest difference of the others' scores from ours, as a part of the largest score.

    Raises
    ------
    AssertionError
        If it is not within rounding.
    """
    ours, *others = (call() for call in calls.values())
    worst = max(float(np.abs(each - ours).max()) for each in others) / float(np.abs(ours).max())
    assert worst < 1e-4, f"the libraries compute different scores: {worst:.1e} of the largest"
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="height and width of the images")
    parser.add_argument("--alpha", type=float, default=0.25, help="factor of the numbers of filters")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], help="images that are predicted together")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(arguments)
    model = our_network(given.size, given.alpha)
    print(f"MobileNetV1, {given.size} x {given.size} pixels, alpha {given.alpha}: ms of a prediction, and times ours")
    for threads in given.threads:
        for batch in given.batch:
            calls = contestants(model, images_of(given.size, batch), threads)
            worst = agree(calls)
            seconds = measured(dict(calls), least=0.02, rounds=given.rounds)
            print(f"{batch} images, {threads} threads", end="")
            for name, each in seconds.items():
                print(f"  {name} {1e3 * each:.3f} ({each / seconds['fastnn']:.2f})", end="")
            print(f"  scores differ by {worst:.0e}", flush=True)


if __name__ == "__main__":
    main()
