"""Estimators for scikit-learn: its multi-layer perceptrons, trained by fastnn.

Needs scikit-learn: ``pip install "fastnn-numba[sklearn]"``. What makes networks is imported by the first `fit`.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as error:
    needs = 'fastnn.sklearn needs scikit-learn: python -m pip install "fastnn-numba[sklearn]"'
    raise ModuleNotFoundError(needs, name=error.name) from error

from fastnn.sklearn import penalty as _penalty  # noqa: F401  (model files of estimators' callbacks have it)
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
