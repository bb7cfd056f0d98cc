"""The texts of errors in calls of networks and learners, with the numbers that the failed call has noted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.frozen import failures
from fastnn.backend.cpu.frozen.failures import Noted
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import MOST_ROWS, CodeWord, Role, Slot
from fastnn.nopython.messages import CONSTANT, ERRORS

Shape = tuple[int, ...]

_KEPT = "the weights are as they were"


class Failure(Exception):
    """Makes the exception of a failed compiled call, in the thread that failed; it is of another class.

    Compiled code raises this class with an outcome: a constant, as Numba wants it. Numba makes the exception twice.
    """

    def __new__(cls, outcome: int) -> Any:
        made = error_of(Outcome(outcome))
        return type(made)(f"fastnn.nopython: {made}")


def error_of(outcome: Outcome) -> Exception:
    """Return the exception for the outcome that the calling thread's latest call has ended in."""
    kind, text = ERRORS[outcome]
    noted = None if outcome in CONSTANT else failures.latest(outcome)
    return kind(text if noted is None else _TEXTS[outcome](noted))


def batch_of(sample: Shape, n: int | str = "n") -> str:
    """Write the shape of n samples."""
    return f"({', '.join(map(str, (n, *sample)))}{'' if sample else ','})"


_NAMES = {
    Role.INPUT: "x",
    Role.SEED: "seed",
    Role.TARGET: "y",
    Role.LABEL: "y",
    Role.WEIGHT: "sample_weight",
    Role.OUTPUT: "out",
    Role.GRADIENT: "dx",
    Role.STATE: "state",
}


def _name(noted: Noted) -> str:
    """Name the wrong array, with its place where there are several of its kind."""
    name = _NAMES[Role(noted.slots[1][Slot.ROLE])]
    return name if noted.among == 1 else f"{name}[{noted.before}]"


def _sample(slot: NDArray[np.int64]) -> Shape:
    return tuple(slot[Slot.SHAPE : Slot.SHAPE + int(slot[Slot.NDIM])].tolist())


def _batch(noted: Noted) -> Shape:
    """Return the axes before those of a sample: none, or the number of samples that the first input holds."""
    x = noted.shapes[0] or ()
    return x[: len(x) - int(noted.slots[0][Slot.NDIM])]


def _wanted(noted: Noted) -> Shape:
    """Return the shape that the wrong array should have."""
    return (*_batch(noted), *_sample(noted.slots[1]))


def _kept(noted: Noted) -> str:
    """Say that a learner has not learned."""
    return f"; {_KEPT}" if noted.head[CodeWord.TOTALS] else ""


def _got(noted: Noted, array: int) -> str:
    return str(noted.shapes[array]).replace("-1", "...")


def _dtype(noted: Noted) -> str:
    return f"float{8 * noted.head[CodeWord.ITEM_BYTES]}"


def _real(noted: Noted, index: int) -> float:
    return float(noted.numbers[index : index + 1].view(np.float64)[0])


def _written(number: float) -> str:
    return "NaN" if math.isnan(number) else f"{number:.9g}"


def _place(index: int, shape: Shape | None) -> str:
    """Write where an array of a shape has an element, counted in C's order."""
    return f" at {tuple(map(int, np.unravel_index(index, shape)))}" if shape else ""


def _parameters(noted: Noted) -> str:
    count, wanted = int(noted.numbers[0]), int(noted.head[CodeWord.PARAMETERS])
    if count == wanted:
        return "the learner's state or progress was exchanged for an array of another length"
    got = "another dtype" if count < 0 else str(count)
    return (
        "the network's parameters were exchanged for an array of another length or dtype: expected "
        f"{wanted} numbers of {_dtype(noted)}, got {got}"
    )


def _made_for(noted: Noted) -> str:
    """Say that a network or a learner is for one number of rows."""
    rows = noted.head[CodeWord.ROWS]
    return f"as {'the learner' if noted.head[CodeWord.TOTALS] else 'it'} is for exactly {rows} rows (rows={rows})"


def _wrong_shape(noted: Noted) -> str:
    name, role, got = _name(noted), Role(noted.slots[1][Slot.ROLE]), _got(noted, 1)
    only = bool(noted.head[CodeWord.ROWS])
    if noted.array == 0:
        sample = _sample(noted.slots[0])
        if only:
            return f"{name}: expected shape {sample}, {_made_for(noted)}, got {got}"
        return f"{name}: expected shape {sample} or {batch_of(sample)}, got {got}"
    wanted = str(_wanted(noted))
    if only and role != Role.WEIGHT:
        return f"{name}: expected shape {wanted}, {_made_for(noted)}, got {got}"
    if role in (Role.OUTPUT, Role.SEED):
        wanted += f", that of the network's outputs for x of shape {noted.shapes[0]}"
    elif role == Role.WEIGHT:
        batch, sample = _batch(noted), _sample(noted.slots[1])
        # the first axis of what is for exactly n rows is that of the rows
        shapes = [(*batch, *sample[:axes]) for axes in range(only, len(sample) + 1)]
        several = len(shapes) > 1
        wanted = f"{' or '.join(map(str, shapes))}, one number for each row of {'the output' if several else 'x'}"
        wanted += " or for several" * several
    elif role == Role.GRADIENT:
        return f"{name}: expected the shape of x, {wanted}, got {got}"
    return f"{name}: expected shape {wanted}, got {got}"


def _small_workspace(noted: Noted) -> str:
    n, needed, nbytes = noted.numbers[:3]
    n = noted.head[CodeWord.ROWS] or n
    return f"work: expected a workspace of at least {needed} bytes for {n} rows, got {nbytes}"


def _no_memory(noted: Noted) -> str:
    rows, nbytes = noted.numbers[:2]
    rows = noted.head[CodeWord.ROWS] or rows
    return f"there is no memory for {rows} rows" + f", which take {nbytes} bytes" * bool(nbytes)


def _no_integers(noted: Noted) -> str:
    what = "labels, an array" if noted.slots[1][Slot.ROLE] == Role.LABEL else "an array"
    return f"{_name(noted)}: expected {what} of integers or an integer, got floating-point numbers"


def _out_of_range(noted: Noted) -> str:
    slot, (index, value, unsigned) = noted.slots[1], map(int, noted.numbers[:3])
    what = "labels" if slot[Slot.ROLE] == Role.LABEL else "integers"
    wanted = f"{what} from {slot[Slot.LOWEST]} to {slot[Slot.HIGHEST]}"
    got = value % 2**64 if unsigned else value
    return f"{_name(noted)}: expected {wanted}, got {got}{_place(index, noted.shapes[1])}{_kept(noted)}"


def _empty(noted: Noted) -> str:
    return f"x: there are no rows to learn from, its shape is {noted.shapes[0]}"


def _not_finite(noted: Noted) -> str:
    index, shape = int(noted.numbers[0]), noted.shapes[1]
    name = "gradients" if noted.array < 0 else _name(noted)
    if index < 0:
        return f"{name}: expected no NaN or infinity; {_KEPT}"
    at = f" at ({index},)" if noted.array < 0 else _place(index, shape)
    return f"{name}: expected no NaN or infinity, got {_written(_real(noted, 1))}{at}; {_KEPT}"


def _refused_target(noted: Noted) -> str:
    slot, index, shape, name = noted.slots[1], int(noted.numbers[0]), noted.shapes[1], _name(noted)
    if index < 0:
        return ERRORS[Outcome.TARGET_VALUES][1]
    value, total, numbers = _real(noted, 1), _real(noted, 2), slot.view(np.float64)
    lowest, highest = float(numbers[Slot.LOWEST]), float(numbers[Slot.HIGHEST])
    allowed = numbers[Slot.ALLOWED : Slot.ALLOWED + int(slot[Slot.ALLOWED_COUNT])].tolist()
    refused = not lowest <= value <= highest or bool(allowed and value not in allowed)
    if math.isfinite(value) and not refused:  # then the sum of its row is
        row = _place(index // shape[-1], shape[:-1]) if shape else ""
        return f"{name}: expected rows whose sum is 1, got {_written(total)}{row}; {_KEPT}"
    wanted = "finite numbers"
    if allowed:
        *others, final = map(_written, allowed)
        wanted = f"{', '.join(others)} or {final}"
    elif math.isfinite(lowest):
        wanted = f"numbers >= {_written(lowest)}"
        if math.isfinite(highest):
            wanted = f"numbers from {_written(lowest)} to {_written(highest)}"
    return f"{name}: expected {wanted}, got {_written(value)}{_place(index, shape)}; {_KEPT}"


def _late(noted: Noted) -> str:
    done, scheduled = noted.numbers[:2]
    return (
        f"the learning rates have been worked out for fewer steps: {scheduled}, and {done} have been taken; make the "
        "learner with more (steps=...), or set a constant rate with set_learning_rate"
    )


def _each(noted: Noted) -> str:
    wanted = f"one element of the first axis for each of {noted.numbers[0]} networks"
    return f"x, out: expected {wanted}, got shapes {_got(noted, 0)} and {_got(noted, 1)}"


def _wrong_matrix(noted: Noted) -> str:
    return f"matrix: expected shape {(*_sample(noted.slots[1]), *(noted.shapes[0] or ()))}, got {_got(noted, 1)}"


def _wrong_batch(noted: Noted) -> str:
    return f"batch: expected at least 1 and at most {MOST_ROWS}, got {noted.numbers[0]}"


def _wrong_flat(noted: Noted) -> str:
    name = ("flat", "gradients")[int(noted.numbers[0])]
    return f"{name}: expected shape ({noted.head[CodeWord.TRAINABLE]},), got {noted.shapes[0]}"


def _no_member(noted: Noted) -> str:
    index, known = noted.numbers[:2]
    return f"index: expected from 0 to {known - 1}, got {index}"


def _wrong_rate(noted: Noted) -> str:
    rate = _real(noted, 0)
    if 0.0 <= rate < math.inf:
        return f"rate: too large for {_dtype(noted)}: {_written(rate)}"
    return f"rate: expected a finite number >= 0, got {_written(rate)}"


def _full(noted: Noted) -> str:
    row, so_far, most = int(noted.numbers[0]), _real(noted, 1), int(noted.head[CodeWord.MOST_SO_FAR])
    if not (most < so_far < math.inf and so_far == math.floor(so_far)):
        return f"state: expected a number of steps so far from 0 to {most} in row {row}, got {_written(so_far)}"
    return (
        f"state: there is no room for another step: the sequence in row {row} has had {_written(so_far)}, "
        "and the model takes no more"
    )


_TEXTS: dict[Outcome, Callable[[Noted], str]] = {
    Outcome.PARAMETERS: _parameters,
    Outcome.SHAPE: _wrong_shape,
    Outcome.WORKSPACE: _small_workspace,
    Outcome.MEMORY: _no_memory,
    Outcome.INTEGERS: _no_integers,
    Outcome.EMPTY: _empty,
    Outcome.NOT_FINITE: _not_finite,
    Outcome.TARGET_VALUES: _refused_target,
    Outcome.RANGE: _out_of_range,
    Outcome.SCHEDULE: _late,
    Outcome.EACH: _each,
    Outcome.MATRIX: _wrong_matrix,
    Outcome.BATCH: _wrong_batch,
    Outcome.FLAT: _wrong_flat,
    Outcome.MEMBER: _no_member,
    Outcome.RATE: _wrong_rate,
    Outcome.FULL: _full,
}
