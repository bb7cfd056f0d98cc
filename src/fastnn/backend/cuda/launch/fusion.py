"""Fusion of records into one kernel: groups are found in a program, and replace its launches.

There are two patterns of consecutive records, in the order in which lowering writes them. Forward: products with
weights, each of which reads the result of the one before it. Backward: layer by layer, from the last, the
sum over rows (bias gradient), the product with the layer's inputs (weight gradient), and the product with the
transposed weights, which the next layer's records read; any of them may be missing.

Values that only the group's records read are never written. Blocks of a group do not wait for each
other: one may be at the last record while another is at the first. So a group's outputs must not overlap any of its
inputs, although single records could share memory: such values move to the arena's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fastnn.backend.cuda.codegen.kernel import Key
from fastnn.backend.cuda.launch.fusion_patterns import Decoded, Group, backward, forward
from fastnn.backend.cuda.launch.launches import Work, works_of
from fastnn.program.layout import DIMS_AT, OPERANDS_AT, Buffer, align, decode, encode
from fastnn.program.loop_rules import in_loops
from fastnn.program.program import Program, Value

#: whether records are fused at all; tests compare both
ENABLED = True


def arrange(program: Program, keys: Sequence[Key], precision: str) -> tuple[Program, list[Work]]:
    """Return the work of a step's kernels, in order, and the program with its values moved as needed.

    Parameters
    ----------
    keys : sequence of Key
        The kernel of every record.
    precision : str
        Precision of matrix products.
    """
    found = find(program, precision)
    moved = {value for group in found for value in _in_the_algorithm(program, group)}
    if moved:
        program = _move(program, moved)
        found = find(program, precision)
    works, arranged, done = works_of(program, keys), list[Work](), 0
    for group in found:
        arranged += [*works[done : group.first], group.work]
        done = group.first + group.count
    return program, arranged + works[done:]


def find(program: Program, precision: str = "float32") -> list[Group]:
    """Find the groups of a program, outside loops."""
    found: list[Group] = []
    code, looped, at = Decoded(program), in_loops(program.records), 0
    while ENABLED and at < len(program):
        group = None if looped[at] else forward(code, at, precision) or backward(code, at, precision)
        if group is not None:
            found.append(group)
        at += 1 if group is None else group.count
    return found


def _in_the_algorithm(program: Program, group: Group) -> Iterator[Value]:
    """Find the values that a group writes to memory that it also reads."""
    for word, nbytes, index in group.writes:
        start = decode(word)[1]
        if any(start < begin + size and begin < start + nbytes for begin, size in _places(group.reads)):
            yield next(value for value in program.values if (value.offset, value.first) == (start, index))


def _places(operands: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(decode(word)[1], nbytes) for word, nbytes in operands]


def _move(program: Program, moved: set[Value]) -> Program:
    """Move values to new memory at the arena's end."""
    records, values, end = program.records.copy(), [], align(program.arena_bytes)
    for value in program.values:
        if value in moved:
            operands = records[value.first : value.last + 1, OPERANDS_AT:DIMS_AT]
            operands[operands == encode(Buffer.ARENA, value.offset)] = encode(Buffer.ARENA, end)
            value = replace(value, offset=end)
            end += align(value.nbytes)
        values.append(value)
    records.flags.writeable = False
    return replace(program, records=records, values=tuple(values), sizes={**program.sizes, Buffer.ARENA: end})
