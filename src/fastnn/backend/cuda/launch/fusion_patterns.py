"""The two patterns of records that are fused into one kernel; `fusion.py` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.backend.cuda.codegen.sizes import FUSED
from fastnn.backend.cuda.kernels.fused.plan import worthwhile
from fastnn.backend.cuda.launch.fused_work import Back, Gradient, Product, backward_work, forward_work
from fastnn.backend.cuda.launch.launches import Work
from fastnn.formulas import custom
from fastnn.program.layout import ABSENT, FLAGS_WORD, Buffer, Flag, decode, encode
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES, OperandView, op_of, operands_of

_MATMUL, _SUM_ROWS = OPS["matmul"], OPS["sum_rows"]


@dataclass(frozen=True)
class Group:
    """Neighbouring records, and the work of their fused kernel.

    Attributes
    ----------
    reads : tuple of (word, bytes)
        The arena's values that the group reads.
    writes : tuple of (word, bytes, record)
        Those that it writes, and the record that originally wrote each.
    """

    first: int
    count: int
    work: Work
    reads: tuple[tuple[int, int], ...]
    writes: tuple[tuple[int, int, int], ...]


def _how(view: OperandView, written: str) -> str:
    return written if view.spec.access == "write" else view.spec.access


class Decoded:
    """A program, and the operands of its records.

    Attributes
    ----------
    touched : list of list of (word, access, bytes)
        The accesses of each record to the arena. Accumulating is an update.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.touched: list[list[tuple[int, str, int]]] = []
        for record in program.records:
            written = "update" if Flag.ACCUMULATE in Flag(int(record[FLAGS_WORD])) else "write"
            self.touched.append([
                (encode(view.buffer, view.offset), _how(view, written), view.nbytes)
                for view in operands_of(record, program.dtype)
                if view.buffer == Buffer.ARENA
            ])  # fmt: skip

    def needed(self, word: int, index: int, group: range) -> bool:
        """Return whether a value that a group's record writes is read after the group, before it is overwritten."""
        for at in range(index + 1, len(self.touched)):
            access = {how for touched, how, _ in self.touched[at] if touched == word}
            if at not in group and access & {"read", "update"}:
                return True
            if "write" in access:
                return False
        return False


def _product(program: Program, at: int) -> Product | None:
    """Return a record's product, or None if it is another op."""
    if at >= len(program) or op_of(program.records[at]) is not _MATMUL:
        return None
    record, mapped = program.records[at], program.maps[at]
    words = {name: int(record[_MATMUL.word(name)]) for name in ("a", "b", "c", "bias", "pre", "saved", "m", "n", "k")}
    parameters = tuple(int(record[_MATMUL.word(name)]) for name in ("p0", "p1"))
    formula = "linear" if mapped is None else mapped.variant
    if custom.is_custom(formula):
        return None
    return Product(record=at, **words, flags=Flag(int(record[FLAGS_WORD])), formula=formula, parameters=parameters)


def _in(buffer: Buffer, *words: int) -> bool:
    return all(word == ABSENT or decode(word)[0] == buffer for word in words)


def _make(
    code: Decoded,
    group: range,
    work: Work,
    rows: int,
    multiplications: int,
    widest: int,
    reads: Sequence[tuple[int, int]],
    writes: Sequence[tuple[int, int, int]],
    precision: str,
) -> Group | None:
    """Return a group if it takes less time than its records."""
    before = sum(nbytes for at in group for _, _, nbytes in code.touched[at])
    saved = before - sum(nbytes for _, nbytes, *_ in (*reads, *writes))
    launches = 2 if work.dims.get("sums") else 1
    if not worthwhile(rows, multiplications, saved // rows, len(group) - launches, widest, precision):
        return None
    return Group(group.start, len(group), work, tuple(reads), tuple(writes))


def forward(code: Decoded, first: int, precision: str) -> Group | None:
    """Return the chain of products that begins at a record, each reading the one before it."""
    program = code.program
    item, chain = ITEM_SIZES[program.dtype], list[Product]()
    while len(chain) < FUSED.layers:
        p = _product(program, first + len(chain))
        if p is None or p.flags & ~Flag.MAP_FORWARD or p.saved != ABSENT or max(p.n, p.k) > FUSED.widest:
            break
        if not _in(Buffer.PARAMETERS, p.b, p.bias) or not _in(Buffer.ARENA, p.a, p.c, p.pre):
            break
        if chain and (p.a, p.m, p.k) != (chain[-1].c, chain[-1].m, chain[-1].n):
            break
        chain.append(p)
    if len(chain) < 2:
        return None
    group, rows = range(first, first + len(chain)), chain[0].m
    writes = [
        (word, rows * p.n * item, at)
        for at, p in zip(group, chain, strict=True)
        for word in (p.c, p.pre)
        if word != ABSENT and code.needed(word, at, group)
    ]
    reads = [(chain[0].a, rows * chain[0].k * item)]
    work = forward_work(program.dtype, chain, {(word, at) for word, _, at in writes})
    sizes = [p.n * p.k for p in chain]
    widest = max(max(p.n, p.k) for p in chain)
    return _make(code, group, work, rows, sum(sizes), widest, reads, writes, precision)


class _Parser:
    """Reads the records of a backward pass, layer by layer."""

    def __init__(self, program: Program, first: int) -> None:
        self.program, self.at = program, first
        self.item = ITEM_SIZES[program.dtype]
        self.rows, self.dz, self.width = 0, ABSENT, 0
        self.layers: list[Back] = []
        self.reads: dict[int, int] = {}
        self.made: list[tuple[int, int, int]] = []
        self.targets: set[int] = set()
        while len(self.layers) < FUSED.layers and self._layer():
            pass

    def _is_gradient(self, word: int, rows: int, width: int) -> bool:
        """Return whether this is the gradient that the layer's records read; the first record decides which it is."""
        if self.dz == ABSENT and width <= FUSED.widest and _in(Buffer.ARENA, word):
            self.dz, self.rows, self.width = word, rows, width
            self.reads[word] = rows * width * self.item
        return (word, rows, width) == (self.dz, self.rows, self.width)

    def _may_read(self, word: int) -> bool:
        return _in(Buffer.ARENA, word) and all(word != made for made, _, _ in self.made)

    def _may_write(self, target: int) -> bool:
        return _in(Buffer.GRADIENTS, target) and target not in self.targets

    def _layer(self) -> bool:
        """Read a layer, and return whether another one may follow."""
        start, layer = self.at, Back(self.width)
        while self._bias(layer) or self._weight(layer):
            self.at += 1
        more = self._step(layer)
        if more:
            self.at += 1
        if self.at > start:
            self.layers.append(layer)
        return more

    def _bias(self, layer: Back) -> bool:
        if self.at >= len(self.program) or op_of(self.program.records[self.at]) is not _SUM_ROWS:
            return False
        y, x, rows, cols = (
            int(self.program.records[self.at][_SUM_ROWS.word(name)]) for name in ("y", "x", "rows", "cols")
        )
        if layer.bias is not None or not self._may_write(y) or not self._is_gradient(x, rows, cols):
            return False
        layer.width, layer.bias = cols, Gradient(y, Flag(int(self.program.records[self.at][FLAGS_WORD])))
        self.targets.add(y)
        return True

    def _weight(self, layer: Back) -> bool:
        p = _product(self.program, self.at)
        if p is None or layer.weight is not None or p.flags & ~Flag.ACCUMULATE != Flag.TRANSPOSE_A:
            return False
        if {p.bias, p.pre, p.saved} != {ABSENT} or p.m > FUSED.widest or not self._may_read(p.a):
            return False
        if not self._may_write(p.c) or not self._is_gradient(p.b, p.k, p.n):
            return False
        layer.width, layer.height, layer.inputs, layer.weight = p.n, p.m, p.a, Gradient(p.c, p.flags)
        self.reads[p.a] = p.k * p.m * self.item
        self.targets.add(p.c)
        return True

    def _step(self, layer: Back) -> bool:
        p = _product(self.program, self.at)
        if p is None or p.flags & ~Flag.MAP_GRADIENT != Flag.TRANSPOSE_B:
            return False
        if {p.bias, p.pre} != {ABSENT} or p.n > FUSED.widest or layer.height not in (0, p.n):
            return False
        if not _in(Buffer.PARAMETERS, p.b) or not _in(Buffer.ARENA, p.c) or not self._may_read(p.saved):
            return False
        if not self._is_gradient(p.a, p.m, p.k):
            return False
        layer.width, layer.height, layer.product = p.k, p.n, p
        if p.saved != ABSENT:
            self.reads[p.saved] = p.m * p.n * self.item
        self.made.append((p.c, p.m * p.n * self.item, self.at))
        self.dz, self.width = p.c, p.n
        return True


def backward(code: Decoded, first: int, precision: str) -> Group | None:
    """Return the records of a backward pass that begin at a record."""
    found = _Parser(code.program, first)
    if not found.layers:
        return None
    group, layers = range(first, found.at), found.layers
    writes = [one for one in found.made if code.needed(one[0], one[2], group)]
    begin = next(iter(found.reads))
    work = backward_work(code.program.dtype, found.rows, begin, layers, {(word, at) for word, _, at in writes})
    sizes = [
        layer.width * layer.height * ((layer.weight is not None) + (layer.product is not None)) for layer in layers
    ]
    widest = max(max(layer.width, layer.height) for layer in layers)
    return _make(code, group, work, found.rows, sum(sizes), widest, tuple(found.reads.items()), writes, precision)
