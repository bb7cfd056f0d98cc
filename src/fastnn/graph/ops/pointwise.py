"""Functions of one to three tensors element by element, broadcast as NumPy does, also over the batch; numbers.

Shapes are whole: the batch is the first axis of those that have it. All gradients are made of the same functions and of
sums, so that they have gradients, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from fastnn.formulas.pointwise import ARITY
from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Shape, Tensor, output
from fastnn.graph.ops.dense import bias_add
from fastnn.graph.ops.reductions import broadcast_to, reduce
from fastnn.graph.ops.strided import reshape

#: a tensor, or a number that is the same for all elements
Value = Tensor | float
#: sizes of neighbouring axes together, and which of the operands are there, not broadcast
Group = tuple[Size, tuple[bool, ...]]
#: the axes of a record
MOST_GROUPS = 4


def pointwise(graph: Graph, function: str, inputs: Sequence[Value], label: str) -> Tensor:
    """Apply a function to each element of tensors and numbers.

    Parameters
    ----------
    function : str
        One of `formulas.pointwise.ARITY`.
    inputs : sequence of Tensor or float
        As many as the function takes, at least one of them a tensor. Integers are converted first.

    Returns
    -------
    Tensor
        Of the shape to which the inputs' shapes are broadcast.

    Raises
    ------
    ValueError
        If there are too few or too many operands or no tensor among them, or the shapes do not fit each other.
    """
    if len(inputs) != ARITY[function]:
        raise ValueError(f"{function}: expected {ARITY[function]} operands, got {len(inputs)}")
    values = [_value(graph, x, label) for x in inputs]
    tensors = [x for x in values if isinstance(x, Tensor)]
    if not tensors:
        raise ValueError(f"{function}: expected a tensor among the operands, got numbers")
    simpler = _simpler(graph, function, values, label)
    if simpler is not None:
        return simpler
    whole = broadcast(function, [x.whole for x in tensors])
    values = [_narrow(graph, values, number, whole, label) for number in range(len(values))]
    tensors = [x for x in values if isinstance(x, Tensor)]
    if function in ("add", "multiply") and len(tensors) == 2 and tensors[0].whole == tensors[1].whole:
        return graph.like(function, tensors, label)  # records that are fused with others
    while len(axes(values, whole)) > MOST_GROUPS:
        number, x = next((i, x) for i, x in enumerate(values) if isinstance(x, Tensor) and x.whole != whole)
        values[number] = broadcast_to(graph, x, whole, label)
    return _node(graph, function, values, whole, label)


def _narrow(graph: Graph, values: list[Value], number: int, whole: Shape, label: str) -> Value:
    """Return an operand without its repetitions, where others have the result's shape: they are read without a copy."""
    x = values[number]
    node = graph.producer(x) if isinstance(x, Tensor) else None
    if node is None or node.op != "broadcast" or node.inputs[0] is None:
        return x
    source = node.inputs[0]
    shape = (1,) * (len(whole) - len(source.whole)) + tuple(source.whole)
    narrow = reshape(graph, source, shape, label)
    others = [*values[:number], narrow, *values[number + 1 :]]
    wholes = [each.whole for each in others if isinstance(each, Tensor)]
    if whole in wholes and len(axes(others, whole)) <= MOST_GROUPS:
        values[number] = narrow
    return values[number]


#: functions that are powers
_POWERS = {-1.0: "reciprocal", -0.5: "rsqrt", 0.5: "sqrt", 2.0: "square"}


def _simpler(graph: Graph, function: str, values: Sequence[Value], label: str) -> Tensor | None:
    """Return the same by other means: powers by simple exponents, biases that are added to products."""
    x = values[0]
    if function == "power" and isinstance(x, Tensor) and not isinstance(values[1], Tensor):
        if values[1] in _POWERS:
            return pointwise(graph, _POWERS[values[1]], (x,), label)
        if values[1] == 3.0:
            return pointwise(graph, "multiply", (pointwise(graph, "square", (x,), label), x), label)
        return x if values[1] == 1.0 else None
    if function == "add":
        for x, bias in (values, values[::-1]):
            if not (isinstance(x, Tensor) and isinstance(bias, Tensor)):
                return None
            made = graph.producer(x)
            # one record makes the product and adds the bias
            if made is not None and made.op == "matmul" and bias.whole == x.shape[-1:]:
                return bias_add(graph, x, bias, label)
    return None


def _node(graph: Graph, function: str, values: Sequence[Value], whole: Shape, label: str) -> Tensor:
    operands = [x if isinstance(x, Tensor) else None for x in values]
    numbers = tuple(0.0 if isinstance(x, Tensor) else x for x in values)
    outputs = [output(whole, f"{label}.{function}")]
    return graph.add("pointwise", operands, outputs, label, formula=function, numbers=numbers)[0]


def _value(graph: Graph, x: Value, label: str) -> Value:
    if isinstance(x, Tensor):
        return cast(graph, x, "real", label)
    # records have finite parameters
    return float(x) if isfinite(x) else constant(graph, x, (), label)


def broadcast(function: str, wholes: Sequence[Shape]) -> Shape:
    """Return the shape to which some shapes are broadcast.

    Raises
    ------
    ValueError
        If there is none.
    """
    rank = max(map(len, wholes))
    found: list[Size] = []
    for sizes in zip(*((1,) * (rank - len(whole)) + tuple(whole) for whole in wholes), strict=True):
        several = {size for size in sizes if size != 1}
        if len(several) > 1:
            raise ValueError(f"{function}: shapes {' and '.join(map(str, wholes))} do not fit each other")
        found.append(several.pop() if several else 1)
    return tuple(found)


def axes(values: Sequence[Value], whole: Shape) -> list[Group]:
    """Return the axes of an elementwise operation, those joined that no operand tells apart; axes of 1 are left out."""
    groups: list[Group] = []
    shapes = [x.whole for x in values if isinstance(x, Tensor)]
    aligned = [(1,) * (len(whole) - len(shape)) + tuple(shape) for shape in shapes]
    for axis, size in enumerate(whole):
        if size == 1:
            continue
        there = tuple(shape[axis] != 1 for shape in aligned)
        if groups and groups[-1][1] == there:
            groups[-1] = groups[-1][0] * size, there
        else:
            groups.append((size, there))
    return groups


def strides(groups: Sequence[Group], number: int) -> list[Size]:
    """Return the distances of elements of an operand along axes, 0 where it is broadcast."""
    found: list[Size] = []
    below: Size = 1
    for size, there in reversed(groups):
        found.insert(0, below if there[number] else 0)
        below = below * size if there[number] else below
    return found


def summed_to(graph: Graph, dy: Tensor, whole: Shape, label: str) -> Tensor:
    """Sum a gradient over the axes along which a tensor of a shape was broadcast."""
    lead = len(dy.whole) - len(whole)
    axes = [axis for axis, size in enumerate(dy.whole) if axis < lead or size != whole[axis - lead]]
    if axes:
        dy = reduce(graph, "sum", dy, tuple(axes), True, label)
    return reshape(graph, dy, whole, label)


def constant(graph: Graph, value: float, whole: Shape, label: str) -> Tensor:
    """Make a tensor of a whole shape, all of whose elements are one number, which may be infinite or NaN."""
    if isfinite(value):
        return _node(graph, "identity", (float(value),), tuple(whole), label)
    # functions of finite numbers that are not finite
    function, of = ("reciprocal", 0.0) if value > 0.0 else ("log", 0.0 if value < 0.0 else -1.0)
    return _node(graph, function, (of,), tuple(whole), label)


def cast(graph: Graph, x: Tensor, kind: str, label: str) -> Tensor:
    """Convert integers to real numbers, or real numbers to integers, towards zero (`kind` "int64").

    NaN becomes the smallest integer, and numbers beyond the integers the nearest of them.
    """
    if x.kind == kind:
        return x
    if {x.kind, kind} != {"real", "int64"}:
        raise ValueError(f"cast: expected 'real' or 'int64', got a tensor of {x.kind!r} for {kind!r}")
    op = "to_real" if kind == "real" else "to_integer"
    return graph.add(op, (x,), [output(x.whole, f"{label}.cast", kind)], label)[0]


DISTRIBUTIONS = {"normal": ("mean", "stddev"), "uniform": ("low", "high"), "bernoulli": ("p",)}


def random(graph: Graph, distribution: str, whole: Shape, stream: int, label: str, **parameters: float) -> Tensor:
    """Draw random numbers, others in every step; the same on all devices and with any number of threads.

    Parameters
    ----------
    distribution : {"normal", "uniform", "bernoulli"}
    stream : int
        Separates the random numbers of nodes, as for `dropout`.
    **parameters : float
        `mean` and `stddev`; `low` and `high`, of which `low` may be drawn and `high` only where sums are rounded to it;
        or `p`, the probability of 1 instead of 0.

    Raises
    ------
    ValueError
        If a parameter is missing, unknown or out of range.
    """
    names = DISTRIBUTIONS.get(distribution)
    if names is None:
        raise ValueError(f"random: expected one of {sorted(DISTRIBUTIONS)}, got {distribution!r}")
    if set(parameters) != set(names):
        raise ValueError(f"{distribution}: expected {' and '.join(names)}, got {sorted(parameters)}")
    values = [float(parameters[name]) for name in names]
    if not all(map(isfinite, values)):
        raise ValueError(f"{distribution}: expected finite parameters, got {parameters}")
    wrong = {
        "normal": values[-1] < 0.0, "uniform": values[0] > values[-1], "bernoulli": not 0.0 <= values[0] <= 1.0,
    }[distribution]  # fmt: skip
    if wrong:
        expected = {"normal": "stddev >= 0", "uniform": "low <= high", "bernoulli": "0 <= p <= 1"}[distribution]
        raise ValueError(f"{distribution}: expected {expected}, got {parameters}")
    return graph.add(
        "random", (), [output(tuple(whole), f"{label}.{distribution}")], label, formula=distribution, node=stream,
        **{f"p{number}": value for number, value in enumerate(values)},
    )[0]  # fmt: skip
