"""The register tile of the matmul, as LLVM vector IR, and the transposition of a square block in registers.

A tile is `rows` x `vectors` accumulators, each a whole vector register. Every element is one chain of fused
multiply-adds over k in rising order, whatever the tile's shape: results do not depend on how a matrix is cut.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64, _I32, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)


def _constant(value: int) -> Any:
    return ir.Constant(_I64, value)


class _Lanes:
    """Vector types and loads, stores, broadcasts of one dtype and width."""

    def __init__(self, builder: Any, dtype: str, lanes: int) -> None:
        self.builder = builder
        self.scalar = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        self.size = 4 if dtype == "float32" else 8
        self.lanes = lanes
        self.vector = ir.VectorType(self.scalar, lanes)
        self.suffix = f"v{lanes}f{8 * self.size}"
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.mask = ir.VectorType(_I1, lanes)

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.vector.as_pointer())

    def load(self, address: Any) -> Any:
        value = self.builder.load(self.pointer(address))
        value.align = self.size
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.pointer(address)).align = self.size

    def broadcast(self, address: Any) -> Any:
        b = self.builder
        value = b.load(b.inttoptr(address, self.scalar.as_pointer()))
        value.align = self.size
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, value, ir.Constant(_I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        function = self._function(f"llvm.fma.{self.suffix}", self.vector, [self.vector] * 3)
        return self.builder.call(function, [a, b, c])

    def edge(self, columns: Any, first: int) -> Any:
        """Make the mask of lanes whose column, counted from `first`, is below `columns`."""
        b = self.builder
        kind = ir.VectorType(_I64, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        start = b.insert_element(undefined, columns, ir.Constant(_I32, 0))
        limit = b.shuffle_vector(start, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))
        numbers = ir.Constant(kind, [first + lane for lane in range(self.lanes)])
        return b.icmp_signed("<", numbers, limit)

    def masked_load(self, address: Any, mask: Any) -> Any:
        pointer = self.pointer(address)
        function = self._function(
            f"llvm.masked.load.{self.suffix}.p0", self.vector, [pointer.type, _I32, self.mask, self.vector]
        )
        return self.builder.call(function, [pointer, ir.Constant(_I32, self.size), mask, self.zero])

    def masked_store(self, value: Any, address: Any, mask: Any) -> None:
        pointer = self.pointer(address)
        function = self._function(
            f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.vector, pointer.type, _I32, self.mask]
        )
        self.builder.call(function, [value, pointer, ir.Constant(_I32, self.size), mask])


def make_tile(dtype: str, lanes: int, rows: int, vectors: int) -> Any:
    """Make the intrinsic that computes one tile of c = init + a b.

    Its arguments, all addresses and strides in bytes: a, a_row (from a row to the next), a_k (from a k to the
    next), b, b_k (b's lanes are contiguous), k, c, c_row, init (0 for zeros), init_row, columns (of the
    `lanes * vectors` columns how many are stored).
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typingctx: Any, a: Any, a_row: Any, a_k: Any, b: Any, b_k: Any, k: Any, c: Any, c_row: Any,
        init: Any, init_row: Any, columns: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_tile(builder, args, _Lanes(builder, dtype, lanes), rows, vectors)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), codegen

    return tile


def _emit_tile(b: Any, args: Any, v: _Lanes, rows: int, vectors: int) -> None:
    a, a_row, a_k, b_at, b_k, k, c, c_row, init, init_row, columns = args
    width = v.lanes * v.size
    cells = [(i, j) for i in range(rows) for j in range(vectors)]
    full = b.icmp_signed(">=", columns, _constant(v.lanes * vectors))
    masks = [v.edge(columns, j * v.lanes) for j in range(vectors)]

    def at(base: Any, stride: Any, i: int, j: int) -> Any:
        return b.add(base, b.add(b.mul(stride, _constant(i)), _constant(j * width)))

    blocks = {name: b.append_basic_block(name) for name in
              ("full_init", "edge_init", "start", "loop", "stop", "full_store", "edge_store", "done")}  # fmt: skip
    entry = b.block
    b.cbranch(b.icmp_signed("==", init, _constant(0)), blocks["start"], blocks["full_init"])
    # the values that the chains start from: zeros, a bias (row stride 0), or what c holds
    b.position_at_end(blocks["full_init"])
    inner = b.append_basic_block("full_load")
    b.cbranch(full, inner, blocks["edge_init"])
    b.position_at_end(inner)
    loaded = [v.load(at(init, init_row, i, j)) for i, j in cells]
    b.branch(blocks["start"])
    b.position_at_end(blocks["edge_init"])
    masked = [v.masked_load(at(init, init_row, i, j), masks[j]) for i, j in cells]
    b.branch(blocks["start"])

    b.position_at_end(blocks["start"])
    initial = []
    for index in range(len(cells)):
        phi = b.phi(v.vector)
        for value, block in ((v.zero, entry), (loaded[index], inner), (masked[index], blocks["edge_init"])):
            phi.add_incoming(value, block)
        initial.append(phi)
    b.cbranch(b.icmp_signed(">", k, _constant(0)), blocks["loop"], blocks["stop"])

    b.position_at_end(blocks["loop"])
    counter = b.phi(_I64)
    # one pointer for three rows: x86 addresses then need no further registers (p, p + s, p + 2 s)
    pointers = [b.phi(_I64) for _ in range(0, rows, 3)]
    b_pointer = b.phi(_I64)
    sums = [b.phi(v.vector) for _ in cells]
    right = [v.load(b.add(b_pointer, _constant(j * width))) for j in range(vectors)]
    updated = []
    for i in range(rows):
        left = v.broadcast(b.add(pointers[i // 3], b.mul(a_row, _constant(i % 3))))
        updated += [v.fma(left, right[j], sums[i * vectors + j]) for j in range(vectors)]
    following = b.add(counter, _constant(1))
    next_pointers = [b.add(pointer, a_k) for pointer in pointers]
    next_b = b.add(b_pointer, b_k)
    b.cbranch(b.icmp_signed("<", following, k), blocks["loop"], blocks["stop"])
    with b.goto_block(blocks["start"]):
        starts = [b.add(a, b.mul(a_row, _constant(i))) for i in range(0, rows, 3)]
    start, loop = blocks["start"], blocks["loop"]
    counter.add_incoming(_constant(0), start)
    counter.add_incoming(following, loop)
    b_pointer.add_incoming(b_at, start)
    b_pointer.add_incoming(next_b, loop)
    for pointer, first, after in zip(pointers, starts, next_pointers, strict=True):
        pointer.add_incoming(first, start)
        pointer.add_incoming(after, loop)
    for phi, first, after in zip(sums, initial, updated, strict=True):
        phi.add_incoming(first, start)
        phi.add_incoming(after, loop)

    b.position_at_end(blocks["stop"])
    results = []
    for first, after in zip(initial, updated, strict=True):
        phi = b.phi(v.vector)
        phi.add_incoming(first, start)
        phi.add_incoming(after, loop)
        results.append(phi)
    b.cbranch(full, blocks["full_store"], blocks["edge_store"])
    b.position_at_end(blocks["full_store"])
    for (i, j), value in zip(cells, results, strict=True):
        v.store(value, at(c, c_row, i, j))
    b.branch(blocks["done"])
    b.position_at_end(blocks["edge_store"])
    for (i, j), value in zip(cells, results, strict=True):
        v.masked_store(value, at(c, c_row, i, j), masks[j])
    b.branch(blocks["done"])
    b.position_at_end(blocks["done"])


def make_transpose(dtype: str, lanes: int) -> Any:
    """Make the intrinsic that writes the transpose of a `lanes` x `lanes` block.

    Its arguments: source, source_row, target, target_row; addresses and strides in bytes.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def transpose(typingctx: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            b, v = builder, _Lanes(builder, dtype, lanes)
            at, row, to, to_row = args
            block = [v.load(b.add(at, b.mul(row, _constant(i)))) for i in range(lanes)]
            step = 1
            while step < lanes:
                block = _exchange(b, v, block, step)
                step *= 2
            for i, value in enumerate(block):
                v.store(value, b.add(to, b.mul(to_row, _constant(i))))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), codegen

    return transpose


def _exchange(b: Any, v: _Lanes, block: list[Any], step: int) -> list[Any]:
    """Exchange the off-diagonal parts of all 2 x 2 arrangements of step x step parts."""
    kind = ir.VectorType(_I32, v.lanes)
    low = [lane if not lane & step else v.lanes + lane - step for lane in range(v.lanes)]
    high = [lane + step if not lane & step else v.lanes + lane for lane in range(v.lanes)]
    result = list(block)
    for i in range(v.lanes):
        if not i & step:
            upper, lower = block[i], block[i + step]
            result[i] = b.shuffle_vector(upper, lower, ir.Constant(kind, low))
            result[i + step] = b.shuffle_vector(upper, lower, ir.Constant(kind, high))
    return result
