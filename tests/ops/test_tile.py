"""The matmul's register tile for x86 and ARM64: both give the same bits here, and their instructions are counted."""

import ctypes
import importlib
import re
from pathlib import Path
from types import ModuleType

import llvmlite.binding as llvm
import numpy as np
import pytest

from fastnn.backend.cpu.loading import library

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DTYPES = ("float32", "float64")
SIZES = {"float32": 4, "float64": 8}


@pytest.fixture
def tiles(monkeypatch):
    """Return the benchmark that compiles tiles for other processors."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("arm64_tile")


def loops(tiles: ModuleType, target: str, processor: str, *size: object) -> list[str]:
    """Return the loops of a tile that is made and compiled for a processor, where LLVM can do that."""
    try:
        return tiles.loops(tiles.tile_module(target, *size), target, processor)
    except RuntimeError as error:
        if "No available targets" not in str(error):
            raise
        pytest.skip(f"LLVM has been built without the target {target.partition('-')[0]}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("processor", "rows", "vectors", "copies"),
    [("neoverse-n1", 12, 2, False), ("neoverse-v1", 12, 2, True), ("neoverse-v1", 8, 2, False),
     ("neoverse-v1", 4, 1, False), ("apple-m1", 12, 2, False)],
)  # fmt: skip
def test_arm64_multiplies_by_lanes_in_registers(tiles, processor, rows, vectors, copies, dtype):
    found = loops(tiles, tiles.ARM64, processor, dtype, 16, rows, vectors, copies)
    # columns, pairs, and the rest, which is one step at most of what kernels ask for
    assert [loop.count("fmla") for loop in found] == [steps * rows * vectors for steps in (1, 2, 1)]
    for loop in found[:2]:
        assert len(re.findall(r"fmla\tv\d+\.\d[sd], v\d+\.\d[sd], v\d+\.[sd]\[\d\]", loop)) == loop.count("fmla")
        assert not re.search(r"ld1r|dup|\[sp", loop), "elements spread by instructions of their own, or spilled sums"


@pytest.mark.parametrize(("processor", "width", "rows"), [("haswell", 32, 6), ("skylake-avx512", 64, 12)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_x86_broadcasts_each_element(tiles, processor, width, rows, dtype):
    (loop,) = loops(tiles, tiles.X86, processor, dtype, width, rows, 2)
    assert len(re.findall("vfmadd", loop)) == rows * 2
    assert len(re.findall("vbroadcasts[sd]", loop)) == rows
    assert "%rsp" not in loop


class Tile:
    """A tile compiled for this processor, as it is made for a target."""

    def __init__(self, tiles: ModuleType, made_for: str, dtype: str, rows: int, vectors: int, copies: bool) -> None:
        module = tiles.tile_module(made_for, dtype, 16, rows, vectors, copies)
        module.triple = llvm.get_process_triple()
        compiled = llvm.parse_assembly(str(module))
        self.engine = library.engine_of(library.machine().emit_object(compiled))
        address = self.engine.get_function_address("tile")
        self.call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * tiles.ARGUMENTS)(address)
        self.dtype, self.rows, self.columns = dtype, rows, vectors * 16 // SIZES[dtype]

    def run(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return 1 + a b, and the copy of b."""
        k = a.shape[1]
        c, copied = np.full((self.rows, self.columns), np.nan, self.dtype), np.full_like(b, np.nan)
        one = np.ones_like(c)
        self.call(a.ctypes.data, *a.strides, b.ctypes.data, b.strides[0], k, c.ctypes.data, c.strides[0],
                  one.ctypes.data, one.strides[0], 0, self.columns, copied.ctypes.data, 0, 0, 0, 0)  # fmt: skip
        return c, copied


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("copies", [False, True])
def test_both_algorithms_give_the_same_bits_for_all_strides(tiles, dtype, copies):
    rng = np.random.default_rng(5)
    for rows, vectors in ((12, 1), (7, 2), (1, 2)):
        made = [Tile(tiles, target, dtype, rows, vectors, copies) for target in (tiles.X86, tiles.ARM64)]
        for k in (1, 2, 3, 8, 17):
            b = rng.normal(size=(k, made[0].columns)).astype(dtype)
            memory = rng.normal(size=4 * (rows + 1) * (k + 1)).astype(dtype)
            views = {
                "rows as in C": memory[: rows * k].reshape(rows, k),
                "columns as in Fortran": memory[: rows * k].reshape(k, rows).T,
                "part of longer columns": memory[: k * (rows + 1)].reshape(k, rows + 1)[:, :rows].T,
                "part of longer rows": memory[: rows * (k + 1)].reshape(rows, k + 1)[:, :k],
                "neither contiguous": memory[: 4 * rows * k].reshape(rows, 2 * k, 2)[:, ::2, 0],
            }
            for name, a in views.items():
                (one, copy), (other, other_copy) = (tile.run(a, b) for tile in made)
                exact = 1 + a.astype(np.float64) @ b.astype(np.float64)
                np.testing.assert_allclose(one, exact, atol=8 * k * np.finfo(dtype).eps, rtol=0, err_msg=name)
                np.testing.assert_array_equal(one, other, err_msg=f"{name}, {rows} rows, k = {k}")
                if copies:
                    np.testing.assert_array_equal(copy, b)
                    np.testing.assert_array_equal(other_copy, b)
