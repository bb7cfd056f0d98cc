"""The lowering itself: removal of dead nodes, fusions, records, lives, the arena, a verified program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fastnn.graph.extent import at
from fastnn.graph.graph import Node, Tensor
from fastnn.lower import chains, loops
from fastnn.lower.emit import Draft, Emitter, emit, gather, word
from fastnn.lower.fuse import fuse, live_nodes
from fastnn.lower.loops import LoopPlan
from fastnn.lower.memory import Life, plan
from fastnn.lower.task import Task
from fastnn.lower.views import in_place
from fastnn.program.chains import Chain
from fastnn.program.layout import Buffer, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, make_program
from fastnn.program.record import ITEM_SIZES
from fastnn.program.verify import verify

#: whether programs have chains; tests and benchmarks compare both
CHAINED = True


@dataclass(frozen=True)
class Rewritten:
    """A graph without dead nodes and with fusions: the same for all batch sizes.

    Attributes
    ----------
    nodes : list of Node
    notes : list of str
        What was merged, and what is read or written in place.
    roots : mapping of tensor id to tensor id
        For the outputs of reshapes, and those that are written over an input, the tensors whose memory they have.
    used : set of tensor ids
        What anything reads.
    groups : list of Group
        Nodes that may be chains.
    loops : dict of int to LoopPlan
        The plans of loops by `id` of their nodes.
    """

    nodes: list[Node]
    notes: list[str]
    roots: dict[int, int]
    used: frozenset[int]
    groups: list[chains.Group]
    loops: dict[int, LoopPlan]


def rewrite(task: Task) -> Rewritten:
    """Rewrite a task's graph, for `lower`."""
    kept = [
        tensor
        for tensor, place in task.places.items()
        if place.buffer == Buffer.GRADIENTS or place.buffer >= Buffer.DATA
    ]
    nodes, views = in_place(live_nodes(task.graph.nodes, kept), kept, task.accumulating)
    nodes, notes = fuse(live_nodes(nodes, kept) if views else nodes, kept)
    roots = _aliases(nodes)
    nodes = [node for node in nodes if node.op != "reshape"]
    used = frozenset(x.id for node in nodes for x in node.inputs if x is not None) | frozenset(kept)
    used |= frozenset(roots.get(tensor, tensor) for tensor in used)
    over = _written_over(nodes, roots, {*kept, *task.places})
    roots = {tensor: over.get(root, root) for tensor, root in roots.items()} | over
    groups: list[chains.Group] = []
    if CHAINED:
        nodes, groups = chains.group(nodes, chains.Keys(roots, task.places), task.accumulating)
    notes = views + notes

    def of_body(inside: Sequence[Node], wanted: Collection[int]) -> tuple[list[Node], dict[int, int]]:
        inside, seen = in_place(live_nodes(inside, wanted), wanted)
        inside, merged = fuse(live_nodes(inside, wanted) if seen else inside, wanted)
        notes.extend((*seen, *merged))
        return [node for node in inside if node.op != "reshape"], _aliases(inside)

    plans: dict[int, LoopPlan] = {}
    for node in nodes:
        if node.op == "loop":
            made = plans[id(node)] = loops.plan_loop(node, len(plans), used, of_body)
            used |= made.used
            roots |= made.roots
    return Rewritten(nodes, notes, roots, used, groups, plans)


def lower(
    task: Task, rewritten: Rewritten | None = None, *, planned: bool = True, most_rows: int | None = None
) -> Program:
    """Make the program of a task and verify it.

    Parameters
    ----------
    task : Task
        A graph for one batch size, with the places of its parameters and gradients.
    rewritten : Rewritten, optional
        Of the same graph and places, for whatever batch size.
    planned : bool
        If false, all operands in the arena are at its start. Such a program is not verified and must not run: it can
        only be compared with another one. Planning and verifying is half of the work.
    most_rows : int, optional
        The number of rows for which chains have to pay, if that is not the task's.

    Returns
    -------
    Program
        Verified, so kernels may run it.
    """
    known = rewrite(task) if rewritten is None else rewritten
    emitter = Emitter(task.batch, task.dtype, known.used, task.accumulating)
    fetched = known.used - task.places.keys()
    drafts = [gather(x, task.sources[x.id], task.batch) for x in task.graph.inputs if x.id in fetched]
    starts = {id(each.nodes[0]): each for each in known.groups if each.pays(most_rows or task.batch, task.dtype)}
    found, repeated = [], []
    for node in known.nodes:
        if id(node) in starts:
            found.append(Chain(len(drafts), len(drafts) + len(starts[id(node)].nodes) - 1))
        if node.op == "loop":
            made, start = loops.emit_loop(emitter, known.loops[id(node)])
            repeated.append((len(drafts) + start, len(drafts) + len(made) - 1))
            drafts.extend(made)
        else:
            drafts.extend(emit(emitter, node))
    offsets: dict[int, int] = {}
    values: list[Value] = []
    arena = 0
    if planned:
        lives = _lives(drafts, known.roots, task)
        loops.prolong(lives, drafts, repeated, known.roots)
        chains.prolong(lives, drafts, found, chains.Keys(known.roots, task.places))
        offsets, values, arena = plan(lives)
    records = [_resolve(draft, known.roots, offsets, task) for draft in drafts]
    sizes = {**task.sizes, Buffer.ARENA: arena}
    program = make_program(
        task.name, task.batch, task.dtype, [*records, *task.tail], values, sizes, known.notes, found
    )  # fmt: skip
    if planned:
        verify(program)
    return program


def _aliases(nodes: list[Node]) -> dict[int, int]:
    """Map the outputs of reshapes to the tensors whose memory they view."""
    roots: dict[int, int] = {}
    for node in nodes:
        if node.op == "reshape" and node.inputs[0] is not None:
            source = node.inputs[0].id
            roots[node.outputs[0].id] = roots.get(source, source)
    return roots


def _written_over(nodes: list[Node], roots: dict[int, int], elsewhere: set[int]) -> dict[int, int]:
    """Map outputs to the inputs in whose place they are written: those that nothing else reads, in the arena."""
    readers = Counter(roots.get(x.id, x.id) for node in nodes for x in node.inputs if x is not None)
    found: dict[int, int] = {}
    for node in nodes:
        op = OPS.get(node.op)
        if op is None or not any(spec.over for spec in op.operands):
            continue
        written, read = ([spec for spec in op.operands if spec.access == access] for access in ("write", "read"))
        inputs = {spec.name: x for spec, x in zip(read, node.inputs, strict=False) if x is not None}
        for spec, y in zip(written, node.outputs, strict=False):
            if spec.over in inputs:
                root = roots.get(inputs[spec.over].id, inputs[spec.over].id)
                if readers[root] == 1 and not {root, y.id} & elsewhere:
                    found[y.id] = found.get(root, root)
    return found


def _lives(drafts: list[Draft], roots: dict[int, int], task: Task) -> dict[int, Life]:
    lives: dict[int, Life] = {}
    for index, draft in enumerate(drafts):
        for operand in draft.operands.values():
            if not isinstance(operand, Tensor):
                continue
            root = roots.get(operand.id, operand.id)
            if root in task.places:
                continue
            if root in lives:
                lives[root].last = index
            else:
                item = ITEM_SIZES[task.dtype if operand.kind == "real" else operand.kind]
                nbytes = at(operand.size, task.batch) * (task.batch if operand.batched else 1) * item
                lives[root] = Life(operand.name, nbytes, index, index)
    return lives


def _resolve(draft: Draft, roots: dict[int, int], offsets: dict[int, int], task: Task) -> RecordDraft:
    operands: dict[str, int] = {}
    for name, operand in draft.operands.items():
        if operand is None:
            continue
        if isinstance(operand, Tensor):
            root = roots.get(operand.id, operand.id)
            place = task.places.get(root)
            operand = word(place) if place is not None else encode(Buffer.ARENA, offsets.get(root, 0))
        operands[name] = operand
    return RecordDraft(
        draft.op, operands, draft.dims, draft.params, draft.flags, draft.variant, draft.mapped, draft.label
    )
