"""Scalar formulas as functions of arrays."""

import numba
import numpy as np

from fastnn.backend.cpu.codegen.options import FORMULA_FLAGS


def compiled(function):
    """Compile a loop of a scalar formula over an array; `loop` is the compiled loop itself."""

    @numba.njit(fastmath=set(FORMULA_FLAGS), error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    def call(x):
        y = np.empty_like(x)
        loop(x, y)
        return y

    call.loop = loop
    return call
