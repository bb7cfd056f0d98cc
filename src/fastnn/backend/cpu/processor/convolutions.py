"""Which kernel computes a convolution: the shape decides."""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.window import packed, unpacked

_ONES = packed((1, 1, 1))
# The fewest terms of a sum that a pixel's products have: adding up columns costs as much as a few of them.
_LEAST_TERMS = 16


def convolution_variant(op: str, dtype: str, dims: Mapping[str, int]) -> str:
    """Return the variant of a convolution's kernel.

    Returns
    -------
    str
        "by_channel" where every channel is a group with one filter; "folded" where the results have so few channels
        that those of all columns of the window fit half as many vectors; else "".
    """
    if dims["groups"] == dims["channels"] == dims["filters"]:
        return "by_channel"
    if op == "conv_weights" or dims["groups"] > 1 or dims["stride"] != _ONES:
        return ""
    terms, results = dims["channels"], dims["filters"]
    if op == "conv_back":
        terms, results = results, terms
    depth, height, width = unpacked(dims["window"])
    vectors = -(-width * results // Blocking.of(dtype).lanes)
    return "folded" if 2 * vectors <= width and vectors <= 2 and depth * height * terms >= _LEAST_TERMS else ""
