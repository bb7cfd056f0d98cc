"""Loops: a graph of its own, the body, that is computed for one step of sequences after the other.

What the body computes may become a *stack*: an array of it for each step, with the steps as the first axis. So stacks
are what a loop returns of its steps, and what its gradient reads, which is a loop in the other direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastnn.graph.graph import Graph, Node, Output, Tensor, output
from fastnn.graph.ops.moves import add_up
from fastnn.graph.ops.pointwise import constant
from fastnn.graph.ops.strided import copied, reshape, sliced
from fastnn.graph.rules import Gradients, gradient_of_outputs
from fastnn.graph.vjp import walk

#: ops that are computed for all steps at once, before the loop, if they depend on no state
BY_ROW = frozenset({"matmul", "bias_add", "activation", "reshape", "slice"})
#: gradients that are computed of the stacks of their operands after the loop, instead of being added up in it
_OF_ALL_ROWS = frozenset({"matmul_tn", "sum_rows"})
_RANDOM = frozenset({"random", "dropout", "gaussian_noise"})


class Body(NamedTuple):
    """What a loop computes in each step.

    Attributes
    ----------
    nodes : tuple of Node
    sequences, states, constants : tuple of Tensor
        Its inputs, in this order those of the loop's node: arrays of the step, states before it, and what is the same
        in all steps.
    following : tuple of Tensor
        The states after the step, each the result of a node.
    stacked : tuple of Tensor
        What may become a stack: the first outputs of the loop's node, before the last states.
    free : int
        A number that no tensor has, nor any later one.
    """

    nodes: tuple[Node, ...]
    sequences: tuple[Tensor, ...]
    states: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    following: tuple[Tensor, ...]
    stacked: tuple[Tensor, ...]
    free: int


class Step:
    """The description of a loop's step: a graph, and where the tensors in it come from.

    Attributes
    ----------
    graph : Graph
        A graph of its own.
    sequences : dict of int to Tensor
        For tensors of this graph, by number, the stacks outside that they are arrays of.
    constants : dict of int to Tensor
        Likewise what they are outside.
    states : list of (Tensor, Tensor, Tensor)
        States before a step, what they are outside before the first one, and what they are after a step.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.sequences: dict[int, Tensor] = {}
        self.constants: dict[int, Tensor] = {}
        self.states: list[tuple[Tensor, Tensor, Tensor]] = []

    def array_of(self, stack: Tensor) -> Tensor:
        """Add an input: the array of the step of a stack outside."""
        shape, batched, name, kind = output(stack.whole[1:], f"{stack.name}.step", stack.kind)  # type: ignore[misc]
        made = self.graph.placeholder(shape, batched, kind, name)
        self.sequences[made.id] = stack
        return made

    def same(self, outer: Tensor) -> Tensor:
        """Add an input that is the same in all steps."""
        made = self.graph.placeholder(outer.shape, outer.batched, outer.kind, outer.name)
        self.constants[made.id] = outer
        return made


def loop(
    graph: Graph, step: Step, nodes: Sequence[Node], wanted: Sequence[Tensor], steps: int, reverse: bool, label: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Add a loop; what does not depend on states is computed before it.

    Parameters
    ----------
    step : Step
    nodes : sequence of Node
        What is computed in a step, in order.
    wanted : sequence of Tensor
        Tensors of the step.
    steps : int
    reverse : bool
        Whether to go from the last step to the first.

    Returns
    -------
    stacks, last : list of Tensor
        The stacks of what is wanted, in the order of the steps, and the states after the last step.

    Raises
    ------
    ValueError
        If a step draws random numbers.
    """
    inner = step.graph
    live = _live(nodes, [*wanted, *(after for _, _, after in step.states)])
    if any(node.op in _RANDOM for node in live):
        raise ValueError(
            f"layer {label!r}: a step draws random numbers, which would be the same ones in all steps; draw them "
            "outside, as an input or an initial state of the layer"
        )
    kept = [node for node in live if not _hoisted_constant(graph, step, node)]
    kept = [node for node in kept if not _hoisted_rows(graph, step, node, steps)]
    made = {y.id for node in kept if node.op != "reshape" for y in node.outputs}

    def own(x: Tensor) -> Tensor:
        """Return the tensor if a node makes it, else a copy of it."""
        if x.id in made:
            return x
        start = len(inner.nodes)
        y = copied(inner, x, None, None, label)
        kept.extend(inner.nodes[start:])
        return y

    found: dict[int, Tensor] = {}
    for x in wanted:
        if x.id not in step.sequences:
            found[x.id] = x if any(x is before for before, _, _ in step.states) else own(x)
    following = [own(after) for _, _, after in step.states]
    if len({x.id for x in following}) < len(following):
        following = [x if x not in following[:number] else _copy(inner, x, kept, label)
                     for number, x in enumerate(following)]  # fmt: skip
    used = {x.id: x for node in kept for x in node.inputs if x is not None}
    sequences = [x for x in used.values() if x.id in step.sequences]
    constants = [x for x in used.values() if x.id in step.constants]
    states = [before for before, _, _ in step.states]
    stacked = [*states, *(y for node in kept if node.op != "reshape" for y in node.outputs)]
    body = Body(
        tuple(kept), tuple(sequences), tuple(states), tuple(constants), tuple(following), tuple(stacked), inner.count
    )
    inputs = [step.sequences[x.id] for x in sequences] + [initial for _, initial, _ in step.states]
    inputs += [step.constants[x.id] for x in constants]
    outputs: list[Output] = [output((steps, *x.whole), f"{x.name}.stack", x.kind) for x in stacked]
    outputs += [output(x.whole, f"{label}.last") for x in states]
    results = graph.add("loop", inputs, outputs, label, body=body, steps=steps, reverse=reverse)
    stacks = {x.id: y for x, y in zip(stacked, results, strict=False)}
    by_wanted = [stacks[found[x.id].id] if x.id in found else step.sequences[x.id] for x in wanted]
    return by_wanted, list(results[len(stacked) :])


def _copy(graph: Graph, x: Tensor, nodes: list[Node], label: str) -> Tensor:
    start = len(graph.nodes)
    y = copied(graph, x, None, None, label)
    nodes.extend(graph.nodes[start:])
    return y


def _live(nodes: Sequence[Node], wanted: Sequence[Tensor]) -> list[Node]:
    """Return the nodes that some tensors depend on, in order."""
    needed = {x.id for x in wanted}
    found = []
    for node in reversed(nodes):
        if any(y.id in needed for y in node.outputs):
            needed.update(x.id for x in node.inputs if x is not None)
            found.append(node)
    return found[::-1]


def _hoisted_constant(graph: Graph, step: Step, node: Node) -> bool:
    """Compute a node outside if it is the same in all steps; returns whether it is."""
    if any(x is not None and x.id not in step.constants for x in node.inputs):
        return False
    inputs = [None if x is None else step.constants[x.id] for x in node.inputs]
    outputs: list[Output] = [(y.shape, y.batched, y.name, y.kind) for y in node.outputs]
    made = graph.add(node.op, inputs, outputs, node.label, **node.attrs)
    step.constants.update((y.id, z) for y, z in zip(node.outputs, made, strict=True))
    return True


def _hoisted_rows(graph: Graph, step: Step, node: Node, steps: int) -> bool:
    """Compute a node outside for all steps at once if it depends on no state; returns whether it does not."""
    first, *others = node.inputs
    by_row = node.op in BY_ROW and not node.attrs.get("stop") and len(node.outputs) == 1
    if first is None or first.id not in step.sequences or not by_row:
        return False
    if any(x is None or x.id not in step.constants for x in others):
        return False
    stack, (y,), label = step.sequences[first.id], node.outputs, node.label
    if node.op == "slice":
        z = sliced(graph, stack, [(0, 1, steps), *node.attrs["ranges"]], (steps, *y.whole), label)
    else:
        inputs = [stack, *(step.constants[x.id] for x in others if x is not None)]
        (z,) = graph.add(node.op, inputs, [output((steps, *y.whole), y.name, y.kind)], label, **node.attrs)
    step.sequences[y.id] = z
    return True


@gradient_of_outputs("loop")
def _loop(graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> Gradients:
    return _Backward(graph, node, dys, needs).gradients()


class _Backward:
    """The gradient of a loop: a loop in the other direction, whose states are the gradients of the states.

    Gradients of weights that are sums over rows are computed of the rows of all steps after the loop; others are
    further states, to which each step adds.
    """

    def __init__(self, graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> None:
        body: Body = node.attrs["body"]
        self._outer, self._node, self._body, self._label = graph, node, body, node.label
        self._inner = Graph.continued(body.nodes, body.free)
        self._step = Step(self._inner)
        stacks = len(body.stacked)
        self._stacks = {x.id: y for x, y in zip(body.stacked, node.outputs, strict=False)}
        self._dys, self._dlast = dys[:stacks], dys[stacks:]
        given = [x for x in node.inputs if x is not None]
        self._given = dict(zip((x.id for x in (*body.sequences, *body.states, *body.constants)), given, strict=True))
        self._needs = dict(zip(self._given, needs, strict=True))

    def gradients(self) -> Gradients:
        """Add the loop, and return the gradients of the inputs of the node."""
        body, inner, label = self._body, self._inner, self._label
        inputs = (*body.sequences, *body.states, *body.constants)
        wanted = {x.id for x in inputs if self._needs[x.id]} | {x.id for x in body.states}
        seeds = []
        for x, dy in zip(body.stacked, self._dys, strict=True):
            if dy is not None:
                seeds.append((x, self._step.array_of(dy)))
        after = [inner.placeholder(x.shape, x.batched, x.kind, f"{label}.dstate") for x in body.states]
        seeds += zip(body.following, after, strict=True)
        start = len(inner.nodes)
        found = walk(inner, list(inner.nodes), seeds, wanted)
        for x, dx, dlast in zip(body.states, after, self._dlast, strict=True):
            first = constant(self._outer, 0.0, x.whole, label) if dlast is None else dlast
            before = add_up(inner, found[x.id], label) if found.get(x.id) else constant(inner, 0.0, x.whole, label)
            self._step.states.append((dx, first, _shaped(inner, before, x, label)))
        steps_of = [x for x in body.sequences if self._needs[x.id] and found.get(x.id)]
        arrays = [_shaped(inner, add_up(inner, found[x.id], label), x, label) for x in steps_of]
        outside: list[tuple[Tensor, Node]] = []  # gradients of all rows, after the loop
        sums: list[tuple[Tensor, int]] = []  # gradients that are states
        for x in body.constants:
            for part in found.get(x.id, ()) if self._needs[x.id] else ():
                made = inner.producer(part)
                if made is not None and made.op in _OF_ALL_ROWS:
                    outside.append((x, made))
                else:
                    total = inner.placeholder(x.shape, x.batched, x.kind, f"{label}.sum")
                    sums.append((x, len(self._step.states)))
                    zeros = constant(self._outer, 0.0, x.whole, label)
                    new = add_up(inner, [total, _shaped(inner, part, x, label)], label)
                    self._step.states.append((total, zeros, new))
        operands = [x for _, made in outside for x in made.inputs if x is not None]
        stacks, last = self._run(start, [*arrays, *operands])
        rows = iter(stacks[len(arrays) :])
        results: dict[int, list[Tensor]] = {x.id: [y] for x, y in zip(steps_of, stacks, strict=False)}
        for number, x in enumerate(body.states):
            results[x.id] = [last[number]]
        for x, made in outside:
            taken = [next(rows) for each in made.inputs if each is not None]
            outputs: list[Output] = [(y.shape, y.batched, y.name, y.kind) for y in made.outputs]
            results.setdefault(x.id, []).extend(self._outer.add(made.op, taken, outputs, label, **made.attrs))
        for x, state in sums:
            results.setdefault(x.id, []).append(last[state])
        return [
            _shaped(self._outer, add_up(self._outer, results[x.id], label), given, label)
            if results.get(x.id) and self._needs[x.id]
            else None
            for x, given in zip(inputs, self._node.inputs, strict=True)
            if given is not None
        ]

    def _run(self, start: int, wanted: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Add the loop that runs the nodes which have been added to the body's since it had `start`."""
        step, nodes = self._step, list(self._inner.nodes[start:])
        made = {y.id for node in nodes for y in node.outputs}
        again: dict[int, Node] = {}
        waiting = [x for node in nodes for x in node.inputs if x is not None]
        waiting += [*wanted, *(after for _, _, after in step.states)]
        own = {before.id for before, _, _ in step.states}
        while waiting:
            x = waiting.pop()
            if x.id in made or x.id in own or x.id in step.sequences or x.id in step.constants or x.id in again:
                continue
            node = self._inner.producer(x)
            if node is not None and node.op == "reshape":
                again[x.id] = node
                waiting.extend(each for each in node.inputs if each is not None)
            elif x.id in self._stacks:
                step.sequences[x.id] = self._stacks[x.id]
            elif any(x is each for each in self._body.sequences):
                step.sequences[x.id] = self._given[x.id]
            else:
                step.constants[x.id] = self._given[x.id]
        nodes = [*(each for each in self._body.nodes if each.outputs and each.outputs[0].id in again), *nodes]
        reverse = not self._node.attrs["reverse"]
        return loop(self._outer, step, nodes, wanted, self._node.attrs["steps"], reverse, self._label)


def _shaped(graph: Graph, x: Tensor, like: Tensor, label: str) -> Tensor:
    """Return a gradient in the shape of what it is a gradient of."""
    return x if x.whole == like.whole else reshape(graph, x, like.whole, label)
