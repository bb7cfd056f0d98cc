"""A block's part of an operand: from global memory through registers into shared memory, where it is ordered by k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.backend.cuda.codegen.kernel import Kit, ptx
from fastnn.backend.cuda.codegen.options import formula

u32 = np.uint32
keep = ptx.keep
#: rows of tiles over which neighbouring blocks share columns of b, while these are in the cache
BAND = 8


@formula
def tile_of(block, across, down):
    """Return the row and the column of a block's tile: down a band of rows of tiles, then to the next column."""
    band = u32(block // u32(BAND * across))
    first, within = u32(band * BAND), u32(block % u32(BAND * across))
    height = min(u32(down - first), u32(BAND))
    return u32(first + within % height), u32(within // height)


@dataclass(frozen=True)
class Loads:
    """The functions with which the threads of a block load a tile of `depth` x `size` elements.

    Attributes
    ----------
    count : int
        Registers in which a thread keeps elements until they go to shared memory.
    units : int
        Loads of a thread, each of `count // units` neighbours.
    begin : device function
        begin(places, thread, origin, extent, row) writes the starts of the thread's loads; elements past the operand's
        edge are replaced by earlier ones, whose products are not stored.
    fetch, fetch_part : device functions
        fetch(values, address, places) loads; fetch_part(values, address, places, thread, depth) uses zeros for elements
        `depth` or more after the tile's first k.
    place : device function
        place(thread) -> the index in shared memory of the thread's first element.
    stash : device function
        stash(values, place) stores the fetched values, from that address on.
    step : device function
        step(depth, row) -> elements between this k of the operand and `depth` later ones.
    """

    count: int
    units: int
    begin: Any
    fetch: Any
    fetch_part: Any
    place: Any
    stash: Any
    step: Any


def make_loads(kit: Kit, size: int, depth: int, pitch: int, threads: int, along_k: bool, width: int) -> Loads:
    """Make the loads of one operand.

    Parameters
    ----------
    size, depth : int
        Rows (of a) or columns (of b), and k, of the tile.
    pitch : int
        Elements between one k and the next in shared memory.
    along_k : bool
        Whether neighbours in global memory differ by k.
    width : int
        Elements of a load: 1, or `PACK` if every row of the operand begins at a multiple of that.
    """
    # loads along a line of neighbours in global memory
    line = (depth if along_k else size) // width
    all_units = line * (size if along_k else depth)
    units = max(1, all_units // threads)
    shares = all_units < threads
    group = 16 // kit.itemsize
    load, load_pack = kit.load, kit.load_pack
    store, store_pack = ptx.SHARED_STORES[kit.dtype], ptx.SHARED_STORE_PACKS[kit.dtype]
    zero = kit.real(0.0)

    @formula
    def unit(thread):
        # threads without a load repeat another thread's, and store the same values
        return u32(thread % all_units) if shares else thread

    @formula
    def begin(places, thread, origin, extent, row):
        first = unit(thread)
        for i in range(units):
            lines = u32(first // line + i * threads // line)
            along = u32((first % line + i * threads % line) * width)
            if along_k:
                places[i] = keep(u32(min(u32(origin + lines), u32(extent - 1)) * row + along))
            else:
                places[i] = keep(u32(lines * row + min(u32(origin + along), u32(extent - width))))

    @formula
    def fetch_unit(values, address, places, i):
        if width == 1:
            values[i] = load(address, places[i])
        else:
            pack = load_pack(address, places[i])
            values[4 * i], values[4 * i + 1] = pack[0], pack[1]
            values[4 * i + 2], values[4 * i + 3] = pack[2], pack[3]

    @formula
    def fetch(values, address, places):
        for i in range(units):
            fetch_unit(values, address, places, i)

    @formula
    def fetch_part(values, address, places, thread, depth):
        first = unit(thread)
        for i in range(units):
            if along_k:
                k = u32((first % line + i * threads % line) * width)
            else:
                k = u32(first // line + i * threads // line)
            if k < depth:
                fetch_unit(values, address, places, i)
            else:
                for e in range(width):
                    values[width * i + e] = zero

    @formula
    def place(thread):
        first = unit(thread)
        lines, along = first // line, first % line * width
        return u32(along * pitch + lines) if along_k else u32(lines * pitch + along)

    @formula
    def stash(values, address):
        for i in range(units):
            lines, along = i * threads // line, i * threads % line * width
            if along_k:
                for e in range(width):
                    store(address, (along + e) * pitch + lines, values[width * i + e])
            elif width == 1:
                store(address, lines * pitch + along, values[i])
            elif group == 4:
                store_pack(address, lines * pitch + along, (
                    values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3],
                ))  # fmt: skip
            else:
                store_pack(address, lines * pitch + along, (values[4 * i], values[4 * i + 1]))
                store_pack(address, lines * pitch + along + 2, (values[4 * i + 2], values[4 * i + 3]))

    @formula
    def step(depth, row):
        return np.int64(depth) if along_k else np.int64(depth) * np.int64(row)

    return Loads(units * width, units, begin, fetch, fetch_part, place, stash, step)
