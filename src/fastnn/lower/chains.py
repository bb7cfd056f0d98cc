"""Chains are found: runs of elementwise nodes over equally many elements, whose records may run piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fastnn.graph.extent import BATCH, Size, at
from fastnn.graph.graph import Node, Tensor
from fastnn.lower.emit import Draft
from fastnn.lower.memory import Life
from fastnn.lower.task import Place
from fastnn.program.chains import MOST_LOCAL, Chain, numbers
from fastnn.program.op import Op
from fastnn.program.opcodes import OPS
from fastnn.program.record import ITEM_SIZES

#: Bytes that the first-level cache nearly holds anyway: a chain whose values need no more gains nothing.
CACHED_BYTES = 65536
#: A node moves over no more others to get to its chain, since its result then lives longer.
NEAR = 8

#: What names a value: a tensor, or its place in one of the flat buffers.
Key = int | Place


class Keys:
    """The names of the values that nodes and records read and write.

    Parameters
    ----------
    roots : mapping of tensor id to tensor id
        For views the tensors whose memory they see.
    places : mapping of tensor id to Place
        Of tensors that are not in the arena.
    """

    def __init__(self, roots: Mapping[int, int], places: Mapping[int, Place]) -> None:
        self._roots, self._places = roots, places
        self._known: dict[int, tuple[Node, frozenset[Key]]] = {}

    def of(self, tensors: Iterable[object]) -> set[Key]:
        """Return the names of tensors; what is no tensor has none."""
        roots = (self._roots.get(x.id, x.id) for x in tensors if isinstance(x, Tensor))
        return {self._places.get(root, root) for root in roots}

    def touched(self, node: Node) -> frozenset[Key]:
        """Return the names of the values that a node touches; they are found once, and the node is kept."""
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = node, frozenset(self.of((*node.inputs, *node.outputs)))
        return known[1]

    def behind(self, node: Node, other: Node) -> bool:
        """Return whether a node has to stay behind another one, which comes before it."""
        if self.touched(node).isdisjoint(self.touched(other)):
            return False
        op = OPS.get(other.op)
        updates = op is not None and any(spec.access == "update" for spec in op.operands)
        written = self.touched(other) if updates else self.of(other.outputs)
        return bool(self.touched(node) & written or self.of(node.outputs) & self.of(other.inputs))


@dataclass
class Group:
    """Nodes of a chain, which follow each other.

    Attributes
    ----------
    nodes : list of Node
    size : int or Extent
        The elements of each value.
    values : int
        The number of values that the nodes touch.
    """

    nodes: list[Node]
    size: Size
    values: int

    def pays(self, rows: int, dtype: str) -> bool:
        """Return whether the values of a batch of so many rows are too large for the first-level cache."""
        return self.values * at(self.size, rows) * ITEM_SIZES[dtype] > CACHED_BYTES


@dataclass
class _Run:
    """Elementwise nodes of equally many elements, which may follow each other, and nodes that come after them."""

    size: Size = 0
    nodes: list[Node] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)
    made: set[Key] = field(default_factory=set)
    after: list[Node] = field(default_factory=list)

    def add(self, node: Node, keys: Keys) -> None:
        self.nodes.append(node)
        self.keys |= keys.touched(node)
        self.made |= keys.of(node.outputs)


def group(nodes: Sequence[Node], keys: Keys, fixed: frozenset[int]) -> tuple[list[Node], list[Group]]:
    """Move nodes that nothing keeps apart next to each other, where their records make a chain.

    Parameters
    ----------
    nodes : sequence of Node
        In order.
    fixed : set of tensor ids
        Results that are added to what an earlier node wrote.

    Returns
    -------
    nodes, groups
        Nodes in an order with the same results, and the chains among them.
    """
    runs = [_Run()]
    for node in nodes:
        if not _may_join(node, fixed):
            runs[-1].after.append(node)
            continue
        run = _run_for(node, runs, keys)
        if run is None:
            run = _Run(_size(node.outputs[0]))
            runs.append(run)
        run.add(node, keys)
    uses = Counter(key for node in nodes for key in keys.touched(node))
    ordered: list[Node] = []
    groups: list[Group] = []
    for run in runs:
        for related in _components(run.nodes, keys):
            for part in _parts(related, keys, uses):
                if len(part) > 1:
                    groups.append(Group(part, run.size, len({key for node in part for key in keys.touched(node)})))
                ordered += part
        ordered += run.after
    return ordered, groups


def _run_for(node: Node, runs: Sequence[_Run], keys: Keys) -> _Run | None:
    """Return the run that a node can join, the latest first; None if there is none."""
    between: list[Node] = []
    size = _size(node.outputs[0])
    for run in reversed(runs):
        between = [*run.after, *between]
        if len(between) > NEAR or any(keys.behind(node, other) for other in between):
            return None
        related = not between or not keys.touched(node).isdisjoint(run.keys)
        if run.nodes and run.size == size and related and not _spreads(node, run, keys):
            return run
        between = [*run.nodes, *between]
    return None


def _spreads(node: Node, run: _Run, keys: Keys) -> bool:
    """Return whether a node reads a value that the run makes at other places than its own elements'."""
    return any(keys.of([x]) & run.made and _size(x) != run.size for x in node.inputs if x is not None)


def _components(nodes: Sequence[Node], keys: Keys) -> list[list[Node]]:
    """Tell apart nodes that share no values, and so need no order."""
    found: list[tuple[frozenset[Key], list[int]]] = []
    for index, node in enumerate(nodes):
        touched, members = keys.touched(node), [index]
        apart = []
        for other, numbered in found:
            if other & touched:
                touched, members = touched | other, members + numbered
            else:
                apart.append((other, numbered))
        found = [*apart, (touched, members)]
    return [[nodes[index] for index in sorted(members)] for _, members in found]


def _size(tensor: Tensor) -> Size:
    size: Size = tensor.size
    return size * BATCH if tensor.batched else size


def _may_join(node: Node, fixed: frozenset[int]) -> bool:
    op: Op | None = OPS.get(node.op)
    return op is not None and op.elementwise and node.outputs[0].id not in fixed


def _parts(nodes: list[Node], keys: Keys, uses: Counter[Key]) -> Iterator[list[Node]]:
    """Cut a chain in halves until none has too many local values at a time."""
    lives: dict[Key, list[int]] = {}
    for index, node in enumerate(nodes):
        for key in keys.touched(node):
            lives.setdefault(key, []).append(index)
    made = keys.of(y for node in nodes for y in node.outputs)
    local = sorted((at[0], at[-1]) for key, at in lives.items() if key in made and len(at) == uses[key])
    if max(numbers(local), default=0) < MOST_LOCAL:
        yield nodes
    else:
        yield from _parts(nodes[: len(nodes) // 2], keys, uses)
        yield from _parts(nodes[len(nodes) // 2 :], keys, uses)


def prolong(lives: Mapping[int, Life], drafts: Sequence[Draft], chains: Iterable[Chain], keys: Keys) -> None:
    """Let values that are older than a chain, and that it reads, live until its end."""
    for chain in chains:
        for draft in drafts[chain.first : chain.last + 1]:
            for key in keys.of(draft.operands.values()):
                if type(key) is int and lives[key].first < chain.first:
                    lives[key].last = max(lives[key].last, chain.last)
