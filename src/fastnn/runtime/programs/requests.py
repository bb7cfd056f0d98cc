"""Make the programs of requests: they gather rows of arrays of any layout, and store results in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastnn import activations
from fastnn.graph.graph import Tensor
from fastnn.graph.meaning import End, ends
from fastnn.graph.ops.pointwise import cast
from fastnn.graph.rules import NoGradientError
from fastnn.layers.core import Activation
from fastnn.lower.lower import lower
from fastnn.lower.task import Request
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer
from fastnn.program.program import Program
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.computation import Computation
from fastnn.runtime.programs.measures import check_found, measure, measure_extras

#: the kinds of requests whose programs move the states of stateful layers
MOVING = ("train", "evaluate", "predict")


def build(table: ParameterTable, objective: Objective | None, optimizer: Optimizer | None, request: Request) -> Program:
    """Make the program of a request.

    Raises
    ------
    NoGradientError
        When weights to be trained are before an activation without a gradient, or no loss depends on an input.
    """
    table = table.at(request.shapes)
    kind, made = request.kind, Computation(table, request.batch, training=request.training)
    sources = {x.id: source for x, source in zip(made.inputs, request.inputs, strict=True)}
    results: Sequence[Tensor] = made.outputs if kind == "predict" else ()
    for output, (target, weight) in enumerate(zip(request.targets, request.weights, strict=True)):
        if target is None:
            continue
        assert objective is not None
        shape = None if weight is None else weight.shape
        y, w = measure(made, objective, output, target.labels, shape, gradients=kind != "evaluate", seen=target.shape)
        sources[y.id] = target.source
        if weight is not None and w is not None:
            sources[w.id] = weight.source
    if objective is not None and kind != "predict":
        measure_extras(made, objective)
    if kind == "input_gradients":
        results = _input_gradients(made)
    elif kind in ("gradients", "train"):
        made.gradients(made.weights(request.trained))
        if objective is not None and any(request.trained):
            check_found(made, objective)
    if kind in ("evaluate", "gradients", "train"):
        made.penalize(stepping=kind == "train")
    if kind == "train":
        assert optimizer is not None
        made.update(optimizer)
    if kind in MOVING:
        made.carry()
    made.count(training=kind == "train")
    label = "output" if kind == "predict" else "input gradient"
    for result, slot in zip(results, request.output_slots, strict=True):
        tensor = result if result.kind == "real" else cast(made.graph, result, "real", label)
        made.graph.add("store", (tensor,), [], label, slot=slot)
    return lower(made.task(kind, sources))


def _input_gradients(made: Computation) -> list[Tensor]:
    real = [x for x in made.inputs if x.kind == "real"]
    found = made.gradients(real)
    for x in real:
        if x.id not in found:
            raise NoGradientError(f"no loss depends on the input {x.name!r}")
    return [found[x.id] for x in real]


def output_ends(table: ParameterTable) -> tuple[tuple[End, ...], ...]:
    """Return for each output what is known about its values in inference.

    A linear activation layer changes nothing; as the last layer it leaves the meaning of the values to the loss.
    """
    made = Computation(table, training=False)
    found = []
    for call, tensor in zip(table.architecture.outputs, made.outputs, strict=True):
        layer = table.architecture.layers[table.architecture.calls[call].layer]
        known = ends(made.graph, tensor)
        if isinstance(layer, Activation) and activations.get(layer.activation).formula == "linear":
            known = tuple(replace(end, op="linear") for end in known)
        found.append(known)
    return tuple(found)
