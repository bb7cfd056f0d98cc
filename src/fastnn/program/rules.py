"""Rules of single records: a kernel's assumptions besides the places of its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.program.layout import FLAGS_WORD, Flag
from fastnn.program.program import KernelKey, OperandView, dims_of, op_of

_MAPS = {"activation": "map", "activation_grad": "map_grad"}


def broken_rule(
    record: NDArray[np.int64], kernel: KernelKey, mapped: KernelKey | None, dtype: str, views: Sequence[OperandView]
) -> str | None:
    """Return what is wrong with a record, or None; `broken_place` checks the places of its operands.

    Parameters
    ----------
    record : ndarray, int64, shape (RECORD_WORDS,)
        With a known op and valid dimensions.
    kernel, mapped : KernelKey (or None)
        The functions that the program names for it.
    dtype : str
        The program's dtype.
    views : sequence of OperandView
        The record's operands.
    """
    op, dims, flags = op_of(record).name, dims_of(record), Flag(int(record[FLAGS_WORD]))
    names = {view.spec.name for view in views}
    if (kernel.op, kernel.dtype) != (op, dtype):
        return f"names the kernel {kernel}, expected one of {op!r} in {dtype}"
    return _map_rule(op, flags, names, mapped, dtype) or _size_rule(op, dims, names)


def _map_rule(op: str, flags: Flag, names: set[str], mapped: KernelKey | None, dtype: str) -> str | None:
    kind = _MAPS.get(op, "map" if Flag.MAP_FORWARD in flags else "map_grad" if Flag.MAP_GRADIENT in flags else None)
    if (None if mapped is None else (mapped.op, mapped.dtype)) != (None if kind is None else (kind, dtype)):
        return f"names the mapped function {mapped}, expected {kind} in {dtype}"
    if op == "matmul":
        if (Flag.MAP_GRADIENT in flags) != ("saved" in names) or (Flag.MAP_FORWARD | Flag.MAP_GRADIENT) in flags:
            return "does not have the operand 'saved' and one mapped function for a gradient"
        if "pre" in names and Flag.MAP_FORWARD not in flags:
            return "keeps the value before an activation that it does not apply"
        if Flag.ACCUMULATE in flags and (kind or "bias" in names):
            return "accumulates a product with a bias or an activation"
    return None


def _size_rule(op: str, dims: Mapping[str, int], names: set[str]) -> str | None:
    if op.startswith("gather") and dims["size0"] and dims["size0"] * dims["size1"] * dims["size2"] != dims["size"]:
        return "gathers rows of another size than the source's"
    if op == "copy_columns":
        for side in ("source", "target"):
            if dims[f"{side}_first"] + dims["cols"] > dims[f"{side}_cols"]:
                return f"copies columns past the {side}'s"
    if "per_sample" in dims and dims["per_sample"] * dims["samples"] != dims["rows"]:
        return f"has {dims['rows']} rows of {dims['samples']} samples of {dims['per_sample']} rows"
    if "size" in dims and "per_sample" in dims:
        classes = max(dims["cols"], 2)
        sizes = {
            "confusion": classes * (classes + 1),
            "label_confusion": 6 * dims["cols"],
            "regression_sums": 10 * dims["cols"],
        }
        expected = 2 * dims["bins"] if "bins" in dims else sizes.get(op, 2)
        if dims["size"] != expected:
            return f"adds to an accumulator of {dims['size']} numbers, expected {expected}"
        if ("target" in names) == ("labels" in names):
            return "does not have either targets or labels"
        if "labels" in names and (dims["cols"] == 1 or op == "regression_sums"):
            return "has labels of classes, but not the scores of classes"
        if dims.get("k", 0) > dims["cols"]:
            return f"looks for the label in the {dims['k']} best of {dims['cols']} scores"
    return None


def broken_place(views: Sequence[OperandView]) -> str | None:
    """Return what is wrong with the places of a record's operands, or None."""
    for out in views:
        if out.spec.access == "read" or out.spec.kind == "any":
            continue
        for other in views:
            apart = out.offset + out.nbytes <= other.offset or other.offset + other.nbytes <= out.offset
            if other is not out and other.buffer == out.buffer and not apart:
                return f"writes {out.spec.name!r} over {other.spec.name!r}"
    return None
