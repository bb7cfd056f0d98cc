"""Layers of the feed-forward network: Input, Dense, Activation, Flatten, Reshape, Permute, Cropping1D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from fastnn import activations
from fastnn.activations import Activation as ActivationFunction
from fastnn.checks import integer, shorten, size
from fastnn.config import register
from fastnn.constraints import Constraint
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import matmul
from fastnn.graph.ops.elementwise import activation
from fastnn.graph.ops.moves import permute, reshape, take_rows
from fastnn.hints import explained
from fastnn.initializers import Initializer
from fastnn.layers.base import MAX_RANK, Layer, ParameterSpec, Scope, Shape, shape_of
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.open_shapes import start
from fastnn.layers.symbols import Symbol
from fastnn.layers.weighted import Weighted
from fastnn.regularizers import Regularizer

__all__ = ["Activation", "Cropping1D", "Dense", "Flatten", "Input", "Permute", "Reshape"]


@register("layer")
@dataclass(eq=False, repr=False)
class InputLayer(Layer):
    """The entry of a model; made by `fastnn.Input`.

    Parameters
    ----------
    shape : tuple of int or None
        Shape of one sample, without the batch axis; None for sizes that are left open.
    dtype : {"int64"}, optional
        For integers; None means numbers of the model's dtype.
    """

    shape: tuple[int | None, ...] = ()
    dtype: str | None = None
    arity = (0, 0)

    def prepare(self) -> None:
        self.shape = shape_of("shape", self.shape, may_be_open=True)
        if self.dtype not in (None, "int64"):
            raise ValueError(
                f"dtype: expected 'int64' for integers, or None for numbers of the model's dtype, got "
                f"{shorten(self.dtype)}; the dtype of numbers is the model's: fastnn.Model(..., dtype=...)"
            )

    def output_shape(self, *shapes: Shape) -> tuple[Any, ...]:
        return self.shape

    def output_kind(self, *kinds: str) -> str:
        return self.dtype or "real"

    def start(self) -> Symbol:
        """Return the symbol of the input's samples."""
        return Symbol(self.shape, self, (), self.output_kind(), tried=start(self.shape))


@explained
def Input(shape: int | Sequence[int | None] | None, *, dtype: str | None = None, name: str | None = None) -> Symbol:
    """Start a model: a symbol for samples of one shape.

    ::

        model = fnn.Sequential([fnn.Input(4), fnn.Dense(1)])
        words = fnn.Input(20, dtype="int64")
        sequences = fnn.Input((None, 64))  # any number of steps

    Parameters
    ----------
    shape : tuple of int or None
        Shape of one sample, without the batch axis; an integer n stands for (n,), and () for a single number. None is a
        size that each call chooses, such as the number of steps; all samples of a batch have the same.
    dtype : {"int64"}, optional
        For integers, which layers such as `OneHot` take: data of any integer dtype, or bool. Their range is checked
        before anything runs. None means numbers of the model's dtype, to which data of all dtypes are converted.
    name : str, optional
        The input's name, for dictionaries of inputs and in messages.

    Raises
    ------
    TypeError, ValueError
        When the shape does not consist of positive integers and None, or there is no such dtype.
    """
    return InputLayer(shape_of("shape", shape, may_be_open=True), dtype, name=name).start()


@register("layer")
@dataclass(eq=False, repr=False)
class Dense(Weighted, Adaptable):
    """Densely connected layer: y = activation(x @ kernel + bias).

    ::

        fnn.Dense(64, activation="relu")

    Parameters
    ----------
    units : int
        Number of outputs n_out.
    activation : str or activation object, optional
        Applied to the outputs; None means linear.
    use_bias : bool
        Whether to add a bias.
    kernel_initializer, bias_initializer : str or initializer
        Initial values of kernel (n_in, n_out) and bias (n_out,).
    kernel_regularizer, bias_regularizer : str, regularizer or None
        Penalties added to the loss.
    kernel_constraint, bias_constraint : MaxNorm or None
        Applied after every step.

    Notes
    -----
    The input has shape (..., n_in), the output (..., units). Defaults are Keras 3's.
    """

    passes_mask = True
    adaptable = ("kernel",)

    units: int
    activation: ActivationFunction | str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    bias_initializer: Initializer | str = "zeros"
    kernel_regularizer: Regularizer | str | None = None
    bias_regularizer: Regularizer | str | None = None
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def prepare(self) -> None:
        self.units = size("units", self.units)
        super().prepare()

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if not shape:
            raise self.fail("takes inputs of shape (batch, ..., features), got (batch,)")
        return (*shape[:-1], self.units)

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return self.with_bias([self.spec("kernel", (shapes[0][-1], self.units))], self.units)

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor:  # fmt: skip
        y = self.plus_bias(graph, matmul(graph, inputs[0], weights[0], scope.label), weights, scope)
        # after the bias, which the product's record begins its sums with: an update of zeros changes no bit
        if "kernel" in updates:
            y = updates["kernel"].of_product(graph, y, inputs[0], scope.label)
        return self.activated(graph, y, scope)


@register("layer")
@dataclass(eq=False, repr=False)
class Activation(Layer):
    """Apply an activation function.

    ::

        fnn.Activation("tanh")

    Parameters
    ----------
    activation : str or activation object
        For example "relu", "softmax" or `fastnn.activations.LeakyReLU(0.1)`.
    """

    passes_mask = True

    activation: ActivationFunction | str

    def prepare(self) -> None:
        self.activation = activations.get(self.activation)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        function = activations.get(self.activation)
        return activation(graph, inputs[0], function.formula, function.parameters, scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Flatten(Layer):
    """Make every sample one-dimensional.

    ::

        fnn.Flatten()
    """

    def accepts(self, kind: str, position: int) -> bool:
        return True

    def output_kind(self, *kinds: str) -> str:
        return kinds[0]

    def output_shape(self, *shapes: Shape) -> Shape:
        return (prod(shapes[0]),)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return reshape(graph, inputs[0], self.output_shape(inputs[0].shape), scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Reshape(Layer):
    """Give every sample another shape.

    ::

        fnn.Reshape((8, 8))

    Parameters
    ----------
    target_shape : tuple of int
        Shape of one sample; one entry may be -1, which is inferred. None is the same, as shapes have it where a model's
        inputs leave a size open.
    """

    target_shape: Shape

    def prepare(self) -> None:
        target = self.target_shape
        if isinstance(target, int):
            target = (target,)
        if isinstance(target, (tuple, list)):
            target = tuple([-1 if extent is None else extent for extent in target])
        if not isinstance(target, (tuple, list)) or list(target).count(-1) > 1:
            raise TypeError(f"target_shape: expected a tuple of integers with at most one -1, got {shorten(target)}")
        if len(target) > MAX_RANK:
            raise ValueError(f"target_shape: expected at most {MAX_RANK} axes, got {len(target)}")
        self.target_shape = tuple(
            -1 if extent == -1 else size(f"target_shape[{axis}]", extent) for axis, extent in enumerate(target)
        )

    def accepts(self, kind: str, position: int) -> bool:
        return True

    def output_kind(self, *kinds: str) -> str:
        return kinds[0]

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        known = prod(extent for extent in self.target_shape if extent != -1)
        target = tuple(prod(shape) // known if extent == -1 else extent for extent in self.target_shape)
        if prod(target) != prod(shape) or 0 in target:
            raise self.fail(f"cannot see {shape} ({prod(shape)} elements) as {self.target_shape}")
        return target

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return reshape(graph, inputs[0], self.output_shape(inputs[0].shape), scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Permute(Layer):
    """Put the axes of every sample into another order.

    ::

        fnn.Permute((2, 1))

    Parameters
    ----------
    dims : tuple of int
        For each axis of the output the number of the input's axis, from 1 on, because axis 0 is the batch.
    """

    dims: Shape

    def prepare(self) -> None:
        dims = self.dims
        if not isinstance(dims, (tuple, list)):
            raise TypeError(f"dims: expected a tuple of axes from 1 on, such as (2, 1), got {shorten(dims)}")
        self.dims = tuple(size(f"dims[{number}]", axis) for number, axis in enumerate(dims))
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"dims: expected each axis from 1 to {len(self.dims)} once, got {dims!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != len(self.dims):
            raise self.fail(f"takes samples of {len(self.dims)} axes, one for each of dims {self.dims}, got {shape}")
        return tuple(shape[axis - 1] for axis in self.dims)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        return permute(graph, inputs[0], [axis - 1 for axis in self.dims], scope.label)


@register("layer")
@dataclass(eq=False, repr=False)
class Cropping1D(Layer):
    """Leave out the first and last entries of every sample's first axis, such as time steps.

    ::

        last = fnn.Cropping1D((steps - 1, 0))(sequence)

    Parameters
    ----------
    cropping : int or tuple of two int
        How many entries are left out at the start and at the end; an integer stands for both.

    Notes
    -----
    Samples have any number of axes, not only two as in Keras. A product (`MatMul`, `Dot`) reads what is left in place.
    """

    cropping: int | tuple[int, int] = (1, 1)

    def prepare(self) -> None:
        both = self.cropping if isinstance(self.cropping, (tuple, list)) else (self.cropping, self.cropping)
        if len(both) != 2:
            raise TypeError(f"cropping: expected an integer or two, such as 1 or (0, 2), got {shorten(self.cropping)}")
        before, after = (
            integer(name, each, at_least=0) for name, each in zip(("cropping[0]", "cropping[1]"), both, strict=True)
        )
        self.cropping = (before, after)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,), (before, after) = shapes, self._both
        if not shape or shape[0] <= before + after:
            raise self.fail(f"leaves nothing of samples of shape {shape} with cropping {self._both}")
        return (shape[0] - before - after, *shape[1:])

    @property
    def _both(self) -> tuple[int, int]:
        assert isinstance(self.cropping, tuple)
        return self.cropping

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        (x,) = inputs
        count = self.output_shape(x.shape)[0]
        return x if count == x.shape[0] else take_rows(graph, x, self._both[0], count, scope.label)
