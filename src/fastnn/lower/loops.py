"""Loops are lowered: a `repeat` record and its body, whose records work on windows over stacks.

A state has one place: that of what the loop returns of it. The body reads it there, and writes the next one there, too,
as soon as nothing in the step reads the old one any more; otherwise a copy is the end of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from fastnn.graph.extent import at
from fastnn.graph.graph import Node, Tensor
from fastnn.graph.ops.sequences.loop import Body
from fastnn.lower.emit import Draft, Emitter, emit
from fastnn.lower.memory import APART, Life
from fastnn.program.layout import MOST_WINDOWS, WINDOWS, encode
from fastnn.program.record import ITEM_SIZES

#: Tensors of bodies have numbers from this one on, which no tensor of the graph has.
_NUMBERS = 1 << 32
_SUFFIX = {"real": "", "float64": "_float64", "int64": "_int64"}


class Window(NamedTuple):
    """A tensor of a body, the stack outside, and whether the body writes it."""

    tensor: Tensor
    stack: Tensor
    written: bool


@dataclass(frozen=True)
class LoopPlan:
    """A loop that is the same for all batch sizes.

    Attributes
    ----------
    node : Node
        The loop's.
    nodes : list of Node
        Of the body, rewritten, with numbers of their own.
    roots : mapping of int to int
        For views in the body the tensors whose memory they see.
    used : set of int
        Numbers of what anything in the body reads, and of its results.
    windows : list of Window
    outside : mapping of int to Tensor
        For states, what is the same in all steps, and next states that are written in place: tensors outside.
    copies : list of (Tensor, Tensor)
        States outside, and in the body what is copied there at the end.
    kept : list of (Tensor, Tensor)
        Windows that states outside are copied to before the step.
    """

    node: Node
    nodes: list[Node]
    roots: dict[int, int]
    used: frozenset[int]
    windows: list[Window]
    outside: dict[int, Tensor]
    copies: list[tuple[Tensor, Tensor]]
    kept: list[tuple[Tensor, Tensor]]

    @property
    def initial(self) -> list[tuple[Tensor, Tensor]]:
        """States outside, and what they are before the first step."""
        body: Body = self.node.attrs["body"]
        given = self.node.inputs[len(body.sequences) :]
        return [(y, x) for y, x in zip(self.node.outputs[len(body.stacked) :], given, strict=False) if x is not None]


#: Takes the nodes of a body and what is kept of them; returns them rewritten, and their views' roots.
Rewrite = Callable[[Sequence[Node], Collection[int]], tuple[list[Node], dict[int, int]]]


def plan_loop(node: Node, number: int, used: Collection[int], rewrite: Rewrite) -> LoopPlan:
    """Plan a loop.

    Parameters
    ----------
    node : Node
    number : int
        The number of the loop in the graph.
    used : collection of int
        Numbers of the tensors outside that are read.
    rewrite : callable

    Raises
    ------
    ValueError
        If a step keeps too much.
    """
    body: Body = node.attrs["body"]
    base = (number + 1) * _NUMBERS

    known: dict[int, Tensor] = {}

    def own(x: Tensor) -> Tensor:
        if x.id not in known:
            known[x.id] = replace(x, id=base + x.id)
        return known[x.id]

    nodes = [
        replace(
            each,
            inputs=tuple(None if x is None else own(x) for x in each.inputs),
            outputs=tuple(own(y) for y in each.outputs),
        )
        for each in body.nodes
    ]
    following = [own(x) for x in body.following]
    last = node.outputs[len(body.stacked) :]
    stacks = {own(x).id: (own(x), y) for x, y in zip(body.stacked, node.outputs, strict=False) if y.id in used}
    states = {own(x).id: y for x, y in zip(body.states, last, strict=True)}
    wanted = {x.id for x in following} | (stacks.keys() - states.keys())
    nodes, roots = rewrite(nodes, wanted)
    read = {x.id for each in nodes for x in each.inputs if x is not None}
    read |= {roots.get(each, each) for each in read}
    given = dict(zip((own(x).id for x in body.sequences), node.inputs, strict=False))
    windows = [Window(own(x), stack, False) for x in body.sequences
               if own(x).id in read and (stack := given[own(x).id]) is not None]  # fmt: skip
    windows += [Window(x, stack, True) for x, stack in stacks.values()]
    if len(windows) > MOST_WINDOWS:
        raise ValueError(
            f"layer {node.label!r}: a step of its cell reads and keeps {len(windows)} arrays, expected at most "
            f"{MOST_WINDOWS}: use fewer operations, or fewer functions whose gradient keeps values"
        )
    constants = node.inputs[len(body.sequences) + len(body.states) :]
    outside = {own(x).id: y for x, y in zip(body.constants, constants, strict=True) if y is not None}
    outside |= states
    kept = [(x, states[number]) for number, (x, _) in stacks.items() if number in states]
    in_place = {
        after.id: outer
        for before, after, outer in zip(body.states, following, last, strict=True)
        if after.id not in stacks and _is_free(nodes, roots, own(before).id, after.id)
    }
    copies = [(outer, x) for outer, x in zip(last, following, strict=True) if x.id not in in_place]
    return LoopPlan(
        node, nodes, roots, frozenset(read | wanted), windows, outside | in_place, copies, kept
    )  # fmt: skip


def _is_free(nodes: Sequence[Node], roots: Mapping[int, int], state: int, after: int) -> bool:
    """Return whether nothing reads a state from where the next one is made."""
    made = next(number for number, node in enumerate(nodes) if any(y.id == after for y in node.outputs))
    return not any(
        roots.get(x.id, x.id) == state for node in nodes[made:] for x in node.inputs if x is not None
    )  # fmt: skip


def emit_loop(e: Emitter, plan: LoopPlan) -> tuple[list[Draft], int]:
    """Write the records of a loop; returns also the number of its `repeat` record among them."""
    label, steps = plan.node.label, plan.node.attrs["steps"]
    words = {x.id: encode(WINDOWS + number, 0) for number, (x, _, _) in enumerate(plan.windows)}
    begin = [_copy(e, y, x, y, label) for y, x in plan.initial]
    body = [_window(e, window, number, plan.node) for number, window in enumerate(plan.windows)]
    body += [_copy(e, words[x.id], outer, x, label) for x, outer in plan.kept]
    for node in plan.nodes:
        for draft in emit(e, node):
            draft.operands = {
                name: _placed(x, plan, words) if isinstance(x, Tensor) else x for name, x in draft.operands.items()
            }
            body.append(draft)
    body += [_copy(e, outer, _placed(x, plan, words), x, label) for outer, x in plan.copies]
    repeat = Draft("repeat", {}, {"times": steps, "body": len(body)}, label=label)
    return [*begin, repeat, *body], len(begin)


def _placed(x: Tensor, plan: LoopPlan, words: Mapping[int, int]) -> Tensor | int:
    """Return where a tensor of a body is."""
    root = plan.roots.get(x.id, x.id)
    return words[root] if root in words and root not in plan.outside else plan.outside.get(root, x)


def _window(e: Emitter, window: Window, number: int, loop: Node) -> Draft:
    size, steps = e.elements(window.tensor), loop.attrs["steps"]
    name = ("made" if window.written else "stack") + _SUFFIX[window.tensor.kind]
    item = ITEM_SIZES[e.dtype if window.tensor.kind == "real" else window.tensor.kind]
    dims = {"times": steps, "size": size, "number": number, "first": 0, "step": size, "item": item}
    if loop.attrs["reverse"]:
        dims |= {"first": (steps - 1) * size, "step": -size}
    return Draft("window", {name: window.stack}, dims, label=loop.label)


def _copy(e: Emitter, y: Tensor | int, x: Tensor | int, like: Tensor, label: str) -> Draft:
    cols = at(like.columns, e.batch)
    dims = {"rows": e.rows(like), "cols": cols, "target_cols": cols, "source_cols": cols}
    return Draft("copy_columns", {"y": y, "x": x}, {**dims, "target_first": 0, "source_first": 0}, label=label)


def prolong(
    lives: Mapping[int, Life], drafts: Sequence[Draft], loops: Sequence[tuple[int, int]], roots: Mapping[int, int]
) -> None:
    """Let what a loop touches of what is outside live through all its rounds, and leave room between stacks.

    Parameters
    ----------
    loops : sequence of (int, int)
        The number of each `repeat` record, and of the last record of its body.
    """
    widened: set[int] = set()
    for start, last in loops:
        for draft in drafts[start : last + 1]:
            for x in draft.operands.values():
                if not isinstance(x, Tensor) or x.id >= _NUMBERS:
                    continue
                root = roots.get(x.id, x.id)
                life = lives.get(root)
                if life is None:
                    continue
                life.first, life.last = min(life.first, start), max(life.last, last)
                if draft.op == "window" and root not in widened:
                    widened.add(root)
                    life.nbytes += APART
