"""Every algorithm of the CUDA matrix product in Numba's simulator, on shapes that reach its edges."""

import os
from dataclasses import replace
from itertools import product

import pytest

from cuda_running import run_cuda
from fastnn.backend.cuda.codegen.kernel import KERNELS
from fastnn.backend.cuda.codegen.sizes import DEVICE_PRODUCTS, PRODUCTS
from fastnn.backend.cuda.kernels.matmul import plan, rows, simt, tensor
from fastnn.backend.cuda.kernels.matmul.epilogue import HEADER
from fastnn.backend.cuda.kernels.matmul.plan import (
    Algorithm,
    all_algorithms,
    choose,
    depth_of,
    parts_of,
    rounded_bytes,
    scratch_bytes,
)
from fastnn.backend.cuda.simulator.device import SimulatedDevice
from fastnn.program.layout import Flag
from making import Bound, Case, uniform
from running import excess, run_reference

FLAGS = {"plain": Flag(0), "forward": Flag.MAP_FORWARD, "gradient": Flag.MAP_GRADIENT}


def dims_of(algorithm: Algorithm) -> dict[str, int]:
    """Return a shape with several blocks, the last ones incomplete, whose k is no multiple of a tile's."""
    off = 3 if algorithm.scalar else 4
    if algorithm.shape in PRODUCTS.warpgroup_tiles:
        tile = PRODUCTS.warpgroup_tiles[algorithm.shape]
        # more tiles of k than there is room for, the last one with another edge than other tiles have
        return {"m": tile.rows + off, "n": tile.cols + off, "k": 3 * depth_of(algorithm.precision) + 4 * off}
    tile = (PRODUCTS.tensor_tiles if algorithm.precision else PRODUCTS.tiles).get(algorithm.shape)
    if tile is not None:
        cols = tile.cols - 2 * off if algorithm.precision else tile.cols
        return {"m": tile.rows + off, "n": cols + off, "k": 3 * tile.depth + off}
    few = {"row": 1, "rows": PRODUCTS.few}.get(algorithm.shape)
    long, k = 4 * PRODUCTS.lanes + off, 3 * PRODUCTS.step + off
    return {"m": long, "n": 1, "k": k} if few is None else {"m": few, "n": long, "k": k}


def case_of(algorithm: Algorithm) -> Case:
    """Return a case for an algorithm; with an activation it has a bias, or the gradient's saved operand."""
    dims, flags = dims_of(algorithm), FLAGS[algorithm.epilogue]
    flags |= Flag.TRANSPOSE_A if algorithm.transpose_a else Flag(0)
    flags |= Flag.TRANSPOSE_B if algorithm.transpose_b else Flag(0)
    optional = {"plain": ("bias",), "forward": ("bias", "pre"), "gradient": ("saved",)}[algorithm.epilogue]
    if algorithm.epilogue == "plain" and algorithm.transpose_a:
        flags, optional = flags | Flag.ACCUMULATE, ()
    special = {"saved": uniform(-0.9, 0.9)}
    if algorithm.precision:
        # numbers that rounding leaves alone
        special |= dict.fromkeys("ab", lambda rng, shape: rng.integers(-64, 65, shape) / 32.0)
    return Case("matmul", dims, flags=flags, formula="" if algorithm.epilogue == "plain" else "tanh", special=special,
                optional=frozenset(optional), bound=Bound(4, 4 + 2 * dims["k"]))  # fmt: skip


def algorithms_and_dtypes() -> list[tuple[str, str]]:
    """Return all algorithms and dtypes; those of tensor cores with activations only once, as they are shared."""
    found = []
    for algorithm in all_algorithms():
        if not algorithm.precision:
            found += [(str(algorithm), "float32"), (str(algorithm), "float64")]
        elif algorithm.epilogue == "plain" or not (algorithm.split or algorithm.scalar):
            found.append((str(algorithm), "float32"))
    return found


# every fifth from the third on has every tile with each dtype, precision, epilogue and transpose, divided and not
EVERY_CASE = os.environ.get("FASTNN_EVERY_CASE") == "1"
ALGORITHMS = algorithms_and_dtypes() if EVERY_CASE else algorithms_and_dtypes()[2::5]


@pytest.mark.parametrize(("algorithm", "dtype"), ALGORITHMS)
def test_algorithm_agrees_with_reference(algorithm, dtype, monkeypatch):
    case, entry = case_of(Algorithm.parse(algorithm)), KERNELS["matmul"]
    # the choice would not divide so short a k
    monkeypatch.setattr(plan, "parts_of", lambda dims, algorithm: 4 if algorithm.split else 1)
    for module in (simt, rows, tensor):
        monkeypatch.setattr(module, "parts_of", plan.parts_of)
    parsed = Algorithm.parse(algorithm)
    if parsed.shape in PRODUCTS.warpgroup_tiles:
        needed = rounded_bytes(case.dims, parsed)
    else:
        needed = HEADER + 4 * case.dims["m"] * case.dims["n"] * 8
    changed = replace(entry, algorithm=lambda *arguments: algorithm, scratch=lambda *arguments: needed)
    monkeypatch.setitem(KERNELS, "matmul", changed)
    got, expected = run_cuda(case, dtype, SimulatedDevice()), run_reference(case, dtype)
    for name, output in got.outputs.items():
        assert excess(case, name, dtype, output, expected.outputs[name]) <= 1.0, name


SHAPES = [(m, n, k) for m in (1, 2, 8, 9, 100, 4096) for n in (1, 10, 128, 1000, 4096) for k in (1, 9, 784, 65536)]


TRANSPOSES = (Flag(0), Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, Flag.TRANSPOSE_A | Flag.TRANSPOSE_B)


@pytest.mark.parametrize("m, n, deepest", [(784, 256, 30_000), (64, 32, 16_384), (1024, 1024, 125_000), (1, 40, 16_384),
                                           (8, 4096, 16_384), (300, 1, 16_384)])  # fmt: skip
def test_no_thread_adds_up_a_million_products(m, n, deepest):
    """The error of a sum grows with its length; the parts of a large result would take too much memory."""
    dims = {"m": m, "n": n, "k": 1_000_000}
    algorithm = choose(dims, Flag.TRANSPOSE_A, sizes=DEVICE_PRODUCTS)
    side_by_side = DEVICE_PRODUCTS.strips if algorithm.shape in ("row", "rows", "column") else 1
    assert algorithm.split
    assert 1_000_000 / parts_of(dims, algorithm, DEVICE_PRODUCTS) / side_by_side <= deepest


@pytest.mark.parametrize("sizes", [PRODUCTS, DEVICE_PRODUCTS], ids=["simulator", "gpu"])
def test_choice(sizes):
    algorithms = {str(algorithm) for algorithm in all_algorithms()}
    for m, n, k in SHAPES:
        dims = {"m": m, "n": n, "k": k}
        for flags, precision, warpgroups in product(TRANSPOSES, ("float32", "tf32", "bf16"), (False, True)):
            algorithm = choose(dims, flags, precision, warpgroups, sizes)
            assert str(algorithm) in algorithms
            assert Algorithm.parse(str(algorithm)) == algorithm
            parts = parts_of(dims, algorithm, sizes)
            assert (parts > 1) == algorithm.split
            if parts > 1:
                assert scratch_bytes(dims, 4, str(algorithm), sizes) >= 64 + parts * m * n * 4
