"""The numbers of steps that count: rows are cut to about these, so that short ones cost less."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.backend.devices import is_on_gpu
from fastnn.data.arrays import as_array
from fastnn.layers.open_shapes import Shape
from fastnn.lower.task import Request, Source

#: rows are cut to multiples of a part of the longest, so that there are few programs
PARTS = 16
#: what else there is for several inputs
_OWN = (
    ". They count the steps of all inputs that leave these open; sequences with lengths of their own, such as a "
    "translator's, are padded without `lengths`, behind Embedding(..., mask_zero=True) or Masking"
)


@dataclass(frozen=True, eq=False)
class Lengths:
    """The numbers of steps of rows, and which arrays have the axis of steps.

    Attributes
    ----------
    counts : ndarray of int64, shape (n,)
        The steps of each row that count.
    cut : ndarray of int64, shape (n,)
        To how many steps each row is cut: at least as many, and at least one.
    inputs, outputs : tuple of bool
        By input and by output.
    steps : int
        Of the arrays.
    """

    counts: NDArray[np.int64]
    cut: NDArray[np.int64]
    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    steps: int

    @classmethod
    def of(cls, lengths: Any, n: int, inputs: Sequence[tuple[Shape, Shape]], outputs: Sequence[Shape]) -> Lengths:
        """Check the steps that count.

        Parameters
        ----------
        inputs : sequence of pairs of shapes
            For each input the shape that the model takes, whose number of steps is open or not, and that of the data.
        outputs : sequence of shapes
            Of the model's outputs, with open sizes.

        Raises
        ------
        TypeError, ValueError
            When they are not one integer for each row, between 0 and the number of steps, or an output has another axis
            of an open size.
        """
        several = len([shape for shape, _ in inputs if shape[:1] == (None,)]) > 1
        if isinstance(lengths, Mapping):
            raise TypeError(f"lengths: expected one array, of integers for each row of x, got a dict{_OWN * several}")
        counts = _integers(lengths)
        if counts.shape != (n,):
            raise ValueError(
                f"lengths: expected shape ({n},), an integer for each row of x, got {counts.shape}{_OWN * several}"
            )
        sizes = {given[0] for shape, given in inputs if shape[:1] == (None,)}
        if len(sizes) > 1:
            raise ValueError(f"lengths: expected inputs of one number of steps, got {sorted(sizes)}{_OWN}")
        steps = sizes.pop()
        wrong = np.flatnonzero((counts < 0) | (counts > steps))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"lengths: expected integers from 0 to {steps}, the steps of x, got {counts[row]} in row {row}"
            )
        for shape in outputs:
            if None in shape[1:]:
                raise ValueError(
                    f"lengths: expected outputs that leave at most their number of steps open, got one of samples of "
                    f"shape {shape}"
                )
        counts = np.ascontiguousarray(counts, np.int64)
        unit = -(-steps // PARTS)
        cut = np.clip(-(-counts // unit) * unit, 1, steps)
        are_cut = tuple([shape[:1] == (None,) for shape, _ in inputs])
        return cls(counts, cut, are_cut, tuple([None in shape for shape in outputs]), steps)

    def of_output(self, output: int) -> NDArray[np.int64] | None:
        """Return the steps of each row that count, if an output has an axis of them."""
        return self.counts if self.outputs[output] else None

    @property
    def checksum(self) -> int:
        """A number that other lengths hardly have, for a training that goes on."""
        return zlib.crc32(self.counts.astype("<i8").tobytes())

    def groups(self, first: int, last: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Return the numbers of steps that rows [first, last) are cut to, each with these rows."""
        cut = self.cut[first:last]
        return [(int(steps), np.flatnonzero(cut == steps) + first) for steps in np.unique(cut)]

    def of_batches(self, order: NDArray[np.int64] | None, n: int, batch: int) -> NDArray[np.int64]:
        """Return the numbers of steps that batches are cut to: those of their longest rows."""
        cut = self.cut[:n] if order is None else self.cut[order]
        found: NDArray[np.int64] = np.maximum.reduceat(cut, np.arange(0, n, batch))
        return found

    def arranged(self, order: NDArray[np.int64], batch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return an order of rows in batches of similar lengths.

        Parameters
        ----------
        order : ndarray
            Of rows; those of about the same length stay in it.
        batch : int
            Rows of a batch. The last batch may have fewer, of any length.
        places : ndarray
            An order of as many numbers as there are whole batches, and one more: that of the batches.
        """
        found = order[np.argsort(self.cut[order], kind="stable")]
        whole, rest = divmod(len(found), batch)
        at = batch * int(places[0])
        last, found = found[at : at + rest], np.delete(found, slice(at, at + rest))
        return np.concatenate([found.reshape(whole, batch)[places[places < whole]].ravel(), last])

    def request(self, request: Request, steps: int) -> Request:
        """Return a request of a program for rows that are cut to a number of steps."""
        inputs = tuple([
            _cut(source, steps) if cut else source
            for source, cut in zip(request.inputs, (*self.inputs, False), strict=True)
        ])  # fmt: skip
        targets, weights = list(request.targets), list(request.weights)
        for output, cut in enumerate(self.outputs[: len(targets)]):
            target, weight = targets[output], weights[output]
            if cut and target is not None and (target.shape is None or target.shape[:1] == (self.steps,)):
                shape = None if target.shape is None else (steps, *target.shape[1:])
                targets[output] = target._replace(source=_cut(target.source, steps), shape=shape)
            if cut and weight is not None and weight.shape:
                shape = (steps, *weight.shape[1:])
                weights[output] = weight._replace(source=_cut(weight.source, steps), shape=shape)
        shapes = tuple([
            (steps, *shape[1:]) if cut else shape
            for shape, cut in zip(request.shapes, (*self.inputs, False), strict=True)
        ])  # fmt: skip
        return request._replace(inputs=inputs, targets=tuple(targets), weights=tuple(weights), shapes=shapes)


def _integers(lengths: Any) -> NDArray[Any]:
    """Return lengths as an array of integers; TypeError for anything else, with what makes integers of it."""
    given = as_array(lengths, "lengths") if is_on_gpu(lengths, "lengths") else casts.plain(lengths, "lengths")
    kind = given.dtype.kind
    if kind in "iu":
        return as_array(given, "lengths")
    hint = ""
    if kind == "b":
        hint = "; of a mask of the steps that count, of shape (n, steps), mask.sum(axis=1) are the lengths"
    elif kind == "O" and given.ndim and all(isinstance(one, (int, np.integer)) for one in given.ravel()):
        hint = "; numpy.array(lengths, dtype=int) makes some of these"
    got = str(given.dtype) if given.ndim else type(lengths).__name__
    raise TypeError(f"lengths: expected integers, the steps of each row that count, got {got}{hint}")


def _cut(source: Source, steps: int) -> Source:
    """Return the source of the first steps of rows."""
    if not source.inner:
        return source  # they are a row's first elements
    return source._replace(inner=((steps, source.inner[0][1]), *source.inner[1:]))
