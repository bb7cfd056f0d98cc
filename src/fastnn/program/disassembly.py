"""The readable form of a record: one line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.program.chains import Chain, locals_of
from fastnn.program.layout import FLAGS_WORD, SHARED, WINDOWS, Buffer, Flag, is_window
from fastnn.program.opcodes import CONTROL
from fastnn.program.record import KernelKey, OperandView, dims_of, elements_of, op_of, operands_of, params_of
from fastnn.program.value import Value

_SHORT = {
    Buffer.PARAMETERS: "param",
    Buffer.GRADIENTS: "grad",
    Buffer.OPTIMIZER: "opt",
    Buffer.ARENA: "arena",
    Buffer.ACCUMULATORS: "acc",
    Buffer.HYPER: "hyper",
    Buffer.INDEX: "index",
}


def format_bytes(nbytes: int) -> str:
    """Write a size in bytes with a binary unit."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def _place(view: OperandView) -> str:
    number = f"shared{view.buffer - SHARED}" if view.buffer >= SHARED else f"data{view.buffer - Buffer.DATA}"
    if is_window(view.buffer):
        number = f"window{view.buffer - WINDOWS}"
    name = _SHORT.get(view.buffer, number)  # type: ignore[call-overload]
    shape = "x".join(map(str, view.shape))
    return f"{view.spec.name}={name}+{view.offset:#x}" + (f"({shape})" if shape else "")


def moved_bytes(record: NDArray[np.int64], dtype: str) -> int:
    """Return the size of all that a record reads and writes."""
    return sum(view.nbytes for view in operands_of(record, dtype))


def disassemble(record: NDArray[np.int64], kernel: KernelKey, mapped: KernelKey | None, label: str, dtype: str) -> str:
    """Return a record as text: kernel, operands with places and shapes, parameters, flags, bytes moved."""
    views = operands_of(record, dtype)
    outs = ", ".join(_place(view) for view in views if view.spec.access != "read")
    ins = ", ".join(_place(view) for view in views if view.spec.access == "read")
    params = " ".join(f"{key}={value:g}" for key, value in params_of(record).items() if value)
    flags = Flag(int(record[FLAGS_WORD]))
    notes = [flag.name.lower() for flag in Flag if flag in flags and flag.name]
    if mapped is not None:
        notes.append(f"map={mapped}")
    if op_of(record).name in CONTROL:
        notes += [f"{name}={size}" for name, size in dims_of(record).items()]
    moved = format_bytes(moved_bytes(record, dtype))
    tail = " ".join(part for part in (params, *notes) if part)
    return f"{kernel!s:<34} {outs or '-'} <- {ins or '-'}{'  [' + tail + ']' if tail else ''}  {moved}  ; {label}"


def describe_chain(chain: Chain, records: NDArray[np.int64], values: Sequence[Value]) -> str:
    """Return a line that says what the records from a chain's first to its last one have in common."""
    local = locals_of(chain, values)
    elements = elements_of(records[chain.first])
    kept = ", ".join(value.name for value in local) or "none"
    return f"chain of records {chain.first}-{chain.last}, {elements} elements; local values: {kept}"
