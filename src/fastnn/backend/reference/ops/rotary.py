"""Records of positions: angles, and rotations by them."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Counters, Instruction, executes


@executes("angles")
def angles(i: Instruction, counters: Counters) -> None:
    """Make cosines and sines of position scale exp(-i decay)."""
    given = i.get("position")
    position = np.arange(i.dims["rows"]) if given is None else given
    frequencies = i.params["scale"] * np.exp(-i.params["decay"] * np.arange(i.dims["half"]))
    turns = np.outer(position, frequencies)
    i.write("y", np.stack([np.cos(turns), np.sin(turns)], axis=1))


@executes("rotate")
def rotate(i: Instruction, counters: Counters) -> None:
    """Rotate pairs (a, b) by the angles, or back."""
    a, b = np.moveaxis(i["x"], -2, 0)
    cosine, sine = (each[:, None] for each in np.moveaxis(i["angles"], 1, 0))
    sine = -sine if i.dims["inverse"] else sine
    i.write("y", np.stack([a * cosine - b * sine, a * sine + b * cosine], axis=-2))
