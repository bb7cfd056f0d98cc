"""Requests of a model's programs, and the tasks that lowering takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastnn.graph.graph import Graph
from fastnn.program.layout import SHARED
from fastnn.program.program import RecordDraft

#: The buffer of the states that stateful layers pass on to the next batch: the last data slot, read and filled in place
STATES = SHARED - 1


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


class TargetLayout(NamedTuple):
    """The targets of one output: their source, whether they are labels, and a sample's shape for functions of symbols.

    The shape is None if there are no such functions.
    """

    source: Source
    labels: bool
    shape: tuple[int, ...] | None = None


class WeightLayout(NamedTuple):
    """The weights of one output: their source, and the shape of a sample's (empty: one per sample)."""

    source: Source
    shape: tuple[int, ...] = ()


class Request(NamedTuple):
    """Everything that determines a program of a model, besides the model: its key in the cache of programs.

    Named tuples are hashed and compared several times faster than data classes.

    Attributes
    ----------
    kind : {"train", "evaluate", "predict", "gradients", "input_gradients"}
    batch : int
    training : bool
        Whether dropout drops and batch normalisation uses the batch.
    inputs, targets, weights : layouts by input or output
    output_slots : tuple of int
        Data slots that results are stored to.
    trained : tuple of bool
        For each weight whether a gradient is wanted.
    shapes : tuple of shape
        Of the inputs' samples, if the model leaves sizes of them open.
    """

    kind: str
    batch: int
    training: bool
    inputs: tuple[Source, ...]
    targets: tuple[TargetLayout | None, ...] = ()
    weights: tuple[WeightLayout | None, ...] = ()
    output_slots: tuple[int, ...] = ()
    trained: tuple[bool, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()


class Place(NamedTuple):
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
