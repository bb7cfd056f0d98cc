"""Whether the rows of a batch are computed independently of each other, and without random numbers.

Then any number of them may be computed at a time, as codes of networks do: 256, and what is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastnn.graph.extent import BATCH, Extent
from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.sequences.loop import BY_ROW, Body
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.computation import Computation

_RANDOM = frozenset(["random", "dropout", "gaussian_noise"])


class Traits(NamedTuple):
    """What decides how a model's outputs may be computed.

    Attributes
    ----------
    by_row : bool
        Whether every output is a batch, each row of which depends on that row of the inputs alone.
    random : bool
        Whether outputs depend on random numbers.
    moves_averages : bool
        Whether batch normalisation would move its averages.
    """

    by_row: bool
    random: bool
    moves_averages: bool


def traits(table: ParameterTable, *, training: bool) -> Traits:
    """Return how a model's outputs may be computed."""
    made = Computation(table, training=training)
    nodes, wanted = _live(made.graph, made.outputs)
    random = any(node.op in _RANDOM or (node.op == "attention" and node.attrs["rate"] > 0.0) for node in nodes)
    # states are of a batch
    by_row = not made.carried and _by_row(made.graph, nodes, wanted, made.outputs)
    return Traits(by_row, random, any(node.op == "batch_norm" for node in nodes))


def check_frozen(name: str, found: Traits, rows: int | None) -> None:
    """Check that compiled code may compute a model's outputs for any number of rows, or for exactly `rows`.

    Raises
    ------
    ValueError
        When rows depend on each other, or outputs on random numbers.
    """
    reason = ""
    if found.random:
        reason = "its outputs depend on random numbers"
    elif not found.by_row and rows is None:
        reason = (
            "an output is not a batch whose rows depend on one row of the inputs each: give the number of rows that "
            "calls will have (rows=...), or freeze what is computed row by row"
        )
    if reason:
        raise ValueError(f"freeze: {name!r} cannot be called from compiled code: {reason}")


def _live(graph: Graph, outputs: Sequence[Tensor]) -> tuple[list[Node], set[int]]:
    """Return the nodes that outputs depend on, in order, and the numbers of the tensors."""
    wanted = {tensor.id for tensor in outputs}
    found: list[Node] = []
    for node in reversed(graph.nodes):
        if any(tensor.id in wanted for tensor in node.outputs):
            found.append(node)
            wanted.update(tensor.id for tensor in node.inputs if tensor is not None)
    return found[::-1], wanted


def _by_row(graph: Graph, nodes: Sequence[Node], wanted: set[int], outputs: Sequence[Tensor]) -> bool:
    """Return whether all values that depend on the batch are batches of rows that depend on one row each."""
    return _rows_apart(nodes, {tensor.id for tensor in graph.inputs}, wanted, [tensor.id for tensor in outputs])


def _rows_apart(nodes: Sequence[Node], rows: set[int], wanted: set[int] | None, outputs: Sequence[int]) -> bool:
    """Return whether rows of values depend on one row each, which are those of `rows` at first.

    Parameters
    ----------
    wanted : set of int, optional
        The values that count; None for all.
    outputs : sequence of int
        Values that have to have such rows.
    """
    stacks: set[int] = set()  # values whose second axis is the batch, after the steps of a loop
    for node in nodes:
        if _is_of_steps(node, rows, stacks):
            continue
        from_rows = any(tensor is not None and tensor.id in rows for tensor in node.inputs)
        if any(tensor is not None and tensor.id in stacks for tensor in node.inputs):
            return False
        if isinstance(node.attrs.get("divisor"), Extent):
            return False  # a mean over rows
        for tensor in node.outputs:
            if (wanted is None or tensor.id in wanted) and (tensor.batched or from_rows or _depends_on_batch(tensor)):
                if not tensor.batched or _depends_on_batch(tensor):
                    return False
                rows.add(tensor.id)
        if from_rows and _moves_rows(node, rows):
            return False
    return all(tensor in rows for tensor in outputs)


def _is_of_steps(node: Node, rows: set[int], stacks: set[int]) -> bool:
    """Return whether a node keeps rows apart in a way of loops; then its results are added to `rows` or `stacks`."""
    if node.op == "loop":
        body: Body = node.attrs["body"]
        inside = (*body.sequences, *body.states, *body.constants)
        own = {x.id for x, y in zip(inside, node.inputs, strict=True) if y is not None and y.id in rows | stacks}
        own |= {x.id for x in body.states if x.batched}
        if not _rows_apart(body.nodes, own, None, [x.id for x in body.following]):
            return False
        stacks.update(y.id for y in node.outputs[: len(body.stacked)])
        rows.update(y.id for y in node.outputs[len(body.stacked) :])
        return True
    if node.op not in ("transpose", *BY_ROW):
        return False
    x, *others = node.inputs
    y = node.outputs[0]
    if x is None or x.id not in rows | stacks or any(z is not None and z.id in rows | stacks for z in others):
        return False
    was_stack, is_stack = x.id in stacks, len(y.whole) > 1 and y.whole[1] == BATCH and not y.batched
    # the axis of the steps changes places with the batch
    turned = node.op == "transpose" and node.attrs["axes"][:2] == (1, 0)
    turned |= node.op == "reshape" and 1 in (*x.whole[:1], *y.whole[:1]) and x.whole[:2] == y.whole[1::-1]
    same = node.op != "transpose" and x.whole[:2] == y.whole[:2] and was_stack
    if not (turned and was_stack != is_stack) and not same:
        return False
    (stacks if is_stack else rows).add(y.id)
    return True


def _depends_on_batch(tensor: Tensor) -> bool:
    return any(isinstance(size, Extent) for size in tensor.shape)


def _moves_rows(node: Node, rows: set[int]) -> bool:
    """Return whether an op of batches takes other rows than that of the result."""
    if node.op in ("batch_norm", "normalize_weights"):
        return True  # statistics of the batch; batch normalisation in inference is another op
    if node.op == "slice":
        return bool(node.attrs["ranges"][0] != (0, 1, BATCH))
    if node.op in ("recurrence", "place"):
        return bool(node.attrs["axis"] == 0)
    if node.op in ("take", "scatter_add"):
        x = node.inputs[0]
        # entries of an axis after the batch have the batch among what is outside of it
        return x is not None and x.id in rows and not isinstance(node.attrs["outer"], Extent)
    return False
