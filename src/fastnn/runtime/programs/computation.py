"""The computation of a program: a model's graph, with losses, gradients and an update.

Whoever wants a program adds to a `Computation` what it computes besides the model's outputs: losses (`measures.py`),
gradients, an update. Then `task` says where its data are: in arrays of any layout, which records gather and store
(`requests.py`), or in arrays that records read and fill in place (`codes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from math import prod
from types import MappingProxyType

from fastnn.graph.extent import at
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.moves import reshape, take_columns
from fastnn.graph.ops.pointwise import constant
from fastnn.lower.task import STATES, Place, Source, Task
from fastnn.lower.update import Averaging, Clipping, Update, penalties, tick, update
from fastnn.objective.objective import PENALTY, SCRATCH, accumulator_word
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Buffer
from fastnn.program.program import RecordDraft
from fastnn.program.record import ITEM_SIZES
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.states import places_of


class Computation:
    """The graph of a model's layers, to which a program's other parts are added.

    Parameters
    ----------
    table : ParameterTable
        Of an architecture without open sizes; for others some sizes are taken (`Architecture.example`).
    batch : int
        The program's number of rows.
    training : bool
        Whether dropout drops and batch normalisation uses the batch.

    Attributes
    ----------
    graph : Graph
    inputs, outputs : sequence of Tensor
        The model's.
    extras : sequence of Tensor
        What the model computes for losses and logs besides its outputs.
    losses : list of Tensor
        First outputs of "loss" nodes.
    scalars : list of Tensor
        Losses that are single numbers.
    given : list of (Tensor, Tensor)
        Tensors of which gradients of losses have been computed, and these.
    carried : list of (Tensor, Tensor)
        The states that stateful layers begin with, and those that they leave to the next batch.
    training : bool
    sizes : dict
        Bytes by buffer.
    """

    def __init__(self, table: ParameterTable, batch: int = 1, *, training: bool) -> None:
        self.table, self.batch, self.graph = table, batch, Graph()
        self.losses: list[Tensor] = []
        self.scalars: list[Tensor] = []
        self.given: list[tuple[Tensor, Tensor]] = []
        self.carried: list[tuple[Tensor, Tensor]] = []
        self.training = training
        self.sizes: dict[int, int] = {Buffer.PARAMETERS: table.own_nbytes, **table.shared_sizes}
        self._parameters = [self.graph.parameter(entry.spec.shape, entry.name) for entry in table]
        self._places = {tensor.id: entry.place for entry, tensor in zip(table, self._parameters, strict=True)}
        self._accumulating: set[int] = set()
        self._trained = (False,) * len(table)
        self._tail: list[RecordDraft] = []
        weights: list[list[Tensor]] = [[] for _ in table.architecture.layers]
        for entry, tensor in zip(table, self._parameters, strict=True):
            weights[entry.layer].append(tensor)
        # what does not depend on open sizes is found out for some
        self.inputs, self.outputs, self.extras = table.architecture.example.apply(
            self.graph, weights, table.trainable_layers(), training=training, carried=self.carried
        )
        if self.carried:
            offsets, self.sizes[STATES] = places_of([x.shape for x, _ in self.carried], batch, table.dtype)
            self._places |= {x.id: Place(STATES, at) for (x, _), at in zip(self.carried, offsets, strict=True)}

    def weights(self, wanted: Sequence[bool]) -> list[Tensor]:
        """Return some of the model's weights."""
        return list(compress(self._parameters, wanted))

    @property
    def trained(self) -> tuple[bool, ...]:
        """For each weight whether `gradients` has found a gradient."""
        return self._trained

    def seeds(self) -> list[Tensor]:
        """Add inputs for gradients of the outputs, which `gradients` starts from."""
        return [self.graph.input(y.shape, "seed", batched=y.batched) for y in self.outputs]

    def gradients(self, wanted: Iterable[Tensor], seeds: Sequence[Tensor] = ()) -> dict[int, Tensor]:
        """Differentiate the sum of the losses, or the outputs, whose gradients are then `seeds`.

        Gradients of weights are put into their places in the buffer of gradients.

        Returns
        -------
        dict
            Gradients of inputs by the number of the tensor, without those that nothing depends on.

        Raises
        ------
        NoGradientError
            When a wanted tensor is before an op without a gradient.
        """
        given = [*zip(self.outputs, seeds, strict=False), *self.given]
        given += [(loss, constant(self.graph, 1.0, (), "loss")) for loss in self.scalars]
        found = differentiate(self.graph, self.losses, wanted, given)
        self.sizes[Buffer.GRADIENTS] = self.table.nbytes
        # weights that nothing depends on have no gradient, and are not changed
        self._trained = tuple([tensor.id in found for tensor in self._parameters])
        for entry, tensor in zip(self.table, self._parameters, strict=True):
            for index, gradient in enumerate(found.get(tensor.id, ())):
                self._places[gradient.id] = Place(Buffer.GRADIENTS, entry.offset)
                if index:  # later uses of a weight are added to the first
                    self._accumulating.add(gradient.id)
        return {x.id: found[x.id][0] for x in self.inputs if x.id in found}

    def penalize(self, *, stepping: bool = False) -> None:
        """Add the regularisers to the loss, and to the weights' gradients; `stepping` if there are hyper rows."""
        weights = self.table.weights(self._trained)
        self._tail += penalties(weights, accumulator_word(PENALTY), self.batch, stepping=stepping)

    def update(self, optimizer: Optimizer) -> None:
        """Add the optimizer's step."""
        slot = self.table.nbytes
        step = Update(
            optimizer.formula,
            len(optimizer.description.slots),
            slot,
            Clipping(optimizer.clipvalue, optimizer.clipnorm, optimizer.global_clipnorm),
            optimizer.gradient_accumulation_steps or 0,
            Averaging(optimizer.ema_momentum, optimizer.ema_overwrite_frequency or 0) if optimizer.use_ema else None,
        )
        self.sizes |= {Buffer.HYPER: 64, Buffer.OPTIMIZER: slot * len(optimizer.slots)}
        multipliers = optimizer.multipliers_of([entry.name for entry in self.table])
        described = [
            replace(weight, multiplier=multiplier)
            for weight, multiplier in zip(self.table.weights(self._trained), multipliers, strict=True)
        ]
        self._tail += update(described, step, accumulator_word(SCRATCH), self.table.dtype)

    def carry(self) -> None:
        """Put the states after the batch where those before it are, once all else is computed."""
        for before, after in self.carried:
            flat = reshape(self.graph, after, (after.size,), after.name)
            copied = take_columns(self.graph, flat, 0, flat.columns, f"{after.name} kept")
            self._places[copied.id] = self._places[before.id]

    def count(self, *, training: bool) -> None:
        """Add the record that advances the counters by one batch, and by one step."""
        self._tail.append(tick(self.batch, training=training))

    def task(
        self, name: str, sources: Mapping[int, Source] = MappingProxyType({}), arrays: Sequence[Tensor] = ()
    ) -> Task:
        """Return the task of the program.

        Parameters
        ----------
        name : str
        sources : mapping of input tensor id to Source
            What is gathered.
        arrays : sequence of Tensor
            Inputs and results whose memory is the data slots, in this order.
        """
        places, sizes = dict(self._places), dict(self.sizes)
        for slot, tensor in enumerate(arrays, Buffer.DATA):
            places[tensor.id] = Place(slot, 0)
            item = ITEM_SIZES[self.table.dtype if tensor.kind == "real" else tensor.kind]
            sizes[slot] = prod(at(size, self.batch) for size in tensor.whole) * item
        accumulating = frozenset(self._accumulating)
        return Task(
            name, self.graph, self.batch, self.table.dtype, sources, places, accumulating, self._tail, sizes
        )  # fmt: skip
