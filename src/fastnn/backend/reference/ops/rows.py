"""Records that work on whole rows: softmax, log-softmax and their gradients, one-hot rows."""

from __future__ import annotations

import numpy as np

from fastnn.activations import arrays
from fastnn.backend.reference.instruction import Counters, Instruction, executes


@executes("softmax")
def softmax(i: Instruction, counters: Counters) -> None:
    """Make y = exp(x) / sum(exp(x)) in every row."""
    i.write("y", arrays.softmax(i["x"]))


@executes("softmax_grad")
def softmax_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = y (dy - sum(dy y)) in every row."""
    dy, y = i["dy"], i["y"]
    i.write("dx", y * (dy - (dy * y).sum(axis=1, keepdims=True)))


@executes("log_softmax")
def log_softmax(i: Instruction, counters: Counters) -> None:
    """Make y = x - log(sum(exp(x))) in every row."""
    i.write("y", arrays.log_softmax(i["x"]))


@executes("log_softmax_grad")
def log_softmax_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = dy - exp(y) sum(dy) in every row."""
    dy, y = i["dy"], i["y"]
    i.write("dx", dy - np.exp(y) * dy.sum(axis=1, keepdims=True))


@executes("one_hot")
def one_hot(i: Instruction, counters: Counters) -> None:
    """Make y = 1 in the column of each row's number, 0 elsewhere."""
    i.write("y", i["index"][:, None] == np.arange(i.dims["cols"]))
