"""Compiling CUDA kernels ahead of their first use: for the GPU that is here, or for one that is not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import fastnn as fnn
from fastnn.console import complain, tell, unannounced
from fastnn.demo import warm
from fastnn.model.inspection import program

#: layers of perceptrons whose products take all ways, of a few rows and of many
_WIDTHS = ((64, 128, 64, 10), (784, 256, 128, 10), (1024, 2048, 2048, 100))
_BATCHES = (1, 32, 128, 1024, 8192)


class Listed:
    """Stands for a device, and notes which stages of kernels are to be loaded."""

    architecture, warpgroups = "simulated", False

    def __init__(self) -> None:
        self.parts: dict[Any, Any] = {}

    def has(self, key: Any, number: int) -> bool:
        """Tell whether a stage has been noted."""
        return (key, number) in self.parts

    def load(self, key: Any, number: int, stage: Any) -> None:
        """Note a stage."""
        self.parts[key, number] = stage


def run(dtypes: Iterable[str], wanted: str) -> int:
    """Compile what is missing and say so; returns the exit status.

    Parameters
    ----------
    wanted : str
        An architecture such as "90a"; "" for that of the first GPU.
    """
    from fastnn.backend.cuda import available

    try:
        if wanted:
            architecture = available.checked_architecture(wanted)
        else:
            architecture = str(available.open_device(available.parse("cuda")).architecture)
    except (fnn.DeviceError, ValueError) as error:
        complain(f"fastnn: {error}")
        return 1
    # not above: without numba-cuda there is nothing to import
    from fastnn.backend.cuda import library

    parts = common(dtypes)
    count = len(library.missing(parts, architecture))
    tell(f"{len(parts)} CUDA kernels for sm_{architecture}, {count} to be compiled")
    try:
        with unannounced():
            seconds = prepare(parts, architecture)
    except Exception as error:
        # such as an architecture that the linker has never heard of
        complain(f"fastnn: kernels for sm_{architecture} cannot be compiled: {error}")
        return 1
    tell(f"ready after {seconds:.1f} s; kept in {fnn.cache.described()}")
    return 0


def common(dtypes: Iterable[str]) -> list[Any]:
    """Return the stages of kernels of the usual networks, as `fastnn.backend.cuda.library.Part`."""
    from fastnn.backend.cuda.engine import CudaProgram

    listed = Listed()
    for dtype in dtypes:
        for model in _models(dtype):
            for batch in _BATCHES:
                CudaProgram(program(model, batch), listed)
    return [(key, number, stage) for (key, number), stage in listed.parts.items()]


def _models(dtype: str) -> Iterator[fnn.Sequential]:
    for widths in _WIDTHS:
        layers: list[Any] = [fnn.Input(widths[0]), *(fnn.Dense(units, "relu") for units in widths[1:-1])]
        for last, loss in (("softmax", "cross_entropy"), (None, "mean_squared_error")):
            model = fnn.Sequential([*layers, fnn.Dense(widths[-1], last)], seed=0, dtype=dtype)
            yield model
            model.compile("adam", loss, metrics=["accuracy"] if last else [])
            yield model
    model = warm.network(dtype, "softmax")
    for optimizer in warm.OPTIMIZERS:
        model.compile(optimizer, "cross_entropy")
        yield model


def prepare(parts: list[Any], architecture: str) -> float:
    """Load or compile stages, with a bar where somebody waits, and return the seconds it took."""
    from fastnn.backend.cuda import library
    from fastnn.console import compiling

    begin = time.perf_counter()
    for key, number, stage in compiling(library.missing(parts, architecture), "CUDA kernels"):
        library.machine_code(key, number, stage, architecture)
    return time.perf_counter() - begin
