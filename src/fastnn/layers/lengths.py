"""Numbers of steps that count: one more input of an architecture, whose mask reaches all layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastnn.formulas.pointwise import ARITY
from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.resizing import counted
from fastnn.graph.ops.strided import reshape
from fastnn.layers.architecture import Architecture, masks_of
from fastnn.layers.base import Layer, Scope, Shape
from fastnn.layers.core import InputLayer
from fastnn.layers.integers import Embedding, OneHot
from fastnn.layers.lora import LoRA
from fastnn.layers.merge import Multiply
from fastnn.layers.normalization import BatchNorm, GroupNorm
from fastnn.layers.operation import Operation
from fastnn.layers.symbols import Symbol, identity_of

#: layers that pass masks on, but whose statistics are also of the steps that masks leave out
_MIXING = (BatchNorm, GroupNorm)


@dataclass(eq=False, repr=False)
class LengthMask(Layer):
    """The mask of the first steps of sequences: on [sequences, numbers of steps that count]."""

    arity = (2, 2)

    def accepts(self, kind: str, position: int) -> bool:
        return position == 0 or kind == "int64"

    def output_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], 1)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (sequences, lengths), label = inputs, scope.label
        steps = reshape(graph, counted(graph, sequences.shape[0], label), (1, sequences.shape[0], 1), label)
        limits = reshape(graph, cast(graph, lengths, "real", label), (BATCH, 1, 1), label)
        return pointwise(graph, "less", [steps, limits], label)


def with_lengths(architecture: Architecture) -> Architecture:
    """Return an architecture with one more input, the number of steps of each sample that count.

    All inputs with an open number of steps have a mask of them. Layers and weights keep their numbers; what is added
    comes after them.

    Raises
    ------
    ValueError
        When inputs leave other sizes open than their number of steps, a layer takes steps that masks leave out, or
        outputs have the reverse order of steps.
    """
    lengths, mask = InputLayer((), "int64").start(), None
    found: list[Symbol] = []
    for index, call in enumerate(architecture.calls):
        layer, part = architecture.layers[call.layer], architecture.parts[call.layer]
        if isinstance(layer, InputLayer):
            found.append(layer.start())
            if None in call.shape[1:]:
                raise ValueError(
                    f"lengths: expected inputs that leave the number of steps open alone, as fastnn.Input((None, 64)) "
                    f"does, got {call.shape}"
                )
            if None in call.shape:
                mask = LengthMask()([found[-1], lengths]) if mask is None else mask
                object.__setattr__(found[-1], "mask", mask)
        elif call.weight is not None:
            found.append(layer.weight_symbol(call.weight, part))
        elif not call.output:
            inputs = tuple([found[x] for x in call.inputs])
            made = list(layer.called_again(inputs, [use.result for use in architecture.uses(index)], part))
            _pass_on(layer, architecture.labels[call.layer], inputs, made)
            found += made
    if mask is None:
        raise ValueError(
            "lengths: expected a model whose inputs leave the number of steps open, as fastnn.Input((None, 64)) does, "
            f"got inputs of shape {', '.join(map(str, architecture.input_shapes))}"
        )
    extras = [(found[extra.call], extra.role, extra.name) for extra in architecture.extras if extra.role != "mask"]
    outputs = [found[call] for call in architecture.outputs]
    for number, one in enumerate(outputs):
        if None in one.shape[:1] and one.mask is not None and identity_of(one.mask) != id(one.mask):
            raise ValueError(
                f"lengths: output {number} has its steps in the reverse order (go_backwards=True, return_sequences=True"
                "), so that the first ones do not count: expected outputs in the order of the steps, such as those of "
                "fastnn.Bidirectional, or of one more layer with go_backwards=True"
            )
    inputs = tuple([found[call] for call in architecture.inputs])
    made_of = Architecture.of([*inputs, lengths], outputs, [*extras, *masks_of(outputs)])
    return _renumbered(made_of, architecture)


def _pass_on(layer: Layer, label: str, inputs: Sequence[Symbol], made: list[Symbol]) -> None:
    """Make sure that a mask of the inputs of a call is used, or passed on to the results."""
    masks = [one.mask for one in inputs if one.mask is not None]
    if not masks:
        return
    if layer.makes_mask:
        # steps that either leaves out
        made[-1] = Multiply()([made[-1], masks[0]])
    inner = layer.layer if isinstance(layer, LoRA) else layer
    if isinstance(inner, (Embedding, OneHot)) or (isinstance(layer, Operation) and layer.op in ARITY):
        for one in made[: len(made) - layer.makes_mask]:
            object.__setattr__(one, "mask", made[-1] if layer.makes_mask else masks[0])
    # such as the last state of sequences, or a mean over their steps; none of the results has an open number of steps
    left_out = layer.takes_mask and not any(None in one.shape for one in made)
    if isinstance(layer, _MIXING):
        reason = "its statistics are of all steps, those of padding too"
    elif left_out or any(one.mask is not None for one in made):
        return
    elif layer.passes_mask:
        reason = "its results have another number of steps"
    elif type(layer).__module__.partition(".")[0] == __name__.partition(".")[0]:
        reason = "it does not pass masks on"
    else:
        reason = f"the class does not say that it passes masks on: set {type(layer).__name__}.passes_mask = True if it"
        reason += " computes each step by itself"
    raise ValueError(
        f"lengths: the {type(layer).__name__} layer {label!r} would take steps that do not count, because {reason}"
    )


def _renumbered(made: Architecture, original: Architecture) -> Architecture:
    """Return an architecture whose layers have the numbers and names that they have in another one."""
    added = [layer for layer in made.layers if not any(layer is known for known in original.layers)]
    layers = (*original.layers, *added)
    number = {id(layer): index for index, layer in enumerate(layers)}
    return replace(
        made,
        layers=layers,
        labels=(*original.labels, *(f"lengths/{index}" for index in range(len(added)))),
        calls=tuple([replace(call, layer=number[id(made.layers[call.layer])]) for call in made.calls]),
        parts=(*original.parts, *(None for _ in added)),
    )
