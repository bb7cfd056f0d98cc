"""MLflow: a run for each training, with parameters, the quantities of each epoch, and the model's file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from fastnn.callbacks import Callback
from fastnn.callbacks.base import Logs
from fastnn.callbacks.logs import numbers_of
from fastnn.checks import flag
from fastnn.integrations.runs import checked_hyperparameters, hyperparameters_of, needed
from fastnn.locks import ForkSafeLock

#: of an experiment, which threads that train at the same time would make twice
_beginning = ForkSafeLock()


class MLflow(Callback):
    """Write a training as a run of MLflow (the extra ``mlflow``).

    ::

        tracker = fnn.integrations.MLflow("digits", tracking_uri="sqlite:///runs.db")
        model.fit(x, y, epochs=10, callbacks=tracker)

    Within ``mlflow.start_run()`` it writes to that run, else to a new one for each training, which ends with it:
    FINISHED, or FAILED after an exception. No run becomes the active one, so that threads of `train_many` may have
    one each.

    Parameters
    ----------
    experiment : str, optional
        Its name; it is made if there is none. By default that of the active run, or ``"Default"``.
    run_name : str, optional
    tracking_uri : str, optional
        Where runs are kept, such as ``"sqlite:///runs.db"``; by default where MLflow has been told to.
    hyperparameters : dict, optional
        Parameters of the run, besides the optimizer, its learning rate, the number of weights and of epochs.
    save_model : bool
        Whether the model's file, ``model.safetensors``, is an artifact of the run.

    Attributes
    ----------
    run_id : str or None
        Of the latest training.

    Raises
    ------
    ImportError
        When MLflow is not installed.
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        save_model: bool = False,
    ) -> None:
        for name, value in (("experiment", experiment), ("run_name", run_name), ("tracking_uri", tracking_uri)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"MLflow: {name}: expected a text or None, got {value!r}")
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri
        self.hyperparameters = checked_hyperparameters("MLflow", hyperparameters)
        self.save_model = flag("MLflow: save_model", save_model)
        self.run_id: str | None = None
        needed("MLflow", "mlflow", "mlflow")
        self._client: Any = None
        self._owns = self._finished = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies: without the client."""
        return super().__getstate__() | {"_client": None, "_owns": False}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin a run, and write its parameters."""
        self.close()
        library = needed("MLflow", "mlflow", "mlflow")
        active = library.active_run() if self.experiment is None and self.tracking_uri is None else None
        self._finished = False
        if active is None:
            with _beginning:  # a new store makes its tables
                self._client = library.MlflowClient(self.tracking_uri)
                experiment = self._experiment_id()
            self.run_id = self._client.create_run(experiment, run_name=self.run_name).info.run_id
            self._owns = True
        else:
            self._client = library.MlflowClient(self.tracking_uri)
            self.run_id = active.info.run_id
        settings = hyperparameters_of(self.model, self.params) | self.hyperparameters
        # parameters of a run never change: a second training within it keeps those of the first
        known = self._client.get_run(self.run_id).data.params
        entities = needed("MLflow", "mlflow.entities", "mlflow")
        found = [entities.Param(name, str(value)) for name, value in settings.items() if name not in known]
        self._client.log_batch(self.run_id, params=found)

    def _experiment_id(self) -> str:
        name = "Default" if self.experiment is None else self.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except Exception:
                # another process may have made it since
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the quantities of an epoch."""
        now, entities = int(time.time() * 1000), needed("MLflow", "mlflow.entities", "mlflow")
        found = [entities.Metric(name, value, now, epoch) for name, value in numbers_of(logs).items()]
        self._client.log_batch(self.run_id, metrics=found)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Add the model's file."""
        if self.save_model:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.safetensors")
                self.model.save(path)
                self._client.log_artifact(self.run_id, path)
        self._finished = True

    def close(self) -> None:
        """End a run that has been begun here."""
        owns, self._owns = self._owns, False
        if owns and self._client is not None:
            self._client.set_terminated(self.run_id, "FINISHED" if self._finished else "FAILED")
