"""Cases of records that normalise rows and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastnn.program.layout import Flag
from making import Bound, Case, uniform

# rows, columns and chunks: chunks of one row, even and uneven ones; rows side by side, and such that are not
CHUNKS = ((3, 5, 3), (64, 1, 1), (150, 10, 2), (700, 3, 10), (333, 33, 5), (200, 70, 3))
# several stretches of rows, and of columns
LONG = ((1, 2500), (700, 3))
MEAN, RSTD = uniform(-0.3, 0.3), uniform(0.5, 2.0)
VARIANCE = {"moving_variance": uniform(0.5, 2.0)}


def norm_cases(tables: Sequence[tuple[int, int]]) -> Iterator[Case]:
    """Iterate over the cases, for tables of these rows and columns and others."""
    for rows, cols in tables:
        yield from _of_table({"rows": rows, "cols": cols})
    for rows, cols, chunks in CHUNKS:
        yield from _in_chunks({"rows": rows, "cols": cols, "chunks": chunks})
    for rows, cols in (*tables[1:], *LONG):
        yield from _at_offset({"rows": rows, "cols": cols})


def case(op: str, dims: Mapping[str, int], **rest: object) -> Case:
    """Make a case."""
    rest["optional"] = frozenset(rest.get("optional", ()))
    return Case(op, dims, **rest)


def _of_table(dims: Mapping[str, int]) -> Iterator[Case]:
    for affine in ((), ("gamma",), ("beta",), ("gamma", "beta")):
        yield case("layer_norm", dims, params={"epsilon": 1e-3}, optional=affine, bound=Bound(16, 64))
        # alone, with relu, and with an upper limit as relu6 has it
        for flags, high in ((Flag(0), 0.0), (Flag.RECTIFY, 0.0), (Flag.RECTIFY, 1.5)):
            params, note = {"epsilon": 1e-3, "high": high}, "limited" if high else ""
            yield case(
                "batch_norm",
                dims,
                params={**params, "momentum": 0.9},
                optional=affine,
                flags=flags,
                bound=Bound(16, 64),
                special=VARIANCE,
                note=note,
            )
            yield case(
                "batch_norm_inference",
                dims,
                params=params,
                optional=affine,
                flags=flags,
                bound=Bound(16, 16),
                special=VARIANCE,
                note=note,
            )
            for added in ((), ("added",)):
                yield case(
                    "normalize_columns",
                    dims,
                    params=params,
                    optional=(*affine, *added),
                    flags=flags,
                    bound=Bound(16, 16),
                    special={"mean": MEAN, "rstd": RSTD},
                    note=note,
                )
    for flags in (Flag(0), Flag.ACCUMULATE):
        more = {"special": {"mean": MEAN, "rstd": RSTD}, "bound": Bound(16, 16 + 4 * dims["rows"])}
        for wanted in (("dgamma",), ("dbeta",), ("dgamma", "dbeta")):
            yield case("layer_norm_param_grad", dims, flags=flags, optional=wanted, **more)
        for optional in (("dgamma",), ("dbeta", "gamma"), ("dgamma", "dbeta", "dx"), ("dx", "gamma")):
            yield case("batch_norm_grad", dims, flags=flags, optional=optional, **more)
            yield case("batch_norm_inference_grad", dims, flags=flags, optional=optional, **more)
        yield case(
            "rms_norm_param_grad", dims, flags=flags, special={"rstd": RSTD}, bound=Bound(16, 16 + 4 * dims["rows"])
        )
    for optional in ((), ("gamma",), ("means",), ("gamma", "means")):
        yield case(
            "normalize_columns_grad", dims, optional=optional, special={"mean": MEAN, "rstd": RSTD}, bound=Bound(16, 16)
        )
    for optional in ((), ("gamma",)):
        yield case("rms_norm", dims, params={"epsilon": 1e-6}, optional=optional, bound=Bound(16, 16))
        yield case("rms_norm_grad", dims, optional=optional, special={"rstd": RSTD}, bound=Bound(16, 64))
        yield case(
            "layer_norm_grad", dims, optional=optional, special={"mean": MEAN, "rstd": RSTD}, bound=Bound(16, 64)
        )


def _in_chunks(dims: Mapping[str, int]) -> Iterator[Case]:
    yield case("column_moments", dims, bound=Bound(16, 16), special={"x": uniform(0.5, 1.5)})
    yield case(
        "batch_statistics",
        dims,
        params={"epsilon": 1e-3, "momentum": 0.9},
        bound=Bound(16, 16),
        special={"moments": uniform(0.5, 50.0), **VARIANCE},
    )
    more = {"special": {"mean": MEAN, "rstd": RSTD}}
    yield case("column_products", dims, bound=Bound(16, 16 + 4 * dims["rows"]), **more)
    for flags in (Flag(0), Flag.ACCUMULATE):
        for optional in ((), ("dgamma",), ("dgamma", "dbeta")):
            yield case("add_products", dims, flags=flags, optional=optional, bound=Bound(16, 16))


def _offset(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make numbers whose deviation is a millionth of their mean, a multiple of float32's resolution there."""
    return 2.0**20 + np.round(16.0 * rng.standard_normal(shape)) / 16.0


def _near_offset(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make means of such numbers, which float32 cannot represent."""
    return 2.0**20 + rng.uniform(-0.3, 0.3, shape)


def _at_offset(dims: Mapping[str, int]) -> Iterator[Case]:
    rows, cols = dims["rows"], dims["cols"]
    at_offset = {"x": _offset, "mean": _near_offset, "rstd": RSTD}
    affine = {"gamma", "beta"}
    # three numbers may be equal: then 1 / sqrt(epsilon) = 32 times gamma multiplies the error of their mean
    slope = 2.0 ** (24 if cols > 3 else 27)
    yield case(
        "layer_norm",
        dims,
        params={"epsilon": 1e-3},
        optional=affine,
        special=at_offset,
        bound=Bound(16, 64, slope),
        note="offset",
    )
    yield case(
        "batch_norm",
        dims,
        params={"epsilon": 1e-3, "momentum": 0.9},
        optional=affine,
        bound=Bound(16, 64, 2.0**24),
        special={**at_offset, **VARIANCE},
        note="offset",
    )
    yield case(
        "layer_norm_grad", dims, optional={"gamma"}, special=at_offset, bound=Bound(16, 64, 2.0**24), note="offset"
    )
    bound = Bound(16, 16 + rows, rows * 2.0**24)
    yield case(
        "layer_norm_param_grad", dims, optional={"dgamma", "dbeta"}, special=at_offset, bound=bound, note="offset"
    )
    if (rows, cols) in LONG:
        yield case("rms_norm", dims, params={"epsilon": 1e-6}, optional={"gamma"}, bound=Bound(16, 16), note="long")
        yield case("rms_norm_grad", dims, optional={"gamma"}, special={"rstd": RSTD}, bound=Bound(16, 64), note="long")
        yield case("rms_norm_param_grad", dims, special={"rstd": RSTD}, bound=Bound(16, 16 + 4 * rows), note="long")
    for op in ("batch_norm_grad", "batch_norm_inference_grad"):
        yield case(op, dims, optional={"dgamma", "dbeta", "dx", "gamma"}, special=at_offset, bound=bound, note="offset")
