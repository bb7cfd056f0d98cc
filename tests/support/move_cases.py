"""Cases of records that move values, reduce axes, and run along them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from making import Bound, Case, Make, uniform

#: outer, repeat, inner
AXES = ((1, 1, 1), (7, 31, 33), (33, 7, 1), (1, 130, 7), (150, 2, 3), (3, 5, 2050))


def move_cases(tables: Iterable[tuple[int, int]], vectors: Iterable[int]) -> Iterator[Case]:
    """Give all of them, for tables and vectors of some sizes."""
    for rows, cols in tables:
        dims = {"rows": rows, "cols": cols, "target_cols": cols + 5, "target_first": 2}
        yield Case("copy_columns", {**dims, "source_cols": cols, "source_first": 0}, note="join")
        dims = {"rows": rows, "cols": cols, "target_cols": cols, "target_first": 0}
        yield Case("copy_columns", {**dims, "source_cols": cols + 4, "source_first": 3}, note="take")
    for each in views():
        yield each
        if each.dims["rows"] * each.dims["cols"] < 300:
            whole = {"x": lambda rng, shape: rng.integers(-(2**62), 2**62, shape)}
            yield replace(each, op="strided_integers", special=whole)
    yield from placed()
    yield from taken()
    yield from reduced()
    for outer, size, inner in ((1, 1, 1), (3, 31, 7), (33, 7, 1), (2, 5, 1100), (1, 300, 1)):
        for reverse, exclusive in ((0, 0), (1, 0), (0, 1), (1, 1)):
            dims = {"outer": outer, "size": size, "inner": inner, "reverse": reverse, "exclusive": exclusive}
            for given, initial in ((("a",), 1.0), (("b",), 0.0), (("a", "b"), 0.5)):
                yield Case("recurrence", dims, params={"initial": initial}, optional=frozenset(given),
                           special={"a": uniform(0.5, 1.2)}, bound=Bound(4 + size / 8, 4 + size))  # fmt: skip
    for rows, cols, k in ((1, 1, 1), (7, 31, 3), (33, 7, 7), (3, 130, 20)):
        yield Case("largest", {"rows": rows, "cols": cols, "k": k}, bound=Bound(0))
        yield Case("largest", {"rows": rows, "cols": cols, "k": k}, special={"x": ties}, bound=Bound(0), note="ties")
    for rows, half in ((1, 1), (7, 31), (33, 8), (150, 5)):
        for given in ((), ("position",)):
            # an ulp of the largest angle is an error of its sine
            yield Case("angles", {"rows": rows, "half": half}, params={"scale": 0.5, "decay": 9.2 / half},
                       optional=frozenset(given), special={"position": lambda rng, shape: rng.integers(0, 300, shape)},
                       bound=Bound(1, 0.5, mean=300.0))  # fmt: skip
    for outer, rows, heads, half in ((1, 1, 1, 1), (3, 7, 2, 5), (2, 33, 3, 16), (1, 150, 1, 33)):
        for inverse in (0, 1):
            dims = {"outer": outer, "rows": rows, "heads": heads, "half": half, "inverse": inverse}
            yield Case("rotate", dims, bound=Bound(2, 4))
    for n in vectors:
        yield Case("divide_by", {"n": n, "divisor": 3 * n}, bound=Bound(1))


def ties(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make numbers of which many are equal."""
    return np.round(rng.standard_normal(shape)) + 0.0


def view(sizes: tuple[int, ...], strides: tuple[int, ...], first: int = 0, size: int = 0, note: str = "take") -> Case:
    """Make a case by the sizes of y's axes and x's strides along them; the last one is that of the columns."""
    *leading, cols = sizes
    *distances, stride = strides
    last = first + sum((each - 1) * max(distance, 0) for each, distance in zip(sizes, strides, strict=True))
    leading = [1] * (5 - len(leading)) + leading
    distances = [0] * (5 - len(distances)) + distances
    dims = {"rows": int(np.prod(leading)), "cols": cols, "stride": stride, "first": first, "size": size or last + 1}
    dims |= {f"n{axis}": leading[axis] for axis in range(1, 5)}
    dims |= {f"stride{axis}": distances[axis] for axis in range(5)}
    return Case("strided", dims, note=note, bound=Bound(0))


def views() -> Iterator[Case]:
    """Give cases of "strided": transpositions, slices, flips, repetitions."""
    yield view((1, 1, 1), (1, 1, 1), note="")
    # square matrices, whose transposition is its own gradient
    for size in (7, 31, 33):
        yield view((3, size, size), (size * size, 1, size), note="")
    yield view((4, 7, 31), (217, 1, 7))
    yield view((33, 5, 3, 7), (105, 1, 35, 5))
    yield view((2, 3, 5, 130), (1950, 130, 390, 1))
    yield view((3, 4, 3, 2, 5, 7), (840, 1, 4, 12, 24, 120))
    yield view((150, 2, 3), (6, 1, 2))
    yield view((7, 31), (64, 2), 1, 7 * 64)
    yield view((7, 33), (33, -1), 32)
    yield view((7, 33), (-66, -2), 6 * 66 + 64, 7 * 66)
    yield view((3, 4, 7), (28, -7, 1), 21)
    yield view((7, 31), (1, 0))
    yield view((33, 7), (0, 1))
    yield view((333,), (-3,), 996)
    yield view((3, 5, 2, 31), (31, 0, 93, 1))


def placed() -> Iterator[Case]:
    """Give cases of "place"."""
    for outer, count, inner, size, first, step, fill in (
        (1, 1, 1, 1, 0, 1, 0.0), (7, 31, 1, 36, 2, 1, 0.0), (33, 7, 1, 7, 0, 1, 0.0), (3, 130, 1, 135, 5, 1, 2.5),
        (1, 31, 33, 33, 0, 1, 0.0), (1, 31, 33, 33, 2, 1, -1.0), (2, 1, 7, 3, 1, 0, 0.0), (7, 31, 1, 64, 1, 2, 0.0),
        (7, 11, 3, 33, 30, -3, 0.5), (3, 33, 1, 33, 32, -1, 0.0), (1, 150, 2, 300, 298, -2, 0.0),
    ):  # fmt: skip
        dims = {"outer": outer, "count": count, "inner": inner, "size": size, "first": first, "step": step}
        yield Case("place", dims, params={"fill": fill}, bound=Bound(0))


def taken() -> Iterator[Case]:
    """Give cases of "take" and "scatter_add": the same numbers for all, or a number for each element."""
    for outer, count, inner, size in ((1, 1, 1, 1), (7, 31, 33, 5), (33, 7, 1, 9), (1, 150, 7, 31), (3, 2, 130, 3)):
        for note, strides in (("shared", (0, 1, 0)), ("along", (count * inner, inner, 1))):
            dims = {"outer": outer, "count": count, "inner": inner, "size": size}
            dims |= dict(zip(("index_outer", "index_count", "index_inner"), strides, strict=True))
            dims["indices"] = count if note == "shared" else outer * count * inner
            for outside in (0, 2):
                special = {"index": _numbers(size, outside)}
                for op, bound in (("take", Bound(0)), ("scatter_add", Bound(1, count))):
                    yield Case(op, dims, special=special, bound=bound, note="outside" if outside else note)


def _numbers(size: int, outside: int) -> Make:
    return lambda rng, shape: rng.integers(-size - outside, size + outside, shape)


def reduced() -> Iterator[Case]:
    """Give cases of "reduce" and "arg_reduce"; some parts are empty."""
    for outer, repeat, inner in AXES:
        dims = {"outer": outer, "repeat": repeat, "inner": inner}
        for parts in (1, 4):
            for kind, bound in (("sum", Bound(1, repeat)), ("prod", Bound(4, 1)), ("max", Bound(0)), ("min", Bound(0))):
                case = {**dims, "parts": parts, "divisor": 1}
                special = {"x": uniform(0.7, 1.3)} if kind == "prod" else {}
                yield Case("reduce", case, variant=kind, special=special, bound=bound)
        yield Case("reduce", {**dims, "parts": 1, "divisor": repeat}, variant="sum", bound=Bound(2, 1), note="mean")
        for kind in ("max", "min"):
            yield Case("arg_reduce", dims, variant=kind)
            yield Case("arg_reduce", dims, variant=kind, special={"x": ties}, note="ties")
    for outer, repeat, inner in ((1, 2500, 1), (2, 5000, 1), (1, 700, 3)):
        dims = {"outer": outer, "parts": 1, "repeat": repeat, "inner": inner, "divisor": 1}
        yield Case("reduce", dims, variant="sum", special={"x": uniform(1.0, 1.2)}, bound=Bound(16), note="long")
