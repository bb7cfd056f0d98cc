"""Pictures of models, their training and their predictions, drawn by matplotlib (the extra ``plot``).

Functions take ``ax=``, or return a figure. Figures are made by pyplot, so that notebooks and ``pyplot.show()`` show
them; nothing is shown here.
"""

from __future__ import annotations

from fastnn.hints import install
from fastnn.plot.boundary import decision_boundary
from fastnn.plot.classification import Calibration, calibration, confusion_matrix, reliability
from fastnn.plot.histograms import activations, gradients
from fastnn.plot.network import network
from fastnn.plot.weights import weights

__all__ = [
    "Calibration",
    "activations",
    "calibration",
    "confusion_matrix",
    "decision_boundary",
    "gradients",
    "network",
    "reliability",
    "weights",
]

install(__name__)
