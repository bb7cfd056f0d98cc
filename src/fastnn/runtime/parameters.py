"""The table of a model's weights: their places in the flat buffers of parameters, gradients and optimizer state."""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.constraints import MaxNorm
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Assignments, Layer, ParameterSpec
from fastnn.layers.lengths import with_lengths
from fastnn.lower.task import Place
from fastnn.lower.update import Weight
from fastnn.program.layout import Buffer, align
from fastnn.program.program import aligned_zeros
from fastnn.program.record import ITEM_SIZES
from fastnn.seeding import derive

# Architectures of known shapes that a table of open ones keeps.
_KEPT = 256
# The tables of all models, by layer.
_tables: weakref.WeakKeyDictionary[Layer, weakref.WeakSet[ParameterTable]] = weakref.WeakKeyDictionary()


def assign_trainable(layers: Iterable[Layer], trainable: bool, mine: ParameterTable | None) -> None:
    """Make layers trainable or not in one model; other models keep them as they are.

    Raises
    ------
    TypeError
        When the value is not a bool.
    """
    for layer in layers:
        others = [table for table in _tables.get(layer, ()) if table is not mine]
        before = [table.is_trainable(layer) for table in others]
        layer.trainable = trainable
        for table, was in zip(others, before, strict=True):
            table.pin(layer, was)


@dataclass(frozen=True)
class WeightEntry:
    """One weight: its layer's number and label, and its spec.

    Attributes
    ----------
    offset : int
        In the buffers of gradients and of the optimizer's slots, in bytes.
    place : Place
        Where the weight is: in the model's buffer of parameters, at that offset if other models hold none of its
        weights, or in that of another model.
    """

    layer: int
    label: str
    spec: ParameterSpec
    offset: int
    place: Place

    @property
    def name(self) -> str:
        """The weight's full name, such as "dense/kernel"."""
        return f"{self.label}/{self.spec.name}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.spec.shape)


class ParameterTable:
    """The place of every weight of an architecture in the flat buffers.

    Parameters
    ----------
    architecture : Architecture
    dtype : {"float32", "float64"}
    shared : mapping of layer's number to places
        The weights that other models hold.
    sizes : mapping of buffer to bytes
        Of the buffers that these are in.
    """

    def __init__(
        self,
        architecture: Architecture,
        dtype: str,
        shared: Mapping[int, Sequence[Place]] = MappingProxyType({}),
        sizes: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.shared_sizes = sizes
        entries, offset, own = [], 0, 0
        places = {layer: iter(found) for layer, found in shared.items()}
        for layer, spec in architecture.parameters():
            place = next(places[layer]) if layer in places else Place(Buffer.PARAMETERS, own)
            entries.append(WeightEntry(layer, architecture.labels[layer], spec, offset, place))
            nbytes = align(prod(spec.shape) * ITEM_SIZES[dtype])
            offset += nbytes
            own += 0 if layer in places else nbytes
        self.entries = tuple(entries)
        #: size of the buffer of gradients, and of each of the optimizer's slots
        self.nbytes = offset
        #: size of the buffer of parameters, which has the weights that no other model holds
        self.own_nbytes = own
        # `trainable` of a shared layer from before another model changed it, for that assignment of the layer's
        self._pinned: dict[Layer, tuple[bool, int]] = {}
        # the layers that may be trained here, by number; all if it is None
        self._chosen: frozenset[int] | None = None
        self._known: OrderedDict[tuple[tuple[int, ...], ...], ParameterTable] = OrderedDict()
        self._with_lengths: Architecture | None = None
        for one in architecture.layers:
            _tables.setdefault(one, weakref.WeakSet()).add(self)

    def __iter__(self) -> Iterator[WeightEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def trained(self) -> tuple[bool, ...]:
        """Return for each weight whether training changes it by a gradient: not moving averages, nothing frozen."""
        trainable = self.trainable_layers()
        return tuple([entry.spec.trained and trainable[entry.layer] for entry in self.entries])

    def trainable_layers(self) -> list[bool]:
        """Return for each layer whether this model trains it."""
        layers, chosen = self.architecture.layers, self._chosen
        if chosen is not None:
            return [index in chosen and self.is_trainable(layer) for index, layer in enumerate(layers)]
        if not self._pinned:
            return [layer.trainable for layer in layers]
        return [self.is_trainable(layer) for layer in layers]

    def is_trainable(self, layer: Layer) -> bool:
        """Return whether this model trains a layer, if it may be trained here at all (`choose`)."""
        pinned = self._pinned.get(layer)
        return layer.trainable if pinned is None or pinned[1] != layer.assignments else pinned[0]

    def pin(self, layer: Layer, trainable: bool) -> None:
        """Keep a layer's `trainable` in this model, until it is assigned again."""
        self._pinned[layer] = trainable, layer.assignments
        Assignments.note()

    @property
    def chosen(self) -> frozenset[int] | None:
        """The numbers of the layers that may be trained here; None for all."""
        return self._chosen

    def choose(self, layers: Iterable[int]) -> None:
        """Say which layers may be trained here, by number; the others are constants without penalties."""
        self._chosen = frozenset(layers)
        self._known.clear()
        Assignments.note()

    def at(self, shapes: Sequence[tuple[int, ...]]) -> ParameterTable:
        """Return the table for inputs of known shapes: the same weights, in an architecture without open sizes.

        One more shape, (), stands for the numbers of steps that count (`with_lengths`).

        Raises
        ------
        ValueError
            When the shapes do not fit a layer, or a layer takes no such numbers.
        """
        if not self.architecture.is_open:
            return self
        key = tuple(shapes)
        made = self._known.pop(key, None)
        if made is None:
            made, architecture = self._copy(), self.architecture
            if len(key) > len(architecture.inputs):
                architecture = self.with_lengths()
            made.architecture = architecture.at(key)
        self._known[key] = made
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return made

    def with_lengths(self) -> Architecture:
        """Return the architecture with the steps that count as a further input; raises as the function of this name."""
        if self._with_lengths is None:
            self._with_lengths = with_lengths(self.architecture)
        return self._with_lengths

    def _copy(self) -> ParameterTable:
        made = copy.copy(self)
        made._known = OrderedDict()
        return made

    def apart(self) -> ParameterTable:
        """Return the table of a copy that shares no weights."""
        if not self.shared_sizes:
            return self
        made = self._copy()
        made.shared_sizes, made.own_nbytes = {}, self.nbytes
        made.entries = tuple(replace(one, place=Place(Buffer.PARAMETERS, one.offset)) for one in self.entries)
        return made

    def allocate(self, slots: int = 1) -> NDArray[np.uint8]:
        """Allocate a zeroed buffer of the layout of gradients and slots."""
        return aligned_zeros(self.nbytes * slots)

    def allocate_own(self) -> NDArray[np.uint8]:
        """Allocate a zeroed buffer of parameters."""
        return aligned_zeros(self.own_nbytes)

    def view(self, buffer: NDArray[np.uint8], entry: WeightEntry, slot: int = 0) -> NDArray[np.floating]:
        """Return one weight's part of a buffer of gradients or slots, as an array of its shape, without a copy."""
        return self._array(buffer, slot * self.nbytes + entry.offset, entry)

    def weight(self, buffer: NDArray[np.uint8], entry: WeightEntry) -> NDArray[np.floating]:
        """Return one weight in the buffer of parameters that holds it, as an array of its shape, without a copy."""
        return self._array(buffer, entry.place.offset, entry)

    def _array(self, buffer: NDArray[np.uint8], start: int, entry: WeightEntry) -> NDArray[np.floating]:
        flat = buffer[start : start + entry.size * ITEM_SIZES[self.dtype]]
        return flat.view(self.dtype).reshape(entry.spec.shape)

    def initialize(self, buffer: NDArray[np.uint8], seed: int) -> None:
        """Fill a buffer of parameters with initial weights; each one's random numbers depend only on its number."""
        for index, entry in enumerate(self.entries):
            if entry.place.buffer != Buffer.PARAMETERS:
                continue
            random = derive(seed, "weights", index)
            try:
                made = entry.spec.initializer(entry.spec.shape, random, self.dtype)
            except ValueError as error:
                raise ValueError(f"{entry.name}: {error}") from error
            values = casts.plain(made, entry.name)
            if values.shape != entry.spec.shape:
                raise ValueError(
                    f"{entry.name}: the initializer gave shape {values.shape}, expected {entry.spec.shape}"
                )
            casts.store(self.weight(buffer, entry), values, entry.name)

    def weights(self, trained: Sequence[bool]) -> list[Weight]:
        """Describe the weights for the update's records."""
        found = []
        for entry, is_trained in zip(self.entries, trained, strict=True):
            regularizer, constraint = entry.spec.regularizer, entry.spec.constraint
            if self._chosen is not None and entry.layer not in self._chosen:
                regularizer = None
            bound = None
            if isinstance(constraint, MaxNorm):
                bound = (constraint.max_value, constraint.axis % len(entry.spec.shape))
            found.append(
                Weight(
                    entry.name,
                    entry.offset,
                    entry.place,
                    entry.spec.shape,
                    is_trained,
                    l1=regularizer.l1 if regularizer is not None else 0.0,
                    l2=regularizer.l2 if regularizer is not None else 0.0,
                    penalty_by_step=regularizer is not None and regularizer.by_step,
                    max_norm=bound,
                )
            )
        return found
