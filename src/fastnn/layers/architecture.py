"""The architecture of a model: its layers, how their calls connect, and names; no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastnn.graph.extent import Extent
from fastnn.graph.graph import Graph, Tensor
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.layers.core import InputLayer
from fastnn.layers.naming import unique_labels
from fastnn.layers.open_shapes import Result, filled, is_open, usual_first
from fastnn.layers.ranges import InputSpec, narrow
from fastnn.layers.symbols import Part, Symbol, results_of
from fastnn.locks import cached_property


@dataclass(frozen=True)
class Call:
    """One output of a use of a layer: the layer, the outputs of others that it takes, and this one's shape and kind.

    The outputs of one use follow each other; `output` counts them. `batched` says whether a batch axis comes before the
    shape. `weight` is the number of one of the layer's weights, where that is taken instead of a result. `tried` is as
    for `Result`.
    """

    layer: int
    inputs: tuple[int, ...]
    shape: Shape
    kind: str = "real"
    output: int = 0
    batched: bool = True
    weight: int | None = None
    tried: tuple[tuple[int, Shape], ...] = ()

    @property
    def result(self) -> Result:
        """The output."""
        return Result(self.shape, self.kind, self.batched, self.tried)


@dataclass(frozen=True)
class Extra:
    """A call whose result is no output, but part of the loss ("loss"), or a number for the logs ("metric")."""

    call: int
    role: str
    name: str = ""


@dataclass(frozen=True)
class Architecture:
    """Layers and their calls, in an order in which they can be computed.

    Attributes
    ----------
    layers : tuple of Layer
        Each layer once, in the order of first use.
    labels : tuple of str
        A unique name for each layer.
    calls : tuple of Call
        One for each output of each use of a layer.
    inputs, outputs : tuple of int
        Calls that are the model's inputs and outputs.
    parts : tuple of Part or None
        For each layer the model whose weights it has.
    extras : tuple of Extra
        What is computed besides outputs, in training and evaluation.
    """

    layers: tuple[Layer, ...]
    labels: tuple[str, ...]
    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parts: tuple[Part | None, ...]
    extras: tuple[Extra, ...] = ()

    @classmethod
    def of(
        cls, inputs: Sequence[Symbol], outputs: Sequence[Symbol], extras: Sequence[tuple[Symbol, str, str]] = (), *,
        any_shape: bool = False,
    ) -> Architecture:  # fmt: skip
        """Walk from the outputs back to the inputs.

        Parameters
        ----------
        inputs, outputs : sequence of Symbol
        extras : sequence of (Symbol, role, name)
            See `Extra`.
        any_shape : bool
            Whether outputs need not be batches, and may be integers.
        """
        if len({id(symbol) for symbol in inputs}) != len(inputs):
            raise ValueError("the same input symbol is given twice")
        for symbol in inputs:
            if symbol.inputs or not isinstance(symbol.layer, InputLayer):
                raise ValueError(f"a model's inputs come from fastnn.Input, got {symbol!r}")
        order = _topological(inputs, [*outputs, *(symbol for symbol, *_ in extras)])
        layers = list({id(symbol.layer): symbol.layer for symbol in order}.values())
        number = {id(layer): index for index, layer in enumerate(layers)}
        at = {id(symbol): index for index, symbol in enumerate(order)}
        calls = []
        for one in order:
            taken = tuple(at[id(x)] for x in one.inputs)
            layer = number[id(one.layer)]
            calls.append(Call(layer, taken, one.shape, one.kind, one.output, one.batched, one.weight, one.tried))
        for symbol in [] if any_shape else outputs:
            if symbol.kind != "real":
                raise ValueError(f"a model's outputs are numbers of its dtype, got integers: {symbol!r}")
            if not symbol.batched or any(isinstance(size, Extent) for size in symbol.shape):
                raise ValueError(
                    f"a model's outputs are batches of samples of a fixed size, got {symbol!r}: fastnn.function "
                    "computes any symbols, and model.add_loss takes losses"
                )
        parts = _parts_of(order)
        found = cls(
            tuple(layers),
            unique_labels(layers, parts),
            tuple(calls),
            tuple(at[id(symbol)] for symbol in inputs),
            tuple(at[id(symbol)] for symbol in outputs),
            tuple(parts.get(id(layer)) for layer in layers),
            tuple(Extra(at[id(symbol)], role, name) for symbol, role, name in extras),
        )
        _ = found.input_specs  # raises where no integers fit
        return found

    def bare(self) -> Architecture:
        """Return the architecture without what is computed besides outputs."""
        if not self.extras:
            return self
        found = self.symbols()
        return Architecture.of([found[call] for call in self.inputs], [found[call] for call in self.outputs])

    @cached_property
    def is_open(self) -> bool:
        """Whether inputs leave sizes open, such as the number of steps."""
        return any(is_open(self.calls[call].shape) for call in self.inputs)

    def require_known(self, what: str) -> None:
        """Raise ValueError if inputs leave sizes open, which something needs."""
        if self.is_open:
            shapes = [filled(shape, 100) for shape in self.input_shapes]
            given = f"fastnn.Input({shapes[0]})" if len(shapes) == 1 else f"[fastnn.Input(shape) for shape in {shapes}]"
            raise ValueError(
                f"{what} takes models of known sizes, but inputs of this one leave some open (None): "
                f"{', '.join(map(str, self.input_shapes))}. For 100 steps, say, make x = {given} and "
                "fastnn.Model(x, model(x)), which has the same weights"
            )

    def at(self, shapes: Sequence[Shape]) -> Architecture:
        """Return the architecture for inputs of known shapes: all of its sizes are known.

        Raises
        ------
        ValueError
            When they do not fit a layer; the message names it.
        """
        if not self.is_open:
            return self
        calls = list(self.calls)
        for place, shape in zip(self.inputs, shapes, strict=True):
            calls[place] = replace(calls[place], shape=shape, tried=())
        for index, call in enumerate(self.calls):
            uses = self.uses(index)
            if call.output or not any(one.tried for one in (*uses, *(self.calls[x] for x in call.inputs))):
                continue
            if call.inputs:
                _, found = self.layers[call.layer].described([calls[x].result for x in call.inputs])
                for output, (use, one) in enumerate(zip(uses, found, strict=True), index):
                    calls[output] = replace(use, shape=one.shape, tried=())
        return replace(self, calls=tuple(calls))

    @cached_property
    def example(self) -> Architecture:
        """The architecture for some sizes in place of the open ones, if there are any.

        Raises
        ------
        ValueError
            When no size fits all layers.
        """
        first: ValueError | None = None
        for size in usual_first():
            try:
                return self.at([filled(shape, size) for shape in self.input_shapes])
            except ValueError as error:
                first = first or error
        raise ValueError(f"no size that fastnn.Input leaves open (None) fits all layers: {first}") from first

    def with_layers(self, layers: Sequence[Layer]) -> Architecture:
        """Return the architecture with other layers, whose results have the same shapes; no models are left."""
        made = replace(self, layers=tuple(layers), parts=(None,) * len(layers))
        for call in made.calls:
            if not call.output and call.weight is None:
                made.layers[call.layer].note_call([made.example.calls[x].shape for x in call.inputs])
        return made

    @property
    def is_chain(self) -> bool:
        """Whether every layer is used once, on the previous layer's result."""
        chained = all((call.layer, call.inputs) == (at, (at - 1,) * (at > 0)) for at, call in enumerate(self.calls))
        return chained and self.inputs == (0,) and self.outputs == (len(self.calls) - 1,)

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs' samples."""
        return tuple(self.calls[call].shape for call in self.inputs)

    @cached_property
    def input_specs(self) -> tuple[InputSpec, ...]:
        """Descriptions of the model's inputs: names, shapes, and the range of integers.

        Raises
        ------
        ValueError
            When the layers that take an input have no integer in common, or a layer does not take those of another.
        """
        specs = {
            call: InputSpec(name, self.calls[call].shape, self.calls[call].kind)
            for call, name in zip(self.inputs, self.input_names, strict=True)
        }
        narrow(specs, self.calls, [call.shape for call in self.example.calls], self.layers, self.labels)
        return tuple(specs[call] for call in self.inputs)

    @property
    def takes_integers(self) -> bool:
        """Whether any input holds integers."""
        return any(self.calls[call].kind == "int64" for call in self.inputs)

    @property
    def takes_numbers(self) -> bool:
        """Whether any input holds numbers of the model's dtype, which have a gradient."""
        return any(self.calls[call].kind == "real" for call in self.inputs)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the outputs' samples."""
        return tuple(self.calls[call].shape for call in self.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self.labels[self.calls[call].layer] for call in self.inputs)

    @property
    def extra_names(self) -> list[tuple[str, str]]:
        """Roles and names of what is computed besides outputs."""
        return [(extra.role, extra.name) for extra in self.extras]

    def uses(self, call: int) -> tuple[Call, ...]:
        """Return all outputs of the use of a layer that begins with a call."""
        end = call + 1
        while end < len(self.calls) and self.calls[end].output:
            end += 1
        return self.calls[call:end]

    def part_name(self, layer: int) -> str:
        """Return the name, in this model, of the model that a layer comes from."""
        part = self.parts[layer]
        assert part is not None
        return self.labels[layer].removesuffix(f"/{part.labels[id(self.layers[layer])]}")

    @property
    def models(self) -> dict[str, Part]:
        """The models that this one is made of, by name."""
        return {self.part_name(layer): part for layer, part in enumerate(self.parts) if part is not None}

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs: of the layers or models that give them, numbered if one gives several."""
        names: list[str] = []
        for call in self.outputs:
            layer = self.calls[call].layer
            name = self.labels[layer] if self.parts[layer] is None else self.part_name(layer)
            names.append(name if name not in names else f"{name}_{len(names)}")
        return tuple(names)

    def parameters(self) -> list[tuple[int, ParameterSpec]]:
        """Return every weight once, with the number of its layer, in Keras' order."""
        found: list[tuple[int, ParameterSpec]] = []
        specs: dict[int, tuple[ParameterSpec, ...]] = {}
        for call in self.calls:
            if call.output or call.weight is not None:
                continue
            layer = self.layers[call.layer]
            mine = layer.parameters(*(self.example.calls[x].shape for x in call.inputs))
            if call.layer not in specs:
                specs[call.layer] = mine
            elif [spec.shape for spec in mine] != [spec.shape for spec in specs[call.layer]]:
                raise ValueError(
                    f"layer {self.labels[call.layer]!r} is called on inputs that need weights of shapes "
                    f"{[spec.shape for spec in specs[call.layer]]} and {[spec.shape for spec in mine]}; "
                    "a layer that is used twice has one set of weights"
                )
        for number in range(len(self.layers)):
            if number not in specs:
                raise ValueError(
                    f"the weights of the layer {self.labels[number]!r} are used, but the layer or its model is not "
                    "called here: weights belong to models"
                )
            found.extend((number, spec) for spec in specs[number])
        return found

    def carries(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the shape of each state of a sample that calls pass on to the next batch, with the layer's number."""
        known = self.example.calls
        return [
            (call.layer, shape)
            for call in self.calls
            if not call.output and call.weight is None
            for shape in self.layers[call.layer].carries(*(known[x].shape for x in call.inputs))
        ]

    def apply(
        self, graph: Graph, weights: Sequence[Sequence[Tensor]], trainable: Sequence[bool], *, training: bool,
        carried: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:  # fmt: skip
        """Add all nodes to a graph; `weights` and `trainable` are by layer, and `carried` is as in `Scope`.

        Returns
        -------
        inputs, outputs, extras : list of Tensor
        """
        values: list[Tensor] = []
        for index, call in enumerate(self.calls):
            layer, label = self.layers[call.layer], self.labels[call.layer]
            if isinstance(layer, InputLayer):
                values.append(graph.input(call.shape, label, call.kind))
            elif call.weight is not None:
                values.append(weights[call.layer][call.weight])
            elif not call.output:
                scope = Scope(label, index, training, trainable[call.layer], [] if carried is None else carried)
                inputs = [values[x] for x in call.inputs]
                values += _tensors(layer.apply(graph, inputs, weights[call.layer], scope), self.uses(index), label)
        ends = self.inputs, self.outputs, tuple(extra.call for extra in self.extras)
        inputs, outputs, extras = ([values[call] for call in part] for part in ends)
        return inputs, outputs, extras

    def symbols(self) -> list[Symbol]:
        """Return new symbols of all calls."""
        found: list[Symbol] = []
        for index, call in enumerate(self.calls):
            layer, part = self.layers[call.layer], self.parts[call.layer]
            if isinstance(layer, InputLayer):
                found.append(layer.start())
            elif call.weight is not None:
                found.append(layer.weight_symbol(call.weight, part))
            elif not call.output:
                inputs = tuple(found[x] for x in call.inputs)
                found += results_of(layer, inputs, [use.result for use in self.uses(index)], part)
        return found

    def config(self, trainable: Sequence[bool]) -> dict[str, Any]:
        """Return the architecture as JSON values, with `trainable` of each layer."""
        return {
            "layers": [
                {**layer.config(), "name": label, "trainable": trained}
                for layer, label, trained in zip(self.layers, self.labels, trainable, strict=True)
            ],
            "calls": [
                [call.layer, list(call.inputs), *([] if call.weight is None else [call.weight])]
                for call in self.calls
                if not call.output
            ],
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            # absent in files of models without any
            **({"extras": [[extra.call, extra.role, extra.name] for extra in self.extras]} if self.extras else {}),
        }


def _tensors(made: Any, uses: Sequence[Call], label: str) -> list[Tensor]:
    """Return what a layer's `apply` gave, as a list, after comparing it with what its `output_shape` promised."""
    found = list(made) if isinstance(made, (list, tuple)) else [made]
    if not all(isinstance(one, Tensor) for one in found):
        raise TypeError(f"layer {label!r}: apply gave {made!r}, expected a tensor of the graph, or a list of such")
    gives: list[tuple[Any, ...]] = [(one.shape, one.kind, one.batched) for one in found]
    promised: list[tuple[Any, ...]] = [(call.shape, call.kind, call.batched) for call in uses]
    if gives != promised:
        if all(one[2] for one in (*gives, *promised)):
            gives, promised = ([one[:2] for one in part] for part in (gives, promised))
        raise ValueError(f"layer {label!r}: apply gave {gives}, expected {promised} from output_shape and output_kind")
    return found


def _topological(inputs: Sequence[Symbol], outputs: Sequence[Symbol]) -> list[Symbol]:
    order: list[Symbol] = list(inputs)
    seen = {id(symbol) for symbol in inputs}
    stack = [(symbol, False) for symbol in reversed(outputs)]
    while stack:
        symbol, ready = stack.pop()
        together = symbol.together
        symbol = together[0]
        if ready:
            if id(symbol) not in seen:
                seen.add(id(symbol))
                order += together
        elif id(symbol) not in seen:
            if isinstance(symbol.layer, InputLayer):
                raise ValueError(
                    f"the outputs depend on the input {symbol.layer.label!r} of shape {symbol.shape}, which is not "
                    "among the model's inputs"
                )
            stack.append((symbol, True))
            stack.extend((x, False) for x in reversed(symbol.inputs))
    return order


def inherited(inputs: Sequence[Symbol], outputs: Sequence[Symbol]) -> list[tuple[Symbol, str, str]]:
    """Return the losses and metrics of the models whose calls outputs depend on; metrics get names of their own."""
    found: dict[int, tuple[Symbol, str, str]] = {}
    taken: set[str] = set()
    for symbol in _topological(inputs, outputs):
        for extra, role, name in symbol.extras:
            if id(extra) in found or role == "mask":
                continue
            label, count = name, 0
            while role == "metric" and label in taken:
                count += 1
                label = f"{name}_{count}"
            taken.add(label)
            found[id(extra)] = extra, role, label
    return list(found.values())


def masks_of(outputs: Sequence[Symbol]) -> list[tuple[Symbol, str, str]]:
    """Return the masks of outputs, which losses and metrics count, with the numbers of the outputs as names."""
    return [(one.mask, "mask", str(number)) for number, one in enumerate(outputs) if one.mask is not None]


def _parts_of(order: Sequence[Symbol]) -> dict[int, Part]:
    """Return for each layer that comes from a model the first such model."""
    found: dict[int, Part] = {}
    for symbol in order:
        layer = id(symbol.layer)
        if symbol.part is None:
            continue
        known = found.setdefault(layer, symbol.part)
        if known.weights[layer] != symbol.part.weights[layer]:
            raise ValueError(
                f"layer {symbol.layer.label!r} has other weights in the model {known.name!r} than in "
                f"{symbol.part.name!r}: give the models layers of their own"
            )
    return found
