"""The lowering itself: removal of dead nodes, fusions, records, lives, the arena, a verified program."""

from __future__ import annotations

from fastnn.graph.graph import Node, Tensor
from fastnn.lower.emit import EMIT, Draft, Emitter, gather, word
from fastnn.lower.fuse import fuse, live_nodes
from fastnn.lower.plan import Life, plan
from fastnn.lower.task import Task
from fastnn.program.layout import Buffer, encode
from fastnn.program.ops import OPS
from fastnn.program.program import ITEM_SIZES, Program, RecordDraft, make_program
from fastnn.program.verify import verify


def lower(task: Task) -> Program:
    """Make the program of a task and verify it.

    Parameters
    ----------
    task : Task
        A graph for one batch size, with the places of its parameters and gradients.

    Returns
    -------
    Program
        Verified, so kernels may run it.
    """
    kept = [
        tensor
        for tensor, place in task.places.items()
        if place.buffer == Buffer.GRADIENTS or place.buffer >= Buffer.DATA
    ]
    nodes, notes = fuse(live_nodes(task.graph.nodes, kept), kept)
    roots = _aliases(nodes)
    nodes = [node for node in nodes if node.op != "reshape"]
    used = frozenset(x.id for node in nodes for x in node.inputs if x is not None) | frozenset(kept)
    used |= frozenset(roots.get(tensor, tensor) for tensor in used)
    emitter = Emitter(task.batch, task.dtype, used, task.accumulating)
    drafts = [gather(x, task.sources[x.id], task.batch) for x in task.graph.inputs if x.id in used - task.places.keys()]
    for node in nodes:
        drafts.extend(EMIT[node.op](emitter, node))
    lives = _lives(drafts, roots, task)
    offsets, values, arena = plan(lives)
    records = [_resolve(draft, roots, offsets, task) for draft in drafts]
    sizes = {**task.sizes, Buffer.ARENA: arena}
    program = make_program(task.name, task.batch, task.dtype, [*records, *task.tail], values, sizes, notes)
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
                nbytes = operand.size * (task.batch if operand.batched else 1) * item
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
            operand = word(place) if place is not None else encode(Buffer.ARENA, offsets[root])
        operands[name] = operand
    known = OPS[draft.op]
    assert all(known.word(name) for name in operands)
    return RecordDraft(
        draft.op, operands, draft.dims, draft.params, draft.flags, draft.variant, draft.mapped, draft.label
    )
