"""Sums of products over named axes: einsum, tensordot and dot, made of transposes, reshapes, sums and products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.products import check_real, matmul, transpose_of
from fastnn.graph.ops.reductions import reduce
from fastnn.graph.ops.strided import reshape, transpose

#: The name of an axis.
Name = str | int


def dot(graph: Graph, a: Tensor, b: Tensor, label: str) -> Tensor:
    """Multiply as `numpy.dot` does: sums over the last axis of a, and the last but one of b (or its only one)."""
    check_real("dot", a, b)
    if not a.whole or not b.whole:
        return pointwise(graph, "multiply", (a, b), label)
    if len(b.whole) <= 2:
        return matmul(graph, a, b, label)
    return tensordot(graph, a, b, ([len(a.whole) - 1], [len(b.whole) - 2]), label)


def outer(graph: Graph, a: Tensor, b: Tensor, label: str) -> Tensor:
    """Multiply every element of a by every one of b: (size of a, size of b), as `numpy.outer` does."""
    check_real("outer", a, b)
    column, row = reshape(graph, a, (prod(a.whole), 1), label), reshape(graph, b, (prod(b.whole),), label)
    return pointwise(graph, "multiply", (column, row), label)


def tensordot(
    graph: Graph, a: Tensor, b: Tensor, axes: int | tuple[Sequence[int], Sequence[int]], label: str
) -> Tensor:
    """Sum products over some axes of a and b, as `numpy.tensordot` does.

    Parameters
    ----------
    axes : int or (axes of a, axes of b)
        A number means the last axes of a and the first ones of b.
    """
    check_real("tensordot", a, b)
    rank_a, rank_b = len(a.whole), len(b.whole)
    if isinstance(axes, int):
        if not 0 <= axes <= min(rank_a, rank_b):
            raise ValueError(f"tensordot: axes: expected 0 to {min(rank_a, rank_b)}, got {axes}")
        axes = (range(rank_a - axes, rank_a), range(axes))
    of_a, of_b = (
        [_axis("tensordot", axis, rank) for axis in some] for some, rank in zip(axes, (rank_a, rank_b), strict=True)
    )
    if len(of_a) != len(of_b) or len(set(of_a)) != len(of_a) or len(set(of_b)) != len(of_b):
        raise ValueError(f"tensordot: axes: expected as many axes of a as of b, each once, got {axes}")
    for i, j in zip(of_a, of_b, strict=True):
        if a.whole[i] != b.whole[j]:
            raise ValueError(
                f"tensordot: axis {i} of a, of shape {a.whole}, and axis {j} of b, of shape {b.whole}, differ in size"
            )
    names_a = list(range(rank_a))
    names_b = [of_a[of_b.index(axis)] if axis in of_b else rank_a + axis for axis in range(rank_b)]
    result = [name for name in names_a if name not in of_a] + [name for name in names_b if name >= rank_a]
    return contract(graph, a, b, names_a, names_b, result, label)


def _axis(op: str, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"{op}: expected axes from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def einsum(graph: Graph, equation: str, operands: Sequence[Tensor], label: str) -> Tensor:
    """Sum products over named axes, as `numpy.einsum` does for one or two operands; diagonals are not supported.

    Parameters
    ----------
    equation : str
        Such as "bqd,bkd->bqk". Without an arrow, the result has the letters that occur once, in alphabetical order.
        "..." stands for any number of axes, which are broadcast.

    Raises
    ------
    ValueError
        When the equation is not understood, or does not fit the operands.
    """
    check_real("einsum", *operands)
    names, result = _parsed(equation, [x.whole for x in operands])
    tensors, sizes = list(operands), dict[Name, Size]()
    for x, axes in zip(operands, names, strict=True):
        for axis, size in zip(axes, x.whole, strict=True):
            known = sizes.get(axis, 1)
            if 1 not in (known, size) and known != size:
                raise ValueError(
                    f"einsum: {equation!r}: axis {_text(axis)!r} has the sizes {known} and {size} in operands of "
                    "shapes " + " and ".join(str(each.whole) for each in operands)
                )
            sizes[axis] = size if known == 1 else known
    for number, (x, axes) in enumerate(zip(operands, names, strict=True)):
        # an axis of size 1 that another operand has in full is as good as missing
        kept = [axis for axis, size in zip(axes, x.whole, strict=True) if size == sizes[axis]]
        others = {axis for place, other in enumerate(names) if place != number for axis in other}
        if len(kept) < len(axes):
            x = reshape(graph, x, [sizes[axis] for axis in kept], label)
        summed = [place for place, axis in enumerate(kept) if axis not in others and axis not in result]
        if summed:
            x = reduce(graph, "sum", x, summed, False, label)
            kept = [axis for place, axis in enumerate(kept) if place not in summed]
        tensors[number], names[number] = x, kept
    if len(tensors) == 1:
        return _turned(graph, tensors[0], names[0], result, label)
    return contract(graph, tensors[0], tensors[1], names[0], names[1], result, label)


def _text(axis: Name) -> str:
    return axis if isinstance(axis, str) else "..."


def _parsed(equation: str, shapes: Sequence[Sequence[Size]]) -> tuple[list[list[Name]], list[Name]]:
    """Return the names of all operands' axes, and of the result's; those of "..." are numbers below 0."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ValueError(f"einsum: {equation!r} is for {len(parts)} operands, got {len(shapes)}")
    if len(shapes) > 2:
        raise ValueError(
            f"einsum: {equation!r} has {len(shapes)} operands; it takes one or two: multiply them in steps"
        )
    named, most = [], 0
    for part, shape in zip(parts, shapes, strict=True):
        letters = part.replace("...", "", 1)
        hidden = len(shape) - len(letters)
        if hidden < 0 or (hidden and letters == part):
            raise ValueError(
                f"einsum: {equation!r}: {part!r} has {len(letters)} axes, but the operand's shape is {shape}"
            )
        axes = _axes(equation, part, hidden)
        if len(set(axes)) < len(axes):
            raise ValueError(f"einsum: {equation!r}: {part!r} names an axis twice; diagonals are not supported")
        named.append(axes)
        most = max(most, hidden)
    if arrow:
        result = _axes(equation, right, most)
    else:
        once = [axis for axis in left.replace("...", "").replace(",", "") if left.count(axis) == 1]
        result = [*range(-most, 0), *sorted(once)]
    if len(set(result)) < len(result):
        raise ValueError(f"einsum: {equation!r}: the result {right!r} names an axis twice; diagonals are not supported")
    for axis in result:
        if not any(axis in axes for axes in named):
            raise ValueError(f"einsum: {equation!r}: no operand has the axis {_text(axis)!r} of the result")
    return named, result


def _axes(equation: str, part: str, hidden: int) -> list[Name]:
    """Return the names of axes of a part of an equation, in which "..." stands for `hidden` axes."""
    before, dots, after = part.partition("...")
    for letter in before + after:
        if not (letter.isascii() and letter.isalpha()):
            raise ValueError(f"einsum: {equation!r}: expected letters, commas, '...' and '->', got {letter!r}")
    return [*before, *(range(-hidden, 0) if dots else ()), *after]


def contract(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    names_a: Sequence[Name],
    names_b: Sequence[Name],
    result: Sequence[Name],
    label: str,
) -> Tensor:
    """Multiply two tensors whose axes have names, and sum over the names that the result does not have.

    Names that only one operand has are in the result, and axes of one name have one size.
    """
    if all(name in result for name in names_a if name in names_b):
        return _multiplied(graph, a, b, names_a, names_b, result, label)
    plan = min(_plans(list(names_a), list(names_b), list(result)), key=lambda plan: plan.copies)
    sizes = dict(zip((*names_a, *names_b), (*a.whole, *b.whole), strict=True))
    x = _matrices(graph, _turned(graph, a, names_a, plan.a, label), plan, plan.free_a, sizes, label, rows=True)
    y = _matrices(graph, _turned(graph, b, names_b, plan.b, label), plan, plan.free_b, sizes, label, rows=False)
    if plan.swapped:
        x, y = _flipped(graph, y, label), _flipped(graph, x, label)
    z = matmul(graph, x, y, label)
    return _turned(graph, reshape(graph, z, [sizes[name] for name in plan.c], label), plan.c, result, label)


class _Plan(NamedTuple):
    """Orders of axes for a product of matrices.

    Attributes
    ----------
    copies : int
        How many tensors are put into another order.
    a, b, c : list
        The orders of the axes of both operands and of their product.
    batch, free_a, free_b, summed : list
        The axes that both and the product have, one operand and the product have, and both operands have.
    swapped : bool
        Whether the axes of b are the rows of the product, and those of a the columns.
    """

    copies: int
    a: list[Name]
    b: list[Name]
    c: list[Name]
    batch: list[Name]
    free_a: list[Name]
    free_b: list[Name]
    summed: list[Name]
    swapped: bool


def _plans(a: list[Name], b: list[Name], c: list[Name]) -> Iterator[_Plan]:
    """Iterate over ways to multiply; of those that copy as much as each other, earlier ones are better."""

    def orders(of: Sequence[Name], *like: Sequence[Name]) -> list[list[Name]]:
        return [[name for name in one if name in of] for one in like]

    batches = orders([name for name in a if name in b and name in c], c, a)
    sums = orders([name for name in a if name in b and name not in c], a, b)
    frees_a = orders([name for name in a if name not in b], c, a)
    frees_b = orders([name for name in b if name not in a], c, b)
    flags = (False, True)
    for batch, summed, free_a, free_b, turned_a, turned_b, swapped in product(
        batches, sums, frees_a, frees_b, flags, flags, flags
    ):
        order_a = [*batch, *summed, *free_a] if turned_a else [*batch, *free_a, *summed]
        order_b = [*batch, *free_b, *summed] if turned_b else [*batch, *summed, *free_b]
        order_c = [*batch, *free_b, *free_a] if swapped else [*batch, *free_a, *free_b]
        copies = (order_a != a) + (order_b != b) + (order_c != c)
        yield _Plan(copies, order_a, order_b, order_c, batch, free_a, free_b, summed, swapped)


def _matrices(
    graph: Graph, x: Tensor, plan: _Plan, free: list[Name], sizes: dict[Name, Size], label: str, *, rows: bool
) -> Tensor:
    """View an operand as matrices (..., rows, summed), or (..., summed, columns)."""
    outside, inside = (prod(sizes[name] for name in names) for names in (free, plan.summed))
    leading = [sizes[name] for name in plan.batch]
    order = plan.a if rows else plan.b
    # with nothing in one of the groups, both orders are the same
    free_first = order == [*plan.batch, *free, *plan.summed]
    sides = (outside, inside) if free_first else (inside, outside)
    matrices = reshape(graph, x, [*leading, *sides], label)
    return matrices if free_first == rows else _flipped(graph, matrices, label)


def _flipped(graph: Graph, x: Tensor, label: str) -> Tensor:
    """Return transposed matrices."""
    source = transpose_of(graph, x)
    if source is not None:
        return source
    *leading, rows, columns = x.whole
    if 1 in (rows, columns):
        return reshape(graph, x, (*leading, columns, rows), label)
    return transpose(graph, x, [*range(len(leading)), len(leading) + 1, len(leading)], label)


def _multiplied(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    names_a: Sequence[Name],
    names_b: Sequence[Name],
    result: Sequence[Name],
    label: str,
) -> Tensor:
    """Multiply without sums."""
    factors = []
    for x, names in ((a, names_a), (b, names_b)):
        order = [name for name in result if name in names]
        turned = _turned(graph, x, names, order, label)
        left = iter(turned.whole)
        factors.append(reshape(graph, turned, [next(left) if name in names else 1 for name in result], label))
    return pointwise(graph, "multiply", factors, label)


def _turned(graph: Graph, x: Tensor, names: Sequence[Name], order: Sequence[Name], label: str) -> Tensor:
    """Put named axes into another order."""
    axes = [list(names).index(name) for name in order]
    return x if axes == sorted(axes) else transpose(graph, x, axes, label)
