"""Entries of the table of ops, and the sizes of records, which follow from all entries.

An operand is written `name[dim,dim]`, or `name[dim:stride,dim:stride]` with the distances between neighbours along axes
(the first dimension is then that of all axes together); `name?` may be absent; `name:int64` or `name:float64` has that
dtype instead of the program's own (`real`), and `name:any` is described by the record's variant. `name=input` may lie
where that input does, as a whole. A dimension is written `name`; `name?` may be zero, and `name~` may be any integer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from fastnn.locks import cached_property
from fastnn.program.flags import Flag

#: words of a record before its operands: the addresses that a backend fills in, the op, flags
HEAD_WORDS = 4
#: records are whole cache lines of 64 bytes
LINE_WORDS = 8


@dataclass(frozen=True)
class Operand:
    """One operand of an op: its access ("write", "update" or "read"), kind and shape by dimension names.

    Attributes
    ----------
    strides : tuple of str
        The dimensions that say how many elements neighbours along each axis are apart; none if the operand is dense.
        The size of the first axis is then the first dimension of the shape divided by the others.
    over : str
        The input in whose place an output may be written, or empty.
    """

    name: str
    access: str
    kind: str
    shape: tuple[str | int, ...]
    optional: bool
    strides: tuple[str, ...] = ()
    over: str = ""

    def axes(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        """Return the sizes of axes for dimensions."""
        sizes = tuple(size if isinstance(size, int) else dims[size] for size in self.shape)
        return (sizes[0] // prod(sizes[1:]), *sizes[1:]) if self.strides else sizes

    def extents(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape for dimensions; of an operand with strides the number of elements from first to last."""
        axes = self.axes(dims)
        if not self.strides:
            return axes
        return (1 + sum((size - 1) * dims[stride] for size, stride in zip(axes, self.strides, strict=True)),)


class Sections(NamedTuple):
    """The words at which operands, dimensions and parameters begin in every record, and the words of a record."""

    operands: int
    dims: int
    params: int
    words: int


class Shared(NamedTuple):
    """How threads share the work of an op.

    Attributes
    ----------
    over : tuple of str
        The dimensions whose product is cut into parts; none for an op that runs as one part. "tiles" are those of a
        matrix product.
    least : int
        How many of them a part has at least.
    """

    over: tuple[str, ...] = ()
    least: int = 1


#: Says what is wrong with a record, by its dimensions, the names of its operands and its flags; or None.
Rule = Callable[[Mapping[str, int], frozenset[str], Flag], str | None]


@dataclass(frozen=True)
class Op:
    """A record op.

    Attributes
    ----------
    code : int
        Its number.
    operands : tuple of Operand
        Outputs, updates, inputs.
    dims, params : tuple of str
        Names of dimensions, and of float64 parameters.
    variants : str
        What a kernel's variant stands for; empty if there is one kernel.
    may_be_zero, may_be_any : frozenset of str
        Dimensions that may be 0; and those that may be negative, too. All others are positive.
    maps : str
        The elementwise function that a record applies: "map", "map_grad" (its derivative), "flags" if the record's
        flags say which, or empty.
    rate : float
        Elements of float32 that a fast core processes in a nanosecond; 0 if the op is too cheap to estimate.
    elements : tuple of str
        The dimensions whose product is the number of these elements.
    multiply_adds : tuple of str
        For products instead of a rate: the dimensions whose product is the number of multiply-adds.
    shared : Shared
        How threads share the work.
    update : bool
        Whether its records come after the gradients, in the optimizer's part of a step.
    per_row : str
        The parameter that is a factor of gradients divided by the number of rows, or empty.
    elementwise : bool
        Whether an element of the outputs depends on the elements at the same place alone, and the kernel computes any
        piece of them: such records may be part of a chain.
    keeps_state : bool
        Whether what it updates lies in arrays of the caller, which stay for the next step of a sequence.
    rule : callable, optional
        What a kernel assumes besides.
    """

    code: int
    name: str
    operands: tuple[Operand, ...]
    dims: tuple[str, ...]
    params: tuple[str, ...]
    variants: str
    may_be_zero: frozenset[str]
    may_be_any: frozenset[str]
    maps: str
    rate: float
    elements: tuple[str, ...]
    multiply_adds: tuple[str, ...]
    shared: Shared
    update: bool
    per_row: str
    elementwise: bool
    keeps_state: bool
    rule: Rule | None
    table: Table = field(repr=False, compare=False)

    def word(self, name: str) -> int:
        """Return the record word that holds the operand, dimension or parameter of this name."""
        return self._words[name]

    @cached_property
    def _words(self) -> dict[str, int]:
        at = self.table.sections
        # operands come before dimensions of the same name, and these before parameters
        found = {name: at.params + index for index, name in enumerate(self.params)}
        found |= {name: at.dims + index for index, name in enumerate(self.dims)}
        return found | {operand.name: at.operands + index for index, operand in enumerate(self.operands)}

    def words(self, *names: str) -> tuple[int, ...]:
        """Return the record words of several names: what a kernel binds before it is compiled."""
        return tuple(self.word(name) for name in names)


class Table:
    """Ops by name, in the order of their numbers. Once anything has asked for the sizes of records, it is closed."""

    def __init__(self) -> None:
        self.ops: dict[str, Op] = {}

    @cached_property
    def sections(self) -> Sections:
        """The places of operands, dimensions and parameters in every record: as many as any op has."""
        operands = HEAD_WORDS
        dims = operands + max(len(op.operands) for op in self.ops.values())
        params = dims + max(len(op.dims) for op in self.ops.values())
        end = params + max(len(op.params) for op in self.ops.values())
        return Sections(operands, dims, params, -(-end // LINE_WORDS) * LINE_WORDS)

    @cached_property
    def digest(self) -> int:
        """A number of 56 bits that changes with the meaning of any word of a record."""
        described = [(op.name, op.operands, op.dims, op.params) for op in self.ops.values()]
        return int.from_bytes(hashlib.sha256(repr((self.sections, described)).encode()).digest()[:7], "little")

    def define(
        self,
        name: str,
        *,
        outputs: str = "",
        updates: str = "",
        inputs: str = "",
        dims: str = "",
        params: str = "",
        variants: str = "",
        maps: str = "",
        rate: float = 0.0,
        elements: str = "",
        multiply_adds: str = "",
        shared: str = "",
        update: bool = False,
        per_row: str = "",
        elementwise: bool = False,
        keeps_state: bool = False,
        rule: Rule | None = None,
    ) -> None:
        """Add an op; see `Op` for the arguments.

        Parameters
        ----------
        outputs, updates, inputs : str
            Operands that are written, updated and read.
        elements : str
            If it is not given, the shape of the largest operand.
        shared : str
            Dimensions over which the work is shared, and "/n" if a part has at least n of them: "rows", "n/64".

        Raises
        ------
        ValueError
            When the entry contradicts itself.
        RuntimeError
            When the sizes of records are known already.
        """
        if "sections" in vars(self):
            raise RuntimeError(f"op {name!r} comes too late: records have {self.sections.words} words already")
        operands = _operands(outputs, "write") + _operands(updates, "update") + _operands(inputs, "read")
        sizes = {word.rstrip("?~"): word for word in dims.split()}
        over, _, least = shared.partition("/")
        named = [tuple(size for size in operand.shape if isinstance(size, str)) for operand in operands]
        op = Op(
            code=len(self.ops),
            name=name,
            operands=operands,
            dims=tuple(sizes),
            params=tuple(params.split()),
            variants=variants,
            may_be_zero=frozenset(size for size, word in sizes.items() if word != size),
            may_be_any=frozenset(size for size, word in sizes.items() if word.endswith("~")),
            maps=maps,
            rate=rate,
            elements=tuple(elements.split()) or max(named, key=len, default=()),
            multiply_adds=tuple(multiply_adds.split()),
            shared=Shared(tuple(over.split()), int(least or 1)),
            update=update,
            per_row=per_row,
            elementwise=elementwise,
            keeps_state=keeps_state,
            rule=rule,
            table=self,
        )
        names = [operand.name for operand in operands] + list(op.dims) + list(op.params)
        if len(set(names)) != len(names) or len(sizes) != len(dims.split()):
            raise ValueError(f"op {name!r} names something twice: {names}")
        if bool(op.shared.over) != bool(rate or multiply_adds):
            raise ValueError(f"op {name!r} has an estimate of its time if, and only if, threads share its work")
        cut = () if op.shared.over == ("tiles",) else op.shared.over
        if elementwise and (
            op.shared != Shared(op.elements, 64)
            or [each.access for each in operands].count("read") + 1 != len(operands)
            or any(each.kind != "real" for each in operands)
        ):
            raise ValueError(f"op {name!r} is elementwise, but does not make one real output in parts of its elements")
        strides = [stride for operand in operands for stride in operand.strides]
        sized = [size for shape in named for size in shape]
        shapes = {operand.name: operand.shape for operand in operands if operand.access == "read"}
        if any(operand.over and shapes.get(operand.over) != operand.shape for operand in operands):
            raise ValueError(f"op {name!r} has an output in the place of what is no input of the same shape")
        for size in (*sized, *strides, *op.elements, *op.multiply_adds, *cut):
            if size not in op.dims:
                raise ValueError(f"op {name!r} has an unknown dimension {size!r}")
        self.ops[name] = op


_OPERAND = re.compile(r"(\w+)(\?)?(?:=(\w+))?(?::(\w+))?\[([\w,:]*)\]")


def _operands(text: str, access: str) -> tuple[Operand, ...]:
    found = []
    for word in text.split():
        match = _OPERAND.fullmatch(word)
        if match is None:
            raise ValueError(f"operand {word!r} is not of the form name[dim,dim]")
        name, optional, over, kind, shape = match.groups()
        axes = [axis.partition(":") for axis in shape.split(",") if axis]
        sizes = tuple(int(size) if size.isdigit() else size for size, _, _ in axes)
        strides = tuple(stride for _, _, stride in axes if stride)
        if len(strides) not in (0, len(axes)):
            raise ValueError(f"operand {word!r} has strides along some of its axes only")
        found.append(Operand(name, access, kind or "real", sizes, bool(optional), strides, over or ""))
    return tuple(found)
