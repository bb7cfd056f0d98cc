"""The amount and sizes of checks and measurements: on a GPU, quickly on a GPU, or in Numba's simulator."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workloads import Workload

#: the sections in order of importance, and each one's share of the time
SHARES = {
    "environment": 3, "kernels": 14, "checks": 25, "digits": 5, "models": 7, "sanitizer": 11, "matmul": 13,
    "convolutions": 8, "recurrent": 4, "cells": 4, "warpgroups": 9, "bandwidth": 9, "calls": 3, "launches": 3,
    "training": 20,
}  # fmt: skip
#: the sections that the command line may choose; the first two always run
SECTIONS = tuple(SHARES)[2:]

PRECISIONS = ("float32", "tf32", "bf16")
#: batch, height and width, channels, filters, height and width of the window, stride
Convolution = tuple[int, int, int, int, int, int]
#: batch, steps, units
Scan = tuple[int, int, int]


def network(sizes: tuple[int, ...], batch: int, rows: int, epochs: int) -> Workload:
    """Return a classifier with relu, and the part of its training that a timed run does."""
    name = f"{'-'.join(map(str, sizes))}, batch {batch}"
    return Workload(name, sizes, "relu", "cross_entropy", batch, rows, epochs)


@dataclass(frozen=True)
class Settings:
    """The amount and sizes of checks and measurements.

    Attributes
    ----------
    simulated : bool
        Whether kernels run in Numba's simulator, where only tiny sizes finish in time.
    torch : str
        PyTorch's device: "cuda", "cpu" in tests of the contestants, or "" without PyTorch.
    piece_seconds : float
        No product and no kernel is started if less time is left.
    rounds : int
        Timed runs of each contestant.
    run_seconds : float
        Approximate time of a run on the device.
    rotated_bytes : int
        Minimum total size of the buffers of a kernel that is timed alone: larger than any cache.
    cases_per_op : int
        Number of cases per op that are checked, the smallest ones; 0: all.
    dtypes : tuple of str
    largest : int
        Maximum of the dimensions of the larger checked shapes; 0: no limit.
    products : tuple of (m, n, k)
        The timed matrix products.
    convolutions : tuple of Convolution
        The timed convolutions.
    scans : tuple of Scan
        The timed recurrent layers, and cells.
    length, long, rows, cols : int
        The timed sizes of vectors and tables; `long` for the longest vectors.
    networks : tuple of Workload
        The trained networks; their `epochs` are those of one timed run.
    trained : tuple of str
        The precisions of training.
    on_the_cpu : int
        How many of these, from the first on, are timed on the CPU as well.
    called : tuple of int
        Rows of the timed single calls; the last is the batch of a training step.
    taken_apart : tuple of int
        Networks whose launches are timed one by one, as indices of `networks`.
    digits_steps, digits_epochs, digits_rows, digits_hidden : int
        Steps after which weights are compared, and the sizes of this training.
    """

    simulated: bool = False
    quick: bool = False
    torch: str = "cuda"
    piece_seconds: float = 3.0
    rounds: int = 9
    run_seconds: float = 0.02
    rotated_bytes: int = 160 * 2**20
    cases_per_op: int = 0
    dtypes: tuple[str, ...] = ("float32", "float64")
    largest: int = 0
    products: tuple[tuple[int, int, int], ...] = (
        (4096, 4096, 4096), (8192, 8192, 8192), (128, 4096, 4096), (65536, 64, 64), (2048, 2048, 2048),
        (1024, 1024, 1024), (512, 512, 512),
    )  # fmt: skip
    convolutions: tuple[Convolution, ...] = (
        (128, 32, 64, 64, 3, 1), (128, 16, 128, 128, 3, 1), (32, 56, 64, 256, 1, 1), (128, 32, 64, 128, 3, 2),
        (64, 28, 16, 32, 3, 1), (128, 32, 3, 32, 3, 1),
    )  # fmt: skip
    scans: tuple[Scan, ...] = ((32, 100, 128), (512, 50, 256))
    length: int = 10_000_000
    long: int = 100_000_000
    rows: int = 65536
    cols: int = 1024
    networks: tuple[Workload, ...] = (
        network((64, 128, 64, 10), 128, 4096, 16),
        network((784, 256, 128, 10), 128, 4096, 16),
        network((784, 256, 128, 10), 4096, 65536, 8),
        network((1024, 4096, 4096, 1024), 4096, 16384, 2),
        network((64, 64, 64, 64, 64), 65536, 262144, 8),
    )
    trained: tuple[str, ...] = ("float32", "tf32")
    on_the_cpu: int = 2
    called: tuple[int, ...] = (1, 128)
    taken_apart: tuple[int, ...] = (0, 1, -1)
    digits_steps: int = 3
    digits_epochs: int = 15
    digits_rows: int = 1437
    digits_hidden: int = 128


FULL = Settings()
QUICK = replace(
    FULL,
    quick=True,
    rounds=5,
    run_seconds=0.01,
    cases_per_op=12,
    products=((4096, 4096, 4096), (128, 4096, 4096), (65536, 64, 64), (1024, 1024, 1024)),
    convolutions=FULL.convolutions[::3],
    scans=FULL.scans[:1],
    long=40_000_000,
    networks=(FULL.networks[0], FULL.networks[2], FULL.networks[4]),
    on_the_cpu=1,
    digits_epochs=5,
)
SIMULATED = Settings(
    simulated=True,
    quick=True,
    torch="",
    piece_seconds=0.0,
    rounds=2,
    run_seconds=0.0,
    rotated_bytes=512,
    cases_per_op=1,
    dtypes=("float32",),
    largest=3,
    products=((3, 4, 5),),
    convolutions=((1, 3, 4, 4, 3, 1),),
    scans=((2, 2, 4),),
    length=9,
    long=12,
    rows=5,
    cols=3,
    networks=(network((3, 3, 2), 2, 2, 1),),
    trained=("float32",),
    on_the_cpu=1,
    called=(2,),
    taken_apart=(0,),
    digits_steps=1,
    digits_epochs=1,
    digits_rows=6,
    digits_hidden=2,
)


def choose(*, simulated: bool, quick: bool) -> Settings:
    """Return the settings of a run."""
    if simulated:
        return SIMULATED
    return QUICK if quick else FULL
