"""Estimators for scikit-learn: its multi-layer perceptrons, trained by fastnn.

Needs scikit-learn: ``pip install "fastnn-numba[sklearn]"``.
"""

from fastnn.sklearn.mlp import MLPClassifier, MLPRegressor
from fastnn.sklearn.search import GridSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV
from fastnn.sklearn.wrappers import Classifier, Regressor, Transformer

__all__ = [
    "Classifier",
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "MLPClassifier",
    "MLPRegressor",
    "RandomizedSearchCV",
    "Regressor",
    "Transformer",
]
