"""Make networks in the memory of a GPU, for users' kernels."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastnn.backend.cuda.codegen.numba_cuda import simulated
from fastnn.backend.cuda.device_function import network
from fastnn.backend.cuda.device_function.network import FrozenDeviceNetwork
from fastnn.program.program import Program

__all__ = ["FrozenDeviceNetwork", "freeze"]


def freeze(
    program: Program,
    parameters: NDArray[Any],
    sizes: tuple[int, int],
    integers: tuple[int, int] | None,
    weights: int,
    number: int,
) -> FrozenDeviceNetwork:
    """Make a network on the GPU of a number; arguments and errors as of `device_function.network.freeze`."""
    if not simulated():
        # registers `fastnn.nopython.predict` with numba-cuda, for kernels
        from fastnn.nopython import cuda_overloads  # noqa: F401
    return network.freeze(program, parameters, sizes, integers, weights, number)
