"""Matrix products and their epilogues: c (+)= op(a) op(b) + bias, an activation, or an activation's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from fastnn.backend.cuda.codegen.kernel import Key, Kit, Stage, kernel
from fastnn.backend.cuda.codegen.sizes import PACK, PRODUCTS
from fastnn.backend.cuda.kernels.elementwise import DIVIDE_QUICKLY
from fastnn.backend.cuda.kernels.matmul.epilogue import sum_parts
from fastnn.backend.cuda.kernels.matmul.plan import Algorithm, all_algorithms, along_k, choose, scratch_bytes
from fastnn.backend.cuda.kernels.matmul.rounded import rounding
from fastnn.backend.cuda.kernels.matmul.rows import few_rows
from fastnn.backend.cuda.kernels.matmul.simt import product
from fastnn.backend.cuda.kernels.matmul.tensor import tensor_product
from fastnn.backend.cuda.kernels.matmul.warpgroup import warpgroup_product
from fastnn.formulas import activations


def _variants(algorithm: str) -> Sequence[str]:
    parsed = Algorithm.parse(algorithm)
    epilogue = parsed.epilogue
    if epilogue == "plain":
        return ("",)
    names = (name for name in activations.SAVES if epilogue == "forward" or name != "step")
    return tuple(name for name in names if name in DIVIDE_QUICKLY or parsed.shape not in PRODUCTS.warpgroup_tiles)


@kernel(
    "matmul",
    algorithms=tuple(str(algorithm) for algorithm in all_algorithms()),
    variants=_variants,
    algorithm=lambda dims, flags, precision="float32", warpgroups=False: str(
        choose(dims, flags, precision, warpgroups)
    ),
    scratch=scratch_bytes,
    dtypes=lambda algorithm: ("float32",) if Algorithm.parse(algorithm).precision else ("float32", "float64"),
)
def matmul(kit: Kit) -> list[Stage]:
    """Multiply two matrices."""
    algorithm = Algorithm.parse(kit.algorithm)
    if algorithm.shape in PRODUCTS.warpgroup_tiles:
        return [rounding(kit, algorithm), warpgroup_product(kit, algorithm)]
    if not algorithm.split:
        return [_multiplies(kit, algorithm)]
    # rows of the result begin at multiples of a pack
    packed = not algorithm.scalar and (algorithm.shape in PRODUCTS.tiles or not along_k(algorithm))
    return [
        _makes_parts(kit.dtype, replace(algorithm, epilogue="plain")),
        sum_parts(kit, algorithm.epilogue, PACK if packed else 1),
    ]


def _multiplies(kit: Kit, algorithm: Algorithm) -> Stage:
    if algorithm.precision:
        return tensor_product(kit, algorithm)
    return product(kit, algorithm) if algorithm.shape in PRODUCTS.tiles else few_rows(kit, algorithm)


@cache
def _makes_parts(dtype: str, algorithm: Algorithm) -> Stage:
    """Make the first stage of a product in parts, which is the same for all activations."""
    return _multiplies(Kit(Key("matmul", dtype, "", str(algorithm))), algorithm)
