"""Matrix products and their epilogues: c (+)= op(a) op(b) + bias, an activation, or an activation's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from fastnn.backend.cuda.codegen.kernel import Key, Kit, Stage, kernel
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS
from fastnn.backend.cuda.kernels.elementwise import DIVIDE_QUICKLY
from fastnn.backend.cuda.kernels.matmul.epilogue import sum_parts
from fastnn.backend.cuda.kernels.matmul.plan import Way, all_ways, along_k, choose, scratch_bytes
from fastnn.backend.cuda.kernels.matmul.rounded import rounding
from fastnn.backend.cuda.kernels.matmul.rows import few_rows
from fastnn.backend.cuda.kernels.matmul.simt import product
from fastnn.backend.cuda.kernels.matmul.tensor import tensor_product
from fastnn.backend.cuda.kernels.matmul.warpgroup import warpgroup_product
from fastnn.formulas import activations


def _variants(way: str) -> Sequence[str]:
    parsed = Way.parse(way)
    epilogue = parsed.epilogue
    if epilogue == "plain":
        return ("",)
    names = (name for name in activations.SAVES if epilogue == "forward" or name != "step")
    return tuple(name for name in names if name in DIVIDE_QUICKLY or parsed.shape not in PRODUCTS.warpgroup_tiles)


@kernel(
    "matmul",
    ways=tuple(str(way) for way in all_ways()),
    variants=_variants,
    way=lambda dims, flags, precision="float32", warpgroups=False: str(choose(dims, flags, precision, warpgroups)),
    scratch=scratch_bytes,
    dtypes=lambda way: ("float32",) if Way.parse(way).precision else ("float32", "float64"),
)
def matmul(kit: Kit) -> list[Stage]:
    """Multiply two matrices."""
    way = Way.parse(kit.way)
    if way.shape in PRODUCTS.warpgroup_tiles:
        return [rounding(kit, way), warpgroup_product(kit, way)]
    if not way.split:
        return [_multiplies(kit, way)]
    # rows of the result begin at multiples of a pack
    packed = not way.scalar and (way.shape in PRODUCTS.tiles or not along_k(way))
    return [
        _makes_parts(kit.dtype, replace(way, epilogue="plain")),
        sum_parts(kit, way.epilogue, PACK if packed else 1),
    ]


def _multiplies(kit: Kit, way: Way) -> Stage:
    if way.precision:
        return tensor_product(kit, way)
    return product(kit, way) if way.shape in PRODUCTS.tiles else few_rows(kit, way)


@cache
def _makes_parts(dtype: str, way: Way) -> Stage:
    """Make the first stage of a product in parts, which is the same for all activations."""
    return _multiplies(Kit(Key("matmul", dtype, "", str(way))), way)
