"""The meaning of a tensor's values: the ops that made them, their bounds, and their inputs.

The functions look through ops that only move values, so a softmax followed by a reshape is still a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.graph.ops.elementwise import ROWWISE
from fastnn.graph.rules import MOVES, UNBOUNDED

_REAL = (-math.inf, math.inf)
# Smallest and largest values of activations whose bounds do not depend on parameters; none for user-defined ones.
_BOUNDS: dict[str, tuple[float, float]] = {
    "linear": _REAL,
    "step": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "log_softmax": (-math.inf, 0.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
    "exponential": (0.0, math.inf),
    "selu": (-1.76, math.inf),
    "gelu": (-0.17, math.inf),
    "gelu_tanh": (-0.18, math.inf),
    "silu": (-0.28, math.inf),
    "mish": (-0.31, math.inf),
}


@dataclass(frozen=True)
class End:
    """Values of an output that come from one op.

    Attributes
    ----------
    op : str
        The op, or the formula of the activation.
    low, high : float
        Bounds of the values.
    sums_to_one : int
        How many neighbours along the last axis sum to 1; 0 if unknown.
    """

    op: str
    low: float
    high: float
    sums_to_one: int = 0


def function_of(node: Node) -> str:
    """Return the formula of an activation's node, else the op; the function `exp` is an activation, too."""
    if node.op == "pointwise" and node.attrs["formula"] == "exp":
        return "exponential"
    return str(node.attrs["formula"]) if node.op == "activation" else node.op


def before(graph: Graph, tensor: Tensor, function: str) -> Tensor | None:
    """Return the tensor from which `function` makes this one, with all moves applied to it instead.

    Parameters
    ----------
    function : str
        The formula of an activation. One that works on rows has to have worked on the tensor's own rows.

    Returns
    -------
    Tensor or None
        None if any of the values come from another op.
    """
    moves: dict[int, Node] = {}
    moved: dict[int, Tensor] = {}
    waiting = [tensor]
    while waiting:
        value = waiting.pop()
        if value.id in moves:
            continue
        node = graph.producer(value)
        if node is None:
            return None
        if node.op in MOVES:
            moves[value.id] = node
            waiting.extend(x for x in node.inputs if x is not None)
        elif function_of(node) == function and node.inputs[0] is not None:
            if function in ROWWISE and value.columns != tensor.columns:
                return None
            moved[value.id] = node.inputs[0]
        else:
            return None
    if function in ROWWISE and not all(MOVES[node.op](node, tensor.columns) for node in moves.values()):
        return None
    for node in [node for node in graph.nodes if any(y.id in moves for y in node.outputs)]:
        inputs = [moved[x.id] for x in node.inputs if x is not None]
        outputs = [(y.shape, y.batched, y.name) for y in node.outputs]
        made = graph.add(node.op, inputs, outputs, node.label, **node.attrs)
        moved.update((y.id, z) for y, z in zip(node.outputs, made, strict=True))
    return moved[tensor.id]


def ends(graph: Graph, tensor: Tensor) -> tuple[End, ...]:
    """Return what is known about a tensor's values, once for each op that made some of them.

    Values of user-defined functions, of inputs and of tensors that depend on these are unknown, and left out.
    """
    known: dict[int, tuple[End, ...]] = {}
    for node in graph.nodes:
        if node.outputs:
            found = _ends_of(node, [known.get(x.id, ()) for x in node.inputs if x is not None])
            known.update((y.id, found) for y in node.outputs)
    return known.get(tensor.id, ())


def _ends_of(node: Node, inputs: Sequence[tuple[End, ...]]) -> tuple[End, ...]:
    if node.op in MOVES:
        found: dict[End, None] = {}
        for end in (end for part in inputs for end in part):
            together = end.sums_to_one and MOVES[node.op](node, end.sums_to_one)
            found[end if together else replace(end, sums_to_one=0)] = None
        return tuple(found)
    if node.op in UNBOUNDED:
        return (End(UNBOUNDED[node.op], *_REAL),)
    if node.op.removeprefix("broadcast_") in ("add", "multiply"):
        return _combined(node.op.removeprefix("broadcast_"), inputs)
    function = function_of(node)
    if function in ("leaky_relu", "elu"):
        a = node.attrs["parameters"][0]
        low = 0.0 if a == 0.0 else -math.inf if function == "leaky_relu" else -a
        return (End(function, low, math.inf),)
    if function in _BOUNDS:
        return (End(function, *_BOUNDS[function], node.outputs[0].columns if function == "softmax" else 0),)
    return ()


def _combined(op: str, inputs: Sequence[tuple[End, ...]]) -> tuple[End, ...]:
    """Return the bounds of sums or products; empty if those of one operand are unknown."""
    if not all(inputs):
        return ()
    (a, b) = ((min(end.low for end in part), max(end.high for end in part)) for part in inputs)
    if op == "add":
        return (End(op, a[0] + b[0], a[1] + b[1]),)
    # a zero times an unbounded value is zero: no value is infinite
    products = [0.0 if 0.0 in (x, y) else x * y for x in a for y in b]
    return (End(op, min(products), max(products)),)
