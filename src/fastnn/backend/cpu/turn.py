"""Transposition between the rows of a table and a block on the stack, in registers, with masked edges."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64, _I32, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)


def make_turn(dtype: str, width: int, *, inwards: bool) -> Any:
    """Make the intrinsic that transposes a square of `width` rows and columns, between a table and a block.

    Its arguments: address in the table, bytes from a row of it to the next, how many rows and columns the table still
    has from there, address in the block, bytes from a row of it to the next. A row that the table lacks is read as its
    last one, a column as zeros; what it lacks is not written.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def turn(typingctx: Any, table: Any, row: Any, rows: Any, columns: Any, block: Any, block_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit(builder, args, _Vector(builder, dtype, width), inwards)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return turn


class _Vector:
    """Loads, stores and exchanges of vectors of one dtype and width."""

    def __init__(self, builder: Any, dtype: str, width: int) -> None:
        self.builder, self.width = builder, width
        self.size = 4 if dtype == "float32" else 8
        self.kind = ir.VectorType(ir.FloatType() if dtype == "float32" else ir.DoubleType(), width)
        self.mask = ir.VectorType(_I1, width)
        self.suffix = f"v{width}f{8 * self.size}.p0"

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.kind.as_pointer())

    def intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        module, full = self.builder.module, f"llvm.masked.{name}.{self.suffix}"
        return module.globals.get(full) or ir.Function(module, ir.FunctionType(result, arguments), full)

    def below(self, count: Any) -> Any:
        """Make the mask of lanes whose number is below `count`."""
        b, kind = self.builder, ir.VectorType(_I64, self.width)
        none = ir.Constant(kind, ir.Undefined)
        first = b.insert_element(none, count, ir.Constant(_I32, 0))
        limit = b.shuffle_vector(first, none, ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width))
        return b.icmp_signed("<", ir.Constant(kind, list(range(self.width))), limit)

    def load(self, address: Any, mask: Any) -> Any:
        pointer, zero = self.pointer(address), ir.Constant(self.kind, [0.0] * self.width)
        function = self.intrinsic("load", self.kind, [pointer.type, _I32, self.mask, self.kind])
        return self.builder.call(function, [pointer, ir.Constant(_I32, self.size), mask, zero])

    def store(self, value: Any, address: Any, mask: Any) -> None:
        pointer = self.pointer(address)
        function = self.intrinsic("store", ir.VoidType(), [self.kind, pointer.type, _I32, self.mask])
        self.builder.call(function, [value, pointer, ir.Constant(_I32, self.size), mask])

    def transposed(self, lines: list[Any]) -> list[Any]:
        """Exchange the off-diagonal parts of all 2 x 2 arrangements, from single elements to halves."""
        b, kind, step = self.builder, ir.VectorType(_I32, self.width), 1
        while step < self.width:
            lanes = range(self.width)
            low = ir.Constant(kind, [lane if not lane & step else self.width + lane - step for lane in lanes])
            high = ir.Constant(kind, [lane + step if not lane & step else self.width + lane for lane in lanes])
            for i in lanes:
                if not i & step:
                    upper, lower = lines[i], lines[i + step]
                    lines[i] = b.shuffle_vector(upper, lower, low)
                    lines[i + step] = b.shuffle_vector(upper, lower, high)
            step *= 2
        return lines


def _emit(b: Any, args: Any, v: _Vector, inwards: bool) -> None:
    table, row, rows, columns, block, block_row = args
    mask, numbers = v.below(columns), [ir.Constant(_I64, i) for i in range(v.width)]
    there = [b.icmp_signed("<", number, rows) for number in numbers]
    within = [b.add(block, b.mul(block_row, number)) for number in numbers]
    if inwards:
        last = b.sub(rows, ir.Constant(_I64, 1))
        places = [b.select(*pair, last) for pair in zip(there, numbers, strict=True)]
        lines = v.transposed([v.load(b.add(table, b.mul(row, place)), mask) for place in places])
        for line, address in zip(lines, within, strict=True):
            b.store(line, v.pointer(address)).align = v.size
        return
    lines = []
    for address in within:
        line = b.load(v.pointer(address))
        line.align = v.size
        lines.append(line)
    none = ir.Constant(v.mask, [False] * v.width)
    for i, line in enumerate(v.transposed(lines)):
        v.store(line, b.add(table, b.mul(row, numbers[i])), b.select(there[i], mask, none))
