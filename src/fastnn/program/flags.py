"""The flags of a record."""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """How a record's kernel treats its operands."""

    ACCUMULATE = 1  # add to the outputs instead of overwriting them
    TRANSPOSE_A = 2
    TRANSPOSE_B = 4
    MAP_FORWARD = 8  # apply the mapped function to the output
    MAP_GRADIENT = 16  # multiply the output by the mapped function's derivative
    CHECK_FINITE = 32  # stop before the step if the data hold NaN or infinity
    TRAINING = 64
    # of products, set by a backend: the mapped function is relu, which is applied to sums in registers; of the gradient
    # of max pooling: the maps are those of relu, whose gradient is applied, too
    RECTIFY = 128
    REPEAT_A = 256  # a matrix of a is a factor of `inner` neighbouring results
    REPEAT_B = 512
    CYCLE_A = 1024  # the matrices of a are factors again after `inner` results
    CYCLE_B = 2048


NO_FLAGS = Flag(0)
