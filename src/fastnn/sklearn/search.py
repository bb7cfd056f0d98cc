"""Searches over hyperparameters whose candidates and folds train at the same time, one network a thread."""

from __future__ import annotations

from typing import Any

from joblib import effective_n_jobs, parallel_config
from sklearn import model_selection
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from fastnn.backend.cpu.loading.entry_point import taking_turns
from fastnn.threads import get_num_threads

__all__ = ["GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV"]


class _Together:
    """A search in threads of this process: kernels run without the interpreter's lock, and data are not copied.

    `n_jobs` is the number of networks that train at a time, by default `fastnn.get_num_threads()`. Each trains on one
    thread, so threads are shared out, not multiplied.
    """

    n_jobs: int | None

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Train all candidates on all folds, and the best one on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
        **params
            As for the search of scikit-learn: for `fit` of the estimator, the splitter and the scorer.

        Returns
        -------
        self
        """
        given = self.n_jobs
        threads = get_num_threads() if given is None else effective_n_jobs(given)
        try:
            self.n_jobs = threads
            with parallel_config(backend="threading"), taking_turns():
                return super().fit(X, y, **params)  # type: ignore[misc]
        finally:
            self.n_jobs = given


class GridSearchCV(_Together, model_selection.GridSearchCV):  # type: ignore[misc]
    """A search over every candidate of a grid, several trained at a time.

    Parameters, attributes and results are those of `sklearn.model_selection.GridSearchCV`, but for `n_jobs`: the
    number of networks that train at a time, in threads, by default `fastnn.get_num_threads()`.
    """


class RandomizedSearchCV(_Together, model_selection.RandomizedSearchCV):  # type: ignore[misc]
    """A search over candidates that are drawn, several trained at a time.

    Parameters, attributes and results are those of `sklearn.model_selection.RandomizedSearchCV`, but for `n_jobs`: the
    number of networks that train at a time, in threads, by default `fastnn.get_num_threads()`.
    """


class HalvingGridSearchCV(_Together, model_selection.HalvingGridSearchCV):  # type: ignore[misc]
    """A search over a grid, several trained at a time: fewer and fewer candidates get more and more samples.

    Parameters, attributes and results are those of `sklearn.model_selection.HalvingGridSearchCV`, but for `n_jobs`: the
    number of networks that train at a time, in threads, by default `fastnn.get_num_threads()`.
    """


class HalvingRandomSearchCV(_Together, model_selection.HalvingRandomSearchCV):  # type: ignore[misc]
    """A search over candidates that are drawn, several trained at a time: fewer and fewer get more samples.

    Parameters, attributes and results are those of `sklearn.model_selection.HalvingRandomSearchCV`, but for `n_jobs`:
    the number of networks that train at a time, in threads, by default `fastnn.get_num_threads()`.
    """
