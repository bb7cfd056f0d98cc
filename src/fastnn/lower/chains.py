"""Chains are found: runs of elementwise records over equally many elements, which may run piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fastnn.graph.graph import Tensor
from fastnn.lower.emit import Draft
from fastnn.lower.memory import Life
from fastnn.lower.task import Place
from fastnn.program.chains import MOST_LOCAL, Chain, numbers
from fastnn.program.layout import Flag
from fastnn.program.opcodes import OPS
from fastnn.program.record import ITEM_SIZES

#: Bytes that stay in the first-level cache anyway: a chain whose values need no more gains nothing.
CACHED_BYTES = 32768
#: A record moves over no more others to get to its chain, since its result then lives longer.
NEAR = 8

#: What names a value: a tensor, or its place in one of the flat buffers.
Key = int | Place


@dataclass
class _Run:
    """The records of a chain to be, and those that follow its last one."""

    n: int = 0
    members: list[Draft] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)
    after: list[Draft] = field(default_factory=list)


class Keys:
    """The names of the values that records read and write.

    Parameters
    ----------
    roots : mapping of tensor id to tensor id
        For views the tensors whose memory they see.
    places : mapping of tensor id to Place
        Of tensors that are not in the arena.
    """

    def __init__(self, roots: Mapping[int, int], places: Mapping[int, Place]) -> None:
        self._roots, self._places = roots, places

    def of(self, draft: Draft, *access: str) -> set[Key]:
        """Return the names of a record's operands that are accessed in one of these ways."""
        found: set[Key] = set()
        for spec in OPS[draft.op].operands:
            operand = draft.operands.get(spec.name)
            if isinstance(operand, Tensor) and spec.access in access:
                root = self._roots.get(operand.id, operand.id)
                found.add(self._places.get(root, root))
        return found

    def touched(self, draft: Draft) -> set[Key]:
        """Return the names of all values that a record touches."""
        return self.of(draft, "read", "write", "update")

    def depend(self, draft: Draft, others: Iterable[Draft]) -> bool:
        """Return whether a record has to stay behind one of the others."""
        touched, written = self.touched(draft), self.of(draft, "write", "update")
        return any(touched & self.of(other, "write", "update") or written & self.of(other, "read") for other in others)


def find(drafts: Sequence[Draft], keys: Keys, dtype: str) -> tuple[list[Draft], list[Chain]]:
    """Find the chains of a program, and move records that nothing keeps apart from a chain next to it.

    Parameters
    ----------
    drafts : sequence of Draft
        In order; dimensions are numbers.

    Returns
    -------
    drafts, chains
        Records in an order with the same results.
    """
    runs = [_Run()]
    for draft in drafts:
        run = runs[-1]
        if not OPS[draft.op].elementwise or Flag.ACCUMULATE in draft.flags:
            run.after.append(draft)
        elif run.members and _joins(draft, run, keys):
            run.members.append(draft)
            run.keys |= keys.touched(draft)
        else:
            runs.append(_Run(draft.dims["n"], [draft], keys.touched(draft)))
    uses = Counter(key for draft in drafts for key in keys.touched(draft))
    ordered: list[Draft] = []
    chains: list[Chain] = []
    for run in runs:
        for part in _parts(run.members, keys, uses):
            touched = set().union(*map(keys.touched, part))
            if len(part) > 1 and len(touched) * run.n * ITEM_SIZES[dtype] > CACHED_BYTES:
                chains.append(Chain(len(ordered), len(ordered) + len(part) - 1))
            ordered += part
        ordered += run.after
    return ordered, chains


def _joins(draft: Draft, run: _Run, keys: Keys) -> bool:
    """Return whether a record shares values with a chain, and may move to its end."""
    if draft.dims["n"] != run.n or len(run.after) > NEAR or not keys.touched(draft) & run.keys:
        return False
    return not keys.depend(draft, run.after)


def _parts(members: list[Draft], keys: Keys, uses: Counter[Key]) -> list[list[Draft]]:
    """Cut a chain in halves until none has too many local values at a time."""
    lives: dict[Key, list[int]] = {}
    for index, draft in enumerate(members):
        for key in keys.touched(draft):
            lives.setdefault(key, []).append(index)
    local = [
        (at[0], at[-1])
        for key, at in lives.items()
        if type(key) is int and len(at) == uses[key] and key in keys.of(members[at[0]], "write")
    ]
    if max(numbers(sorted(local)), default=0) < MOST_LOCAL:
        return [members]
    half = len(members) // 2
    return [*_parts(members[:half], keys, uses), *_parts(members[half:], keys, uses)]


def prolong(lives: Mapping[int, Life], drafts: Sequence[Draft], chains: Iterable[Chain], keys: Keys) -> None:
    """Let values that are older than a chain, and that it reads, live until its end."""
    for chain in chains:
        for draft in drafts[chain.first : chain.last + 1]:
            for key in keys.touched(draft):
                if type(key) is int and lives[key].first < chain.first:
                    lives[key].last = max(lives[key].last, chain.last)
