"""The launches that run a program: their kernels, grids and addresses.

Nothing here uses a device, so launches can be inspected on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastnn.backend.cuda.codegen import custom_code
from fastnn.backend.cuda.codegen.kernel import KERNELS, SCRATCH_WORD, TABLE_WORD, Key, Stage
from fastnn.backend.cuda.codegen.sizes import CONVOLUTIONS, MOST_ELEMENTS
from fastnn.backend.cuda.kernels import stages
from fastnn.backend.cuda.kernels.elementwise import DIVIDE_QUICKLY
from fastnn.formulas import custom
from fastnn.program.layout import (
    ABSENT,
    DIMS_AT,
    FLAGS_WORD,
    OPERANDS_AT,
    Flag,
    decode,
)
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES, dims_of, operands_of


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel's key and stage, its grid, and the record's words as the kernel reads them.

    Attributes
    ----------
    table : tuple of int
        Words that the device has to keep in its memory; their address is written to the record's `TABLE_WORD`.
    """

    key: Key
    stage: int
    grid: tuple[int, int]
    threads: int
    shared: int
    record: tuple[int, ...]
    table: tuple[int, ...] = ()

    def words(self, places: Mapping[tuple[int, ...], int]) -> tuple[int, ...]:
        """Return the words for the kernel, with the addresses of tables."""
        if not self.table:
            return self.record
        return (*self.record[:TABLE_WORD], places[self.table], *self.record[TABLE_WORD + 1 :])


@dataclass(frozen=True)
class Work:
    """The work of one kernel: a record, or several that it replaces.

    Attributes
    ----------
    dims : mapping of str to int
        The dimensions that determine its grids.
    words : tuple of int
        A record's, with operands of a program.
    table : tuple of tuple of int
        Rows of more such words, if they do not fit into one record.
    scratch : int
        Bytes that it needs.
    """

    key: Key
    dims: Mapping[str, int]
    words: tuple[int, ...]
    table: tuple[tuple[int, ...], ...] = ()
    scratch: int = 0

    @property
    def operands(self) -> list[int]:
        """The operands of the record that are present."""
        return [word for word in self.words[OPERANDS_AT:DIMS_AT] if word != ABSENT]

    def launches(self, stages: Sequence[Stage], addresses: Mapping[int, int], scratch: int) -> list[Launch]:
        """Return the launches of its kernel's stages, except those with an empty grid."""
        words = resolve(self.words, addresses, scratch)
        table = tuple(word for row in self.table for word in resolve(row, addresses, scratch))
        found = []
        for number, stage in enumerate(stages):
            grid = stage.grid(self.dims)
            if all(grid):
                found.append(Launch(self.key, number, grid, stage.threads, stage.shared, words, table))
        return found


def key_of(program: Program, index: int, precision: str = "float32", warpgroups: bool = False) -> Key:
    """Return the kernel of a record; `precision` is that of products and convolutions; products may use warpgroups."""
    record, named, mapped = program.records[index], program.kernels[index], program.maps[index]
    variant = named.variant if mapped is None else mapped.variant
    choose, dims, flags = KERNELS[named.op].algorithm, dims_of(record), Flag(int(record[FLAGS_WORD]))
    if named.op == "matmul":
        # activations fused into a product by warpgroups use quick divisions
        algorithm = choose(dims, flags, precision, warpgroups and (mapped is None or mapped.variant in DIVIDE_QUICKLY))
    elif named.op in CONVOLUTIONS:
        algorithm = choose(dims, flags, precision)
    else:
        algorithm = choose(dims, flags)
    return Key(named.op, named.dtype, variant, algorithm)


def keys_of(program: Program, precision: str = "float32", warpgroups: bool = False) -> list[Key]:
    """Return the kernel of every record."""
    return [key_of(program, index, precision, warpgroups) for index in range(len(program))]


def check(program: Program) -> None:
    """Raise if kernels would count past 32 bits, or an op has no kernel.

    Raises
    ------
    ValueError
        When an operand has more than `MOST_ELEMENTS` elements.
    NotImplementedError
        When an op, or a user-defined function, runs on the CPU only.
    """
    for index, record in enumerate(program.records):
        key = program.kernels[index]
        mapped = program.maps[index]
        function = custom.first(key.variant, "" if mapped is None else mapped.variant)
        reason = None if key.op in KERNELS else f"{key.op} has no CUDA kernel"
        if function is not None:
            reason = custom_code.why_not(function, key.op)
        if reason is not None:
            raise NotImplementedError(f"{program.labels[index]}: {reason}: it runs on the CPU only, use to('cpu')")
        for view in operands_of(record, program.dtype):
            count = view.nbytes // ITEM_SIZES.get(view.spec.kind, ITEM_SIZES[program.dtype])
            if count > MOST_ELEMENTS:
                raise ValueError(
                    f"{program.labels[index]}: {view.spec.name} of {count} elements is too large for CUDA kernels, "
                    f"which take {MOST_ELEMENTS}; use a smaller batch_size"
                )


def resolve(words: Sequence[int], addresses: Mapping[int, int], scratch: int) -> tuple[int, ...]:
    """Return a record's words with addresses instead of operands; 0 if an operand or its buffer is absent."""
    resolved = list(words)
    resolved[SCRATCH_WORD] = scratch
    for at in range(OPERANDS_AT, DIMS_AT):
        word = resolved[at]
        resolved[at] = 0
        if word != ABSENT:
            buffer, offset = decode(word)
            base = addresses.get(buffer, 0)
            resolved[at] = base + offset if base else 0
    return tuple(resolved)


def works_of(program: Program, keys: Sequence[Key]) -> list[Work]:
    """Return the work of each record's kernel."""
    itemsize, works = ITEM_SIZES[program.dtype], []
    for record, key in zip(program.records, keys, strict=True):
        dims = dims_of(record)
        scratch = KERNELS[key.op].scratch(dims, itemsize, key.algorithm)
        works.append(Work(key, dims, tuple(record.tolist()), scratch=scratch))
    return works


def make(keys: Sequence[Key]) -> dict[Key, list[Stage]]:
    """Make the stages of kernels, each once."""
    return {key: stages(key) for key in dict.fromkeys(keys)}
