"""What layers share that multiply by a kernel, add a bias and apply an activation function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fastnn import activations, constraints, initializers, regularizers
from fastnn.activations import Activation as ActivationFunction
from fastnn.checks import flag
from fastnn.constraints import Constraint
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import bias_add
from fastnn.graph.ops.elementwise import activation
from fastnn.initializers import Initializer
from fastnn.layers.base import Layer, ParameterSpec, Scope, Shape
from fastnn.regularizers import Regularizer


class Weighted(Layer):
    """A layer with kernels, whose fields are named after them, a bias, and an activation function."""

    #: the names of the kernels' fields, without "_initializer" and the like; and of the weights
    kernels: ClassVar[dict[str, str]] = {"kernel": "kernel"}

    activation: ActivationFunction | str | None
    use_bias: bool
    bias_initializer: Initializer | str
    bias_regularizer: Regularizer | str | None
    bias_constraint: Constraint | str | None

    def prepare(self) -> None:
        flag("use_bias", self.use_bias)
        self.activation = activations.get(self.activation)
        for name in (*self.kernels, "bias"):
            for what, get in (("initializer", initializers.get), ("regularizer", regularizers.get),
                              ("constraint", constraints.get)):  # fmt: skip
                setattr(self, f"{name}_{what}", get(getattr(self, f"{name}_{what}")))

    def spec(self, name: str, shape: Shape) -> ParameterSpec:
        """Return the description of a kernel or the bias."""
        return ParameterSpec(
            self.kernels.get(name, name),
            shape,
            initializers.get(getattr(self, f"{name}_initializer")),
            regularizer=regularizers.get(getattr(self, f"{name}_regularizer")),
            constraint=constraints.get(getattr(self, f"{name}_constraint")),
        )

    def with_bias(self, kernels: Sequence[ParameterSpec], units: int) -> tuple[ParameterSpec, ...]:
        """Return the descriptions of all weights."""
        return (*kernels, self.spec("bias", (units,))) if self.use_bias else tuple(kernels)

    def finish(self, graph: Graph, y: Tensor, weights: Sequence[Tensor], scope: Scope) -> Tensor:
        """Add the bias, the last weight, and apply the activation function."""
        return self.activated(graph, self.plus_bias(graph, y, weights, scope), scope)

    def plus_bias(self, graph: Graph, y: Tensor, weights: Sequence[Tensor], scope: Scope) -> Tensor:
        """Add the bias, the last weight, if there is one."""
        return bias_add(graph, y, weights[-1], scope.label) if self.use_bias else y

    def activated(self, graph: Graph, y: Tensor, scope: Scope) -> Tensor:
        """Apply the activation function."""
        function = activations.get(self.activation)
        return activation(graph, y, function.formula, function.parameters, scope.label)
