"""cuBLAS on the same operands: through PyTorch, or else through CuPy, or not at all."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu.buffers import Rotation
from gpu.peer import set_precision, torch_seconds
from gpu.settings import Settings


def find(settings: Settings) -> Any:
    """Return the library that makes products by cuBLAS."""
    if settings.simulated:
        return Nobody("skipped: simulated")
    if importlib.util.find_spec("torch") is not None:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            return Torch(torch)
    if importlib.util.find_spec("cupy") is not None:
        return Cupy(importlib.import_module("cupy"))
    return Nobody("n/a: neither PyTorch for CUDA nor CuPy is installed")


class Nobody:
    """Replaces cuBLAS if it is not available; `name` says why."""

    def __init__(self, name: str) -> None:
        self.name = name

    def product(self, rotation: Rotation, precision: str) -> None:
        """Return nothing."""
        return None


class Torch:
    """`torch.matmul` on the same buffers, a and b; bf16 gets copies of them in that type, and returns bf16."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.name = f"torch.matmul of PyTorch {torch.__version__}"

    def product(self, rotation: Rotation, precision: str) -> _TorchProduct:
        """Return the product in a precision."""
        return _TorchProduct(self.torch, rotation, precision)


class _TorchProduct:
    def __init__(self, torch: Any, rotation: Rotation, precision: str) -> None:
        self.torch, self.launches = torch, rotation.launches
        set_precision(torch, precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._sets = []
        for number in range(rotation.sets):
            a, b = (
                torch.as_tensor(rotation.operand(name, number), device="cuda").to(dtype=dtype) for name in ("a", "b")
            )
            c = torch.full((a.shape[0], b.shape[1]), float("nan"), dtype=dtype, device="cuda")
            self._sets.append((a, b, c))
        self._all()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for _ in range(self.launches // rotation.sets):
                self._all()

    def _all(self) -> None:
        for a, b, c in self._sets:
            self.torch.matmul(a, b, out=c)

    def seconds(self, count: int) -> float:
        def work() -> None:
            for _ in range(count):
                self._graph.replay()

        return torch_seconds(self.torch, "cuda", work)

    def result(self) -> NDArray[np.float32]:
        return np.asarray(self._sets[-1][2].float().cpu().numpy())


class Cupy:
    """`cupy.matmul` on the same buffers, in float32 only."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.name = f"cupy.matmul of CuPy {cupy.__version__}"

    def product(self, rotation: Rotation, precision: str) -> _CupyProduct | None:
        """Return the product in float32, None in other precisions."""
        return _CupyProduct(self.cupy, rotation) if precision == "float32" else None


class _CupyProduct:
    def __init__(self, cupy: Any, rotation: Rotation) -> None:
        self.cupy, self.launches = cupy, rotation.sets
        self._sets = []
        for number in range(rotation.sets):
            a, b = (cupy.asarray(rotation.operand(name, number)) for name in ("a", "b"))
            self._sets.append((a, b, cupy.full((a.shape[0], b.shape[1]), np.nan, np.float32)))

    def seconds(self, count: int) -> float:
        begin, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        begin.record()
        for _ in range(count):
            for a, b, c in self._sets:
                self.cupy.matmul(a, b, out=c)
        end.record()
        end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(begin, end)) * 1e-3

    def result(self) -> NDArray[np.float32]:
        return np.asarray(self.cupy.asnumpy(self._sets[-1][2]))
