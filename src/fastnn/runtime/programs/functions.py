"""Losses and metrics that are functions of symbols, in a program: traced on targets and predictions."""

from __future__ import annotations

from math import prod

from fastnn.graph.extent import BATCH
from fastnn.graph.gradients import differentiate
from fastnn.graph.graph import Graph, Shape, Tensor
from fastnn.graph.ops.losses import loss as row_loss_of
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.graph.ops.reductions import broadcast_to, reduce
from fastnn.graph.ops.strided import reshape
from fastnn.layers.tracing import Place, shown, trace
from fastnn.losses import Function
from fastnn.runtime.programs.computation import Computation

# streams of random numbers: those of layers have the numbers of calls, which are fewer
_FIRST = 1 << 19


def traced(
    made: Computation, loss: Function, prediction: Tensor, target: Tensor, shape: Shape | None, number: int
) -> Tensor:
    """Call a function of symbols on targets and predictions.

    Parameters
    ----------
    target : Tensor
        Labels are converted to numbers.
    shape : tuple of int, optional
        The shape of a sample's targets in the data, if it may be another than the tensor's.
    number : int
        Of the loss or metric among those of the program.

    Returns
    -------
    Tensor
        A single number, or of a shape that begins with the batch.

    Raises
    ------
    TypeError, ValueError
        When the function returns something else, or raises it; a note names the loss.
    """
    graph = made.graph
    place = Place(graph, loss.name, _FIRST + number, training=made.training)
    y = cast(graph, target, "real", loss.name)
    if shape is not None and y.shape != tuple(shape):
        y = reshape(graph, y, (BATCH, *shape), loss.name)
    try:
        several, results = trace(place, loss.function, [y, prediction])
        if several:
            raise TypeError(f"loss {loss.name!r}: the function returned {len(results)} results, expected one")
    except Exception as error:
        error.add_note(
            f"in the function of symbols {loss.name!r}, with y_true of shape {shown(y.whole)} and y_pred of shape "
            f"{shown(prediction.whole)}; B is the batch size"
        )
        raise
    result = cast(graph, results[0], "real", loss.name)
    if result.batched:
        return result
    if any(size != 1 for size in result.whole):
        raise ValueError(
            f"loss {loss.name!r}: the function returned a result of shape {shown(result.whole)}, expected a single "
            "number, or a shape that begins with the batch size B: a loss for each sample"
        )
    return result if not result.whole else reshape(graph, result, (), loss.name)


def losses_of_rows(
    graph: Graph, result: Tensor, weights: Shape | None, mask: Tensor | None, what: str, *, as_one: bool = False
) -> Tensor:
    """Return the losses to be weighted, of shape (B, *weights): means over the other axes of a function's result.

    Parameters
    ----------
    result : Tensor
        From `traced`.
    weights : tuple of int, optional
        The shape of a sample's weights, None if there are none.
    mask : Tensor, optional
        Of the steps, of shape (B, steps): then the losses have its shape, as weights that are multiplied by it have.
    what : str
        The loss or metric, for errors.
    as_one : bool
        Whether a single number may be weighted, as the loss of every sample.

    Raises
    ------
    ValueError
        When the result has no axes for the weights or the mask.
    """
    if mask is not None and (not result.whole or result.shape[: len(mask.shape)] != mask.shape):
        got = f"of shape {shown(result.whole)}" if result.whole else "a single number for the batch"
        raise ValueError(
            f"the {what} is {got}, but the output has a mask of steps, and how many steps count differs from row to "
            f"row: return a value for each step, of shape {shown(mask.whole)}, such as ops.mean(..., axis=-1)"
        )
    if mask is not None:
        weights = mask.shape
    elif not result.whole:
        if weights is not None and not as_one:
            raise ValueError(
                f"sample_weight: the {what} is a single number for the batch, which samples' weights cannot be "
                "applied to: return a value for each sample, or leave out the weights"
            )
        return broadcast_to(graph, result, (BATCH, *(weights or ())), what)
    shape = weights or ()
    if result.shape[: len(shape)] != shape:
        raise ValueError(
            f"sample_weight: the {what} has the shape {shown(result.whole)}, which weights of shape "
            f"{shown((BATCH, *shape))} do not fit"
        )
    axes = range(1 + len(shape), len(result.whole))
    return reduce(graph, "mean", result, list(axes), False, what) if axes else result


def weights_shape(made: Computation, loss: Function, output: int, target: Tensor) -> Shape:
    """Return the shape of the weights that a sample's losses may have, in a call that can give all of them."""
    result = traced(made, loss, made.outputs[output], target, None, output)
    rows = made.outputs[output].shape[:-1]
    if result.whole and result.shape[: len(rows)] == rows:
        return rows
    return ()


def function_loss(
    made: Computation, loss: Function, factor: float, prediction: Tensor, rows: Tensor, weight: Tensor | None, *,
    gradients: bool,
) -> Tensor:  # fmt: skip
    """Add the loss of every row, whose gradients are computed.

    Parameters
    ----------
    factor : float
        Of the gradient.
    rows : Tensor
        From `losses_of_rows`.
    weight : Tensor, optional
        Of the rows' shape.
    gradients : bool
        Whether it will be differentiated.

    Returns
    -------
    Tensor
        The losses, without weights.
    """
    graph, name = made.graph, loss.name
    columns = reshape(graph, rows, (*rows.whole, 1), name)
    found = row_loss_of(
        graph, columns, columns, weight, formula="value", parameters=(), row_mean=True, loss_weight=factor, label=name
    )
    if not gradients:
        return found
    if weight is None:
        made.losses.append(found)
        return found
    # a row of weight 0 has the gradient 0, but times an infinite derivative that is NaN
    node = graph.producer(found)
    assert node is not None
    seed = reshape(graph, node.outputs[1], (BATCH, *_spread(node.outputs[1].shape[:-1], prediction.shape)), name)
    for gradient in differentiate(graph, [found], [prediction]).get(prediction.id, ()):
        kept = pointwise(graph, "where", (seed, gradient, 0.0), name)
        finite = pointwise(graph, "isfinite", (gradient,), name)
        made.given.append((prediction, pointwise(graph, "where", (finite, gradient, kept), name)))
    return found


def _spread(weights: Shape, prediction: Shape) -> Shape:
    """Return the shape with which a sample's weights are broadcast over its prediction."""
    known = weights if weights == prediction[: len(weights)] else (1,) * len(weights)
    assert prod(known) == prod(weights)
    return (*known, *(1,) * (len(prediction) - len(known)))
