"""Errors of calls of networks and learners, from Python and from compiled code.

The texts here are constants. `described.py` puts the numbers in, where there are any.
"""

from __future__ import annotations

from fastnn.backend.cpu.executor.raised import RAISED
from fastnn.backend.cpu.layouts.call import Outcome
from fastnn.backend.cpu.layouts.code import MOST_ROWS

#: What is raised, by outcome.
ERRORS: dict[Outcome, tuple[type[Exception], str]] = {
    Outcome.FOREIGN: (
        RuntimeError,
        "the network belongs to another process or version of fastnn: give it as an argument instead of a global "
        "variable, or pickle it",
    ),
    Outcome.PARAMETERS: (
        RuntimeError,
        "the network's parameters were exchanged for an array of another length or dtype",
    ),
    Outcome.SHAPE: (ValueError, "an array does not have the shape of a sample or a batch"),
    Outcome.ARRAYS: (
        ValueError,
        "expected one array for each input and output: a tuple of arrays where the network has several",
    ),
    Outcome.WORKSPACE: (ValueError, "the workspace is too small for this many rows"),
    Outcome.MEMORY: (MemoryError, "there is not enough memory for this many rows"),
    Outcome.ABSENT: (
        ValueError,
        "the network has no gradient for its inputs: freeze the model with gradients=True; integers have none",
    ),
    Outcome.UNSEEDED: (ValueError, "the learner has no gradient but the loss's: make it with gradients=True"),
    Outcome.SHARED: (ValueError, "x, y or sample_weight shares memory with the workspace or the learner's own arrays"),
    Outcome.INTEGERS: (ValueError, "expected integers, got floating-point numbers"),
    Outcome.EMPTY: (ValueError, "there are no rows to learn from"),
    Outcome.NOT_FINITE: (
        ValueError,
        "x, sample_weight or gradients hold NaN or infinity; the weights are as they were",
    ),
    Outcome.TARGET_VALUES: (
        ValueError,
        "y holds what the loss does not take: NaN, or a number out of bounds; the weights are as they were",
    ),
    Outcome.RANGE: (ValueError, "x or y holds an integer out of range"),
    Outcome.SCHEDULE: (
        ValueError,
        "the learning rates have been worked out for fewer steps: make the learner with more (steps=...), or set a "
        "constant rate with set_learning_rate",
    ),
    Outcome.RAISED: (RuntimeError, RAISED),
    Outcome.EACH: (ValueError, "x, out: expected one element of the first axis for each of the networks"),
    Outcome.MATRIX: (ValueError, "matrix: expected shape (*output_shape, *input_shape)"),
    Outcome.BATCH: (ValueError, f"batch: expected at least 1 and at most {MOST_ROWS}"),
    Outcome.FLAT: (ValueError, "expected as many numbers as the network has weights"),
    Outcome.MEMBER: (IndexError, "index: there are not that many networks"),
    Outcome.RATE: (ValueError, "rate: expected a finite number >= 0 that the learner's dtype can hold"),
    Outcome.FULL: (ValueError, "state: there is no room for another step"),
}

#: What is found without a look at any number: the text is all that there is to say.
CONSTANT = frozenset(
    {Outcome.FOREIGN, Outcome.ABSENT, Outcome.UNSEEDED, Outcome.SHARED, Outcome.RAISED, Outcome.ARRAYS}
)
