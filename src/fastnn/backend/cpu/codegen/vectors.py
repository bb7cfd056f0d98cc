"""Vector types, loads and stores of one dtype and width, as LLVM IR, for tiles and packing."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I64, I32, I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)


def constant(value: int) -> Any:
    """Return an int64 constant."""
    return ir.Constant(I64, value)


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return the function of a name in a builder's module, declared if needed."""
    module = builder.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def emit_call(builder: Any, address: Any, arguments: list[Any], error_at: Any = None) -> tuple[Any, Any]:
    """Emit the call of a compiled function of integers by its address; return its status and result.

    Compiled functions have Numba's native convention: `status f(result*, error**, arguments...)`. The status is 0
    unless the function raised. It is positive if the error was described: then the address of the description, or 0,
    is written to the address `error_at`.
    """
    with builder.goto_entry_block():
        result, error = builder.alloca(I64), builder.alloca(I64)
    native = ir.FunctionType(I32, [result.type, error.type, *[I64] * len(arguments)])
    status = builder.call(builder.inttoptr(address, native.as_pointer()), [result, error, *arguments])
    if error_at is not None:
        with builder.if_then(builder.icmp_signed("!=", status, I32(0)), likely=False):
            described = builder.icmp_signed(">", status, I32(0))
            found = builder.select(described, builder.load(error), I64(0))
            builder.store(found, builder.inttoptr(error_at, I64.as_pointer()))
    return status, builder.load(result)


class Lanes:
    """Vector operations of one dtype and number of lanes, added to a builder's block."""

    def __init__(self, builder: Any, dtype: str, lanes: int) -> None:
        self.builder = builder
        self.scalar = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        self.size = 4 if dtype == "float32" else 8
        self.lanes = lanes
        self.width = lanes * self.size
        self.vector = ir.VectorType(self.scalar, lanes)
        self.suffix = f"v{lanes}f{8 * self.size}"
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.mask = ir.VectorType(I1, lanes)

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        return declared(self.builder, name, result, arguments)

    def pointer(self, address: Any) -> Any:
        """Convert an address to a pointer to a vector."""
        return self.builder.inttoptr(address, self.vector.as_pointer())

    def load(self, address: Any) -> Any:
        """Load a vector from any address."""
        value = self.builder.load(self.pointer(address))
        value.align = self.size
        return value

    def store(self, value: Any, address: Any) -> None:
        """Store a vector to any address."""
        self.builder.store(value, self.pointer(address)).align = self.size

    def prefetch(self, address: Any, level: int = 1) -> None:
        """Bring the cache line of an address into the first- or second-level cache; any address is allowed."""
        pointer = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        function = self._function("llvm.prefetch.p0", ir.VoidType(), [pointer.type, I32, I32, I32])
        self.builder.call(function, [pointer, *(ir.Constant(I32, word) for word in (0, 4 - level, 1))])

    def hidden(self, value: Any) -> Any:
        """Return an integer whose origin LLVM does not see.

        Of pointers that differ by multiples of a stride it would make a chain of additions, each of which waits for the
        one before: a tile of 14 rows then takes 14 cycles for each k, whatever it multiplies.
        """
        kind = ir.FunctionType(I64, [I64])
        return self.builder.asm(kind, "", "=r,0", [value], side_effect=False)

    def in_order(self) -> None:
        """Keep LLVM from moving loads from behind this place to before it, where they would need more registers."""
        self.builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)

    def spread(self, value: Any) -> Any:
        """Copy a scalar to all lanes."""
        b = self.builder
        kind = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = b.insert_element(undefined, value, ir.Constant(I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def broadcast(self, address: Any) -> Any:
        """Load a scalar into all lanes."""
        value = self.builder.load(self.builder.inttoptr(address, self.scalar.as_pointer()))
        value.align = self.size
        return self.spread(value)

    def load_lanes(self, address: Any, count: int) -> list[Any]:
        """Load `count` scalars that lie side by side, each into all lanes of a vector of its own."""
        b = self.builder
        kind = ir.VectorType(self.scalar, count)
        value = b.load(b.inttoptr(address, kind.as_pointer()))
        value.align = self.size
        undefined, numbers = ir.Constant(kind, ir.Undefined), ir.VectorType(I32, self.lanes)
        return [b.shuffle_vector(value, undefined, ir.Constant(numbers, [i] * self.lanes)) for i in range(count)]

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Compute a b + c, rounded once if the processor has an instruction for that, else twice.

        Without the instruction `llvm.fma` would call a library for each lane: products ran at 0.4 to 1.6 GFLOP/s.
        """
        function = self._function(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        return self.builder.call(function, [a, b, c])

    def total(self, value: Any) -> Any:
        """Add the lanes of a vector, halves to halves."""
        b, count = self.builder, self.lanes
        while count > 1:
            count //= 2
            upper = [count + lane if lane < count else 0 for lane in range(self.lanes)]
            undefined = ir.Constant(self.vector, ir.Undefined)
            value = b.fadd(
                value, b.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(I32, self.lanes), upper))
            )
        return b.extract_element(value, ir.Constant(I32, 0))

    def edge(self, columns: Any, first: int) -> Any:
        """Make the mask of lanes whose column, counted from `first`, is below `columns`."""
        numbers = ir.Constant(ir.VectorType(I64, self.lanes), [first + lane for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.spread(columns))

    def first(self, count: int) -> Any:
        """Make the constant mask of the first `count` lanes."""
        return ir.Constant(self.mask, [int(lane < count) for lane in range(self.lanes)])

    def masked_load(self, address: Any, mask: Any) -> Any:
        """Load the lanes of a mask, zero elsewhere; nothing else is read."""
        pointer = self.pointer(address)
        function = self._function(
            f"llvm.masked.load.{self.suffix}.p0", self.vector, [pointer.type, I32, self.mask, self.vector]
        )
        return self.builder.call(function, [pointer, ir.Constant(I32, self.size), mask, self.zero])

    def masked_store(self, value: Any, address: Any, mask: Any) -> None:
        """Store the lanes of a mask."""
        pointer = self.pointer(address)
        function = self._function(
            f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), [self.vector, pointer.type, I32, self.mask]
        )
        self.builder.call(function, [value, pointer, ir.Constant(I32, self.size), mask])

    def every(self, vectors: list[Any], step: int, first: int) -> Any:
        """Return the elements first, first + step, ... of `step` vectors that follow each other."""
        kind, chosen = ir.VectorType(I32, self.lanes), vectors[0]
        places = [divmod(lane * step + first, self.lanes) for lane in range(self.lanes)]
        for number in range(1, step):
            # from the vector `number`, and from what earlier ones gave; with the first two, from both directly
            old = [lane if number > 1 else place for lane, (_, place) in enumerate(places)]
            mask = [
                self.lanes + place if vector == number else old[lane] for lane, (vector, place) in enumerate(places)
            ]
            chosen = self.builder.shuffle_vector(chosen, vectors[number], ir.Constant(kind, mask))
        return chosen

    def transposed(self, block: list[Any]) -> list[Any]:
        """Transpose a square block of `lanes` vectors in registers."""
        step = 1
        while step < self.lanes:
            block = self._exchange(block, step)
            step *= 2
        return block

    def _exchange(self, block: list[Any], step: int) -> list[Any]:
        """Exchange the off-diagonal parts of all 2 x 2 arrangements of step x step parts."""
        kind = ir.VectorType(I32, self.lanes)
        low = [lane if not lane & step else self.lanes + lane - step for lane in range(self.lanes)]
        high = [lane + step if not lane & step else self.lanes + lane for lane in range(self.lanes)]
        result = list(block)
        for i in range(self.lanes):
            if not i & step:
                upper, lower = block[i], block[i + step]
                result[i] = self.builder.shuffle_vector(upper, lower, ir.Constant(kind, low))
                result[i + step] = self.builder.shuffle_vector(upper, lower, ir.Constant(kind, high))
        return result


class Loop:
    """A counted loop in a builder: `count` times, at least once; the caller adds phis and their next values.

    After `with`, the builder is after the loop. `carried[i]` is the value in the loop; set `following[i]`.
    """

    def __init__(self, builder: Any, count: Any, initial: list[Any]) -> None:
        self.builder, self.count, self.initial = builder, count, initial
        self.following: list[Any] = []

    def __enter__(self) -> Loop:
        b = self.builder
        self._before = b.block
        self._loop, self._after = b.append_basic_block("loop"), b.append_basic_block("after")
        b.branch(self._loop)
        b.position_at_end(self._loop)
        self.index = b.phi(I64)
        self.carried = [b.phi(value.type) for value in self.initial]
        return self

    def __exit__(self, *error: object) -> None:
        b = self.builder
        index = b.add(self.index, constant(1))
        b.cbranch(b.icmp_signed("<", index, self.count), self._loop, self._after)
        self.index.add_incoming(constant(0), self._before)
        self.index.add_incoming(index, b.block)
        for phi, first, value in zip(self.carried, self.initial, self.following, strict=True):
            phi.add_incoming(first, self._before)
            phi.add_incoming(value, b.block)
        b.position_at_end(self._after)
