"""Convolutions of images alone, and both of their gradients, in three precisions, against cuDNN through PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.driver import available
from gpu import oracle
from gpu.buffers import Rotation
from gpu.events import Job
from gpu.peer import torch_seconds
from gpu.settings import PRECISIONS, Convolution, Settings
from gpu.timing import race

OPS = ("conv", "conv_back", "conv_weights")
# Relative to the largest element of a result.
TOLERANCE = {"float32": 1e-5, "tf32": 5e-5, "bf16": 5e-5}
windows: Any = importlib.import_module("window_cases")


def case_of(op: str, shape: Convolution) -> Any:
    """Return the case of an op, of numbers that all rounding modes round alike.

    Images are padded so that a stride of 1 keeps their size.
    """
    make = {
        name: lambda rng, shape: oracle.untied(rng.standard_normal(shape, np.float32)) for name in oracle.FACTORS[op]
    }
    batch, size, channels, filters, window, stride = shape
    before, behind = (window - 1) // 2, window // 2
    geometry = windows.Geometry(
        batch=batch, maps=(1, size, size), channels=channels, filters=filters, window=(1, window, window),
        stride=(1, stride, stride), padding=(0, before, before), behind=(0, behind, behind),
    )  # fmt: skip
    dims = {**geometry.dims, "chunks": min(8, batch)} if op == "conv_weights" else geometry.dims
    return oracle.making.Case(op, dims, special=make)


def work(settings: Settings) -> Iterator[tuple[str, Convolution, str]]:
    """Yield (precision, shape, op): the rounding ones only where they have kernels of their own."""
    for precision, shape, op in product(PRECISIONS, settings.convolutions, OPS):
        if precision == "float32" or oracle.rounds_operands(case_of(op, shape), precision):
            yield precision, shape, op


def name_of(shape: Convolution) -> str:
    """Return a shape in words."""
    batch, size, channels, filters, window, stride = shape
    return f"{batch} x {size} x {size} x {channels} -> {filters}, window {window}, stride {stride}"


def keys(settings: Settings) -> Iterator[Key]:
    """Return the kernels of all convolutions."""
    for precision, shape, op in work(settings):
        yield from oracle.keys(case_of(op, shape), "float32", precision)


def run(job: Job) -> None:
    """Time every convolution and its gradients."""
    settings, device = job.settings, available.open_device(0)
    torch, peer = _torch(settings)
    job.fact(peer=peer)
    todo = list(work(settings))
    for number, (precision, shape, op) in enumerate(todo):
        if number and job.out(settings.piece_seconds):
            job.stop(f"{number} of {len(todo)} convolutions were timed")
            return
        job.begin(f"{op} of {name_of(shape)} in {precision}")
        _one(job, device, torch, op, shape, precision)


def _torch(settings: Settings) -> tuple[Any, str]:
    if settings.simulated:
        return None, "skipped: simulated"
    if importlib.util.find_spec("torch") is None:
        return None, "n/a: PyTorch is not installed"
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return None, "n/a: PyTorch has no GPU"
    return torch, f"PyTorch {torch.__version__}, channels last, with cuDNN {torch.backends.cudnn.version()}"


def _one(job: Job, device: Any, torch: Any, op: str, shape: Convolution, precision: str) -> None:
    case = case_of(op, shape)
    rotation = Rotation(device, case, precision, job.settings, job.salt)
    contestants, units = {"fastnn": rotation.seconds}, {"fastnn": rotation.launches}
    if torch is not None:
        other = _TorchConvolution(torch, rotation, op, shape, precision)
        contestants["cuDNN"], units["cuDNN"] = other.seconds, other.launches
    times = race(contestants, units, job)
    flops = 2.0 * np.prod([float(case.dims[name]) for name in ("batch", "rows", "cols", "weights")])
    off = _off(rotation, op, precision)
    job.item(
        op=op, precision=precision, shape=list(shape), name=name_of(shape), sets=rotation.sets, off=off, flops=flops,
        kernels=[str(key) for key in oracle.keys(case, "float32", precision)],
        us={who: one.micro() for who, one in times.items()},
        tflops={who: flops / one.median / 1e12 for who, one in times.items()},
    )  # fmt: skip
    untouched = rotation.untouched()
    if not off <= TOLERANCE[precision] or untouched:
        left = ", and NaN is left" if untouched else ""
        job.fail(f"{op} of {name_of(shape)} in {precision}: off by {off:.2g}{left}")


def _off(rotation: Rotation, op: str, precision: str) -> float:
    """Return the largest error of the first and the last image (or chunk), relative to its largest element.

    The reference multiplies factors that are rounded as the GPU rounds them.
    """
    case, host = rotation.case, rotation.host
    batch, results = case.dims["batch"], {"conv": "y", "conv_back": "dx", "conv_weights": "dw"}
    got = rotation.operand(results[op], rotation.sets - 1).copy_to_host()
    chunks = case.dims.get("chunks", 1)
    worst = 0.0
    for at in sorted({0, (chunks if op == "conv_weights" else batch) - 1}):
        part = slice(at, at + 1)
        if op == "conv_weights":
            part = slice(batch * at // chunks, batch * (at + 1) // chunks)
        dims = {**case.dims, "batch": part.stop - part.start}
        if "chunks" in dims:
            dims["chunks"] = 1
        given = {name: array if name == "w" else array[part] for name, array in host.items()}
        small = oracle.making.Case(op, dims)
        given = oracle.rounded_factors(small, given, precision)
        expected = oracle.running.run_reference(small, "float32", given).outputs[results[op]]
        error = np.abs(got[at : at + 1] - expected.reshape(got[at : at + 1].shape)).max()
        worst = max(worst, float(error / np.abs(expected).max()))
    return worst


class _TorchConvolution:
    """cuDNN on the same buffers; weights are copied into the order that it needs, and all to bfloat16 for bf16."""

    def __init__(self, torch: Any, rotation: Rotation, op: str, shape: Convolution, precision: str) -> None:
        _, _, channels, filters, window, stride = shape
        self.torch, self.launches, self._op = torch, rotation.launches, op
        before, behind = (window - 1) // 2, window // 2
        if before != behind:
            raise ValueError("PyTorch pads both sides alike: choose odd windows")
        self._moves = ([stride, stride], [before, before], [1, 1], False, [0, 0], 1)
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self._sets = []
        for number in range(rotation.sets):
            held = {name: torch.as_tensor(rotation.operand(name, number), device="cuda") for name in rotation.host}
            for name in ("x", "dy", "dx"):
                if name in held:
                    held[name] = held[name][:, 0].permute(0, 3, 1, 2)
            if "w" in held:
                w = held["w"].reshape(window, window, channels, filters).permute(3, 2, 0, 1)
                held["w"] = w.contiguous(memory_format=torch.channels_last)
            dims = rotation.case.dims
            # only the shapes of what a gradient does not read matter
            held.setdefault("x", self._empty((dims["batch"], channels, dims["height"], dims["width"])))
            held.setdefault("w", self._empty((filters, channels, window, window)))
            self._sets.append({name: each.to(self._dtype) for name, each in held.items()})
        torch.backends.cudnn.benchmark = True
        self._all()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for _ in range(self.launches // rotation.sets):
                self._all()

    def _empty(self, shape: tuple[int, ...]) -> Any:
        return self.torch.empty(shape, device="cuda").contiguous(memory_format=self.torch.channels_last)

    def _all(self) -> None:
        aten = self.torch.ops.aten
        wanted = [self._op == "conv_back", self._op == "conv_weights", False]
        for held in self._sets:
            if self._op == "conv":
                aten.convolution(held["x"], held["w"], None, *self._moves)
            else:
                aten.convolution_backward(held["dy"], held["x"], held["w"], None, *self._moves, wanted)

    def seconds(self, count: int) -> float:
        """Replay the graph `count` times, and return the device's time."""

        def work() -> None:
            for _ in range(count):
                self._graph.replay()

        return torch_seconds(self.torch, "cuda", work)
