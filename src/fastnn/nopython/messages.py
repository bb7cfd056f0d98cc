"""What is raised where a call of a network or a learner goes wrong, from Python and from compiled code.

The texts here are constants. `described.py` puts the numbers in, where there are any.
"""

from __future__ import annotations

from fastnn.backend.cpu.executor.raised import RAISED
from fastnn.backend.cpu.layouts.frozen import MOST_ROWS, Outcome

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
    Outcome.INPUT: (ValueError, "x is neither one sample nor a batch of the network's inputs"),
    Outcome.OUTPUT: (
        ValueError,
        "out (or the seed of a gradient) does not have the shape of the network's outputs for x",
    ),
    Outcome.WORKSPACE: (ValueError, "the workspace is too small for this many rows"),
    Outcome.MEMORY: (MemoryError, "there is not enough memory for this many rows"),
    Outcome.GRADIENT: (ValueError, "dx does not have the shape of x"),
    Outcome.ABSENT: (ValueError, "the network has no gradient: freeze the model with gradients=True"),
    Outcome.UNSEEDED: (ValueError, "the learner has no gradient but the loss's: make it with gradients=True"),
    Outcome.SHARED: (ValueError, "x, y or sample_weight shares memory with the workspace or the learner's own arrays"),
    Outcome.TARGETS: (ValueError, "y (or the seed of gradients) does not have the shape that x asks for"),
    Outcome.LABELS: (
        ValueError,
        "y: a learner for labels takes int64 arrays and integers, every other one takes numbers of its dtype",
    ),
    Outcome.WEIGHTS: (ValueError, "sample_weight does not have one number for each row of x"),
    Outcome.EMPTY: (ValueError, "there are no rows to learn from"),
    Outcome.NOT_FINITE: (
        ValueError,
        "x, sample_weight or gradients hold NaN or infinity; the weights are as they were",
    ),
    Outcome.TARGET_VALUES: (
        ValueError,
        "y (or the seed of gradients) holds what is not taken: a label out of range, NaN, a number out of bounds; the "
        "weights are as they were",
    ),
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
}

#: What is found without a look at any number: the text is all that there is to say.
CONSTANT = frozenset({Outcome.FOREIGN, Outcome.ABSENT, Outcome.UNSEEDED, Outcome.SHARED, Outcome.RAISED})
