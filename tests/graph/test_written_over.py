"""Outputs of recurrent layers that are written in the place of an input, if nothing else reads it."""

import numpy as np
import pytest

from computed import build_for, check
from fastnn.graph.ops.pointwise import pointwise
from fastnn.graph.ops.sequences import recurrent
from fastnn.program.record import op_of, operands_of

RNG = np.random.default_rng(0)
BATCH, STEPS, UNITS = 4, 3, 5
# with one reader each gates lie where z was, and gradients where the gates were; a GRU has more of these
ALONE = {recurrent.SIMPLE_RNN: 2, recurrent.GRU: 1, recurrent.LSTM: 2}


def scan(g, cell, z, w, label):
    formula = "tanh" if cell.gates == 1 else "tanh,sigmoid"
    return recurrent.scan(g, cell, z, w, label, formula=formula)[0]


def alone(g, cell, x, w):
    return scan(g, cell, pointwise(g, "multiply", [x, 2.0], "z"), w, "scan")


def beside_another_reader(g, cell, x, w):
    z = pointwise(g, "multiply", [x, 2.0], "z")
    return [scan(g, cell, z, w, "scan"), pointwise(g, "sin", [z], "sin")]


def twice(g, cell, x, w):
    z = pointwise(g, "multiply", [x, 2.0], "z")
    return [scan(g, cell, z, w, "one"), scan(g, cell, z, pointwise(g, "negative", [w], "w"), "other")]


def of_what_is_given(g, cell, x, w):
    return scan(g, cell, x, w, "scan")


def lying_over(program):
    """Return how many outputs lie in the place of an input, and how many may."""
    found = []
    for record in program.records:
        places = {view.spec.name: (view.buffer, view.offset) for view in operands_of(record, program.dtype)}
        found += [places[each.name] == places[each.over] for each in op_of(record).operands
                  if each.over and each.name in places]  # fmt: skip
    return sum(found), len(found)


@pytest.mark.parametrize("cell", ALONE, ids=lambda cell: cell.op)
@pytest.mark.parametrize(
    ("make", "scans", "apart"),
    # how many scans there are, and how many outputs have to lie apart: z is read once more, or it and its gradient have
    # places of their own
    [(alone, 1, 0), (beside_another_reader, 1, 1), (twice, 2, 2), (of_what_is_given, 1, 2)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_outputs_over_inputs(cell, make, scans, apart):
    x = RNG.standard_normal((BATCH, STEPS, cell.gates * UNITS))
    w = 0.5 * RNG.standard_normal((UNITS, cell.gates * UNITS))
    check(lambda g, x, w: make(g, cell, x, w), [x, w], batched=[True, False])
    program = build_for(lambda g, x, w: make(g, cell, x, w), [x, w], batched=[True, False], grads=[0, 1]).program
    possible = scans if cell is recurrent.GRU else 2 * scans
    assert lying_over(program) == (max(scans * ALONE[cell] - apart, 0), possible)
