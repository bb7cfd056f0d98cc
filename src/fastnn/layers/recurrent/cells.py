"""SimpleRNN, GRU and LSTM."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import initializers
from fastnn.activations import Activation as ActivationFunction
from fastnn.checks import flag
from fastnn.config import register
from fastnn.graph import graph as graphs
from fastnn.graph.ops.sequences.recurrent import GRU as GRU_CELL
from fastnn.graph.ops.sequences.recurrent import LSTM as LSTM_CELL
from fastnn.graph.ops.sequences.recurrent import SIMPLE_RNN
from fastnn.graph.ops.strided import reshape
from fastnn.initializers import Initializer
from fastnn.layers.base import ParameterSpec, Scope
from fastnn.layers.recurrent.base import Gated, Recurrent

__all__ = ["GRU", "LSTM", "SimpleRNN"]


@register("layer")
@dataclass(eq=False, repr=False)
class SimpleRNN(Recurrent):
    """Recurrent layer: h' = activation(x @ kernel + h @ recurrent_kernel + bias), step after step.

    ::

        fnn.SimpleRNN(32)

    Parameters
    ----------
    units : int
        Size of the state h.
    activation : str or activation object, optional
        None means linear. Of the activations that need their input for their gradient (gelu, silu, mish, softsign, ...)
        there is none here, nor a user-defined one.
    use_bias : bool
        Whether to add a bias.
    kernel_initializer, recurrent_initializer, bias_initializer : str or initializer
        Initial values of kernel (features, units), recurrent_kernel (units, units), bias (units,).
    kernel_regularizer, recurrent_regularizer, bias_regularizer : str, regularizer or None
        Penalties added to the loss.
    kernel_constraint, recurrent_constraint, bias_constraint : MaxNorm or None
        Applied after every step of the optimizer.
    dropout, recurrent_dropout : float
        Fractions of the features, and of the state that is multiplied, which are set to zero in training: the same ones
        in all steps of a sample (Gal and Ghahramani, 2016).
    return_sequences : bool
        Whether to return the states after all steps instead of the last one.
    return_state : bool
        Whether to return the last state, too: then a call gives a tuple.
    go_backwards : bool
        Whether to go from the last step to the first, and return the states in that order.
    stateful : bool
        Whether a batch begins with the states that the batch before has left, sample i with those of sample i; see
        `Model.reset_states`.
    zero_output_for_mask : bool
        Whether the states that are returned for masked steps are zero instead of those before.

    Notes
    -----
    The input has shape (steps, features), the output (units,), or (steps, units) with `return_sequences`. Call the
    layer with ``initial_state=`` for another state than zeros before the first step, and with ``mask=`` for sequences
    with fewer steps. Where the mask is 0, the state stays what it was, and so does what is returned. Names, defaults
    and shapes of weights are Keras 3's.
    """

    cell = SIMPLE_RNN

    units: int
    activation: ActivationFunction | str | None = "tanh"
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    recurrent_initializer: Initializer | str = "orthogonal"
    bias_initializer: Initializer | str = "zeros"


@register("layer")
@dataclass(eq=False, repr=False)
class GRU(Gated):
    """Gated recurrent unit (Cho et al., 2014).

    ::

        fnn.GRU(32)

    Parameters
    ----------
    units : int
        Size of the state h.
    activation, recurrent_activation : str or activation object, optional
        Of the candidate g, and of the gates z and r; see `SimpleRNN`.
    use_bias : bool
        Whether to add biases.
    kernel_initializer, recurrent_initializer, bias_initializer : str or initializer
        Initial values of kernel (features, 3 units), recurrent_kernel (units, 3 units), and bias: (2, 3 units) with
        `reset_after`, the first row added to the inputs' products, the second to the state's; else (3 units,). The
        columns are those of z, r, g.
    kernel_regularizer, recurrent_regularizer, bias_regularizer : str, regularizer or None
        Penalties added to the loss.
    kernel_constraint, recurrent_constraint, bias_constraint : MaxNorm or None
        Applied after every step of the optimizer.
    dropout, recurrent_dropout, return_sequences, return_state, go_backwards, stateful, zero_output_for_mask
        As for `SimpleRNN`.
    reset_after : bool
        Whether r is a factor of the product of the state, as in cuDNN and PyTorch, or of the state.

    Notes
    -----
    z, r = s(x W + h U + b), g = t(x W + b + r * (h U + b')), or t(x W + (r * h) U + b), h' = z * h + (1 - z) * g.
    Shapes of input and output are those of `SimpleRNN`. Names, defaults and shapes of weights are Keras 3's; PyTorch
    has the columns of r before those of z.
    """

    cell = GRU_CELL

    units: int
    activation: ActivationFunction | str | None = "tanh"
    recurrent_activation: ActivationFunction | str | None = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    recurrent_initializer: Initializer | str = "orthogonal"
    bias_initializer: Initializer | str = "zeros"
    reset_after: bool = field(default=True, kw_only=True)

    def prepare(self) -> None:
        super().prepare()
        flag("reset_after", self.reset_after)

    @property
    def resets_after(self) -> bool:
        """Whether the reset gate is a factor of the product of the state."""
        return self.reset_after

    def bias_spec(self, wide: int) -> ParameterSpec:
        """Return the description of the biases."""
        return self.spec("bias", (2, wide) if self.reset_after else (wide,))

    def biased(
        self, graph: graphs.Graph, z: graphs.Tensor, bias: graphs.Tensor, scope: Scope
    ) -> tuple[graphs.Tensor, graphs.Tensor | None]:
        """Leave both biases to the scan."""
        return z, bias if self.reset_after else reshape(graph, bias, (1, bias.size), scope.label)


@dataclasses.dataclass(frozen=True)
class _ForgetBias(Initializer):
    """Ones for the columns of the forget gate, and what another initializer gives for the others."""

    others: Initializer
    units: int

    def __call__(
        self, shape: Sequence[int], rng: np.random.Generator, dtype: npt.DTypeLike = "float32"
    ) -> npt.NDArray[Any]:
        values = self.others(shape, rng, dtype)
        values[self.units : 2 * self.units] = 1.0
        return values


@register("layer")
@dataclass(eq=False, repr=False)
class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with forget gates (Gers et al., 2000).

    ::

        fnn.LSTM(32)

    Parameters
    ----------
    units : int
        Size of the state h, and of the cells c.
    activation, recurrent_activation : str or activation object, optional
        Of the candidate g and of what is read from the cells, and of the gates i, f, o; see `SimpleRNN`.
    use_bias : bool
        Whether to add a bias.
    kernel_initializer, recurrent_initializer, bias_initializer : str or initializer
        Initial values of kernel (features, 4 units), recurrent_kernel (units, 4 units), bias (4 units,). The columns
        are those of i, f, g, o.
    unit_forget_bias : bool
        Whether the bias of the forget gate begins with ones (Jozefowicz et al., 2015).
    kernel_regularizer, recurrent_regularizer, bias_regularizer : str, regularizer or None
        Penalties added to the loss.
    kernel_constraint, recurrent_constraint, bias_constraint : MaxNorm or None
        Applied after every step of the optimizer.
    dropout, recurrent_dropout, return_sequences, go_backwards, stateful, zero_output_for_mask
        As for `SimpleRNN`.
    return_state : bool
        Whether to return the last h and c, too: then a call gives a tuple of three.

    Notes
    -----
    i, f, o = s(x W + h U + b), g = t(x W + h U + b), c' = f * c + i * g, h' = o * t(c'). Shapes of input and output are
    those of `SimpleRNN`; ``initial_state=[h, c]``. Names, defaults and shapes of weights are Keras 3's.
    """

    cell = LSTM_CELL

    units: int
    activation: ActivationFunction | str | None = "tanh"
    recurrent_activation: ActivationFunction | str | None = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer | str = "glorot_uniform"
    recurrent_initializer: Initializer | str = "orthogonal"
    bias_initializer: Initializer | str = "zeros"
    unit_forget_bias: bool = field(default=True, kw_only=True)

    def prepare(self) -> None:
        super().prepare()
        flag("unit_forget_bias", self.unit_forget_bias)

    def bias_spec(self, wide: int) -> ParameterSpec:
        """Return the description of the bias."""
        spec = super().bias_spec(wide)
        if not self.unit_forget_bias:
            return spec
        return dataclasses.replace(spec, initializer=_ForgetBias(initializers.get(self.bias_initializer), self.units))
