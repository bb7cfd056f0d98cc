"""Compiling CUDA kernels ahead of their first use, for this machine's GPU or for another one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import fastnn as fnn
from fastnn.console import complain, tell, unannounced
from fastnn.demo import warm
from fastnn.model.inspection import program
from fastnn.training.state import state_of

#: layers of perceptrons whose products use all algorithms, with few rows and with many
_WIDTHS = ((64, 128, 64, 10), (784, 256, 128, 10), (1024, 2048, 2048, 100))
_BATCHES = (1, 32, 128, 1024, 8192)


class Listed:
    """Replaces a device, and records which stages of kernels are to be loaded."""

    architecture, warpgroups = "simulated", False

    def __init__(self) -> None:
        self.parts: dict[Any, Any] = {}

    def has(self, key: Any, number: int) -> bool:
        """Return whether a stage has been recorded."""
        return (key, number) in self.parts

    def load(self, key: Any, number: int, stage: Any) -> None:
        """Record a stage."""
        self.parts[key, number] = stage


def run(dtypes: Iterable[str], wanted: str) -> int:
    """Compile missing kernels, with messages; returns the exit status.

    Parameters
    ----------
    wanted : str
        An architecture such as "90a"; "" for the first GPU's.
    """
    from fastnn.backend.cuda.codegen.numba_cuda import checked_architecture
    from fastnn.backend.cuda.driver import available

    try:
        if wanted:
            architecture = checked_architecture(wanted)
        else:
            architecture = str(available.open_device(available.parse("cuda")).architecture)
    except (fnn.DeviceError, ValueError) as error:
        complain(f"fastnn: {error}")
        return 1
    # not at the top: numba-cuda may be missing
    from fastnn.backend.cuda.codegen import library

    parts = common(dtypes)
    count = len(library.missing(parts, architecture))
    tell(f"{len(parts)} CUDA kernels for sm_{architecture}, {count} to be compiled")
    try:
        with unannounced():
            seconds = prepare(parts, architecture)
    except Exception as error:
        # for example an architecture that the linker does not know
        complain(f"fastnn: kernels for sm_{architecture} cannot be compiled: {error}")
        return 1
    tell(f"ready after {seconds:.1f} s; kept in {fnn.cache.described()}")
    return 0


def common(dtypes: Iterable[str]) -> list[Any]:
    """Return the stages of kernels of the usual networks, as `fastnn.backend.cuda.codegen.library.Part`."""
    from fastnn.backend.cuda.launch.engine import CudaProgram

    listed = Listed()
    for dtype in dtypes:
        for model in _models(dtype):
            for batch in _BATCHES:
                CudaProgram(program(state_of(model).runtime, batch), listed)
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
    """Load or compile stages, with a bar on a terminal; returns the time in seconds."""
    from fastnn.backend.cuda.codegen import library
    from fastnn.console import compiling

    begin = time.perf_counter()
    for key, number, stage in compiling(library.missing(parts, architecture), "CUDA kernels"):
        library.machine_code(key, number, stage, architecture)
    return time.perf_counter() - begin
