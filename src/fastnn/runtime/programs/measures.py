"""Losses and metrics of a program: their targets and weights, and the sums that they are added to."""

from __future__ import annotations

from math import prod

from fastnn.graph.extent import BATCH
from fastnn.graph.graph import Graph, Shape, Tensor
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.losses import loss as row_loss_of
from fastnn.graph.ops.losses import mask_weights, normalize_weights
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.reductions import broadcast_to, reduce
from fastnn.graph.ops.strided import reshape
from fastnn.graph.rewrite import from_logits
from fastnn.losses import Function, Loss
from fastnn.objective.objective import LOSSES, PENALTY, Measure, Objective, accumulator_word
from fastnn.program.layout import Buffer
from fastnn.program.opcodes import OPS
from fastnn.runtime.parameters import ParameterTable
from fastnn.runtime.programs.computation import Computation
from fastnn.runtime.programs.functions import function_loss, losses_of_rows, traced


def measure(
    made: Computation, objective: Objective, output: int, labels: bool, weights: Shape | None, *, gradients: bool,
    seen: Shape | None = None, as_one: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Add an output's loss and metrics, and their sums.

    Parameters
    ----------
    made : Computation
        Its losses are added to.
    labels : bool
        Whether the targets are labels.
    weights : tuple of int, optional
        The shape of a sample's weights, if there are any (empty: one per sample).
    gradients : bool
        Whether the loss will be differentiated.
    seen : tuple of int, optional
        The shape of a sample's targets for functions of symbols.
    as_one : bool
        Whether weights may be given for a loss that is one number for the batch: then it is that of every sample.

    Returns
    -------
    target, weight : Tensor
        The inputs that were added.
    """
    graph, prediction, name = made.graph, made.outputs[output], objective.output_names[output]
    shape = prediction.shape[:-1] if labels else prediction.shape if seen is None else seen
    target = graph.input(shape, f"{name} targets", "int64" if labels else "real")
    weight = given = None if weights is None else graph.input(weights, f"{name} weights")
    mask = _mask(made, output, prediction, name)
    loss = objective.losses[output]
    if loss is not None:
        by_weight, share = loss.normalize == "weights", weight
        if mask is not None:
            # a mean over the steps that there are, or by the weights of these
            share = given = mask_weights(graph, mask, weight, name, normalized=not by_weight)
        if by_weight and share is not None and gradients:
            # gradients are divided by the number of rows: weights of the mean 1 make that the sum of the weights
            rows = share.shape if isinstance(loss, Function) else prediction.shape[:-1]
            share = normalize_weights(graph, share, prod(rows), name)
        factor = objective.loss_weights[output]
        if isinstance(loss, Function):
            result = traced(made, loss, prediction, target, seen, output)
            each = losses_of_rows(graph, result, weights, mask, f"loss {loss.name!r}", as_one=as_one)
            row_loss = function_loss(made, loss, factor, prediction, each, share, gradients=gradients)
        else:
            row_loss = _row_loss(graph, loss, factor, prediction, target, share, name)
            made.losses.append(row_loss)
        if mask is not None and not by_weight:
            # sums, so that several batches make the mean over all steps that there are
            given, by_weight = mask, True
            if weight is not None:
                weighted = mask_weights(graph, mask, weight, name, normalized=False)
                row_loss = _weighted(graph, row_loss, weighted, mask, name)
        total = accumulator_word(LOSSES + 2 * output)
        most = loss.most(made.table.dtype)
        graph.add("sum_loss", (row_loss, given), [], name, total=total, by_weight=by_weight, most=most)
    counted = weight if mask is None else mask_weights(graph, mask, weight, name, normalized=False)
    for number, one in enumerate(objective.measures, len(objective.losses)):
        if one.output == output:
            w = counted if one.weighted else mask
            if one.accumulator == "loss" and isinstance(one.parameters[0], Function):
                _function_metric(made, one, number, prediction, target, w, mask, seen)
            else:
                _metric(graph, one, prediction, target, w, made.table.dtype)
    return target, weight


def _weighted(graph: Graph, losses: Tensor, weight: Tensor, mask: Tensor, name: str) -> Tensor:
    """Return losses times their weights, which are also multiplied by a mask; 0 where these are 0."""
    factor = pointwise(graph, "divide", (weight, mask), name)
    return pointwise(graph, "where", (weight, pointwise(graph, "multiply", (losses, factor), name), 0.0), name)


def _mask(made: Computation, output: int, prediction: Tensor, name: str) -> Tensor | None:
    """Return the mask of an output's steps, (batch, steps), or None."""
    for extra, mask in zip(made.table.architecture.extras, made.extras, strict=True):
        if extra.role == "mask" and extra.name == str(output) and len(prediction.shape) == 2:
            return reshape(made.graph, mask, mask.whole[:-1], name)
    return None


def measure_extras(made: Computation, objective: Objective) -> None:
    """Add the losses and numbers for the logs that a model computes besides its outputs: means over the batch."""
    made.sizes[Buffer.ACCUMULATORS] = 8 * objective.size
    metrics = dict(objective.extra_metrics)
    for extra, tensor in zip(made.table.architecture.extras, made.extras, strict=True):
        if extra.role == "mask" or (extra.role == "metric" and extra.name not in metrics):
            continue  # a learner without metrics
        graph, name = made.graph, extra.name or extra.role
        value = tensor if tensor.kind == "real" else cast(graph, tensor, "real", name)
        mean = reduce(graph, "mean", value, None, False, name) if value.whole else value
        if extra.role == "loss":
            made.scalars.append(mean)
            total = PENALTY  # what is added beside the sum, the number of rows, comes to a place that nothing reads
        else:
            total = metrics[extra.name]
        rows = broadcast_to(graph, mean, (BATCH,), name)
        graph.add("sum_loss", (rows, None), [], name, total=accumulator_word(total), by_weight=False)


def _row_loss(
    graph: Graph, loss: Loss, factor: float, prediction: Tensor, target: Tensor, weight: Tensor | None, name: str
) -> Tensor:
    """Add a loss of every row."""
    x, formula = from_logits(graph, prediction, loss.formula)
    return row_loss_of(
        graph, x, target, weight, formula=formula, parameters=loss.parameters, row_mean=loss.row_mean,
        loss_weight=factor, label=name,
    )  # fmt: skip


def _function_metric(
    made: Computation, measure: Measure, number: int, x: Tensor, y: Tensor, weight: Tensor | None,
    mask: Tensor | None, seen: Shape | None,
) -> None:  # fmt: skip
    """Add the sum of a metric that is a function of symbols."""
    function = measure.parameters[0]
    result = traced(made, function, x, y, seen, number)
    shape = None if weight is None else weight.shape
    rows = losses_of_rows(made.graph, result, shape, mask, f"metric {function.name!r}")
    total = accumulator_word(measure.offset)
    made.graph.add("sum_loss", (rows, weight), [], "metrics", total=total, by_weight=True)


def _metric(graph: Graph, measure: Measure, x: Tensor, y: Tensor, weight: Tensor | None, dtype: str) -> None:
    """Add what is added to an accumulator."""
    total = accumulator_word(measure.offset)
    if measure.accumulator == "loss":
        row_loss = _row_loss(graph, measure.parameters[0], 1.0, x, y, None, "metrics")
        most = measure.parameters[0].most(dtype)
        graph.add("sum_loss", (row_loss, weight), [], "metrics", total=total, by_weight=True, most=most)
        return
    if measure.squash is not None:
        x = activation(graph, x, measure.squash, (), "metrics")
    if measure.elementwise and x.columns > 1:
        x = graph.add("reshape", (x,), [((*x.shape, 1), True, "elements")], "metrics")[0]
        y = graph.add("reshape", (y,), [((*y.shape, 1), True, "elements")], "metrics")[0]
    op = OPS[measure.accumulator]
    params = {name: measure.parameters[0] for name in op.params}
    dims = {name: int(measure.parameters[0]) for name in ("k", "bins") if name in op.dims}
    graph.add(
        "metric", (x, y, weight), [], "metrics", accumulator=measure.accumulator, total=total, size=measure.size,
        params=params, dims=dims,
    )  # fmt: skip


def check_trains(table: ParameterTable, objective: Objective) -> None:
    """Raise unless losses that are symbols have a gradient for some weight that is trained.

    Raises
    ------
    ValueError
        When no such weight has an influence on them, or one is before an op without a gradient.
    """
    made = Computation(table, training=True)
    measure_extras(made, objective)
    made.gradients(made.weights(table.trained()))
    check_found(made, objective)


def check_found(made: Computation, objective: Objective) -> None:
    """Raise ValueError if losses of symbols, for which gradients were sought, have none for any weight."""
    of_symbols = objective.has_extra_loss or any(isinstance(loss, Function) for loss in objective.losses)
    if of_symbols and not any(made.trained):
        raise ValueError(
            "the loss does not depend on any weight that is to be trained, or only through functions without a "
            "gradient, such as argmax, comparisons or stop_gradient"
        )
