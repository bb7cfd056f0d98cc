"""The texts of errors in calls of networks and learners, with the numbers that the failed call has noted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend.cpu.frozen import failures
from fastnn.backend.cpu.frozen.failures import Noted
from fastnn.backend.cpu.layouts.frozen import MOST_ROWS, Outcome, Word
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


def _sample(noted: Noted, ndim: Word, first: Word) -> Shape:
    return tuple(noted.head[first : first + int(noted.head[ndim])].tolist())


def _input(noted: Noted) -> Shape:
    return _sample(noted, Word.INPUT_NDIM, Word.INPUT_SHAPE)


def _output(noted: Noted) -> Shape:
    """Return the shape of a sample's outputs; in a learner's step that of its targets."""
    return _sample(noted, Word.OUTPUT_NDIM, Word.OUTPUT_SHAPE)


def _like_x(noted: Noted, sample: Shape) -> Shape:
    """Return the shape of as many samples as x holds."""
    x = noted.shapes[0] or ()
    return (*x[: len(x) - len(_input(noted))], *sample)


def _got(noted: Noted, array: int) -> str:
    return str(noted.shapes[array]).replace("-1", "...")


def _dtype(noted: Noted) -> str:
    return f"float{8 * noted.head[Word.ITEM_BYTES]}"


def _real(noted: Noted, index: int) -> float:
    return float(noted.numbers[index : index + 1].view(np.float64)[0])


def _written(number: float) -> str:
    return "NaN" if math.isnan(number) else f"{number:.9g}"


def _place(index: int, shape: Shape | None) -> str:
    """Write where an array of a shape has an element, counted in C's order."""
    return f" at {tuple(map(int, np.unravel_index(index, shape)))}" if shape else ""


def _parameters(noted: Noted) -> str:
    count, wanted = int(noted.numbers[0]), int(noted.head[Word.PARAMETERS])
    if count == wanted:
        return "the learner's state or progress was exchanged for an array of another length"
    got = "another dtype" if count < 0 else str(count)
    return (
        "the network's parameters were exchanged for an array of another length or dtype: expected "
        f"{wanted} numbers of {_dtype(noted)}, got {got}"
    )


def _wrong_input(noted: Noted) -> str:
    return f"x: expected shape {_input(noted)} or {batch_of(_input(noted))}, got {_got(noted, 0)}"


def _wrong_output(noted: Noted) -> str:
    # the gradient for the inputs has a third array
    name = "out" if noted.shapes[2] is None else "seed"
    wanted = f"{_like_x(noted, _output(noted))}, that of the network's outputs for x of shape {noted.shapes[0]}"
    return f"{name}: expected shape {wanted}, got {_got(noted, 1)}"


def _wrong_gradient(noted: Noted) -> str:
    return f"dx: expected the shape of x, {noted.shapes[0]}, got {_got(noted, 2)}"


def _small_workspace(noted: Noted) -> str:
    n, needed, nbytes = noted.numbers[:3]
    return f"work: expected a workspace of at least {needed} bytes for {n} rows, got {nbytes}"


def _no_memory(noted: Noted) -> str:
    return f"there is no memory for {noted.numbers[0]} rows, which take {noted.numbers[1]} bytes"


def _targets_name(noted: Noted) -> str:
    # a learner's step has sums of penalties and of losses; the gradients of any function have none
    return "y" if noted.head[Word.LOSS_AT] != noted.head[Word.PENALTY_AT] else "seed"


def _wrong_targets(noted: Noted) -> str:
    return f"{_targets_name(noted)}: expected shape {_like_x(noted, _output(noted))}, got {_got(noted, 1)}"


def _wrong_kind(noted: Noted) -> str:
    if noted.head[Word.LABELS]:
        return f"y: expected labels, an array of int64 or an integer, got {_dtype(noted)}"
    return f"y: expected {_dtype(noted)}, got int64, which is for labels: this learner takes none"


def _wrong_weights(noted: Noted) -> str:
    wanted = _like_x(noted, ())
    return f"sample_weight: expected shape {wanted}, one number for each row of x, got {_got(noted, 2)}"


def _empty(noted: Noted) -> str:
    return f"x: there are no rows to learn from, its shape is {noted.shapes[0]}"


def _not_finite(noted: Noted) -> str:
    which, index = map(int, noted.numbers[:2])
    name, shape = (("x", noted.shapes[0]), ("sample_weight", noted.shapes[2]), ("gradients", None))[which]
    if index < 0:
        return f"{name}: expected no NaN or infinity; {_KEPT}"
    at = f" at ({index},)" if shape is None else _place(index, shape)
    return f"{name}: expected no NaN or infinity, got {_written(_real(noted, 2))}{at}; {_KEPT}"


def _refused_target(noted: Noted) -> str:
    head, index, shape, name = noted.head, int(noted.numbers[0]), noted.shapes[1], _targets_name(noted)
    if index < 0:
        return ERRORS[Outcome.TARGET_VALUES][1]
    if head[Word.LABELS]:
        wanted, got = f"labels from 0 to {head[Word.COLUMNS] - 1}", str(noted.numbers[1])
        return f"{name}: expected {wanted}, got {got}{_place(index, shape)}; {_KEPT}"
    value, total, numbers = _real(noted, 1), _real(noted, 2), head.view(np.float64)
    lowest, highest = float(numbers[Word.LOWEST]), float(numbers[Word.HIGHEST])
    allowed = numbers[Word.ALLOWED : Word.ALLOWED + int(head[Word.ALLOWED_COUNT])].tolist()
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
    return f"matrix: expected shape {(*_output(noted), *(noted.shapes[0] or ()))}, got {_got(noted, 1)}"


def _wrong_batch(noted: Noted) -> str:
    return f"batch: expected at least 1 and at most {MOST_ROWS}, got {noted.numbers[0]}"


def _wrong_flat(noted: Noted) -> str:
    name = ("flat", "gradients")[int(noted.numbers[0])]
    return f"{name}: expected shape ({noted.head[Word.TRAINABLE]},), got {noted.shapes[0]}"


def _no_member(noted: Noted) -> str:
    index, known = noted.numbers[:2]
    return f"index: expected from 0 to {known - 1}, got {index}"


def _wrong_rate(noted: Noted) -> str:
    rate = _real(noted, 0)
    if 0.0 <= rate < math.inf:
        return f"rate: too large for {_dtype(noted)}: {_written(rate)}"
    return f"rate: expected a finite number >= 0, got {_written(rate)}"


_TEXTS: dict[Outcome, Callable[[Noted], str]] = {
    Outcome.PARAMETERS: _parameters,
    Outcome.INPUT: _wrong_input,
    Outcome.OUTPUT: _wrong_output,
    Outcome.WORKSPACE: _small_workspace,
    Outcome.MEMORY: _no_memory,
    Outcome.GRADIENT: _wrong_gradient,
    Outcome.TARGETS: _wrong_targets,
    Outcome.LABELS: _wrong_kind,
    Outcome.WEIGHTS: _wrong_weights,
    Outcome.EMPTY: _empty,
    Outcome.NOT_FINITE: _not_finite,
    Outcome.TARGET_VALUES: _refused_target,
    Outcome.SCHEDULE: _late,
    Outcome.EACH: _each,
    Outcome.MATRIX: _wrong_matrix,
    Outcome.BATCH: _wrong_batch,
    Outcome.FLAT: _wrong_flat,
    Outcome.MEMBER: _no_member,
    Outcome.RATE: _wrong_rate,
}
