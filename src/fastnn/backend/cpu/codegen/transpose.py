"""Transposition between the rows of a table and a block on the stack, in registers, with masked edges."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastnn.backend.cpu.codegen.vectors import Lanes, constant


def make_turn(dtype: str, width: int, *, inwards: bool) -> Any:
    """Make the intrinsic that transposes a square of `width` rows and columns, between a table and a block.

    Its arguments: address in the table, bytes from one of its rows to the next, how many rows and columns the table
    still has from there, address in the block, bytes from one of its rows to the next. Rows past the table's end are
    read as its last one, columns past it as zeros; nothing is written past its end.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def turn(typingctx: Any, table: Any, row: Any, rows: Any, columns: Any, block: Any, block_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit(builder, args, Lanes(builder, dtype, width), inwards)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return turn


def _emit(b: Any, args: Any, v: Lanes, inwards: bool) -> None:
    table, row, rows, columns, block, block_row = args
    mask, numbers = v.edge(columns, 0), [constant(i) for i in range(v.lanes)]
    there = [b.icmp_signed("<", number, rows) for number in numbers]
    within = [b.add(block, b.mul(block_row, number)) for number in numbers]
    if inwards:
        last = b.sub(rows, constant(1))
        places = [b.select(*pair, last) for pair in zip(there, numbers, strict=True)]
        lines = [v.masked_load(b.add(table, b.mul(row, place)), mask) for place in places]
        for line, address in zip(v.transposed(lines), within, strict=True):
            v.store(line, address)
        return
    lines = v.transposed([v.load(address) for address in within])
    for number, line, exists in zip(numbers, lines, there, strict=True):
        v.masked_store(line, b.add(table, b.mul(row, number)), b.select(exists, mask, v.first(0)))
