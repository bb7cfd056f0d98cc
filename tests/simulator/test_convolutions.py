"""Convolutions as matrix products with all tiles, whole and in parts, against the float64 reference."""

from dataclasses import replace

import numpy as np
import pytest

from cases import CASES
from cuda_running import BackwardsDevice, run_cuda
from fastnn.backend.cuda.codegen.kernel import KERNELS, Key
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, PRODUCTS
from fastnn.backend.cuda.kernels.matmul.implicit_frame import product_dims
from fastnn.backend.cuda.kernels.matmul.plan import PRECISIONS, Algorithm, parts_of
from fastnn.backend.cuda.launch.launches import keys_of
from fastnn.program.layout import Flag
from running import build, differences, run_reference

NAMES = ("packs", "phases of packs", "volumes of packs")
OPS = {"conv": "nn", "conv_back": "nt", "conv_weights": "tn"}
TILES = list(PRODUCTS.tiles)
WORK = [(op, shape) for op in OPS for shape in TILES if f"{OPS[op]}-plain-{shape}" in KERNELS[op].algorithms]
ROUNDED = [(op, precision, shape) for op in OPS for precision in PRECISIONS for shape in CONVOLUTIONS[op].tensor_tiles]


def of(op, name, chunks=1):
    plain = (case for case in CASES if case.op == op and case.note == name and not case.flags)
    return next(case for case in plain if case.dims.get("chunks", 1) == chunks)


def run_by(case, algorithm, monkeypatch):
    """Run a case by one algorithm, twice; return the outputs."""
    entry = replace(KERNELS[case.op], algorithm=lambda dims, flags, precision: algorithm)
    monkeypatch.setitem(KERNELS, case.op, entry)
    (key,) = keys_of(build(case, "float32"))
    assert key == Key(case.op, "float32", "", algorithm)
    got = run_cuda(case, "float32", BackwardsDevice())
    assert not differences(case, "float32", got, run_reference(case, "float32"))
    return got.outputs


@pytest.mark.parametrize(("op", "shape"), WORK)
def test_tiles(op, shape, monkeypatch):
    name = NAMES[(TILES.index(shape) + list(OPS).index(op)) % len(NAMES)]
    whole = f"{OPS[op]}-plain-{shape}"
    case = of(op, name)
    one = run_by(case, whole, monkeypatch)
    parts = parts_of(product_dims(op, case.dims), Algorithm.parse(f"{whole}-split"))
    other = run_by(case, f"{whole}-split", monkeypatch)
    if parts > 1:
        assert any(not np.array_equal(one[output], other[output]) for output in one)


def test_chunks_of_the_batch(monkeypatch):
    for algorithm in ("tn-plain-small", "tn-plain-small-split"):
        run_by(of("conv_weights", "volumes of packs", 4), algorithm, monkeypatch)


@pytest.mark.parametrize(("op", "precision", "shape"), ROUNDED)
def test_rounded_tiles(op, precision, shape, monkeypatch):
    """Of small integers, which are exact in any precision, products on tensor cores are as those in float32."""
    case = of(op, NAMES[(len(precision) + len(shape) + list(OPS).index(op)) % len(NAMES)])
    # of the gradient for weights so many places that the table of places is filled more than once
    more = {"batch": 6} if op == "conv_weights" else {}
    case = replace(case, special=dict.fromkeys(case.operands, small_integers), dims={**case.dims, **more})
    whole = f"{precision}-{OPS[op]}-plain-{shape}"
    one = run_by(case, whole, monkeypatch)
    other = run_by(case, f"{whole}-split", monkeypatch)
    for output, values in one.items():
        np.testing.assert_array_equal(values, run_reference(case, "float32").outputs[output])
        np.testing.assert_array_equal(values, other[output])


def small_integers(rng, shape):
    return rng.integers(-4, 5, shape).astype(np.float64)


def test_rounded_products_are_chosen_where_they_are_quicker():
    dims = {**of("conv", "packs").dims, "batch": 64, "height": 56, "width": 56, "rows": 56, "cols": 56}
    dims |= {"channels": 64, "filters": 64, "weights": 9 * 64 * 64}
    for precision in PRECISIONS:
        algorithm = Algorithm.parse(KERNELS["conv"].algorithm(dims, Flag(0), precision))
        assert algorithm.precision == precision and algorithm.shape in CONVOLUTIONS["conv"].tensor_tiles
    assert not Algorithm.parse(KERNELS["conv"].algorithm(dims, Flag(0))).precision


def test_products_are_chosen_by_shape_alone():
    for op, stored in OPS.items():
        for name in NAMES:
            (key,) = keys_of(build(of(op, name), "float32"))
            assert key.algorithm.startswith(f"{stored}-plain-")
        for case in (case for case in CASES if case.op == op):
            (key,) = keys_of(build(case, "float32"))
            packs = case.dims["groups"] == 1 and case.dims["channels"] % 4 == case.dims["filters"] % 4 == 0
            assert packs or "-" not in key.algorithm
