"""Estimators of `fastnn.sklearn`, with scikit-learn's as the control."""

import importlib
import warnings
from typing import Any

from titles import titled

LIBRARIES = {"fastnn": "fastnn.sklearn", "scikit-learn": "sklearn.neural_network"}
#: titles of cases of `benchmarks/estimators.py`
FITS = ["digits, 100", "regression, 64, 64"]


def case(library: str, title: str) -> tuple[Any, Any, Any]:
    """Return an estimator of a case, and its data; raises NotImplementedError where there is no such library."""
    try:
        module, estimators = importlib.import_module(LIBRARIES[library]), importlib.import_module("estimators")
    except ImportError as error:
        raise NotImplementedError(str(error)) from error
    kind, which, parameters = next(one[1:4] for one in estimators.CASES if one[0] == title)
    # all epochs are trained
    given = parameters | {"random_state": 0, "tol": 0.0, "n_iter_no_change": 10_000}
    return (getattr(module, kind)(**given), *estimators.data(which))


class _Fitted:
    """An estimator that has been fitted once, which compiles."""

    param_names = ("library", "estimator")

    def setup(self, library: str, title: str) -> None:
        """Fit."""
        warnings.simplefilter("ignore")
        self.estimator, self.x, self.y = case(library, title)
        self.estimator.fit(self.x, self.y)
        self.row = self.x[:1]
        for _ in range(4):  # what makes small calls quick is linked by the second one
            self.estimator.predict(self.row)


@titled("Estimators: fit")
class EstimatorFit(_Fitted):
    """A hundred epochs of the digits, five of 20 000 rows of a regression."""

    params = (list(LIBRARIES), FITS)
    timeout = 300
    number = 1
    repeat = (2, 4, 20.0)
    warmup_time = 0.0

    def time_fit(self, library: str, title: str) -> None:
        """Check the data, make the network, train."""
        self.estimator.fit(self.x, self.y)


@titled("Estimators: predict, 1 row")
class EstimatorPredict(_Fitted):
    """A class or a number for one row: what a call costs."""

    params = (list(LIBRARIES), FITS)
    timeout = 300

    def time_predict(self, library: str, title: str) -> None:
        """Check the row, compute the outputs, decide."""
        self.estimator.predict(self.row)
