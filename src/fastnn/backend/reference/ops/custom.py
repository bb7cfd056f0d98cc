"""User-defined functions of rows, in plain Python."""

from __future__ import annotations

import numpy as np

from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.formulas import custom, custom_formulas


@executes("row_function")
def row_function(i: Instruction, counters: Counters) -> None:
    """Fill every row of y from the row of x."""
    users = custom.find(i.variant)
    assert users is not None
    function, _ = custom_formulas.rows(users, lambda each: each)
    y = np.zeros((len(i["x"]), i.dims["units"]))
    w = i["w"].reshape(users.shape) if users.weighted else np.empty(0)
    for x, row in zip(i["x"], y, strict=True):
        function(x, w, row)
    i.write("y", y)


@executes("row_function_grad")
def row_function_grad(i: Instruction, counters: Counters) -> None:
    """Fill every row of dx, and add to dw."""
    users = custom.find(i.variant)
    assert users is not None
    _, gradient = custom_formulas.rows(users, lambda each: each)
    dx = np.zeros(i["x"].shape)
    w = i["w"].reshape(users.shape) if users.weighted else np.empty(0)
    dw = np.zeros(users.shape)
    for x, dy, row in zip(i["x"], i["dy"], dx, strict=True):
        gradient(x, w, dy, row, dw)
    i.write("dx", dx)
    if users.weighted:
        i.add("dw", dw.reshape(-1))
