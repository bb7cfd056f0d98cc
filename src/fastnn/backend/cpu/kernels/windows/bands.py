"""Bands: parts of maps, copied with zeros where they reach over the edge."""

from __future__ import annotations

from typing import Any

from fastnn.backend.cpu.codegen.intrinsics import smaller
from fastnn.backend.cpu.codegen.kernel import Kit
from fastnn.backend.cpu.codegen.options import helper


def copy_band_of(kit: Kit) -> Any:
    """Make the function that copies a band."""
    size, reals, zero = kit.itemsize, kit.reals, kit.real(0.0)

    @helper
    def clear(at, count):
        y = reals(at)
        for i in range(count):
            y[i] = zero

    @helper
    def copy(at, source, count):
        y, x = reals(at), reals(source)
        for i in range(count):
            y[i] = x[i]

    @helper
    def copy_band(
        maps, depth, height, width, channels, z, z_step, slices, row, rows, row_count, column, columns, band
    ):  # fmt: skip
        """Copy slices `z_step` apart, of some rows and columns; `row_count` rows have room in each."""
        before = smaller(columns, -column if column < 0 else 0)
        end = width - column
        end = columns if end > columns else before if end < before else end
        pixel = channels * size
        for number in range(slices):
            at_z = z + number * z_step
            for i in range(rows):
                to, y = band + (number * row_count + i) * columns * pixel, row + i
                if at_z < 0 or at_z >= depth or y < 0 or y >= height:
                    clear(to, columns * channels)
                else:
                    source = maps + ((at_z * height + y) * width + column + before) * pixel
                    clear(to, before * channels)
                    copy(to + before * pixel, source, (end - before) * channels)
                    clear(to + end * pixel, (columns - end) * channels)

    return copy_band
