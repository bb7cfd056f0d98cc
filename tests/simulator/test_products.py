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
    Way,
    all_ways,
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


def dims_of(way: Way) -> dict[str, int]:
    """Return a shape with several blocks, the last ones incomplete, whose k is no multiple of a tile's."""
    off = 3 if way.scalar else 4
    if way.shape in PRODUCTS.warpgroup_tiles:
        tile = PRODUCTS.warpgroup_tiles[way.shape]
        # more tiles of k than there is room for, the last one with another edge than other tiles have
        return {"m": tile.rows + off, "n": tile.cols + off, "k": 3 * depth_of(way.precision) + 4 * off}
    tile = (PRODUCTS.tensor_tiles if way.precision else PRODUCTS.tiles).get(way.shape)
    if tile is not None:
        cols = tile.cols - 2 * off if way.precision else tile.cols
        return {"m": tile.rows + off, "n": cols + off, "k": 3 * tile.depth + off}
    few = {"row": 1, "rows": PRODUCTS.few}.get(way.shape)
    long, k = 4 * PRODUCTS.lanes + off, 3 * PRODUCTS.step + off
    return {"m": long, "n": 1, "k": k} if few is None else {"m": few, "n": long, "k": k}


def case_of(way: Way) -> Case:
    """Return a case for an algorithm; with an activation it has a bias, or the gradient's saved operand."""
    dims, flags = dims_of(way), FLAGS[way.epilogue]
    flags |= Flag.TRANSPOSE_A if way.transpose_a else Flag(0)
    flags |= Flag.TRANSPOSE_B if way.transpose_b else Flag(0)
    optional = {"plain": ("bias",), "forward": ("bias", "pre"), "gradient": ("saved",)}[way.epilogue]
    if way.epilogue == "plain" and way.transpose_a:
        flags, optional = flags | Flag.ACCUMULATE, ()
    special = {"saved": uniform(-0.9, 0.9)}
    if way.precision:
        # numbers that rounding leaves alone
        special |= dict.fromkeys("ab", lambda rng, shape: rng.integers(-64, 65, shape) / 32.0)
    return Case("matmul", dims, flags=flags, formula="" if way.epilogue == "plain" else "tanh", special=special,
                optional=frozenset(optional), bound=Bound(4, 4 + 2 * dims["k"]))  # fmt: skip


def ways_and_dtypes() -> list[tuple[str, str]]:
    """Return all algorithms and dtypes; those of tensor cores with activations only once, as they are shared."""
    found = []
    for way in all_ways():
        if not way.precision:
            found += [(str(way), "float32"), (str(way), "float64")]
        elif way.epilogue == "plain" or not (way.split or way.scalar):
            found.append((str(way), "float32"))
    return found


# every fifth from the third on has every tile with each dtype, precision, epilogue and transpose, divided and not
EVERY_CASE = os.environ.get("FASTNN_EVERY_CASE") == "1"
WAYS = ways_and_dtypes() if EVERY_CASE else ways_and_dtypes()[2::5]


@pytest.mark.parametrize(("way", "dtype"), WAYS)
def test_way_agrees_with_reference(way, dtype, monkeypatch):
    case, entry = case_of(Way.parse(way)), KERNELS["matmul"]
    # the choice would not divide so short a k
    monkeypatch.setattr(plan, "parts_of", lambda dims, way: 4 if way.split else 1)
    for module in (simt, rows, tensor):
        monkeypatch.setattr(module, "parts_of", plan.parts_of)
    parsed = Way.parse(way)
    if parsed.shape in PRODUCTS.warpgroup_tiles:
        needed = rounded_bytes(case.dims, parsed)
    else:
        needed = HEADER + 4 * case.dims["m"] * case.dims["n"] * 8
    changed = replace(entry, way=lambda *arguments: way, scratch=lambda *arguments: needed)
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
    way = choose(dims, Flag.TRANSPOSE_A, sizes=DEVICE_PRODUCTS)
    side_by_side = DEVICE_PRODUCTS.strips if way.shape in ("row", "rows", "column") else 1
    assert way.split
    assert 1_000_000 / parts_of(dims, way, DEVICE_PRODUCTS) / side_by_side <= deepest


@pytest.mark.parametrize("sizes", [PRODUCTS, DEVICE_PRODUCTS], ids=["simulator", "gpu"])
def test_choice(sizes):
    ways = {str(way) for way in all_ways()}
    for m, n, k in SHAPES:
        dims = {"m": m, "n": n, "k": k}
        for flags, precision, warpgroups in product(TRANSPOSES, ("float32", "tf32", "bf16"), (False, True)):
            way = choose(dims, flags, precision, warpgroups, sizes)
            assert str(way) in ways
            assert Way.parse(str(way)) == way
            parts = parts_of(dims, way, sizes)
            assert (parts > 1) == way.split
            if parts > 1:
                assert scratch_bytes(dims, 4, str(way), sizes) >= 64 + parts * m * n * 4
