"""Losses of probabilities: cross-entropies and the Kullback-Leibler divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import flag, number
from fastnn.losses.base import Loss
from fastnn.losses.targets import (
    Kind,
    Shape,
    check_array,
    check_distributions,
    check_labels,
    has_classes_shape,
    has_dense_shape,
    spell_shape,
)
from fastnn.registry import register


@dataclass(frozen=True)
class _CrossEntropyBase(Loss):
    from_logits: bool = False
    label_smoothing: float = 0.0
    clip: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        flag(f"{owner} from_logits", self.from_logits)
        flag(f"{owner} clip", self.clip)
        smoothing = number(f"{owner} label_smoothing", self.label_smoothing, at_least=0.0, at_most=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """The name, with the suffix `_logits` if predictions are logits."""
        return f"{self.name}_logits" if self.from_logits else self.name

    @property
    def parameters(self) -> tuple[float, ...]:
        """The label smoothing."""
        return (self.label_smoothing,)

    def most(self, dtype: str) -> float:
        """Return the loss of the probability eps, if there is a `clip`."""
        return -math.log(float(np.finfo(dtype).eps)) if self.clip else 0.0

    @property
    def prediction_range(self) -> tuple[float, float]:
        """Logits are any numbers, probabilities from 0 to 1."""
        return (-math.inf, math.inf) if self.from_logits else (0.0, 1.0)


@register("loss")
@dataclass(frozen=True)
class BinaryCrossEntropy(_CrossEntropyBase):
    """Mean of -t log(p) - (1 - t) log(1 - p), for independent yes-no outputs (Keras `binary_crossentropy`).

    Targets t are from 0 to 1; probabilities p are clipped to [1e-7, 1 - 1e-7]. A model whose outputs come from a
    sigmoid, followed only by layers that move values (Flatten, Reshape, Concatenate of such outputs), is
    trained and evaluated from the sigmoid's input instead: nothing is clipped, and no gradient vanishes.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits, p = sigmoid(y_pred), which are not clipped.
    label_smoothing : float
        From 0 to 1; targets become t (1 - label_smoothing) + label_smoothing / 2.
    clip : bool
        Whether a row's loss counts as no more than -log(eps), where eps is the dtype's, as scikit-learn's multi-layer
        perceptrons report it. Gradients are those without.
    """

    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)


@register("loss")
@dataclass(frozen=True)
class CrossEntropy(_CrossEntropyBase):
    """Sum of -t log(p) over the classes, the last axis, for integer labels, one-hot and soft targets alike.

    It is the `sparse_categorical_crossentropy` and `categorical_crossentropy` of Keras, except that
    probabilities are not scaled to sum to 1. They are clipped to [1e-7, 1 - 1e-7]. A model whose outputs come from a
    softmax, followed only by layers that move its rows (Reshape, Flatten, Concatenate), is trained and
    evaluated from the softmax's input instead: nothing is clipped, and no gradient vanishes.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits, p = softmax(y_pred), which are not clipped.
    label_smoothing : float
        From 0 to 1; targets become t (1 - label_smoothing) + label_smoothing / classes.
    clip : bool
        Whether a row's loss counts as no more than -log(eps), where eps is the dtype's, as scikit-learn's multi-layer
        perceptrons report it. Gradients are those without.
    """

    # keyword-only, because the second argument of Keras' sparse cross-entropy is a different one
    label_smoothing: float = field(default=0.0, kw_only=True)
    row_mean: ClassVar[bool] = False

    def check_targets(self, y: NDArray[Any], output_shape: Shape, where: str) -> Kind:
        """Check labels, or probabilities of the classes, against the shape of the output.

        Parameters
        ----------
        y : numpy.ndarray
            Integer labels of shape (n, *output_shape[:-1]), with or without a last axis of length 1; or
            probabilities of shape (n, *output_shape) that sum to 1 over the last axis. May be memory-mapped.
        output_shape : tuple of int
            Shape of the output without the batch; two or more classes on the last axis.
        where : str
            Beginning of error messages.

        Returns
        -------
        str
            "classes" for integer labels, "dense" for probabilities.

        Raises
        ------
        TypeError
            If `y` is not an array of real numbers, or has labels of a floating type.
        ValueError
            If the shape does not fit, a label is out of range, or a row is not a distribution; the message names
            the first row.
        """
        array = check_array(y, where)
        if output_shape[-1] == 1:
            raise ValueError(
                f"{where}: cross_entropy expected an output with two or more columns, got shape "
                f"{spell_shape(output_shape)}; use binary_cross_entropy for a single column"
            )
        if has_classes_shape(array, output_shape):
            check_labels(array, output_shape, where)
            return "classes"
        if not has_dense_shape(array, output_shape):
            labels = f"integer labels of shape {spell_shape(output_shape[:-1])}"
            raise ValueError(
                f"{where}: expected {labels} or probabilities of shape {spell_shape(output_shape)}, got {array.shape}"
            )
        check_distributions(array, where)
        return "dense"


@register("loss")
@dataclass(frozen=True)
class KLDivergence(Loss):
    """Sum of t log(t / p) over the last axis (Kullback & Leibler 1951; Keras `kl_divergence`).

    Targets t and probabilities p are from 0 to 1, and both are clipped to [1e-7, 1]; p below 1e-7 has the gradient 0.
    """

    formula: ClassVar[str] = "kl_divergence"
    row_mean: ClassVar[bool] = False
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def prediction_range(self) -> tuple[float, float]:
        """Probabilities are from 0 to 1."""
        return (0.0, 1.0)
