"""Records of products: matmul with its fusions, bias, sum over rows; products of matrices in every sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend.reference.activations import apply, apply_gradient
from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.program.layout import Flag


@executes("matmul")
def matmul(i: Instruction, counters: Counters) -> None:
    """Make z (+)= op(a) op(b) + bias, then c = z, f(z) or z f'(saved); `pre` keeps z."""
    m, n, k = (i.dims[name] for name in "mnk")
    a = i["a"].reshape(k, m).T if Flag.TRANSPOSE_A in i.flags else i["a"]
    b = i["b"].reshape(n, k).T if Flag.TRANSPOSE_B in i.flags else i["b"]
    z = a @ b
    bias = i.get("bias")
    if bias is not None:
        z = z + bias
    where = "pre" if "pre" in i.operands else "c"
    i.add(where, z)
    z = i[where]
    if Flag.MAP_FORWARD in i.flags:
        z = apply(i, z)
    elif Flag.MAP_GRADIENT in i.flags:
        z = apply_gradient(i, i["saved"], z)
    i.write("c", z)


@executes("bias_add")
def bias_add(i: Instruction, counters: Counters) -> None:
    """Make y = x + bias in every row."""
    i.write("y", i["x"] + i["bias"])


@executes("sum_rows")
def sum_rows(i: Instruction, counters: Counters) -> None:
    """Make y (+)= the sum of x over its rows."""
    i.add("y", i["x"].sum(axis=0))


@executes("batched_matmul")
def batched_matmul(i: Instruction, counters: Counters) -> None:
    """Make c = scale op(a) op(b) for every matrix of every sample; each lies at places of its own."""
    dims = i.dims
    samples, count, inner, m, n, k = (dims[name] for name in ("samples", "count", "inner", "m", "n", "k"))

    def matrices(name: str, rows: int, cols: int, flag: Flag, repeated: Flag, cycled: Flag) -> Any:
        turned = flag in i.flags
        rows, cols = (cols, rows) if turned else (rows, cols)
        number, row, col = np.indices((count, rows, cols))
        number = number // inner if repeated in i.flags else number % inner if cycled in i.flags else number
        places = dims[f"{name}_first"] + number * dims[f"{name}_between"] + row * dims[f"{name}_row"] + col
        found = i[name][:, places]
        return found.swapaxes(-1, -2) if turned else found

    a = matrices("a", m, k, Flag.TRANSPOSE_A, Flag.REPEAT_A, Flag.CYCLE_A)
    product = i.params["scale"] * (a @ matrices("b", k, n, Flag.TRANSPOSE_B, Flag.REPEAT_B, Flag.CYCLE_B))
    number, row, col = np.indices((count, m, n))
    y = np.empty((samples, count * m * n))
    y[:, number * dims["c_between"] + row * dims["c_row"] + col] = product
    i.write("c", y.reshape(samples, count, m, n))
