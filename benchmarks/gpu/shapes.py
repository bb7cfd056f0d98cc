"""Shapes of real networks, which the tests' table omits because simulators and CI would take too long."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.program.layout import Flag
from gpu.oracle import making, table
from gpu.settings import PRECISIONS, Settings

NONE, TURN_A, TURN_B, ADD = Flag(0), Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, Flag.ACCUMULATE
Job = tuple[Any, str, str]


def larger(settings: Settings) -> Iterator[Job]:
    """Yield (case, dtype, precision), the cheap ones first."""
    size = _sizes(settings)
    for case in (*_rows(size), *_losses(size), *_metrics(size), *_vectors(size), *_windows(size), *_scans(size)):
        yield case, "float32", "float32"
        if case.op in ("layer_norm", "batch_norm", "sum_rows", "softmax") and not settings.quick:
            yield case, "float64", "float32"
    yield from products(settings)
    if not settings.quick:
        yield from ((case, "float32", "float32") for case in _optimizers(10_000_000))


def products(settings: Settings) -> Iterator[Job]:
    """Yield matrix products as `larger` does."""
    # reduced sizes may be equal
    jobs = {(case.id, *rest): (case, *rest) for case, *rest in _products(_sizes(settings), settings.quick)}
    yield from jobs.values()


def _sizes(settings: Settings) -> Callable[[int], int]:
    cut = settings.largest
    return lambda number: min(number, cut) if cut else number


def _like(op: str, dims: Mapping[str, int], bound: Any, **wanted: Any) -> Any:
    """Return a case like one of the table, but of another size: its operands are made in the same way."""
    for case in table:
        if case.op == op and all(getattr(case, name) == value for name, value in wanted.items()):
            return replace(case, dims=dict(dims), bound=bound, note=f"{case.note}-large".strip("-"))
    raise LookupError(f"the table has no {op} with {wanted}")


def _rows(size: Any) -> Iterator[Any]:
    bound, both = making.Bound, frozenset({"gamma", "beta"})
    logits = {"rows": size(4096), "cols": size(1000)}
    # x - max is as large as 30 here, and its rounding alone makes 8 eps of its exponential
    yield _like("softmax", logits, bound(32))
    yield _like("log_softmax", logits, bound(8, 8))
    yield _like("softmax_grad", logits, bound(4, 4))
    yield _like("log_softmax_grad", logits, bound(8, 8 + size(1000)))
    yield _like("bias_add", logits, bound(1))
    tall = {"rows": size(65536), "cols": size(64)}
    yield _like("sum_rows", tall, bound(1, size(65536)), flags=NONE)
    yield _like("sum_rows", tall, bound(1, size(65536)), flags=ADD)
    wide = {"rows": size(8192), "cols": size(768)}
    many = bound(16, 16 + 4 * size(8192))
    yield _like("layer_norm", wide, bound(16, 64), optional=both)
    yield _like("layer_norm_grad", wide, bound(16, 64), optional=frozenset({"gamma"}))
    yield _like("layer_norm_param_grad", wide, many, optional=frozenset({"dgamma", "dbeta"}), flags=NONE)
    many = bound(16, 16 + 4 * size(65536))
    # means of many rows, added in float32: up to 196 eps on the CPU
    yield _like("batch_norm", tall, bound(16, 1024), optional=both)
    yield _like("batch_norm_inference", tall, bound(16, 16), optional=both)
    for op in ("batch_norm_grad", "batch_norm_inference_grad"):
        yield _like(op, tall, many, optional=frozenset({"dx", "dgamma", "dbeta"}), flags=NONE)
        yield _like(op, tall, many, optional=frozenset({"dx", "gamma"}), flags=ADD)
    dims = {"rows": size(65536), "cols": size(48), "target_first": 2, "source_first": 3}
    yield _like("copy_columns", {**dims, "target_cols": size(48) + 5, "source_cols": size(48) + 4}, bound(1))


def _losses(size: Any) -> Iterator[Any]:
    rows, weighted = size(65536), frozenset({"dx", "weight"})
    for op in ("cross_entropy", "cross_entropy_labels", "cross_entropy_logits", "cross_entropy_logits_labels"):
        for cols in (size(10), size(1000)):
            dims = {"rows": rows if cols <= 10 else size(4096), "cols": max(cols, 2)}
            dims |= {"per_sample": 1, "samples": dims["rows"]}
            yield _like(op, dims, making.Bound(16, 8 + cols / 4), optional=weighted)
    for variant in ("mean_squared_error", "huber", "binary_cross_entropy_logits"):
        dims = {"rows": rows, "cols": size(16), "per_sample": 1, "samples": rows, "divisor": size(16)}
        yield _like("loss", dims, making.Bound(32, 4 + size(16) / 4), optional=weighted, variant=variant)
    dims = {"rows": rows, "per_sample": 1, "samples": rows}
    yield _like("sum_loss", dims, making.Bound(4, rows), optional=frozenset({"weight"}))


def _metrics(size: Any) -> Iterator[Any]:
    rows, cols, bound = size(65536), max(size(10), 2), making.Bound(8, 8)
    dims = {"rows": rows, "cols": cols, "per_sample": 1, "samples": rows}
    by_labels = {"optional": frozenset({"labels", "weight"})}
    yield _like("count_correct", {**dims, "size": 2}, bound, **by_labels)
    yield _like("top_k", {**dims, "size": 2, "k": min(5, cols)}, bound, **by_labels)
    yield _like("confusion", {**dims, "size": cols * (cols + 1)}, bound, **by_labels)
    yield _like("auc_histogram", {**dims, "size": 2 * size(8851), "bins": size(8851)}, bound, **by_labels)
    by_target = frozenset({"target", "weight"})
    yield _like("label_confusion", {**dims, "size": 6 * cols}, bound, optional=by_target)
    sums = making.Bound(8 + rows, 4 * rows)
    yield _like("regression_sums", {**dims, "size": 10 * cols}, sums, optional=by_target)


def _vectors(size: Any) -> Iterator[Any]:
    n, bound = size(1_000_003), making.Bound
    yield _like("add", {"n": n}, bound(1))
    yield _like("multiply", {"n": n}, bound(1))
    for formula in ("relu", "gelu", "tanh", "silu"):
        yield _like("activation", {"n": n}, bound(8, 1), formula=formula)
        yield _like("activation_grad", {"n": n}, bound(8, 1), formula=formula)
    yield _like("dropout", {"n": n, "node": 1}, bound(2))
    # of many uniform numbers one is nearly 1, and its logarithm amplifies float32's rounding
    yield _like("gaussian_noise", {"n": n, "node": 2**31 + 1}, bound(2, 4096))
    yield _gather(size)
    yield from _optimizers(n)
    n = size(10_000_000)
    yield _like("optimizer", {"n": n}, bound(12, 2), variant="adam")
    yield _like("sum_squares", {"n": n}, bound(4 + n), flags=NONE)
    yield _like("clip_by_norm", {"n": n}, bound(4))
    yield _like("clip_by_value", {"n": n}, bound(4))
    yield _like("penalty", {"n": n, "batch": 32}, bound(4096, n), optional=frozenset({"dw"}))
    dims = {"outer": 1, "size": size(784), "inner": size(4096)}
    limit = {"limit": 0.9 * dims["size"] ** 0.5}
    yield replace(_like("max_norm", dims, bound(8 + dims["size"])), params=limit)


def _windows(size: Any) -> Iterator[Any]:
    windows: Any = importlib.import_module("window_cases")
    around = {"padding": (0, 1, 1), "behind": (0, 1, 1), "note": "large"}
    maps = (1, size(28), size(28))
    for stride, filters in ((1, 64), (2, 96)):
        yield from windows.convolution_cases(
            windows.Geometry(
                batch=size(9), maps=maps, channels=size(32), filters=size(filters), stride=(1, stride, stride), **around
            )
        )
    yield from windows.pooling_cases(
        windows.Geometry(batch=size(9), maps=maps, channels=size(32), stride=(1, 2, 2), **around)
    )


def _scans(size: Any) -> Iterator[Any]:
    """Yield layers whose blocks have four samples and eight, and one whose states are in scratch memory."""
    for batch, steps, units in ((300, 7, 48), (1100, 3, 33), (9, 2, 1400)):
        shape = {"batch": size(batch), "steps": size(steps), "units": size(units)}
        bound = making.Bound(64, 64 + 16 * shape["steps"] * shape["units"] ** 0.5)
        # sums of many units stay within what activations change
        most = 0.4 * min(1.0, 16 / units) ** 0.5
        for layer, gates in (("simple_rnn", 1), ("gru", 3), ("lstm", 4)):
            for op, given in ((layer, {"y", "kept", "gates"}), (f"{layer}_grad", {"dy"})):
                given |= {"bias"} if op == "gru" else set()
                case = _like(op, shape, bound, optional=frozenset(given))
                dims = {**next(one.dims for one in table if one.op == op and one.optional == given), **shape}
                special = {**case.special, "w": making.uniform(-most, most)}
                yield replace(case, dims={**dims, "wide": gates * dims["units"]}, special=special)


def _optimizers(n: int) -> Iterator[Any]:
    for variant in dict.fromkeys(case.variant for case in table if case.op == "optimizer"):
        yield _like("optimizer", {"n": n}, making.Bound(12, 2), variant=variant)


def _gather(size: Any) -> Any:
    """Return a case of rows of a table that are fetched in random order."""
    rows, cols, of = size(65536), size(64), size(100_000)
    array = np.random.default_rng(3).standard_normal((of, cols), np.float32)
    stride = {"row_stride": 4 * cols, "size0": 0, "size1": 1, "size2": 1, "stride0": 0, "stride1": 0, "stride2": 0}
    return making.Case(
        "gather", {"rows": rows, "size": cols, **stride}, variant="float32", flags=Flag.CHECK_FINITE,
        optional=frozenset({"index"}), index=np.random.default_rng(4).permutation(of),
        bound=making.Bound(1), make_arrays=lambda dtype: {0: array}, note="large",
    )  # fmt: skip


def _product(dims: Mapping[str, int], flags: Flag, formula: str, optional: tuple[str, ...]) -> Any:
    # twice the table's bound: of millions of sums the worst is at 1.07 of the bound on the CPU
    return making.Case(
        "matmul", dict(dims), flags=flags, formula=formula, optional=frozenset(optional),
        special={"saved": making.uniform(-0.9, 0.9)}, bound=making.Bound(2, 4 + 4 * dims["k"]), note="large",
    )  # fmt: skip


def _products(size: Any, quick: bool) -> Iterator[Job]:
    """Yield matrix products: of odd sizes with everything, of even ones, of a batch, and of few and of many rows."""
    shapes = (
        (513, 777, 1000), (4096, 1024, 1024), (128, 256, 784), (128, 10, 64), (65536, 64, 64), (64, 64, 65536),
        (1, 1000, 784), (5, 256, 784),
    )  # fmt: skip
    turns = (NONE, TURN_A, TURN_B, TURN_A | TURN_B)
    forward, backward = Flag.MAP_FORWARD, Flag.MAP_GRADIENT | TURN_B
    for precision in PRECISIONS:
        for number, (m, n, k) in enumerate(shapes):
            dims = {"m": size(m), "n": size(n), "k": size(k)}
            plain = turns if number < 3 and not (quick and number) else turns[:1] if number != 5 else turns[1:2]
            ends: list[tuple[Flag, str, tuple[str, ...]]] = [(flags, "", ()) for flags in plain]
            ends += [(NONE, "", ("bias",)), (forward, "relu", ("bias",)), (backward, "relu", ("saved",))]
            if number < 2 and not (quick and number):
                ends += [(flags | ADD, "", ()) for flags in (NONE, TURN_A)]
                ends += [(forward, "gelu", ("bias", "pre")), (backward, "gelu", ("saved",))]
            for flags, formula, optional in ends:
                yield _product(dims, flags, formula, optional), "float32", precision
    if not quick:
        dims = {"m": size(513), "n": size(777), "k": size(1000)}
        yield _product(dims, NONE, "", ("bias",)), "float64", "float32"
