"""What a network for images has learnt: kernels, maps of inner layers, and which pixels an output depends on.

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

__all__ = [
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
]

install(__name__)
