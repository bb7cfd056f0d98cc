"""Ops that run along an axis: recurrences, cumulative sums and products; places of extrema, and the largest entries."""

from __future__ import annotations

from collections.abc import Sequence

from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.elementwise import elementwise
from fastnn.graph.ops.indexing import scatter_along
from fastnn.graph.ops.reductions import left_shape
from fastnn.graph.ops.strided import axis_of, product, refuse_integers, reshape
from fastnn.graph.rules import Gradients, gradient, gradient_of_outputs


def recurrence(
    graph: Graph,
    a: Tensor | None,
    b: Tensor | None,
    axis: int,
    label: str,
    reverse: bool = False,
    exclusive: bool = False,
    initial: float = 0.0,
) -> Tensor:
    """Make y_t = a_t y_(t-1) + b_t along an axis, with y_0 = initial.

    Parameters
    ----------
    a, b : Tensor or None
        Of equal shapes. Without a it is 1, without b it is 0; one of them is needed.
    reverse : bool
        Whether to go from the end of the axis.
    exclusive : bool
        Whether the result at t is y_(t-1).
    """
    given = [x for x in (a, b) if x is not None]
    for x in given:
        refuse_integers(x, "recurrence")
    if not given or given[0].whole != given[-1].whole:
        raise ValueError(f"recurrence: expected tensors of one shape, got {[x.whole for x in given]}")
    whole = given[0].whole
    place = axis_of(axis, len(whole), "recurrence")
    dims = {
        "outer": product(whole[:place]), "size": whole[place], "inner": product(whole[place + 1 :]),
        "reverse": int(reverse), "exclusive": int(exclusive),
    }  # fmt: skip
    outputs = [output(whole, f"{label}.recurrence")]
    return graph.add("recurrence", (a, b), outputs, label, axis=place, initial=float(initial), **dims)[0]


@gradient("recurrence")
def _recurrence(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    a, b = node.inputs
    axis, label, reverse = node.attrs["axis"], node.label, bool(node.attrs["reverse"])
    # the gradient l of y runs the other way: l_t = dy_t + a_(t+1) l_(t+1), or dy_(t+1) + ... if y_(t-1) is given; what
    # is carried is a_t l_t
    if node.attrs["exclusive"]:
        carried = recurrence(graph, a, dy, axis, label, not reverse, True)
    elif a is None:
        carried = recurrence(graph, None, dy, axis, label, not reverse)
    else:
        scaled = elementwise(graph, "multiply", (a, dy), label)
        carried = recurrence(graph, a, scaled, axis, label, not reverse, True)
        carried = elementwise(graph, "add", (dy, carried), label)
    da = None
    if needs[0]:
        before = recurrence(graph, a, b, axis, label, reverse, True, node.attrs["initial"])
        da = elementwise(graph, "multiply", (carried, before), label)
    return da, carried if needs[1] else None


def cumsum(
    graph: Graph, x: Tensor, axis: int | None, label: str, reverse: bool = False, exclusive: bool = False
) -> Tensor:
    """Sum the entries of an axis up to each of them; without an axis x is seen as one row."""
    if axis is None:
        return cumsum(graph, reshape(graph, x, (-1,), label), 0, label, reverse, exclusive)
    refuse_integers(x, "cumsum")
    axis_of(axis, len(x.whole), "cumsum")
    return recurrence(graph, None, x, axis, label, reverse, exclusive)


def cumprod(
    graph: Graph, x: Tensor, axis: int | None, label: str, reverse: bool = False, exclusive: bool = False
) -> Tensor:
    """Multiply the entries of an axis up to each of them; without an axis x is seen as one row."""
    if axis is None:
        return cumprod(graph, reshape(graph, x, (-1,), label), 0, label, reverse, exclusive)
    refuse_integers(x, "cumprod")
    axis_of(axis, len(x.whole), "cumprod")
    return recurrence(graph, x, None, axis, label, reverse, exclusive, 1.0)


def argmax(graph: Graph, x: Tensor, axis: int | None, keepdims: bool, label: str) -> Tensor:
    """Find the first place of the largest entry along an axis, or of the first NaN; as integers."""
    return _place(graph, "max", x, axis, keepdims, label)


def argmin(graph: Graph, x: Tensor, axis: int | None, keepdims: bool, label: str) -> Tensor:
    """Find the first place of the smallest entry along an axis, or of the first NaN; as integers."""
    return _place(graph, "min", x, axis, keepdims, label)


def _place(graph: Graph, kind: str, x: Tensor, axis: int | None, keepdims: bool, label: str) -> Tensor:
    name = f"arg{kind}"
    refuse_integers(x, name)
    whole = x.whole
    if axis is None:
        dims = {"outer": 1, "repeat": product(whole), "inner": 1}
        result = left_shape(whole, range(len(whole)), keepdims)
    else:
        place = axis_of(axis, len(whole), name)
        dims = {"outer": product(whole[:place]), "repeat": whole[place], "inner": product(whole[place + 1 :])}
        result = left_shape(whole, (place,), keepdims)
    return graph.add("arg_reduce", (x,), [output(result, f"{label}.{name}", "int64")], label, formula=kind, **dims)[0]


@gradient("arg_reduce")
def _no_gradient(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    return (None,)


def top_k(graph: Graph, x: Tensor, k: int, label: str) -> tuple[Tensor, Tensor]:
    """Find the k largest entries along the last axis, in falling order, and their places, as integers.

    Of equal entries the first comes first. NaN is larger than all numbers.
    """
    refuse_integers(x, "top_k")
    whole = x.whole
    if not whole or not isinstance(k, int) or k < 1 or not k <= whole[-1]:
        raise ValueError(f"top_k: expected k from 1 to the size of the last axis of {whole}, got {k!r}")
    dims = {"rows": product(whole[:-1]), "cols": whole[-1], "k": k}
    outputs = [output((*whole[:-1], k), f"{label}.top_k"), output((*whole[:-1], k), f"{label}.places", "int64")]
    values, places = graph.add("largest", (x,), outputs, label, **dims)
    return values, places


@gradient_of_outputs("largest")
def _top_k(graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> Gradients:
    (x,) = node.inputs
    assert x is not None
    if dys[0] is None:
        return (None,)
    return (scatter_along(graph, dys[0], node.outputs[1], len(x.whole) - 1, x.whole[-1], node.label),)
