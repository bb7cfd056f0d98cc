"""One case as a program, and its run on the CPU and on the reference backend from the same values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from fastnn.backend.cpu.executor.engine import BoundProgram
from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.program.layout import ALIGNMENT, CONTEXT_WORDS, Buffer, Counter, Flag, align, encode
from fastnn.program.op import Operand
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program, RecordDraft, Value, aligned_zeros, make_program
from fastnn.program.record import ITEM_SIZES, KernelKey, OperandView, operands_of

GUARD = ALIGNMENT
FLOAT64_EPS = float(np.finfo(np.float64).eps)
COUNTERS = [entry.name for entry in fields(Counters)]
# What an op updates, or reads as a weight, stands where the lowering puts it.
HOMES = {
    **dict.fromkeys(("p", "w", "bias", "gamma", "beta", "moving_mean", "moving_variance"), Buffer.PARAMETERS),
    **dict.fromkeys(("s0", "s1", "s2"), Buffer.OPTIMIZER),
}


def home(spec: Operand, flags: Flag) -> Buffer:
    """Return the buffer of an operand; inputs are in GRADIENTS, where no record has to write them first."""
    if spec.name == "hyper":
        return Buffer.HYPER
    if spec.kind == "float64" and spec.access == "update":
        return Buffer.ACCUMULATORS
    if spec.name in HOMES:
        return HOMES[spec.name]
    if spec.access == "write" and Flag.ACCUMULATE not in flags:
        return Buffer.ARENA
    return Buffer.GRADIENTS


def build(case, dtype: str) -> Program:
    """Make the program of a case: its record, followed by a tick if it runs several steps.

    Operands are separated by guards, to detect a kernel that writes or reads past one.
    """
    op = OPS[case.op]
    ends: dict[int, int] = {}
    operands: dict[str, int] = {}
    values = []
    for spec in op.operands:
        if spec.name not in case.operands or (case.in_place and spec.over):
            continue
        if spec.kind == "any":
            operands[spec.name] = encode(Buffer.INDEX if spec.name == "index" else Buffer.DATA, 0)
            continue
        buffer = home(spec, case.flags)
        offset = ends.get(buffer, 0)
        operands[spec.name] = encode(buffer, offset)
        item = ITEM_SIZES[dtype if spec.kind == "real" else spec.kind]
        nbytes = item * int(np.prod(case.shape(spec.name), dtype=np.int64))
        if buffer == Buffer.ARENA:
            values.append(Value(spec.name, offset, nbytes, 0, 0))
        ends[buffer] = offset + align(nbytes) + GUARD
    operands |= {spec.name: operands[spec.over] for spec in op.operands
                 if case.in_place and spec.over and spec.name in case.operands}  # fmt: skip
    mapped = KernelKey(case.map_kind, dtype, case.formula) if case.formula else None
    drafts = [RecordDraft(case.op, operands, case.dims, case.params, case.flags, case.variant, mapped, case.id)]
    if case.steps > 1:
        drafts.append(RecordDraft("tick", {}, {"rows": case.dims["rows"]}, flags=Flag.TRAINING, label="tick"))
    return make_program(case.id, case.dims.get("rows", 1), dtype, drafts, values, ends)


def views(program: Program) -> dict[str, OperandView]:
    """Return the operands of a case's record by name."""
    return {view.spec.name: view for view in operands_of(program.records[0], program.dtype)}


@dataclass(frozen=True)
class Result:
    """The results of a run: outputs and updated operands, arrays of the data slots, counters, finished steps."""

    outputs: Mapping[str, np.ndarray]
    data: Mapping[int, np.ndarray]
    counters: Mapping[str, int]
    steps: int


def fill(case, dtype: str, changed: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Return the values of a case's operands rounded to a dtype, as float64 (or int64)."""
    found = {**case.values(), **(changed or {})}
    for name, value in found.items():
        if case.kind(name) == "real" or name == "hyper":
            found[name] = value.astype(dtype).astype(np.float64)
    return found


def native_dtype(spec: Operand, dtype: str) -> np.dtype:
    """Return an operand's dtype on the CPU."""
    return np.dtype(dtype if spec.kind == "real" else spec.kind)


def _within(buffers: Mapping[int, np.ndarray], view: OperandView, dtype: str) -> np.ndarray:
    raw = buffers[view.buffer][view.offset : view.offset + view.nbytes]
    return raw.view(native_dtype(view.spec, dtype)).reshape(view.shape)


def filled(program: Program, values: Mapping[str, np.ndarray], dtype: str) -> dict[int, np.ndarray]:
    """Make the buffers of a case's program: its values in their places, and NaN in both dtypes around them."""
    buffers = {buffer: aligned_zeros(nbytes + GUARD) for buffer, nbytes in program.sizes.items()}
    for raw in buffers.values():
        raw[:] = 0xFF
    found = views(program)
    for name, value in values.items():
        if name == "hyper":
            buffers[Buffer.HYPER] = aligned_zeros(value.nbytes)
            buffers[Buffer.HYPER][:] = value.reshape(-1).view(np.uint8)
        else:
            _within(buffers, found[name], dtype)[...] = value.reshape(found[name].shape)
    return buffers


def outputs_of(
    program: Program, before: Mapping[int, np.ndarray], buffers: Mapping[int, np.ndarray], dtype: str
) -> dict[str, np.ndarray]:
    """Read a run's outputs from its buffers; every other byte has to be unchanged."""
    outputs = {}
    for name, view in views(program).items():
        if view.spec.access != "read" and view.spec.kind != "any":
            outputs[name] = _within(buffers, view, dtype).copy()
            _within(before, view, dtype)[...] = outputs[name]
    for buffer, raw in buffers.items():
        changed_at = np.flatnonzero(raw != before[buffer])
        assert len(changed_at) == 0, f"{program.name} wrote to bytes {changed_at[:4]} of {Buffer(buffer).name}"
    return outputs


def run_cpu(case, dtype: str, parts: int = 1, changed: Mapping[str, np.ndarray] | None = None) -> Result:
    """Run a case on the CPU; every byte outside its outputs has to stay unchanged."""
    program = build(case, dtype)
    buffers = filled(program, fill(case, dtype, changed), dtype)
    before = {buffer: raw.copy() for buffer, raw in buffers.items()}
    data = case.arrays(dtype)
    context = np.zeros(CONTEXT_WORDS, np.int64)
    for buffer, raw in buffers.items():
        context[buffer] = raw.ctypes.data
    for slot, array in data.items():
        context[Buffer.DATA + slot] = array.ctypes.data
    index = case.index
    if index is not None:
        context[Buffer.INDEX] = index.ctypes.data
    for name, number in case.counters.items():
        context[Counter[name.upper()]] = number
    steps = BoundProgram(program).run(context, case.steps, parts=parts)
    outputs = outputs_of(program, before, buffers, dtype)
    counters = {name: int(context[Counter[name.upper()]]) for name in COUNTERS}
    return Result(outputs, data, counters, steps)


class Reference:
    """A case on the reference backend, which may run many times from changed values."""

    def __init__(self, case, dtype: str) -> None:
        self.case = case
        self.dtype = dtype
        self.program = build(case, dtype)
        self.views = views(self.program)

    def run(self, changed: Mapping[str, np.ndarray] | None = None) -> Result:
        """Run from the case's values, rounded to the dtype, but computing in float64."""
        case = self.case
        values = fill(case, self.dtype, changed)
        data = case.arrays(self.dtype)
        if case.op == "store":
            data = {slot: array.astype(np.float64) for slot, array in data.items()}
        counters = Counters(**case.counters)
        backend = ReferenceBackend(
            self.program, data=data, index=case.index, hyper=values.get("hyper"), counters=counters
        )
        for name, value in values.items():
            if name != "hyper":
                backend.operand(self.views[name])[...] = value.reshape(self.views[name].shape)
        steps = backend.run(case.steps)
        outputs = {
            name: backend.operand(view)
            for name, view in self.views.items()
            if view.spec.access != "read" and view.spec.kind != "any"
        }
        return Result(outputs, data, {name: getattr(counters, name) for name in COUNTERS}, steps)

    def outputs(self, changed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run and return the outputs."""
        return self.run(changed).outputs


def run_reference(case, dtype: str, changed: Mapping[str, np.ndarray] | None = None) -> Result:
    """Run a case once on the reference backend."""
    return Reference(case, dtype).run(changed)


def excess(case, name: str, dtype: str, got: np.ndarray, expected: np.ndarray) -> float:
    """Return the error of an output divided by its bound: above 1 it is too large; infinite if NaN or inf differ."""
    got = got.astype(np.float64)
    odd = ~np.isfinite(expected) | ~np.isfinite(got)
    if not np.array_equal(got[odd], expected[odd], equal_nan=True):
        return np.inf
    # totals are float64 sums; what is written in float64 has been summed from distances in the dtype
    total = any(spec.name == name and spec.access == "update" for spec in OPS[case.op].operands)
    eps = FLOAT64_EPS if total and case.kind(name) == "float64" else float(np.finfo(dtype).eps)
    error, size = np.abs(got[~odd] - expected[~odd]) / eps, np.abs(expected[~odd])
    if not error.any():
        return 0.0
    limit = case.bound.relative * size + case.bound.absolute + (case.bound.mean if dtype == "float64" else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(error == 0.0, 0.0, error / limit)))


def differences(case, dtype: str, got: Result, expected: Result) -> list[str]:
    """Compare a run with the reference's; returns the outputs beyond their bounds; the rest has to be equal."""
    assert (got.steps, got.counters) == (expected.steps, expected.counters), case.id
    for slot, array in expected.data.items():
        np.testing.assert_array_equal(got.data[slot], array, err_msg=case.id)
    wrong = []
    for name, output in got.outputs.items():
        error = excess(case, name, dtype, output, expected.outputs[name])
        if error > 1.0:
            wrong.append(f"{case.id}: {name} is off by {error:.3g} of what it may be")
    return wrong
