"""The tables with which fused kernels are launched: a row for each layer, and for each gradient of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastnn.backend.cuda.codegen.kernel import Key, ceil_div
from fastnn.backend.cuda.codegen.sizes import FUSED
from fastnn.backend.cuda.kernels.fused import plan as plan
from fastnn.backend.cuda.launch.launches import Work
from fastnn.program.layout import ABSENT, DIMS_AT, FLAGS_WORD, OPERANDS_AT, Flag
from fastnn.program.record import ITEM_SIZES


@dataclass(frozen=True)
class Product:
    """The record of a matrix product: its number, operands' words, dimensions, flags, and the activation it applies."""

    record: int
    a: int
    b: int
    c: int
    bias: int
    pre: int
    saved: int
    m: int
    n: int
    k: int
    flags: Flag
    formula: str
    parameters: tuple[int, ...]


@dataclass(frozen=True)
class Gradient:
    """A record that sums a gradient over the rows: its target, and whether it accumulates."""

    target: int
    flags: Flag


@dataclass
class Back:
    """One layer of a backward pass.

    Attributes
    ----------
    width : int
        The layer's outputs.
    weight, bias : Gradient, optional
        Gradients of its weights and bias.
    inputs : int
        The inputs that its weights' gradient reads.
    product : Product, optional
        The gradient for the layer before it.
    height : int
        The number of the layer's inputs, if needed.
    """

    width: int
    weight: Gradient | None = None
    bias: Gradient | None = None
    inputs: int = ABSENT
    product: Product | None = None
    height: int = 0


def _row(words: Mapping[int, int]) -> tuple[int, ...]:
    row = [0] * plan.ROW
    row[OPERANDS_AT:DIMS_AT] = [ABSENT] * (DIMS_AT - OPERANDS_AT)
    for at, word in words.items():
        row[at] = word
    return tuple(row)


def _variant(formulas: Iterable[str]) -> tuple[str, dict[str, int]]:
    """Return the variant of a kernel for some activations, and their numbers in it."""
    names = sorted(set(formulas)) or ["linear"]
    return "+".join(names), {name: number for number, name in enumerate(names)}


def _product(tile: plan.Tile, k: int, n: int, itemsize: int, turned: bool) -> dict[int, int]:
    depth, splits = plan.pieces(tile, k, n, itemsize, turned)
    return {plan.DEPTH: depth, plan.SPLITS: splits}


def forward_work(dtype: str, layers: Sequence[Product], written: set[tuple[int, int]]) -> Work:
    """Return the work of layers of a forward pass.

    Parameters
    ----------
    written : set of (word, record)
        The results that are read later.
    """
    itemsize, rows = ITEM_SIZES[dtype], layers[0].m
    algorithm = plan.choose_algorithm(rows, itemsize, FUSED.forward)
    tile = plan.tile_of(algorithm, itemsize)
    variant, numbers = _variant(layer.formula for layer in layers)
    table = []
    for layer in layers:
        kept = {plan.C: layer.c, plan.PRE: layer.pre}
        table.append(_row({
            plan.A: layer.a, plan.W: layer.b, plan.BIAS: layer.bias, plan.K: layer.k, plan.N: layer.n,
            plan.WHICH: numbers[layer.formula], plan.P0: layer.parameters[0], plan.P1: layer.parameters[1],
            **{at: word for at, word in kept.items() if (word, layer.record) in written},
            **_product(tile, layer.k, layer.n, itemsize, turned=False),
        }))  # fmt: skip
    words = _row({plan.ROWS: rows, plan.LAYERS: len(layers)})
    return Work(Key("fused_forward", dtype, variant, algorithm), {"rows": rows}, words, tuple(table))


def backward_work(dtype: str, rows: int, first: int, layers: Sequence[Back], written: set[tuple[int, int]]) -> Work:
    """Return the work of layers of a backward pass, the last of the network first.

    Parameters
    ----------
    first : int
        Word of the gradient of the last layer's result.
    written : set of (word, record)
        Results of the layers' products that are read later.
    """
    itemsize = ITEM_SIZES[dtype]
    algorithm = plan.choose_algorithm(rows, itemsize, FUSED.backward)
    tile = plan.tile_of(algorithm, itemsize)
    variant, numbers = _variant(layer.product.formula for layer in layers if layer.product is not None)
    table, sums, packs, size = [], [], 0, 0
    for layer in layers:
        row = {plan.K: layer.width, plan.N: layer.height, plan.A: layer.inputs, plan.DZ: first}
        product = layer.product
        if product is not None:
            row |= {
                plan.W: product.b, plan.SAVED: product.saved, plan.WHICH: numbers[product.formula],
                plan.P0: product.parameters[0], plan.P1: product.parameters[1],
                **_product(tile, product.k, product.n, itemsize, turned=True),
            }  # fmt: skip
            if (product.c, product.record) in written:
                row[plan.C] = product.c
        for gradient, height, high, has, at in (
            (layer.weight, layer.height, FUSED.high, plan.HAS_WEIGHT, plan.WEIGHT_AT),
            (layer.bias, 1, 1, plan.HAS_BIAS, plan.BIAS_AT),
        ):
            if gradient is not None:
                part = plan.Sum(height, layer.width, high, size)
                row |= {has: 1, at: size}
                sums.append(_row({
                    plan.TARGET: gradient.target, FLAGS_WORD: int(gradient.flags & Flag.ACCUMULATE),
                    plan.HEIGHT: height, plan.WIDTH: layer.width, plan.HIGH: high, plan.OFFSET: size,
                }))  # fmt: skip
                size, packs = part.end, max(packs, part.packs)
        table.append(_row(row))
    slabs = min(ceil_div(rows, tile.rows), FUSED.slabs)
    words = _row({plan.ROWS: rows, plan.LAYERS: len(layers), plan.SLAB: size, plan.SLABS: slabs})
    dims = {"slabs": slabs, "packs": packs, "sums": len(sums)}
    key = Key("fused_backward", dtype, variant, algorithm)
    return Work(key, dims, words, (*table, *sums), slabs * size * itemsize)
