"""Products with NumPy's rules on whole shapes, in which the batch is an axis like others.

A product with one matrix is the record of layers' products, whatever the number of axes of the other operand; products
of many matrices are one record that broadcasts. An operand that is the transpose of something is read as it was before.
"""

from __future__ import annotations

from math import prod

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Shape, Tensor
from fastnn.graph.ops import dense
from fastnn.graph.ops.dense import batched_matmul, matmul_nt, matmul_tn, matmul_tt
from fastnn.graph.ops.pointwise import broadcast
from fastnn.graph.ops.strided import reshape


def matmul(graph: Graph, a: Tensor, b: Tensor, label: str) -> Tensor:
    """Multiply matrices as `numpy.matmul` does: a (..., m, k) by b (..., k, n); axes before these are broadcast.

    A vector is a row on the left, and a column on the right.

    Raises
    ------
    ValueError
        When an operand is a number or has integers, or shapes do not fit.
    """
    check_real("matmul", a, b)
    for name, x in (("a", a), ("b", b)):
        if not x.whole:
            raise ValueError(f"matmul: {name} is a number; expected a vector or matrices (multiply takes numbers)")
    k_a, k_b = a.whole[-1], b.whole[-2 if len(b.whole) > 1 else 0]
    if k_a != k_b:
        raise ValueError(f"matmul: a has shape {a.whole} and b {b.whole}: the inner sizes {k_a} and {k_b} differ")
    row, column = len(a.whole) == 1, len(b.whole) == 1
    left = reshape(graph, a, (1, k_a), label) if row else a
    right = reshape(graph, b, (k_b, 1), label) if column else b
    try:
        whole = broadcast("matmul", (left.whole[:-2], right.whole[:-2]))
    except ValueError:
        raise ValueError(f"matmul: shapes {a.whole} and {b.whole} do not fit: sizes of leading axes differ") from None
    whole += (() if row else (left.whole[-2],)) + (() if column else (right.whole[-1],))
    y = _product(graph, left, right, label)
    return y if y.whole == whole else reshape(graph, y, whole, label)


def check_real(name: str, *operands: Tensor) -> None:
    """Refuse integers, which have no products."""
    for x in operands:
        if x.kind != "real":
            raise ValueError(f"{name}: {x.name!r} has integers; cast it to floating-point numbers first")


def _product(graph: Graph, a: Tensor, b: Tensor, label: str) -> Tensor:
    """Multiply matrices whose shapes fit; axes of size 1 may be missing in the result."""
    (x, turned_x), (y, turned_y) = _source(graph, a), _source(graph, b)
    if len(b.whole) == 2:
        if len(a.whole) == 2:
            functions = (dense.matmul, matmul_nt), (matmul_tn, matmul_tt)
            return functions[turned_x][turned_y](graph, x, y, label)
        return (matmul_nt if turned_y else dense.matmul)(graph, a, y, label)
    if prod(b.whole[:-2]) == 1:
        return _product(graph, a, reshape(graph, b, b.whole[-2:], label), label)
    # rows of all matrices that b has one matrix for are those of one
    ones = 0 if turned_x else _ones(b.whole[:-2], len(a.whole) - 2)
    if not ones:
        return _many(graph, x, y, turned_x, turned_y, label)
    lead, rows, fewer = a.whole[: -2 - ones], a.whole[-2 - ones : -1], b.whole[: -2 - ones]
    x = reshape(graph, x, (*lead, prod(rows), a.whole[-1]), label)
    y = reshape(graph, y, (*fewer, *y.whole[-2:]), label)
    z = _many(graph, x, y, turned_x, turned_y, label)
    return reshape(graph, z, (*broadcast("matmul", (lead, fewer)), *rows, b.whole[-1]), label)


def _many(graph: Graph, x: Tensor, y: Tensor, turned_x: bool, turned_y: bool, label: str) -> Tensor:
    """Multiply many matrices: by sample if both operands have the batch as the first axis."""
    by_sample = len(x.whole) == len(y.whole) and x.whole[0] == y.whole[0] == BATCH
    samples = BATCH if by_sample else 1
    return batched_matmul(graph, x, y, label, transpose_a=turned_x, transpose_b=turned_y, samples=samples)


def _ones(leading: Shape, most: int) -> int:
    """Return how many of the last leading axes have the size 1, up to a number."""
    count = 0
    while count < min(len(leading), most) and leading[-1 - count] == 1:
        count += 1
    return count


def _source(graph: Graph, x: Tensor) -> tuple[Tensor, bool]:
    """Return what x is the transpose of, and True; or x and False."""
    source = transpose_of(graph, x)
    return (x, False) if source is None else (source, True)


def transpose_of(graph: Graph, x: Tensor) -> Tensor | None:
    """Return the tensor whose last two axes were exchanged to make x; None if x is not made so."""
    node = graph.producer(x)
    if node is None or node.op not in ("permute", "transpose"):
        return None
    # a permutation is one of the axes of samples
    rank, axes = len(x.whole), node.attrs["axes"]
    skipped = rank - len(axes)
    order = (*range(skipped), *(axis + skipped for axis in axes))
    return node.inputs[0] if order == (*range(rank - 2), rank - 1, rank - 2) else None
