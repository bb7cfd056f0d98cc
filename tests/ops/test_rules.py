"""Rules of single records, each broken once: a kernel would crash or compute garbage."""

from dataclasses import replace

import pytest

from fastnn.program.layout import NO_FLAGS, Buffer, Flag, encode
from fastnn.program.program import Program, RecordDraft, Value, make_program
from fastnn.program.record import KernelKey
from fastnn.program.verify import ProgramError, verify

Y, X, B = encode(Buffer.ARENA, 0), encode(Buffer.GRADIENTS, 0), encode(Buffer.GRADIENTS, 1024)
TOTAL, SOURCE = encode(Buffer.ACCUMULATORS, 0), encode(Buffer.DATA, 0)
PRODUCT = {"c": Y, "a": X, "b": B}
SHAPE = {"m": 8, "n": 5, "k": 3}
SCORES = {"rows": 8, "cols": 5, "per_sample": 1, "samples": 8, "size": 2}
COLUMNS = {"rows": 8, "cols": 5, "target_cols": 5, "target_first": 0, "source_cols": 5, "source_first": 0}
# in a sample two 2 x 3 by 3 x 4
PRODUCTS = {"samples": 2, "count": 2, "inner": 2, "m": 2, "n": 4, "k": 3, "a_size": 12, "a_first": 0, "a_between": 6,
            "a_row": 3, "b_size": 24, "b_first": 0, "b_between": 12, "b_row": 4, "c_between": 8,
            "c_row": 4}  # fmt: skip
ROW = {"rows": 8, "size": 5, "row_stride": 20, "size0": 5, "size1": 1, "size2": 1, "stride0": 4, "stride1": 0,
       "stride2": 0}  # fmt: skip


VIEW = {"rows": 8, "cols": 5, "n1": 1, "n2": 1, "n3": 1, "n4": 8, "stride0": 0, "stride1": 0, "stride2": 0,
        "stride3": 0, "stride4": 5, "stride": 1, "first": 0, "size": 40}  # fmt: skip
PLACE = {"outer": 2, "count": 3, "inner": 4, "size": 5, "first": 0, "step": 1}
TAKE = {"outer": 2, "count": 3, "inner": 4, "size": 5, "index_outer": 0, "index_count": 1, "index_inner": 0,
        "indices": 3}  # fmt: skip
SCAN = {"batch": 2, "steps": 3, "units": 4, "wide": 16, "starts": 1, "states": 0, "reverse": 0}
RECURRENCE = {"outer": 2, "size": 5, "inner": 4, "reverse": 0, "exclusive": 0}


def program(op: str, operands: dict, dims: dict, **more: object) -> Program:
    sizes = {Buffer.ARENA: 160, Buffer.GRADIENTS: 4096, Buffer.ACCUMULATORS: 512, Buffer.PARAMETERS: 64}
    values = [Value("y", 0, 160, 0, 0)]
    return make_program("one", 8, "float32", [RecordDraft(op, operands, dims, **more)], values, sizes)


def mapped(kind: str, dtype: str = "float32") -> KernelKey:
    return KernelKey(kind, dtype, "relu")


def products(flags: Flag = NO_FLAGS, **changed: int) -> Program:
    return program("batched_matmul", PRODUCT, {**PRODUCTS, **changed}, params={"scale": 1.0}, flags=flags)


def view(**changed: int) -> Program:
    return program("strided", {"y": Y, "x": X}, {**VIEW, **changed})


def placed(**changed: int) -> Program:
    return program("place", {"y": Y, "x": X}, {**PLACE, **changed}, params={"fill": 0.0})


SOUND = {
    "products": products(),
    "products side by side": products(a_between=3, a_row=6, c_between=4, c_row=8),
    "products after the first elements": products(b_size=25, b_first=1),
    "a vector by rows with gaps": products(n=1, a_between=3, a_row=6, b_row=1, b_between=3, c_between=2, c_row=1),
    "a vector by columns with gaps": products(m=1, a_row=5, a_between=6, b_row=6, b_between=1, c_between=4),
    "products turned": products(Flag.TRANSPOSE_A | Flag.TRANSPOSE_B, a_row=2, b_row=3),
    "products of shared matrices": products(Flag.CYCLE_A | Flag.REPEAT_B, inner=1, a_size=6),
    "activation": program("activation", {"y": Y, "x": X}, {"n": 40}, mapped=mapped("map")),
    "matmul": program("matmul", PRODUCT, SHAPE, flags=Flag.MAP_FORWARD, mapped=mapped("map")),
    "view": view(),
    "view backwards": view(first=39, stride4=-5, stride=-1),
    "view of some": view(cols=2, stride=2, first=1),
    "place": placed(),
    "place backwards": placed(first=4, step=-2),
    "take": program("take", {"y": Y, "x": X, "index": B}, TAKE),
    "copy": program("copy_columns", {"y": Y, "x": X}, COLUMNS),
    "metric": program("count_correct", {"total": TOTAL, "x": X, "labels": B}, SCORES),
    "gather": program("gather", {"batch": Y, "source": SOURCE}, ROW, variant="float32"),
    "output over the input that it may lie over": program(
        "lstm", {"gates": X, "z": X, "w": B}, SCAN, params={"a": 0.0, "ra": 0.0}, variant="tanh,sigmoid"
    ),
}
BROKEN = {
    "kernel of another op": (replace(SOUND["copy"], kernels=(KernelKey("add", "float32"),)), "one of 'copy_columns'"),
    "kernel of another dtype": (replace(SOUND["copy"], kernels=(KernelKey("copy_columns", "float64"),)), "in float32"),
    "no mapped function": (replace(SOUND["activation"], maps=(None,)), "function None, expected map in float32"),
    "gradient for forward": (replace(SOUND["matmul"], maps=(mapped("map_grad"),)), "expected map in"),
    "map of another dtype": (replace(SOUND["matmul"], maps=(mapped("map", "float64"),)), "expected map in float32"),
    "needless map": (replace(SOUND["copy"], maps=(mapped("map"),)), "expected None"),
    "nothing saved": (
        program("matmul", PRODUCT, SHAPE, flags=Flag.MAP_GRADIENT, mapped=mapped("map_grad")), "'saved'",
    ),
    "bias when accumulating": (
        program("matmul", {**PRODUCT, "bias": encode(Buffer.PARAMETERS, 0)}, SHAPE, flags=Flag.ACCUMULATE),
        "accumulates a product with a bias",
    ),
    "product past a": (products(a_first=1), "past a sample of a"),
    "product past a, turned": (products(Flag.TRANSPOSE_A, a_row=4), "past a sample of a"),
    "groups of another number": (products(inner=3), "groups of 3 of 2 matrices"),
    "both orders": (products(Flag.REPEAT_A | Flag.CYCLE_A), "a in two orders"),
    "product past a, repeated": (products(Flag.REPEAT_A, inner=1, a_size=11), "past a sample of a"),
    "product past b, cycled": (products(Flag.CYCLE_B, b_size=23), "past a sample of b"),
    "product past b": (products(b_between=13), "past a sample of b"),
    "product past c": (products(c_between=9), "past a sample of c"),
    "rows over each other": (products(c_row=3), "rows of c over each other"),
    "matrices over each other": (products(c_between=4, c_row=7), "rows of c over each other"),
    "a vector with gaps": (products(n=1, b_row=2, b_between=2, c_between=2, c_row=1), "b has gaps"),
    "a vector of a column with gaps": (products(Flag.TRANSPOSE_A, m=1, a_row=2, a_between=1), "a has gaps"),
    "a column with gaps": (products(n=1, b_row=1, b_between=2, c_between=1, c_row=2), "c has gaps"),
    "output over input": (program("matmul", {**PRODUCT, "c": X}, SHAPE), "writes 'c' over 'a'"),
    "output over a part of the input that it may lie over": (
        program("lstm", {"gates": X + 64, "z": X, "w": B}, SCAN, params={"a": 0.0, "ra": 0.0}, variant="tanh,sigmoid"),
        "writes 'gates' over 'z'",
    ),
    "past the source": (program("copy_columns", {"y": Y, "x": X}, {**COLUMNS, "source_first": 1}), "past the source"),
    "past the target": (program("copy_columns", {"y": Y, "x": X}, {**COLUMNS, "target_first": 1}), "past the target"),
    "view past the end": (view(first=1), "past its input"),
    "view before the start": (view(stride4=-5), "past its input"),
    "view of no whole rows": (view(n4=3), "past its input"),
    "place past the target": (placed(first=1, size=3), "past the target's"),
    "place before the target": (placed(first=1, step=-1), "past the target's"),
    "place on one entry": (placed(step=0), "some of them twice"),
    "numbers past the end": (program("take", {"y": Y, "x": X, "index": B}, {**TAKE, "indices": 2}), "past its indices"),
    "nothing to carry": (program("recurrence", {"y": Y}, RECURRENCE, params={"initial": 0.0}), "neither factors"),
    "no flag": (
        program("recurrence", {"y": Y, "b": X}, {**RECURRENCE, "reverse": 2}, params={"initial": 0.0}),
        "neither 0 nor 1",
    ),
    "more than there are": (
        program("largest", {"values": Y, "indices": Y + 64, "x": X}, {"rows": 2, "cols": 3, "k": 4}), "takes 4 of 3",
    ),
    "missing samples": (
        program("count_correct", {"total": TOTAL, "x": X, "labels": B}, {**SCORES, "samples": 2}),
        "8 rows of 2 samples of 1 rows",
    ),
    "small accumulator": (program("confusion", {"total": TOTAL, "x": X, "labels": B}, SCORES), "expected 30"),
    "no cells for labels": (
        program("label_confusion", {"total": TOTAL, "x": X, "labels": B}, {**SCORES, "size": 29}), "expected 30",
    ),
    "no targets": (program("count_correct", {"total": TOTAL, "x": X}, SCORES), "either targets or labels"),
    "labels of one column": (
        program("count_correct", {"total": TOTAL, "x": X, "labels": B}, {**SCORES, "cols": 1}), "scores of classes",
    ),
    "k above the classes": (
        program("top_k", {"total": TOTAL, "x": X, "labels": B}, {**SCORES, "k": 6}), "6 best of 5",
    ),
    "row of another size": (
        program("gather", {"batch": Y, "source": SOURCE}, {**ROW, "size1": 2}, variant="float32"), "another size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_records(name):
    verify(SOUND[name])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_records(name):
    broken, message = BROKEN[name]
    with pytest.raises(ProgramError, match=message):
        verify(broken)
