"""The input of lowering: a graph, the sources of its inputs, and the places of parameters and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastnn.graph.graph import Graph
from fastnn.program.program import RecordDraft


class Source(NamedTuple):
    """The memory layout of the rows of one graph input.

    Attributes
    ----------
    slot : int
        The data slot that holds the array's address.
    dtype : str
        The array's NumPy dtype name.
    row_stride : int
        Bytes from one row to the next.
    inner : tuple of (size, stride in bytes)
        The axes within a row, at most three; empty when a row is contiguous.
    indexed : bool
        Whether rows are picked by the numbers in the index buffer, or taken in order.
    check_finite : bool
        Whether NaN and infinity stop the program before the step.
    """

    slot: int
    dtype: str
    row_stride: int
    inner: tuple[tuple[int, int], ...] = ()
    indexed: bool = False
    check_finite: bool = False


@dataclass(frozen=True)
class Place:
    """A fixed place in one of the flat buffers, in bytes."""

    buffer: int
    offset: int


@dataclass(frozen=True)
class Task:
    """A program to be made.

    Attributes
    ----------
    sources : mapping of input tensor id to Source
    places : mapping of tensor id to Place
        Parameters, gradient tensors that belong in the gradient buffer, and inputs and outputs that are the
        caller's arrays themselves, whose sizes are then in `sizes`.
    accumulating : set of tensor ids
        Gradient tensors that are added to the values that an earlier record wrote to the same place.
    tail : sequence of RecordDraft
        Records after those of the graph, such as the optimizer's.
    sizes : mapping of buffer to bytes
    """

    name: str
    graph: Graph
    batch: int
    dtype: str
    sources: Mapping[int, Source]
    places: Mapping[int, Place]
    accumulating: frozenset[int]
    tail: Sequence[RecordDraft]
    sizes: Mapping[int, int] = field(default_factory=dict)
