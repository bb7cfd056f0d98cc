"""Make programs of an architecture and an objective: gather, compute, measure, update, store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from fastnn import activations
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.meaning import End, ends
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.losses import loss as row_loss_of
from fastnn.graph.ops.losses import normalize_weights
from fastnn.graph.rewrite import from_logits
from fastnn.graph.rules import NoGradientError
from fastnn.layers.core import Activation
from fastnn.losses import Loss
from fastnn.lower.lower import lower
from fastnn.lower.task import Place, Request, Source, Task
from fastnn.lower.update import Averaging, Clipping, Update, penalties, tick, update
from fastnn.objective.objective import LOSSES, PENALTY, SCRATCH, Measure, Objective, accumulator_word
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Buffer
from fastnn.program.opcodes import OPS
from fastnn.program.program import Program
from fastnn.runtime.parameters import ParameterTable


def build(table: ParameterTable, objective: Objective | None, optimizer: Optimizer | None, request: Request) -> Program:
    """Make the program of a request; raises as `task_of` does."""
    return lower(task_of(table, objective, optimizer, request))


def task_of(table: ParameterTable, objective: Objective | None, optimizer: Optimizer | None, request: Request) -> Task:
    """Describe the program of a request.

    Raises
    ------
    ValueError
        When weights to be trained are before an activation without a gradient.
    """
    graph, places, parameters, inputs, outputs = network(table, training=request.training)
    sources = {x.id: source for x, source in zip(inputs, request.inputs, strict=True)}
    accumulating: frozenset[int] = frozenset()
    trained = request.trained or (False,) * len(table)
    tail = []
    if request.kind == "predict":
        for tensor, slot in zip(outputs, request.output_slots, strict=True):
            graph.add("store", (tensor,), [], "output", slot=slot)
    else:
        assert objective is not None
        losses = _measure(graph, objective, outputs, request, sources)
        if request.kind != "evaluate":
            wanted = [tensor for tensor, is_trained in zip(parameters, trained, strict=True) if is_trained]
            real = [tensor for tensor in inputs if tensor.kind == "real"]
            wanted += real if request.kind == "input_gradients" else []
            gradients = differentiate(graph, losses, wanted)
            accumulating = place_gradients(table, parameters, gradients, places)
            # weights that no loss depends on have no gradient, and are not changed
            trained = tuple(tensor.id in gradients for tensor in parameters)
            if request.kind == "input_gradients":
                _store_input_gradients(graph, real, gradients, request)
        described = table.weights(trained)
        if request.kind != "input_gradients":
            total = accumulator_word(PENALTY)
            tail += penalties(described, total, request.batch, gradients=request.kind != "evaluate")
        if request.kind == "train":
            assert optimizer is not None
            tail += update(described, _update(optimizer, table), accumulator_word(SCRATCH), table.dtype)
    tail.append(tick(request.batch, training=request.kind == "train"))
    sizes: dict[int, int] = {Buffer.PARAMETERS: table.own_nbytes, Buffer.GRADIENTS: table.nbytes, Buffer.HYPER: 64}
    sizes.update(table.shared_sizes)
    sizes[Buffer.ACCUMULATORS] = 8 * (objective.size if objective is not None else 0)
    sizes[Buffer.OPTIMIZER] = table.nbytes * (len(optimizer.slots) if optimizer is not None else 0)
    return Task(request.kind, graph, request.batch, table.dtype, sources, places, accumulating, tail, sizes)


def network(
    table: ParameterTable, *, training: bool
) -> tuple[Graph, dict[int, Place], list[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Add a model's layers to a new graph.

    Returns
    -------
    graph, places, parameters, inputs, outputs
        `places` says where each parameter is.
    """
    graph = Graph()
    places: dict[int, Place] = {}
    by_layer: dict[int, list[Tensor]] = defaultdict(list)
    parameters = []
    for entry in table:
        tensor = graph.parameter(entry.spec.shape, entry.name)
        by_layer[entry.layer].append(tensor)
        places[tensor.id] = entry.place
        parameters.append(tensor)
    weights = [by_layer[number] for number in range(len(table.architecture.layers))]
    inputs, outputs = table.architecture.apply(graph, weights, table.trainable_layers(), training=training)
    return graph, places, parameters, inputs, outputs


def output_ends(table: ParameterTable) -> tuple[tuple[End, ...], ...]:
    """Return for each output what is known about its values in inference.

    A linear activation layer changes nothing; as the last layer it leaves the meaning of the values to the loss.
    """
    graph, _, _, _, outputs = network(table, training=False)
    found = []
    for call, tensor in zip(table.architecture.outputs, outputs, strict=True):
        layer = table.architecture.layers[table.architecture.calls[call].layer]
        known = ends(graph, tensor)
        if isinstance(layer, Activation) and activations.get(layer.activation).formula == "linear":
            known = tuple(replace(end, op="linear") for end in known)
        found.append(known)
    return tuple(found)


def _measure(
    graph: Graph,
    objective: Objective,
    outputs: Sequence[Tensor],
    request: Request,
    sources: dict[int, Source],
) -> list[Tensor]:
    """Add losses, their sums and metrics; returns the losses."""
    losses = []
    for output, (prediction, layout) in enumerate(zip(outputs, request.targets, strict=True)):
        if layout is None:
            continue
        name = objective.output_names[output]
        shape = prediction.shape[:-1] if layout.labels else prediction.shape
        target = graph.input(shape, f"{name} targets", "int64" if layout.labels else "real")
        sources[target.id] = layout.source
        weight = None
        weighing = request.weights[output]
        if weighing is not None:
            weight = graph.input(weighing.shape, f"{name} weights")
            sources[weight.id] = weighing.source
        loss = objective.losses[output]
        if loss is not None:
            by_weight, share = loss.normalize == "weights", weight
            if by_weight and weight is not None and request.kind != "evaluate":
                # gradients are divided by the number of rows: weights of the mean 1 make that the sum of the weights
                share = normalize_weights(graph, weight, prod(prediction.shape[:-1]), name)
            row_loss = _row_loss(graph, loss, objective.loss_weights[output], prediction, target, share, name)
            total = accumulator_word(LOSSES + 2 * output)
            graph.add("sum_loss", (row_loss, weight), [], name, total=total, by_weight=by_weight)
            losses.append(row_loss)
        _metrics(graph, objective, output, prediction, target, weight)
    return losses


def _row_loss(
    graph: Graph, loss: Loss, factor: float, prediction: Tensor, target: Tensor, weight: Tensor | None, name: str
) -> Tensor:
    """Add a loss of every row."""
    x, formula = from_logits(graph, prediction, loss.formula)
    return row_loss_of(
        graph,
        x,
        target,
        weight,
        formula=formula,
        parameters=loss.parameters,
        row_mean=loss.row_mean,
        loss_weight=factor,
        label=name,
    )


def _metrics(
    graph: Graph, objective: Objective, output: int, prediction: Tensor, target: Tensor, weight: Tensor | None
) -> None:
    for measure in objective.measures:
        if measure.output != output:
            continue
        x, y = prediction, target
        if measure.accumulator == "loss":
            _mean_loss(graph, measure, prediction, target, weight if measure.weighted else None)
            continue
        if measure.squash is not None:
            x = activation(graph, x, measure.squash, (), "metrics")
        if measure.elementwise and x.columns > 1:
            x = graph.add("reshape", (x,), [((*x.shape, 1), True, "elements")], "metrics")[0]
            y = graph.add("reshape", (y,), [((*y.shape, 1), True, "elements")], "metrics")[0]
        op = OPS[measure.accumulator]
        params = {name: measure.parameters[0] for name in op.params}
        dims = {name: int(measure.parameters[0]) for name in ("k", "bins") if name in op.dims}
        graph.add(
            "metric",
            (x, y, weight if measure.weighted else None),
            [],
            "metrics",
            accumulator=measure.accumulator,
            total=accumulator_word(measure.offset),
            size=measure.size,
            params=params,
            dims=dims,
        )


def _mean_loss(graph: Graph, measure: Measure, prediction: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Add a loss as a metric: its sum, and that of the rows' weights."""
    row_loss = _row_loss(graph, measure.parameters[0], 1.0, prediction, target, None, "metrics")
    graph.add("sum_loss", (row_loss, weight), [], "metrics", total=accumulator_word(measure.offset), by_weight=True)


def place_gradients(
    table: ParameterTable,
    parameters: Sequence[Tensor],
    gradients: dict[int, list[Tensor]],
    places: dict[int, Place],
) -> frozenset[int]:
    """Put every gradient in its parameter's place in the buffer; later uses of a parameter are added to the first."""
    accumulating = set()
    for entry, tensor in zip(table, parameters, strict=True):
        for index, gradient in enumerate(gradients.get(tensor.id, [])):
            places[gradient.id] = Place(Buffer.GRADIENTS, entry.offset)
            if index:
                accumulating.add(gradient.id)
    return frozenset(accumulating)


def _store_input_gradients(
    graph: Graph, inputs: Sequence[Tensor], gradients: dict[int, list[Tensor]], request: Request
) -> None:
    for tensor, slot in zip(inputs, request.output_slots, strict=True):
        if tensor.id not in gradients:
            raise NoGradientError(f"no loss depends on the input {tensor.name!r}")
        graph.add("store", gradients[tensor.id], [], "input gradient", slot=slot)


def _update(optimizer: Optimizer, table: ParameterTable) -> Update:
    clipping = Clipping(optimizer.clipvalue, optimizer.clipnorm, optimizer.global_clipnorm)
    averaging = Averaging(optimizer.ema_momentum, optimizer.ema_overwrite_frequency or 0) if optimizer.use_ema else None
    slots, accumulated = len(optimizer.description.slots), optimizer.gradient_accumulation_steps or 0
    return Update(optimizer.formula, slots, table.nbytes, clipping, accumulated, averaging)
