"""RNN: a recurrent layer over a cell of the user's own, made of ops."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.checks import shorten
from fastnn.config import register
from fastnn.graph.extent import BATCH, Extent
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import constant, pointwise
from fastnn.graph.ops.sequences.loop import Step, loop
from fastnn.graph.ops.strided import moveaxis, reshape
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape, shape_of
from fastnn.layers.recurrent.base import MASK_COLUMNS, RESET_AXES, OverTime
from fastnn.layers.tracing import Place, Traced, shown, takes, trace

__all__ = ["RNN", "Cell"]


@dataclass(eq=False, repr=False)
class Cell(Layer):
    """What a recurrent layer does in one step: the base class of cells for `RNN`.

    ::

        @fnn.config.register("layer")
        @dataclass(eq=False, repr=False)
        class Minimal(fnn.Cell):
            units: int

            def parameters(self, shape):
                spec, make, n = fnn.layers.ParameterSpec, fnn.initializers.get, self.units
                return spec("kernel", (shape[-1], n), make("glorot_uniform")), spec("w", (n, n), make("orthogonal"))

            def call(self, inputs, states, kernel, w):
                h = ops.tanh(inputs @ kernel + states[0] @ w)
                return h, [h]

    A subclass is a dataclass of its hyperparameters, under ``@fastnn.config.register("layer")`` if models with it are
    to be saved. It has `call`; `parameters` if it has weights, which takes the shape of a step's inputs; and
    `state_size`, or else `units`.

    Attributes
    ----------
    state_size : int, or tuple of (int or tuple of int)
        The size of the state, or the sizes or shapes of several states, of a sample.
    """

    def parameters(self, shape: Shape) -> tuple[ParameterSpec, ...]:  # type: ignore[override]
        """Return the weights for steps whose inputs have this shape, without the batch; none by default."""
        return ()

    def call(self, inputs: Any, states: Any, *weights: Any, **options: Any) -> tuple[Any, Any]:
        """Compute one step, by operators and functions of `fastnn.ops`.

        Parameters
        ----------
        inputs : value
            The step's inputs, of shape (batch, ...).
        states : list of values
            The states before the step, each of shape (batch, ...).
        *weights : values
            Those of `parameters`, in this order.
        **options
            A parameter named ``training`` says whether the model is being trained.

        Returns
        -------
        output, new_states
            A value whose first axis is the batch, and the states after the step: a list or tuple of values of the
            shapes of `states`, or a value if there is one state.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define call(inputs, states, *weights)")

    def __call__(self, inputs: Any) -> Any:
        """Refuse to be a layer."""
        raise TypeError(f"cell {self.label!r} computes one step: a layer of it is fastnn.RNN(cell)")


@register("layer")
@dataclass(eq=False, repr=False)
class RNN(OverTime):
    """Recurrent layer over a cell of the user's own, step after step.

    ::

        fnn.RNN(Minimal(32), return_sequences=True)

    Parameters
    ----------
    cell : Cell
    return_sequences : bool
        Whether to return the outputs of all steps instead of the last one.
    return_state : bool
        Whether to return the last states, too: then a call gives a tuple.
    go_backwards : bool
        Whether to go from the last step to the first, and return the outputs in that order.
    stateful : bool
        Whether a batch begins with the states that the batch before has left, sample i with those of sample i; see
        `Model.reset_states`.
    zero_output_for_mask : bool
        Whether the outputs that are returned for masked steps are zero instead of those before.

    Raises
    ------
    TypeError, ValueError
        When the cell is none, or its `call` takes or returns something else than its `parameters` and `state_size` say;
        that is found when the layer is called.

    Notes
    -----
    The input has shape (steps, ...), the output that of a step, or (steps, ...) with `return_sequences`. Call the layer
    with ``initial_state=`` for other states than zeros before the first step, and with ``mask=`` for sequences with
    fewer steps: where the mask is 0, the states stay what they were, and so does what is returned. Until the first step
    with a mask of 1 that is zero, or the initial state, if the cell returns a state as its output.

    The steps are a loop in compiled code: programs are as large for a thousand steps as for two. What depends on no
    state, such as products of the inputs with weights, is computed for all steps at once. A step cannot draw random
    numbers. Saved models contain a cell's fields; its class has to be registered where
    they are loaded. Arguments are those of Keras 3's `RNN`.
    """

    cell: Cell

    def prepare(self) -> None:
        super().prepare()
        cell = self.cell
        if not isinstance(cell, Cell):
            raise TypeError(f"cell: expected an object of a subclass of fastnn.Cell, got {shorten(cell)}")
        if type(cell).call is Cell.call:
            raise TypeError(f"cell: {type(cell).__name__} has no method call(inputs, states, *weights)")
        given = getattr(cell, "state_size", getattr(cell, "units", None))
        if given is None:
            raise TypeError(f"cell: {type(cell).__name__} has neither state_size nor units")
        sizes = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if not sizes:
            raise ValueError(f"cell: {type(cell).__name__} has no state; a layer without states is no recurrent layer")
        shapes = tuple(shape_of(f"state_size[{number}]", each) for number, each in enumerate(sizes))
        object.__setattr__(self, "_state_shapes", shapes)

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the states of a sample."""
        found: tuple[Shape, ...] = self.__dict__["_state_shapes"]
        return found

    def _sorted(self, *shapes: Shape) -> tuple[int, bool]:
        """Return the number of initial states, and whether there is a mask."""
        sequences, *rest = shapes
        if any(len(shape) == 1 + len(RESET_AXES) and shape == (sequences[0], *RESET_AXES) for shape in rest):
            raise self.fail("takes no resets: a cell may have them as a column of its inputs")
        if len(sequences) < 2:
            raise self.fail(f"takes sequences of shape (batch, steps, ...), got {('batch', *sequences)}")
        states = self.state_shapes
        masked = len(rest) in (1, len(states) + 1) and tuple(rest) != states
        if masked and rest[-1] != (sequences[0], MASK_COLUMNS):
            raise self.fail(
                f"takes {len(states)} initial state(s) of shapes {[*states]} and a mask of shape (batch, "
                f"{sequences[0]}), got {[*rest]}"
            )
        given = rest[:-1] if masked else rest
        if given and tuple(given) != states:
            raise self.fail(f"takes {len(states)} initial state(s) of shapes {[*states]}, got {given}")
        return len(given), masked

    def initial_states(self, *shapes: Shape) -> int:
        """Return the number of initial states that a call on inputs of such shapes is given."""
        return self._sorted(*shapes)[0]

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        self._sorted(*shapes)
        graph, steps = Graph(), shapes[0][0]
        x = graph.placeholder(shapes[0][1:], True, "real", "inputs")
        states = [graph.placeholder(shape, True, "real", "state") for shape in self.state_shapes]
        weights = [graph.placeholder(spec.shape, False, "real", spec.name) for spec in self.parameters(*shapes)]
        y, _ = self._stepped(graph, x, states, weights, Scope(self.label, 0, False, self.trainable))
        first = (steps, *y.shape) if self.return_sequences else y.shape
        return [first, *self.state_shapes] if self.return_state else first

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return tuple(self.cell.parameters(shapes[0][1:]))

    def _stepped(
        self, graph: Graph, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> tuple[Tensor, list[Tensor]]:
        """Call the cell; returns its output and the states after the step."""
        call, count = self.cell.call, len(states)
        what = f"{type(self.cell).__name__}.call"
        options = {"training": scope.training} if takes(call, "training") else {}
        try:
            inspect.signature(call).bind(None, None, *weights, **options)
        except TypeError:
            names = ", ".join(["inputs", "states", *(spec.name for spec in self.cell.parameters(x.shape))])
            raise TypeError(
                f"layer {self.label!r}: {what} is called with ({names}), and takes {inspect.signature(call)}"
            ) from None

        def flat(*values: Traced) -> tuple[Any, ...]:
            made: Any = call(values[0], [*values[1 : 1 + count]], *values[1 + count :], **options)
            if not isinstance(made, (list, tuple)) or len(made) != 2:
                raise TypeError(f"layer {self.label!r}: {what} returned {made!r}, expected (output, new_states)")
            after = made[1]
            several = list(after) if isinstance(after, (list, tuple)) else [after]
            if len(several) != count:
                raise self.fail(f"{what} returned {len(several)} new state(s), expected {count} as state_size says")
            return (made[0], *several)

        place = Place(graph, scope.label, scope.number, training=scope.training)
        _, (y, *found) = trace(place, flat, [x, *states, *weights])
        for number, (before, after) in enumerate(zip(states, found, strict=True)):
            if after.whole != before.whole or after.kind != "real":
                raise self.fail(
                    f"{what} returned {_described(after)} as state {number}, expected {_described(before)} as "
                    "state_size says"
                )
        if not y.batched or y.kind != "real" or any(isinstance(size, Extent) for size in y.shape):
            raise self.fail(f"{what} returned {_described(y)} as output, expected numbers for each sample of the batch")
        return y, found

    def scanned(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> tuple[Tensor, ...]:
        """Add the layer's nodes; returns the result, with sequences in the order of the steps, and the last states."""
        label, steps = scope.label, inputs[0].shape[0]
        count, masked = self._sorted(*(x.shape for x in inputs))
        step = Step(Graph())
        inner = step.graph
        x = step.array_of(moveaxis(graph, inputs[0], 1, 0, label))
        before = [inner.placeholder(shape, True, "real", f"{label}.state") for shape in self.state_shapes]
        first = list(inputs[1 : 1 + count]) or [constant(graph, 0.0, state.whole, label) for state in before]
        y, after = self._stepped(inner, x, before, [step.same(w) for w in weights], scope)
        at = next((number for number, state in enumerate(after) if state.id == y.id), None)
        if at is None and (masked or not self.return_sequences):
            # the last output is carried on as a state is
            at = len(before)
            before.append(inner.placeholder(y.shape, True, "real", f"{label}.output"))
            first.append(constant(graph, 0.0, y.whole, label))
            after.append(y)
        if masked:
            there = step.array_of(moveaxis(graph, inputs[-1], 1, 0, label))
            after = [_where(inner, there, new, old, label) for new, old in zip(after, before, strict=True)]
        step.states += zip(before, first, after, strict=True)
        wanted = [y if at is None else after[at]] if self.return_sequences else []
        stacks, last = loop(graph, step, list(inner.nodes), wanted, steps, self.go_backwards, label)
        if not self.return_sequences:
            assert at is not None
            return last[at], *last[: len(self.state_shapes)]
        made = moveaxis(graph, stacks[0], 1, 0, label)
        if masked and self.zero_output_for_mask:
            mask = reshape(graph, inputs[-1], (BATCH, steps, *(1,) * (len(made.shape) - 1)), label)
            made = pointwise(graph, "multiply", [made, mask], label)
        return made, *last[: len(self.state_shapes)]


def _described(x: Tensor) -> str:
    return f"{'integers' if x.kind == 'int64' else 'numbers'} of shape {shown(x.whole)}"


def _where(graph: Graph, there: Tensor, new: Tensor, old: Tensor, label: str) -> Tensor:
    """Return a state after a step of a sample that is there, or else before it."""
    mask = reshape(graph, there, (BATCH, *(1,) * len(new.shape)), label)
    return pointwise(graph, "where", [mask, new, old], label)
