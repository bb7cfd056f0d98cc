"""The records after the backward pass: penalties, clipping, the optimizer's step, constraints, counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from fastnn.lower.task import Place
from fastnn.program.layout import Buffer, Flag, encode
from fastnn.program.program import RecordDraft
from fastnn.program.record import ITEM_SIZES


@dataclass(frozen=True)
class Weight:
    """One weight, as described to the update.

    `offset` is in bytes and the same in the buffer of gradients and in every slot of the optimizer's buffer, `place` is
    where the weight itself is: in the model's buffer of parameters, or in another model's. `trained` says whether this
    program computes a gradient for it, `multiplier` is its factor of the learning rate, `penalty_by_step` whether each
    step's hyper row has a factor for its penalty.
    """

    name: str
    offset: int
    place: Place
    shape: tuple[int, ...]
    trained: bool
    l1: float = 0.0
    l2: float = 0.0
    penalty_by_step: bool = False
    max_norm: tuple[float, int] | None = None
    multiplier: float = 1.0

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Clipping:
    """The limits of gradients; at most one is set."""

    value: float | None = None
    norm: float | None = None
    global_norm: float | None = None


@dataclass(frozen=True)
class Averaging:
    """A moving average of the weights: its momentum, and in which updates it takes their place (0: in none)."""

    momentum: float
    overwrite: int = 0


@dataclass(frozen=True)
class Update:
    """The optimizer's part of a program.

    Attributes
    ----------
    formula : str
    slots : int
        Of the formula. After them comes one for the sums of gradients, where gradients are accumulated, and one for the
        moving average, where there is one.
    slot_bytes : int
    clipping : Clipping
    accumulated : int
        Steps whose gradients make one update; 0 where each step is one.
    averaging : Averaging, optional
    """

    formula: str
    slots: int
    slot_bytes: int
    clipping: Clipping
    accumulated: int = 0
    averaging: Averaging | None = None


def penalties(weights: Sequence[Weight], total: int, batch: int, *, stepping: bool) -> list[RecordDraft]:
    """Add regularisers to the loss, and their gradients to those of trained weights.

    `stepping` says whether there are hyper rows.
    """
    drafts = []
    for weight in weights:
        if not weight.l1 and not weight.l2:
            continue
        operands = {"total": total, "w": encode(*weight.place)}
        if weight.trained:
            operands["dw"] = encode(Buffer.GRADIENTS, weight.offset)
        if stepping and weight.penalty_by_step:
            operands["hyper"] = encode(Buffer.HYPER, 0)
        params = {"l1": weight.l1, "l2": weight.l2}
        dims = {"n": weight.size, "batch": batch}
        drafts.append(RecordDraft("penalty", operands, dims, params, label=weight.name))
    return drafts


def _ranges(weights: Sequence[Weight], dtype: str) -> list[tuple[int, int, Place]]:
    """Join adjacent trained weights into ranges (offset in bytes, number of elements, place of the weights).

    The padding between two weights is zero in every buffer, and stays zero in every update.
    """
    item = ITEM_SIZES[dtype]
    ranges: list[tuple[int, int, Place]] = []
    before: Weight | None = None
    for weight in weights:
        if weight.trained:
            if ranges and before is not None and before.trained and _adjacent(before, weight):
                start, _, place = ranges[-1]
                ranges[-1] = (start, (weight.offset - start) // item + weight.size, place)
            else:
                ranges.append((weight.offset, weight.size, weight.place))
        before = weight
    return ranges


def _adjacent(before: Weight, weight: Weight) -> bool:
    """Return whether two weights that follow each other in the gradients do so where the weights are."""
    apart = weight.place.offset - before.place.offset
    return weight.place.buffer == before.place.buffer and apart == weight.offset - before.offset


def _clip(
    weights: Sequence[Weight], ranges: Sequence[tuple[int, int, Place]], clipping: Clipping, scratch: int
) -> list[RecordDraft]:
    def gradient(offset: int) -> int:
        return encode(Buffer.GRADIENTS, offset)

    drafts = []
    if clipping.value is not None:
        for offset, n, _ in ranges:
            params = {"limit": clipping.value}
            drafts.append(RecordDraft("clip_by_value", {"g": gradient(offset)}, {"n": n}, params, label="clip"))
    if clipping.norm is not None or clipping.global_norm is not None:
        each = [(weight.offset, weight.size) for weight in weights if weight.trained]
        whole = [(offset, n) for offset, n, _ in ranges]
        groups = [whole] if clipping.global_norm is not None else [[part] for part in each]
        limit = clipping.global_norm if clipping.global_norm is not None else clipping.norm
        assert limit is not None
        for group in groups:
            for index, (offset, n) in enumerate(group):
                flags = Flag.ACCUMULATE if index else Flag(0)
                operands = {"total": scratch, "x": gradient(offset)}
                drafts.append(RecordDraft("sum_squares", operands, {"n": n}, flags=flags, label="clip"))
            for offset, n in group:
                operands = {"g": gradient(offset), "total": scratch}
                drafts.append(RecordDraft("clip_by_norm", operands, {"n": n}, {"limit": limit}, label="clip"))
    return drafts


def _by_multiplier(weights: Sequence[Weight]) -> Iterator[tuple[float, list[Weight]]]:
    """Yield stretches of weights whose learning rates have the same factor, as far as weights are trained."""
    stretch: list[Weight] = []
    multiplier = 1.0
    for weight in weights:
        if weight.trained and weight.multiplier != multiplier:
            if any(one.trained for one in stretch):
                yield multiplier, stretch
                stretch = []
            multiplier = weight.multiplier
        stretch.append(weight)
    yield multiplier, stretch


def _state(step: Update, slot: int, offset: int) -> int:
    return encode(Buffer.OPTIMIZER, slot * step.slot_bytes + offset)


def update(weights: Sequence[Weight], step: Update, scratch: int, dtype: str) -> list[RecordDraft]:
    """Average and clip the gradients, take the optimizer's step, average the weights, apply constraints.

    The order is Keras'.

    Parameters
    ----------
    scratch : int
        Operand word of one float64 for the norm.
    """
    ranges = _ranges(weights, dtype)
    slots = step.slots
    drafts = []
    if step.accumulated:
        for offset, n, _ in ranges:
            operands = {"g": encode(Buffer.GRADIENTS, offset), "total": _state(step, slots, offset)}
            dims = {"n": n, "steps": step.accumulated}
            drafts.append(RecordDraft("accumulate", operands, dims, label="accumulation"))
        slots += 1
    # in steps without an update the gradients are no longer used, and clipping them changes nothing
    drafts += _clip(weights, ranges, step.clipping, scratch)
    for multiplier, alike in _by_multiplier(weights):
        for offset, n, place in _ranges(alike, dtype):
            operands = {
                "p": encode(*place),
                "g": encode(Buffer.GRADIENTS, offset),
                "hyper": encode(Buffer.HYPER, 0),
            }
            for slot in range(step.slots):
                operands[f"s{slot}"] = _state(step, slot, offset)
            dims, params = {"n": n, "accumulated": step.accumulated}, {"multiplier": multiplier}
            drafts.append(RecordDraft("optimizer", operands, dims, params, variant=step.formula, label="optimizer"))
    if step.averaging is not None:
        for offset, n, place in ranges:
            operands = {"mean": _state(step, slots, offset), "p": encode(*place)}
            dims = {"n": n, "steps": max(step.accumulated, 1), "overwrite": step.averaging.overwrite}
            params = {"momentum": step.averaging.momentum}
            drafts.append(RecordDraft("moving_average", operands, dims, params, label="moving average"))
    for weight in weights:
        if weight.trained and weight.max_norm is not None:
            limit, axis = weight.max_norm
            dims = {
                "outer": prod(weight.shape[:axis]),
                "size": weight.shape[axis],
                "inner": prod(weight.shape[axis + 1 :]),
            }
            operands = {"w": encode(*weight.place)}
            drafts.append(RecordDraft("max_norm", operands, dims, {"limit": limit}, label=weight.name))
    return drafts


def tick(batch: int, *, training: bool) -> RecordDraft:
    """Advance the counters by one batch."""
    return RecordDraft("tick", {}, {"rows": batch}, flags=Flag.TRAINING if training else Flag(0), label="counters")


def for_batch(drafts: Sequence[RecordDraft], batch: int) -> list[RecordDraft]:
    """Return the records of a program's tail for another batch size."""
    named = {"penalty": "batch", "tick": "rows"}
    return [
        replace(draft, dims={**draft.dims, named[draft.op]: batch}) if draft.op in named else draft for draft in drafts
    ]
