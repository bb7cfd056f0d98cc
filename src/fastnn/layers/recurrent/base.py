"""What recurrent layers share: weights, inputs, dropout, directions, and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastnn import activations
from fastnn.activations import Activation as ActivationFunction
from fastnn.checks import flag, number, size
from fastnn.constraints import Constraint
from fastnn.formulas import custom
from fastnn.formulas.activations import SAVES
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import bias_add, matmul
from fastnn.graph.ops.pointwise import pointwise, random
from fastnn.graph.ops.sequences.recurrent import Cell, Start, scan
from fastnn.graph.ops.strided import flip, reshape
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.core import Reshape
from fastnn.layers.operators import OPERATORS
from fastnn.layers.symbols import Symbol
from fastnn.layers.tracing import STREAMS
from fastnn.layers.weighted import Weighted
from fastnn.regularizers import Regularizer

#: The mask of a sequence has one column, by which it differs from a state: (steps, 1).
MASK_COLUMNS = 1
#: What tells where states are set to zero has two axes more than samples (steps,).
RESET_AXES = (1, 1)


def elementwise_of(layer: Layer, name: str, given: Any) -> ActivationFunction:
    """Return an activation function of single numbers whose gradient follows from its result.

    Raises
    ------
    ValueError
        If it is another one.
    """
    found: ActivationFunction = activations.get(given)
    formula = found.formula
    if not isinstance(formula, str) or custom.find(formula) is not None or SAVES.get(formula, "input") == "input":
        names = ", ".join(sorted(name for name, saved in SAVES.items() if saved != "input"))
        raise ValueError(
            f"layer {layer.label!r}: {name}: a recurrent layer keeps results of its activations alone, so these may be "
            f"{names}; got {given!r}"
        )
    return found


@dataclass(eq=False, repr=False)
class OverTime(Layer):
    """A layer that goes through the steps of sequences, and carries states; subclasses say what a step does."""

    arity = (1, None)

    return_sequences: bool = field(default=False, kw_only=True)
    return_state: bool = field(default=False, kw_only=True)
    go_backwards: bool = field(default=False, kw_only=True)
    stateful: bool = field(default=False, kw_only=True)
    zero_output_for_mask: bool = field(default=False, kw_only=True)

    def prepare(self) -> None:
        for name in ("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask"):
            flag(name, getattr(self, name))

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the states of a sample."""
        raise NotImplementedError

    @property
    def times_reset(self) -> int:
        """How often the layer's states have been reset."""
        count: int = self.__dict__.get("_times_reset", 0)
        return count

    def reset_states(self) -> None:
        """Let the next batch begin with zeros, in all models that contain the layer; see `Model.reset_states`."""
        object.__setattr__(self, "_times_reset", self.times_reset + 1)

    # both names are Keras'
    reset_state = reset_states

    def initial_states(self, *shapes: Shape) -> int:
        """Return the number of initial states that a call on inputs of such shapes is given."""
        raise NotImplementedError

    def carries(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Return the shapes of the states that pass on to the next batch: none where a call has initial states."""
        return self.state_shapes if self.stateful and not self.initial_states(*shapes) else ()

    def scanned(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> tuple[Tensor, ...]:
        """Add the layer's nodes; returns the result, with sequences in the order of the steps, and the last states."""
        raise NotImplementedError

    def continued(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> tuple[Tensor, ...]:
        """Return `scanned`; a stateful layer begins with the states that the batch before has left."""
        shapes = self.carries(*(x.shape for x in inputs))
        before = [graph.input(shape, f"{scope.label} state") for shape in shapes]
        y, *after = self.scanned(graph, [inputs[0], *before, *inputs[1:]], weights, scope)
        if before:
            scope.carried.extend(zip(before, after, strict=True))
        return y, *after

    @property
    def takes_mask(self) -> bool:
        """Whether a call takes the mask of its first input."""
        return True

    @property
    def passes_mask(self) -> bool:
        """Whether the states have the mask of the sequences, in their order."""
        return self.return_sequences

    def mask_of(self, symbols: Sequence[Symbol]) -> Symbol | None:
        """Return the mask of the results, whose steps are in the reverse order if the layer goes backwards."""
        mask = super().mask_of(symbols)
        return flipped(mask) if mask is not None and self.go_backwards else mask

    def __call__(
        self, inputs: Symbol | Sequence[Symbol], initial_state: Symbol | Sequence[Symbol] | None = None,
        mask: Symbol | None = None, resets: Symbol | None = None,
    ) -> Any:  # fmt: skip
        """Apply the layer to a symbol.

        Parameters
        ----------
        inputs : Symbol
            Sequences, of samples (steps, features); or a list of them and what follows.
        initial_state : Symbol or list of Symbol, optional
            The state before the first step, of samples (units,): for an LSTM that and the cells. Zeros without it.
        mask : Symbol, optional
            1 for the steps that there are and 0 for others, of samples (steps,).
        resets : Symbol, optional
            Other than 0 where states are set to zero before the step, as at the first step of an episode, of samples
            (steps,). Steps that a mask leaves out reset nothing. `RNN` takes none.
        """
        return super().__call__(self.gathered(inputs, initial_state, mask, resets))

    def gathered(
        self, inputs: Symbol | Sequence[Symbol], initial_state: Symbol | Sequence[Symbol] | None, mask: Symbol | None,
        resets: Symbol | None = None,
    ) -> Any:  # fmt: skip
        """Return all that a call is on."""
        given: list[Any] = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if initial_state is not None:
            given += initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        if resets is not None:
            given.append(Reshape((*resets.shape, *RESET_AXES))(resets))
        if mask is not None:
            given.append(Reshape((*mask.shape, MASK_COLUMNS))(mask))
        return given if len(given) > 1 else given[0]

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        y, *states = self.continued(graph, inputs, weights, scope)
        if self.return_sequences and self.go_backwards:
            y = flip(graph, y, 1, scope.label)
        return [y, *states] if self.return_state else y


def flipped(mask: Symbol) -> Symbol:
    """Return the mask of the same steps in the reverse order."""
    made: Symbol = OPERATORS["flip"](mask, 1)
    before, now = mask.layer, made.layer
    alike = isinstance(before, type(now)) and before.op == now.op
    if alike and (before.arguments, before.options) == (now.arguments, now.options):
        return mask.inputs[0]
    return made


class _Sized(Weighted):
    """What is no field of `Recurrent`, but of its subclasses, where it may be given by position."""

    units: int


@dataclass(eq=False, repr=False)
class Recurrent(OverTime, _Sized):
    """A recurrent layer; subclasses say which cell it has."""

    kernels: ClassVar[dict[str, str]] = {"kernel": "kernel", "recurrent": "recurrent_kernel"}
    cell: ClassVar[Cell]

    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    recurrent_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    recurrent_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)
    dropout: float = field(default=0.0, kw_only=True)
    recurrent_dropout: float = field(default=0.0, kw_only=True)

    def prepare(self) -> None:
        self.units = size("units", self.units)
        OverTime.prepare(self)
        _Sized.prepare(self)
        self.activation = elementwise_of(self, "activation", self.activation)
        for name in ("dropout", "recurrent_dropout"):
            setattr(self, name, number(name, getattr(self, name), at_least=0.0, below=1.0))

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the states of a sample."""
        return ((self.units,),) * self.cell.states

    @property
    def gates(self) -> tuple[str, tuple[float, float]]:
        """The formulas of the activations, and their parameters."""
        function = activations.get(self.activation)
        return function.formula, (_parameter(function), 0.0)

    def sorted_shapes(self, *shapes: Shape) -> tuple[Shape, int, bool, bool]:
        """Return the shape of the sequences, the number of initial states, and whether there are resets and a mask."""
        sequences, *rest = shapes
        if len(sequences) != 2:
            raise self.fail(f"takes sequences of shape (batch, steps, features), got (batch, {_listed(sequences)})")
        masked = bool(rest) and len(rest[-1]) == 2
        if masked and rest[-1] != (sequences[0], MASK_COLUMNS):
            raise self.fail(f"takes a mask of shape (batch, {sequences[0]}), got (batch, {_listed(rest[-1][:1])})")
        states = rest[:-1] if masked else rest
        resets = bool(states) and len(states[-1]) == 3
        if resets and states[-1] != (sequences[0], *RESET_AXES):
            raise self.fail(f"takes resets of shape (batch, {sequences[0]}), got (batch, {_listed(states[-1][:-2])})")
        states = states[:-1] if resets else states
        if len(states) not in (0, self.cell.states) or any(shape != (self.units,) for shape in states):
            said = ", ".join(f"(batch, {_listed(shape)})" for shape in states)
            raise self.fail(f"takes {self.cell.states} initial state(s) of shape (batch, {self.units}), got {said}")
        return sequences, len(states), resets, masked

    def initial_states(self, *shapes: Shape) -> int:
        """Return the number of initial states that a call on inputs of such shapes is given."""
        return self.sorted_shapes(*shapes)[1]

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        sequences, *_ = self.sorted_shapes(*shapes)
        first = (sequences[0], self.units) if self.return_sequences else (self.units,)
        return [first, *[(self.units,)] * self.cell.states] if self.return_state else first

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        wide = self.cell.gates * self.units
        kernels = self.spec("kernel", (shapes[0][-1], wide)), self.spec("recurrent", (self.units, wide))
        return (*kernels, self.bias_spec(wide)) if self.use_bias else kernels

    def bias_spec(self, wide: int) -> ParameterSpec:
        """Return the description of the bias."""
        return self.spec("bias", (wide,))

    def biased(self, graph: Graph, z: Tensor, bias: Tensor, scope: Scope) -> tuple[Tensor, Tensor | None]:
        """Add the bias to the products of the inputs; returns also what of it the scan adds."""
        return bias_add(graph, z, bias, scope.label), None

    @property
    def resets_after(self) -> bool:
        """Whether a GRU's reset gate is a factor of the product of the state."""
        return True

    def scanned(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> tuple[Tensor, ...]:
        """Add the layer's nodes; returns the result, with sequences in the order of the steps, and the last states."""
        label, backwards = scope.label, self.go_backwards
        (steps, _), count, resets, masked = self.sorted_shapes(*(x.shape for x in inputs))
        x, mask = inputs[0], None
        if masked:
            mask = reshape(graph, inputs[-1], (BATCH, steps), label)
        there = _with_resets(graph, mask, inputs[1 + count], label) if resets else mask
        z = matmul(graph, self._dropped(graph, x, self.dropout, scope, 0), weights[0], label)
        bias = None
        if self.use_bias:
            z, bias = self.biased(graph, z, weights[2], scope)
        formula, parameters = self.gates
        start = Start(inputs[1 : 1 + count], self._factors(graph, self.units, self.recurrent_dropout, scope, 1))
        y, *states = scan(
            graph, self.cell, z, weights[1], label, formula=formula, parameters=parameters, bias=bias, start=start,
            mask=there, reverse=backwards, after=self.resets_after,
        )  # fmt: skip
        if self.return_sequences:
            if mask is not None and self.zero_output_for_mask:
                y = pointwise(graph, "multiply", [y, reshape(graph, mask, (BATCH, steps, 1), label)], label)
        else:
            y = states[0]
        return y, *states

    def _factors(self, graph: Graph, columns: int, rate: float, scope: Scope, number: int) -> Tensor | None:
        """Make the factors of dropout, the same in all steps; None without it."""
        if not scope.training or rate == 0.0:
            return None
        stream = scope.number + number * STREAMS
        kept = random(graph, "bernoulli", (BATCH, columns), stream, scope.label, p=1.0 - rate)
        return pointwise(graph, "multiply", [kept, 1.0 / (1.0 - rate)], scope.label)

    def _dropped(self, graph: Graph, x: Tensor, rate: float, scope: Scope, number: int) -> Tensor:
        """Drop features of the inputs, the same ones in all steps."""
        factors = self._factors(graph, x.shape[-1], rate, scope, number)
        if factors is None:
            return x
        return pointwise(
            graph, "multiply", [x, reshape(graph, factors, (BATCH, 1, x.shape[-1]), scope.label)], scope.label
        )


def _with_resets(graph: Graph, mask: Tensor | None, resets: Tensor, label: str) -> Tensor:
    """Return a mask that is negative where states are set to zero, as scans take it."""
    anew = pointwise(graph, "not_equal", [reshape(graph, resets, (BATCH, resets.shape[0]), label), 0.0], label)
    signs = pointwise(graph, "subtract", [1.0, pointwise(graph, "multiply", [anew, 2.0], label)], label)
    return signs if mask is None else pointwise(graph, "multiply", [mask, signs], label)


def _parameter(function: ActivationFunction) -> float:
    """Return the parameter of an activation function, 0 if it has none."""
    return float(function.parameters[0]) if function.parameters else 0.0


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


class Gated(Recurrent):
    """A recurrent layer with gates, which have an activation function of their own."""

    recurrent_activation: ActivationFunction | str | None

    def prepare(self) -> None:
        super().prepare()
        self.recurrent_activation = elementwise_of(self, "recurrent_activation", self.recurrent_activation)

    @property
    def gates(self) -> tuple[str, tuple[float, float]]:
        """The formulas of the activations, and their parameters."""
        function, gate = activations.get(self.activation), activations.get(self.recurrent_activation)
        return f"{function.formula},{gate.formula}", (_parameter(function), _parameter(gate))
