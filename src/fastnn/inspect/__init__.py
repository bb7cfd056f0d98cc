"""What a network has learnt: outputs and gradients of layers, kernels, and which pixels an output depends on.

Functions return arrays; those named ``plot_...`` draw them, and return matplotlib's figure. A model that has been
inspected counts as a part of others: `Model.add_loss` and `Model.add_metric` have to come before.
"""

from __future__ import annotations

from fastnn.hints import install
from fastnn.inspect.ascent import maximize
from fastnn.inspect.attribution import grad_cam, saliency
from fastnn.inspect.drawing import (
    plot_feature_maps,
    plot_filters,
    plot_grad_cam,
    plot_maximized,
    plot_saliency,
)
from fastnn.inspect.kernels import filters
from fastnn.inspect.maps import feature_maps
from fastnn.inspect.values import activations, dead_units, weight_gradients

__all__ = [
    "activations",
    "dead_units",
    "feature_maps",
    "filters",
    "grad_cam",
    "maximize",
    "plot_feature_maps",
    "plot_filters",
    "plot_grad_cam",
    "plot_maximized",
    "plot_saliency",
    "saliency",
    "weight_gradients",
]

install(__name__)
