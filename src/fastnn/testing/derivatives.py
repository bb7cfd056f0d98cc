"""Checks of user-defined functions: whether a derivative is that of its function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn import activations, losses
from fastnn import layers as layer_module
from fastnn import nopython as fnp
from fastnn.formulas.differences import SHRINK, STEP
from fastnn.layers import Layer
from fastnn.model import Model, Sequential
from fastnn.training.state import state_of

Array = NDArray[np.float64]

# Steps are shortened at most this many times where a function is steep.
_SHORTER = 6
# A larger difference between two points one step apart is a jump: a slope of a thousand and more.
_JUMP = 1000.0 * STEP


class Derivative(NamedTuple):
    """The largest error of a derivative.

    Attributes
    ----------
    error : float
        ``|got - expected|`` over ``|expected|``, or over the root mean square of all of them, whichever is larger.
    at : str
        The place of the error.
    expected, got : float
        The derivative by differences of the function, and as given.
    """

    error: float
    at: str
    expected: float
    got: float

    def __str__(self) -> str:
        """Return the error as a sentence."""
        return f"off by {self.error:.2g} at {self.at}: expected {self.expected:.10g}, got {self.got:.10g}"


def check_op(
    op: Any,
    *,
    low: float = -4.0,
    high: float = 4.0,
    shape: int | Sequence[int] | Sequence[Sequence[int]] = 5,
    targets: Sequence[float] | None = None,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> Derivative:
    """Compare the derivative of an activation, a loss or a layer with differences of its values, in float64.

    It compares the compiled kernels, as they run in training. At a kink any slope between those of both sides
    is right; at a kink of the slope, differences are right to five digits; at a jump nothing is compared.

    Parameters
    ----------
    op : activation, loss, layer or function
        By name or as an object; a function counts as an activation if it takes one number, as a loss if two.
    low, high : float
        Range of the inputs of an activation or layer, or of the predictions of a loss.
    shape : int, tuple of int, or tuple of tuples
        The shape of a sample, for a layer; for a layer of several inputs those of all of them, as
        ``((3, 4), (4, 5))``.
    targets : sequence of float, optional
        Targets of a loss; by default some that it accepts.
    tolerance : float
        Largest allowed error.
    seed : int
        Seed of random inputs, weights and predictions.

    Returns
    -------
    Derivative
        The largest error.

    Raises
    ------
    AssertionError
        When the error is above the tolerance, or a value is not finite; the message names the place.
    TypeError, ValueError
        When `op` is none of these, or is a layer that does not take the shape or behaves differently in training.
    """
    rng = np.random.default_rng(seed)
    if isinstance(op, Layer):
        found, name = _layer(op, shape, low, high, rng), op.label
    else:
        kind = _kind(op)
        if isinstance(kind, losses.Loss):
            found = _loss(kind, low, high, targets, rng)
        else:
            found = _activation(kind, low, high, rng)
        name = kind.name
    worst = max(_judged(found), key=lambda one: np.inf if np.isnan(one.error) else one.error)
    if not worst.error <= tolerance:
        raise AssertionError(f"{name}: the derivative is {worst}")
    return worst


def _kind(op: Any) -> Any:
    """Return the activation or loss for a name, object or function."""
    if isinstance(op, activations.Activation | losses.Loss):
        return op
    for get in (activations.get, losses.get):
        try:
            return get(op)
        except (TypeError, ValueError) as error:
            reason = error
    raise TypeError(f"check_op: expected an activation, a loss or a layer, got {op!r}: {reason}")


def _activation(op: activations.Activation, low: float, high: float, rng: np.random.Generator) -> list[Derivative]:
    """Compare at single points, or in rows if an element depends on its row."""
    columns = 5 if op.rowwise else 1
    model = Sequential([layer_module.Input((columns,)), layer_module.Activation(op)], dtype="float64")
    x = np.linspace(low, high, 1000 * columns + 1)[:-1].reshape(-1, columns)
    if op.rowwise:
        rng.shuffle(x.reshape(-1))
    else:
        x = np.concatenate([x, [[0.0]]])
    return _inputs(model, x, rng)


def _network(layer: Layer, shape: Any) -> Model:
    """Make a model of a layer; its inputs are parts of one row of numbers, if there are several; so are its outputs."""
    if not isinstance(shape, Sequence) or not any(isinstance(each, Sequence) for each in shape):
        x = layer_module.Input(shape)
        y = layer(x)
    else:
        sizes = [prod(each) for each in shape]
        x, parts = layer_module.Input(sum(sizes)), []
        for number, each in enumerate(shape):
            around = sum(sizes[:number]), sum(sizes[number + 1 :])
            parts.append(layer_module.Reshape(tuple(each))(layer_module.Cropping1D(around)(x)))
        y = layer(parts)
    if isinstance(y, tuple):
        rows = [layer_module.Flatten()(each) for each in y]
        y = layer_module.Concatenate()(rows) if len(rows) > 1 else rows[0]
    return Model(x, y, dtype="float64", seed=0)


def _layer(layer: Layer, shape: Any, low: float, high: float, rng: np.random.Generator) -> list[Derivative]:
    if isinstance(layer, layer_module.BatchNorm | layer_module.Dropout | layer_module.GaussianNoise):
        raise TypeError(f"check_op: {layer.label} behaves differently in training, so differences cannot check it")
    model = _network(layer, shape)
    x = rng.uniform(low, high, (7, *state_of(model).runtime.table.architecture.input_shapes[0]))
    found = _inputs(model, x, rng)
    if not model.get_weights():
        return found
    model.set_weights([weight + rng.uniform(-0.5, 0.5, weight.shape) for weight in model.get_weights()])
    model.compile("sgd", "mean_squared_error")
    learner = model.learner(gradients=True)
    count = fnp.parameter_count(learner)
    weights, gradients = np.empty(count), np.empty(count)
    fnp.get_parameters(learner, weights)
    out = np.empty_like(model.predict(x))
    counts = rng.uniform(-1.0, 1.0, out.shape)
    fnp.parameter_gradient(learner, x, counts, gradients)

    def value(given: Array) -> float:
        fnp.set_parameters(learner, given)
        fnp.predict(learner, x, out)
        return float((out * counts).sum())

    table = state_of(model).runtime.table
    trained = np.concatenate(
        [np.full(entry.size, is_trained) for entry, is_trained in zip(table, table.trained(), strict=True)]
    )
    names = [f"weight {entry.name}[{i}]" for entry in table for i in range(entry.size)]
    for index in np.flatnonzero(trained):
        change = np.zeros(count)
        change[index] = STEP * max(1.0, abs(weights[index]))
        ends = value(weights - change), value(weights), value(weights + change)
        found.append(_compare(names[index], *ends, change[index], gradients[index]))
    return found


def _inputs(model: Model, x: Array, rng: np.random.Generator) -> list[Derivative]:
    """Compare the gradient of a weighted sum of a model's outputs for each element of its inputs."""
    net = model.freeze(gradients=True)
    out = np.empty_like(model.predict(x))
    counts = rng.uniform(0.5, 1.5, out.shape) if x[0].size > 1 else np.ones(out.shape)
    gradient = np.empty_like(x)
    fnp.input_gradient(net, x, counts, gradient)

    def values(given: Array) -> Array:
        fnp.predict(net, given, out)
        return np.asarray((out * counts).reshape(len(x), -1).sum(axis=1))

    return _elements(x, values, gradient, lambda row, place: f"x = {_spell(x[row])}")


def _loss(
    op: losses.Loss, low: float, high: float, targets: Sequence[float] | None, rng: np.random.Generator
) -> list[Derivative]:
    """Compare the compiled gradient with differences of the loss's values on arrays."""
    single_out = isinstance(op, losses.CrossEntropy | losses.KLDivergence)
    columns, n = 4 if single_out else 1, 2000
    least, most = (max(low, op.prediction_range[0]), min(high, op.prediction_range[1]))
    margin = 0.01 * (most - least)  # losses of probabilities have no slope at the ends
    predictions = rng.uniform(least + margin, most - margin, (n, columns))
    if single_out:
        y = rng.dirichlet(np.ones(columns), n)
    elif targets is not None or op.target_values:
        y = rng.choice(np.asarray(targets if targets is not None else op.target_values, np.float64), (n, columns))
    else:
        y = rng.uniform(max(low, op.target_range[0]), min(high, op.target_range[1]), (n, columns))
    model = Sequential([layer_module.Input((columns,)), layer_module.Flatten()], dtype="float64")
    model.compile("sgd", op)
    gradient = np.asarray(model.input_gradients(predictions, y)) * n
    return _elements(
        predictions, lambda given: op.rows(y, given), gradient,
        lambda row, place: f"target {_spell(y[row])}, prediction {_spell(predictions[row])}",
    )  # fmt: skip


def _elements(
    x: Array, values: Callable[[Array], Array], gradient: Array, where: Callable[[int, int], str]
) -> list[Derivative]:
    """Compare row by row, one element of all rows at a time; returns the worst of each element."""
    found = []
    middle = np.array(values(x))
    flat = x.reshape(len(x), -1)
    for place in range(flat.shape[1]):

        def ends_of(h: Array, place: int = place) -> list[Array]:
            sides = []
            for sign in (-1.0, 1.0):
                moved = flat.copy()
                moved[:, place] += sign * h
                with np.errstate(all="ignore"):
                    sides.append(np.array(values(moved.reshape(x.shape))))
            return sides

        h = _fitting(ends_of, STEP * np.maximum(1.0, np.abs(flat[:, place])))
        sides = ends_of(h)
        ends = zip(sides[0], middle, sides[1], h, gradient.reshape(len(x), -1)[:, place], strict=True)
        found += [_compare(where(row, place), *numbers) for row, numbers in enumerate(ends)]
    return found


def _fitting(ends_of: Callable[[Array], list[Array]], h: Array) -> Array:
    """Return for each element a step over which the slope hardly changes, or else the given one."""
    steps, wanted = h.copy(), np.ones(len(h), bool)
    for power in range(_SHORTER + 1):
        short = h * SHRINK**power
        with np.errstate(all="ignore"):
            (low, high), (before, after) = ends_of(short), ends_of(0.5 * short)
            slope, nearer = (high - low) / (2.0 * short), (after - before) / short
            noise = 4.0 * np.finfo(np.float64).eps * np.maximum(np.abs(low), np.abs(high)) / short
            fits = np.abs(slope - nearer) <= 1e-6 * np.abs(nearer) + noise
        steps = np.where(wanted & fits, short, steps)
        wanted &= ~fits
        if not wanted.any():
            break
    return steps


def _spell(numbers: Array) -> str:
    spelled = ", ".join(f"{number:.6g}" for number in numbers.ravel())
    return spelled if numbers.size == 1 else f"[{spelled}]"


def _compare(at: str, before: float, middle: float, after: float, h: float, got: float) -> Derivative:
    """Compare at one place; the error is absolute, minus the possible rounding error of differences."""
    left, right = (middle - before) / h, (after - middle) / h
    expected = (after - before) / (2.0 * h)
    size = max(abs(before), abs(middle), abs(after))
    jump = max(abs(middle - before), abs(after - middle)) > _JUMP * max(1.0, size)
    if jump:
        expected = got
    elif abs(right - left) > 1e-3 * max(1.0, abs(expected)):  # a kink
        expected = min(max(got, min(left, right)), max(left, right))
    error = abs(got - expected)
    if np.isfinite(error):
        error = max(0.0, error - 4.0 * float(np.finfo(np.float64).eps) * size / h)
    return Derivative(float(error), at, float(expected), float(got))


def _judged(found: list[Derivative]) -> list[Derivative]:
    """Divide the errors by the size of the derivatives."""
    expected = np.array([one.expected for one in found])
    finite = expected[np.isfinite(expected)]
    typical = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    scales = [max(abs(one.expected), typical, 1e-12) for one in found]
    return [Derivative(one.error / scale, *one[1:]) for one, scale in zip(found, scales, strict=True)]


__all__ = [
    "Derivative",
    "check_op",
]
