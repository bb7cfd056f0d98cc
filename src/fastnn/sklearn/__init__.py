"""Estimators for scikit-learn: its multi-layer perceptrons, trained by fastnn.

Needs scikit-learn: ``pip install "fastnn-numba[sklearn]"``.
"""

from fastnn.sklearn.mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
