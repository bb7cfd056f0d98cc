"""Records that work element by element: activations, sums and products, dropout, noise."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.activations import apply, apply_gradient
from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.backend.reference.philox import normals, random_words


@executes("activation")
def activation(i: Instruction, counters: Counters) -> None:
    """Make y = f(x)."""
    i.write("y", apply(i, i["x"]))


@executes("activation_grad")
def activation_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = dy f'(saved)."""
    i.write("dx", apply_gradient(i, i["saved"], i["dy"]))


@executes("add")
def add(i: Instruction, counters: Counters) -> None:
    """Make y = a + b."""
    i.write("y", i["a"] + i["b"])


@executes("multiply")
def multiply(i: Instruction, counters: Counters) -> None:
    """Make y = a b."""
    i.write("y", i["a"] * i["b"])


@executes("dropout")
def dropout(i: Instruction, counters: Counters) -> None:
    """Drop the elements whose random word is below rate 2^32, and divide the others by 1 - rate."""
    rate = i.params["rate"]
    words = random_words(i.dims["n"], i.dims["node"], counters.step, counters.seed)
    i.write("y", np.where(words < np.uint64(rate * 2.0**32), 0.0, i["x"] / (1.0 - rate)))


@executes("gaussian_noise")
def gaussian_noise(i: Instruction, counters: Counters) -> None:
    """Add normal noise."""
    noise = normals(i.dims["n"], i.dims["node"], counters.step, counters.seed)
    i.write("y", i["x"] + i.params["stddev"] * noise)


@executes("broadcast_add")
def broadcast_add(i: Instruction, counters: Counters) -> None:
    """Make y = a + b, with the same b for all that repeat it."""
    i.write("y", i["a"] + i["b"][:, None])


@executes("broadcast_multiply")
def broadcast_multiply(i: Instruction, counters: Counters) -> None:
    """Make y = a b, with the same b for all that repeat it."""
    i.write("y", i["a"] * i["b"][:, None])
