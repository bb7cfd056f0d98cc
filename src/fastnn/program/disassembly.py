"""The readable form of a program: one line per record, then the arena and the fusions."""

from __future__ import annotations

from fastnn.program.layout import FLAGS_WORD, SHARED, Buffer, Flag
from fastnn.program.program import OperandView, Program, operands_of, params_of

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
    shared = view.buffer >= SHARED
    number = f"shared{view.buffer - SHARED}" if shared else f"data{view.buffer - Buffer.DATA}"
    name = _SHORT.get(view.buffer, number)  # type: ignore[call-overload]
    shape = "x".join(map(str, view.shape))
    return f"{view.spec.name}={name}+{view.offset:#x}" + (f"({shape})" if shape else "")


def disassemble(program: Program) -> str:
    """Return a program as text: kernel, operands with places and shapes, parameters, flags, bytes moved."""
    lines = [
        f"program {program.name!r}: {len(program)} records, batch {program.batch}, {program.dtype}, "
        f"arena {format_bytes(program.arena_bytes)}"
    ]
    for index, record in enumerate(program.records):
        views = operands_of(record, program.dtype)
        outs = ", ".join(_place(view) for view in views if view.spec.access != "read")
        ins = ", ".join(_place(view) for view in views if view.spec.access == "read")
        params = " ".join(f"{key}={value:g}" for key, value in params_of(record).items() if value)
        flags = Flag(int(record[FLAGS_WORD]))
        notes = [flag.name.lower() for flag in Flag if flag in flags and flag.name]
        mapped = program.maps[index]
        if mapped is not None:
            notes.append(f"map={mapped}")
        moved = format_bytes(sum(view.nbytes for view in views))
        tail = " ".join(part for part in (params, *notes) if part)
        lines.append(
            f"{index:4d}  {program.kernels[index]!s:<34} {outs or '-'} <- {ins or '-'}"
            f"{'  [' + tail + ']' if tail else ''}  {moved}  ; {program.labels[index]}"
        )
    if program.values:
        total = sum(value.nbytes for value in program.values)
        lines.append(
            f"arena: {len(program.values)} values of {format_bytes(total)} in {format_bytes(program.arena_bytes)}"
        )
        for value in program.values:
            lines.append(
                f"      +{value.offset:#08x} {format_bytes(value.nbytes):>10}  "
                f"records {value.first}-{value.last}  {value.name}"
            )
    lines.extend(f"fused: {fusion}" for fusion in program.fusions)
    return "\n".join(lines)
