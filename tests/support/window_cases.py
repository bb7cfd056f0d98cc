"""Cases of records whose windows slide over maps: convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from fastnn.program.layout import Flag
from fastnn.program.window import packed
from making import Bound, Case, away


@dataclass(frozen=True)
class Geometry:
    """Maps, a window and how it moves: three numbers each, along depth, height and width."""

    batch: int = 2
    maps: tuple[int, int, int] = (1, 7, 9)
    channels: int = 3
    filters: int = 5
    groups: int = 1
    window: tuple[int, int, int] = (1, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)
    dilation: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[int, int, int] = (0, 0, 0)
    behind: tuple[int, int, int] = (0, 0, 0)
    note: str = ""

    @property
    def results(self) -> tuple[int, ...]:
        """The sizes of the results, which `behind` pads after the last entry."""
        return tuple(
            (size + before + after - (window - 1) * dilation - 1) // stride + 1
            for size, before, after, window, dilation, stride in zip(
                self.maps, self.padding, self.behind, self.window, self.dilation, self.stride, strict=True
            )
        )

    @property
    def maps_dims(self) -> dict[str, int]:
        """The dimensions of maps, results and windows."""
        dims = dict(zip(("batch", "depth", "height", "width", "channels"), (self.batch, *self.maps, self.channels),
                        strict=True))  # fmt: skip
        dims |= dict(zip(("out_depth", "rows", "cols"), self.results, strict=True))
        for name in ("window", "stride", "dilation", "padding"):
            dims[name] = packed(getattr(self, name))
        return dims

    @property
    def dims(self) -> dict[str, int]:
        """The dimensions of a convolution."""
        weights = prod(self.window) * self.channels // self.groups * self.filters
        return {**self.maps_dims, "filters": self.filters, "groups": self.groups, "weights": weights}


def bound(terms: int) -> Bound:
    """Return the bound of a sum of products of standard normal numbers."""
    return Bound(relative=4.0, absolute=1.5 * terms + 4.0)


def convolution_cases(each: Geometry) -> Iterator[Case]:
    """Make the three products of a convolution, with all that may be fused into them."""
    dims, terms = each.dims, prod(each.window) * each.channels // each.groups
    yield Case("conv", dims, bound=bound(terms), note=each.note)
    yield Case("conv", dims, optional=frozenset({"bias"}), flags=Flag.MAP_FORWARD, formula="relu", bound=bound(terms),
               note=each.note)  # fmt: skip
    yield Case("conv", dims, optional=frozenset({"bias", "pre"}), flags=Flag.MAP_FORWARD, formula="tanh",
               bound=bound(terms), note=each.note)  # fmt: skip
    terms = prod(each.window) * each.filters // each.groups
    yield Case("conv_back", dims, bound=bound(terms), note=each.note)
    yield Case("conv_back", dims, optional=frozenset({"bias"}), flags=Flag.MAP_FORWARD, formula="relu",
               bound=bound(terms), note=each.note)  # fmt: skip
    yield Case("conv_back", dims, optional=frozenset({"saved"}), flags=Flag.MAP_GRADIENT, formula="relu",
               special={"saved": away(0.1)}, bound=bound(terms), note=each.note)  # fmt: skip
    pixels = each.batch * prod(each.results)
    for chunks in (1, 4):
        if chunks <= each.batch:
            yield Case("conv_weights", {**dims, "chunks": chunks}, bound=bound(pixels), note=each.note)


def sum_cases(sizes: tuple[int, ...]) -> Iterator[Case]:
    """Make sums of chunks, some of which have no samples."""
    for n in sizes:
        for batch, chunks in ((1, 4), (9, 4), (2, 1)):
            yield Case("sum_chunks", {"batch": batch, "chunks": chunks, "n": n}, bound=Bound(4.0, chunks))


GEOMETRIES = (
    Geometry(),
    Geometry(padding=(0, 1, 1), behind=(0, 1, 1)),
    Geometry(stride=(1, 2, 2), padding=(0, 0, 0), behind=(0, 1, 1), filters=33),
    Geometry(stride=(1, 2, 3), window=(1, 2, 5), dilation=(1, 3, 1), padding=(0, 1, 2), behind=(0, 2, 2), channels=17),
    Geometry(maps=(1, 1, 130), window=(1, 1, 3), dilation=(1, 1, 4), padding=(0, 0, 8), filters=16, note="causal"),
    Geometry(maps=(1, 1, 120), window=(1, 1, 3), filters=40, channels=4, note="line"),
    Geometry(groups=3, channels=6, filters=9, padding=(0, 1, 1), behind=(0, 1, 1)),
    Geometry(groups=4, channels=4, filters=8, dilation=(1, 1, 2)),
    Geometry(maps=(4, 5, 6), window=(2, 3, 2), stride=(2, 1, 1), dilation=(1, 1, 2), padding=(1, 1, 0)),
    Geometry(window=(1, 1, 1), stride=(1, 2, 2), note="phases without taps"),
    Geometry(maps=(1, 2, 2), window=(1, 5, 5), padding=(0, 2, 2), behind=(0, 2, 2), batch=5, note="window beyond"),
    Geometry(maps=(1, 16, 16), channels=16, filters=64, padding=(0, 1, 1), behind=(0, 1, 1), batch=1, note="panels"),
    Geometry(maps=(1, 5, 6), channels=8, filters=12, padding=(0, 1, 1), behind=(0, 1, 1), batch=3, note="packs"),
    Geometry(
        maps=(1, 6, 7),
        channels=12,
        filters=8,
        window=(1, 2, 3),
        stride=(1, 3, 2),
        dilation=(1, 2, 1),
        padding=(0, 0, 2),
        behind=(0, 1, 2),
        note="phases of packs",
    ),
    Geometry(
        maps=(3, 4, 5),
        channels=4,
        filters=20,
        window=(2, 2, 1),
        stride=(2, 1, 2),
        padding=(0, 1, 0),
        batch=5,
        note="volumes of packs",
    ),
)


def pooling_cases(each: Geometry) -> Iterator[Case]:
    """Make pooling of both kinds and the gradients of a geometry."""
    dims, terms = each.maps_dims, prod(each.window)
    for kind in ("max", "average"):
        yield Case("pool", dims, variant=kind, bound=Bound(relative=4.0, absolute=0.5 * terms), note=each.note)
    yield Case("average_pool_grad", dims, bound=Bound(relative=4.0, absolute=1.0 * terms), note=each.note)
    # few different numbers: maxima that are equal; y is the largest of them, so that each window has one
    for flags, largest in ((Flag(0), _largest), (Flag.RECTIFY, _largest), (Flag.RECTIFY, _largest_of_negative)):
        numbers = {"x": _few if largest is _largest else _few_negative, "y": largest}
        yield Case("max_pool_grad", dims, special=numbers, bound=Bound(relative=4.0, absolute=1.0 * terms), flags=flags,
                   note=each.note + ("" if largest is _largest else "negative"))  # fmt: skip


def _few(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 2, shape).astype(float)


def _largest(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape)


POOLS = (
    Geometry(maps=(1, 8, 8), window=(1, 2, 2), stride=(1, 2, 2), channels=16),
    Geometry(maps=(1, 9, 7), window=(1, 2, 2), stride=(1, 2, 2), channels=5),
    Geometry(maps=(1, 9, 7), window=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), behind=(0, 1, 1), channels=35),
    Geometry(maps=(1, 1, 40), window=(1, 1, 3), stride=(1, 1, 1), channels=1),
    Geometry(maps=(1, 1, 41), window=(1, 1, 2), stride=(1, 1, 3), channels=7),
    Geometry(maps=(4, 6, 6), window=(2, 2, 2), stride=(2, 2, 2), channels=3),
    Geometry(maps=(4, 6, 6), window=(3, 2, 3), stride=(1, 2, 1), padding=(1, 0, 1), behind=(1, 0, 1), channels=18),
)


def _few_negative(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _few(rng, shape) - 1.0


def _largest_of_negative(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


#: Convolutions of each channel by itself.
BY_CHANNEL = (
    Geometry(groups=20, channels=20, filters=20, padding=(0, 1, 1), behind=(0, 1, 1)),
    Geometry(groups=5, channels=5, filters=5, maps=(1, 11, 15), stride=(1, 2, 2), padding=(0, 1, 1), behind=(0, 1, 1)),
    Geometry(groups=16, channels=16, filters=16, window=(1, 5, 3), dilation=(1, 1, 2), maps=(1, 9, 14)),
    Geometry(groups=33, channels=33, filters=33, maps=(3, 4, 5), window=(2, 3, 2), stride=(1, 3, 1), padding=(1, 1, 0)),
    Geometry(groups=3, channels=3, filters=3, maps=(1, 2, 2), window=(1, 5, 5), padding=(0, 2, 2), behind=(0, 2, 2)),
    Geometry(groups=4, channels=4, filters=4, window=(1, 1, 1), stride=(1, 2, 2), note="phases without taps"),
)


#: Convolutions with few filters, and with few channels.
FEW = (
    Geometry(filters=2, channels=8, maps=(1, 6, 19), padding=(0, 1, 1), behind=(0, 1, 1)),
    Geometry(filters=16, channels=6, window=(1, 5, 5), maps=(1, 14, 14)),
    Geometry(filters=5, channels=17, window=(2, 2, 6), maps=(3, 4, 15), dilation=(1, 1, 2), padding=(1, 0, 3)),
    Geometry(filters=1, channels=16, maps=(1, 3, 130), padding=(0, 1, 1), behind=(0, 1, 1), note="two blocks"),
)

#: Sums and weights that the CPU's kernels cut into blocks, maps that they cut into bands and lines.
LONG = (
    Geometry(channels=90, filters=40, maps=(1, 8, 8), padding=(0, 1, 1), behind=(0, 1, 1), note="blocks of places"),
    Geometry(channels=300, filters=33, maps=(1, 3, 5), window=(1, 1, 2), note="blocks of a place"),
    Geometry(channels=100, filters=7, maps=(1, 4, 9), padding=(0, 1, 1), behind=(0, 1, 1), note="blocks of shifts"),
    Geometry(channels=3, filters=17, maps=(1, 70, 250), padding=(0, 1, 1), behind=(0, 1, 1), batch=1, note="bands"),
    Geometry(channels=64, filters=64, maps=(1, 2, 230), window=(1, 2, 3), batch=4, padding=(0, 1, 2), note="segments"),
    Geometry(channels=8, filters=8, maps=(1, 1, 1100), window=(1, 1, 7), padding=(0, 0, 3), note="lines in parts"),
)
