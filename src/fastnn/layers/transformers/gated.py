"""SwiGLU: dense layers, one of which has a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fastnn import initializers
from fastnn.activations import Activation
from fastnn.checks import size
from fastnn.config import register
from fastnn.constraints import Constraint
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.dense import bias_add, matmul
from fastnn.graph.ops.elementwise import elementwise
from fastnn.initializers import Initializer
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.low_rank import Adaptable, LowRank
from fastnn.layers.weighted import Weighted
from fastnn.regularizers import Regularizer

__all__ = ["SwiGLU"]


@register("layer")
@dataclass(eq=False, repr=False)
class SwiGLU(Weighted, Adaptable):
    """Two dense layers, the first of which has a gate: y = (activation(x gate_kernel) * (x up_kernel)) down_kernel.

    ::

        y = fnn.SwiGLU(512)(x)

    Parameters
    ----------
    intermediate_dim : int
        Columns of the first two kernels.
    activation : str or activation object
        Of the gate.
    use_bias : bool
        Whether the three products have biases.
    output_dim : int, optional
        The features of the outputs; None means those of the inputs.
    kernel_initializer, bias_initializer : str or initializer
    kernel_regularizer, bias_regularizer : str, regularizer or None
    kernel_constraint, bias_constraint : str, constraint or None
        Of all kernels and all biases.
    output_initializer : str or initializer, optional
        Of the last kernel; None means `kernel_initializer`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Shazeer 2020, "GLU variants improve transformer", arXiv:2002.05202; with silu and without biases it is the
    feed-forward layer of LLaMA. The input has shape (..., features), the output (..., output_dim). The weights are
    "gate_kernel" and "up_kernel" (features, intermediate_dim) and "down_kernel" (intermediate_dim, output_dim), each
    followed by its bias.
    """

    passes_mask = True
    adaptable = ("gate_kernel", "up_kernel", "down_kernel")

    intermediate_dim: int
    activation: Activation | str | None = "silu"
    use_bias: bool = False
    output_dim: int | None = field(default=None, kw_only=True)
    kernel_initializer: Initializer | str = field(default="glorot_uniform", kw_only=True)
    output_initializer: Initializer | str | None = field(default=None, kw_only=True)
    bias_initializer: Initializer | str = field(default="zeros", kw_only=True)
    kernel_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    bias_regularizer: Regularizer | str | None = field(default=None, kw_only=True)
    kernel_constraint: Constraint | str | None = field(default=None, kw_only=True)
    bias_constraint: Constraint | str | None = field(default=None, kw_only=True)

    def prepare(self) -> None:
        self.intermediate_dim = size("intermediate_dim", self.intermediate_dim)
        if self.output_dim is not None:
            self.output_dim = size("output_dim", self.output_dim)
        if self.output_initializer is not None:
            self.output_initializer = initializers.get(self.output_initializer)
        super().prepare()

    def output_shape(self, *shapes: Shape) -> Shape:
        if not shapes[0]:
            raise self.fail("takes inputs of shape (batch, ..., features), got (batch,)")
        return (*shapes[0][:-1], self.output_dim or shapes[0][-1])

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        features, inner, found = shapes[0][-1], self.intermediate_dim, []
        results = self.output_shape(*shapes)[-1]
        for name, shape in (("gate", (features, inner)), ("up", (features, inner)), ("down", (inner, results))):
            kernel = replace(self.spec("kernel", shape), name=f"{name}_kernel")
            if name == "down" and self.output_initializer is not None:
                kernel = replace(kernel, initializer=initializers.get(self.output_initializer))
            found.append(kernel)
            if self.use_bias:
                found.append(replace(self.spec("bias", shape[1:]), name=f"{name}_bias"))
        return tuple(found)

    def adapted(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], updates: Mapping[str, LowRank],
        scope: Scope,
    ) -> Tensor:  # fmt: skip
        each = 2 if self.use_bias else 1

        def product(x: Tensor, place: int) -> Tensor:
            kernel, *bias = weights[place * each : (place + 1) * each]
            y = matmul(graph, x, kernel, scope.label)
            y = bias_add(graph, y, bias[0], scope.label) if bias else y
            update = updates.get(self.adaptable[place])
            return y if update is None else update.of_product(graph, y, x, scope.label)

        gate = self.activated(graph, product(inputs[0], 0), scope)
        return product(elementwise(graph, "multiply", [gate, product(inputs[0], 1)], scope.label), 2)
