"""The interpreter of a network's code in one thread of a user's kernel: one function for all networks.

All threads of a warp are at the same instruction and read the same weights, so each weight is a single access.
"""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import ptx
from fastnn.backend.cuda.codegen.options import formula
from fastnn.backend.cuda.device_function.interpreter_ops import choose, ops
from fastnn.backend.cuda.device_function.layout import HEAD, MAGIC, STRIDE, Head

_load_word = ptx.LOADS["int64"]
# plain integers: compiled code has no enumerations
_MAGIC, _ITEM_BYTES, _COUNT = int(Head.MAGIC), int(Head.ITEM_BYTES), int(Head.COUNT)
_INPUTS, _OUTPUTS, _WORKSPACE, _CONSTANTS = (
    int(word) for word in (Head.INPUTS, Head.OUTPUTS, Head.WORKSPACE, Head.CONSTANTS)
)


@cache
def define(dtype: str) -> Any:
    """Make `predict(code, words, constants, elements, x, inputs, out, outputs, work, size)` for a dtype.

    `code` and `constants` are addresses in global memory, with `words` words and `elements` elements; x, out and work
    are memory of any kind, followed by their sizes. If sizes do not fit, it fills out with NaN and does nothing else.
    """
    real, store = np.dtype(dtype).type, ptx.ANY_STORES[dtype]
    item_bytes, nan = np.dtype(dtype).itemsize, real(np.nan)
    step = choose(ops(dtype))

    @formula
    def fits(code, words, elements, inputs, outputs, size):
        if words < HEAD:
            return False
        return (
            _load_word(code, _MAGIC) == MAGIC
            and _load_word(code, _ITEM_BYTES) == item_bytes
            and _load_word(code, _COUNT) * STRIDE + HEAD == words
            and _load_word(code, _CONSTANTS) == elements
            and _load_word(code, _INPUTS) == inputs
            and _load_word(code, _OUTPUTS) == outputs
            and _load_word(code, _WORKSPACE) <= size
        )

    @formula
    def predict(code, words, constants, elements, x, inputs, out, outputs, work, size):
        if fits(code, words, elements, inputs, outputs, size):
            at = np.int64(HEAD)
            while at < words:
                step(_load_word(code, at), code, at, constants, x, out, work)
                at += STRIDE
        else:
            for j in range(outputs):
                store(out, j, nan)

    return predict
