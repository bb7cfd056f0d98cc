"""Inspection of a model before it is trained: a summary, and the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer
from fastnn.lower.task import Request, Source, TargetLayout
from fastnn.objective.objective import Objective
from fastnn.program.disassembly import format_bytes
from fastnn.program.program import Program
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.requests import build
from fastnn.runtime.runtime import Runtime


def _rows(slot: int, shape: tuple[int, ...], dtype: str) -> Source:
    """Describe contiguous rows of a dtype."""
    return Source(slot, dtype, int(np.prod(shape, dtype=np.int64)) * ITEM_SIZES[dtype], indexed=True)


def program(runtime: Runtime, batch: int = 32) -> Program:
    """Make the training program of a compiled model, or the prediction program, for contiguous rows of its dtype.

    Sizes that the model leaves open are those of `Architecture.example`.
    """
    shapes = runtime.table.architecture.example.input_shapes
    table, objective = runtime.table.at(shapes), runtime.objective
    architecture, dtype = table.architecture, table.dtype
    if objective is not None:
        objective = objective.at(architecture.output_shapes)
    inputs = tuple(
        _rows(slot, spec.shape, dtype if spec.kind == "real" else spec.kind)
        for slot, spec in enumerate(architecture.input_specs)
    )
    if objective is None:
        slots = tuple(range(len(inputs), len(inputs) + len(architecture.outputs)))
        return build(table, None, None, Request("predict", batch, False, inputs, output_slots=slots))
    targets: list[TargetLayout | None] = [None] * len(objective.losses)
    for output in objective.targeted:
        labels, shape = objective.wants_labels(output), objective.output_shapes[output]
        targets[output] = _targets(len(inputs) + output, shape[:-1] if labels else shape, "int64" if labels else dtype)
    weights = (None,) * len(targets)

    def program_for(targets: Sequence[TargetLayout | None]) -> Program:
        request = Request("train", batch, True, inputs, tuple(targets), weights, trained=table.trained())
        return build(table, objective, runtime.optimizer, request)

    try:
        return program_for(targets)
    except Exception as error:
        changed = [_seen(runtime, objective, output, len(inputs)) for output in range(len(targets))]
        if not any(changed):
            raise
        known = [one or target for one, target in zip(changed, targets, strict=True)]
        try:
            return program_for(known)
        except Exception:
            raise error from None


def _targets(slot: int, shape: tuple[int, ...], dtype: str, seen: tuple[int, ...] | None = None) -> TargetLayout:
    """Describe targets in contiguous rows: labels, if they are integers."""
    return TargetLayout(_rows(slot, shape, dtype), dtype == "int64", seen)


def _seen(runtime: Runtime, objective: Objective, output: int, inputs: int) -> TargetLayout | None:
    """Describe other targets than of the output's shape, for functions of symbols: as last trained on, or one a row."""
    if not objective.functions(output):
        return None
    known = runtime.seen_targets(output)
    shape = objective.output_shapes[output][:-1] if known is None else known
    return _targets(inputs + output, shape, runtime.table.dtype, shape)


NOT_BUILT = "not built: the input shape comes from the first data, or from build(input_shape)"


def unbuilt(title: str, layers: Sequence[tuple[str, Layer]]) -> str:
    """Describe the layers, with their names, of a model whose shapes are not known yet, below a title."""
    return "\n".join([title, *_table(unbuilt_rows(layers)), NOT_BUILT])


def unbuilt_rows(layers: Sequence[tuple[str, Layer]]) -> list[tuple[str, ...]]:
    """Return a table of layers, with their names, whose shapes are not known yet."""
    return [
        ("layer", "class", "output shape", "parameters"),
        *((name, type(one).__name__, "?", "?") for name, one in layers),
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align cells, with a line below the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _source(architecture: Architecture, call: int) -> str:
    """Name a layer whose output is used, and the output's number if it is one of several."""
    use = architecture.calls[call]
    several = len(architecture.uses(call - use.output)) > 1
    return architecture.labels[use.layer] + (f"[{use.output}]" if several else "")


def rows_of(table: ParameterTable) -> list[tuple[str, ...]]:
    """Return a table of the uses of layers: names, classes, shapes, parameters, and where inputs come from."""
    architecture = table.architecture
    rows: list[tuple[str, ...]] = [("layer", "class", "output shape", "parameters", "connected to")]
    sizes: Counter[int] = Counter()
    for entry in table:
        sizes[entry.layer] += entry.size
    used: set[int] = set()
    for index, call in enumerate(architecture.calls):
        if call.output:
            continue
        layer, label = architecture.layers[call.layer], architecture.labels[call.layer]
        first_use, size = call.layer not in used, sizes[call.layer]
        used.add(call.layer)
        note = "" if table.is_trainable(layer) else " (frozen)"
        uses = architecture.uses(index)
        note += "" if all(use.kind == "real" for use in uses) else " (int64)"
        sources = ", ".join(_source(architecture, x) for x in call.inputs)
        shape = ", ".join(str((None, *use.shape) if use.batched else use.shape) for use in uses)
        rows.append((label, type(layer).__name__ + note, shape, f"{size:,}" if first_use else "shared", sources))
    return rows


def counts_of(table: ParameterTable) -> str:
    """Describe the numbers of parameters."""
    trained = sum(entry.size for entry, is_trained in zip(table, table.trained(), strict=True) if is_trained)
    total = sum(entry.size for entry in table)
    return f"{total:,} ({trained:,} trainable), {table.dtype}"


def summary(runtime: Runtime, title: str, batch: int) -> str:
    """Describe a model's layers, shapes, parameters and memory, below a title."""
    table, optimizer = runtime.table, runtime.optimizer
    architecture = table.architecture
    lines = [*_table(rows_of(table)), f"parameters: {counts_of(table)}"]
    for role, what in (("loss", "added losses"), ("metric", "added metrics")):
        names = [extra.name or _source(architecture, extra.call) for extra in architecture.extras if extra.role == role]
        if names:
            lines.append(f"{what}: {', '.join(names)}")
    made = program(runtime, batch)
    memory = [f"parameters {format_bytes(table.nbytes)}"]
    if optimizer is not None:
        slots = len(optimizer.slots)
        memory += [
            f"gradients {format_bytes(table.nbytes)}",
            f"optimizer {format_bytes(slots * table.nbytes)}",
        ]
    what = "activations and gradients of" if optimizer is not None else "activations of"
    of = f" samples of {', '.join(map(str, architecture.example.input_shapes))}" if architecture.is_open else ""
    memory.append(f"{what} a batch of {batch}{of} {format_bytes(made.arena_bytes)}")
    lines.append("memory: " + ", ".join(memory))
    return "\n".join([title, *lines])
