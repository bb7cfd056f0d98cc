"""TensorBoard: scalars of training and validation, histograms of weights, hyperparameters; written by tensorboardX."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fastnn.callbacks import Callback
from fastnn.callbacks.base import Logs
from fastnn.callbacks.logs import numbers_of
from fastnn.checks import integer
from fastnn.integrations.runs import checked_hyperparameters, hyperparameters_of, needed, weights_of


class TensorBoard(Callback):
    """Write files for TensorBoard (``keras.callbacks.TensorBoard``; the extra ``tensorboard``).

    ::

        model.fit(x, y, epochs=10, callbacks=fnn.integrations.TensorBoard("logs/first"))

    ``tensorboard --logdir logs`` shows them. As Keras has it, quantities are named ``epoch_loss`` and so on, in the
    folders ``train`` and ``validation``, so that both are curves of one picture. Steps are epochs, counted from 0.

    Parameters
    ----------
    log_dir : str or os.PathLike
        A folder of its own for each training.
    histogram_freq : int
        Epochs between histograms of all weights; 0 writes none.
    hyperparameters : dict, optional
        Numbers, bools and texts by name, for the comparison of trainings, with the optimizer, its learning rate and the
        number of weights. They are written at the end, with the final quantities.

    Raises
    ------
    ImportError
        When tensorboardX is not installed.
    """

    state_names: ClassVar[tuple[str, ...]] = ("begun",)

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        *,
        histogram_freq: int = 0,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> None:
        _board()
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = integer("TensorBoard: histogram_freq", histogram_freq, at_least=0)
        self.hyperparameters = None
        if hyperparameters is not None:
            self.hyperparameters = checked_hyperparameters("TensorBoard", hyperparameters)
        self.begun = False
        self._writers: dict[str, Any] = {}
        self._resumed = False
        self._last: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies: without open files."""
        return super().__getstate__() | {"_writers": {}}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Close the files of an earlier training."""
        self.close()
        self.begun = self._resumed = False
        self._last = {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`: epochs that a resumed training repeats replace those that are there."""
        super().set_state(state)
        self._resumed = self.begun

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the quantities of an epoch, and histograms."""
        self._last = numbers_of(logs)
        for name, value in self._last.items():
            folder = "validation" if name.startswith("val_") else "train"
            self._writer(folder, epoch).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name, weight in weights_of(self.model):
                # there is no histogram of other numbers
                finite = weight[np.isfinite(weight)]
                if finite.size:
                    self._writer("train", epoch).add_histogram(name, finite, epoch)
        for writer in self._writers.values():
            writer.flush()
        self.begun = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Write hyperparameters, with the final quantities."""
        if self.hyperparameters is None or not self._writers:
            return
        settings = hyperparameters_of(self.model, self.params) | self.hyperparameters
        final = {f"final/{name}": value for name, value in self._last.items() if math.isfinite(value)}
        with _board().SummaryWriter(self.log_dir) as writer:
            writer.add_hparams(settings, final, name="hyperparameters")

    def close(self) -> None:
        """Close the files."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def _writer(self, folder: str, epoch: int) -> Any:
        """Return the writer of a folder."""
        if folder not in self._writers:
            path = os.path.join(self.log_dir, folder)
            # TensorBoard forgets what earlier files have from this step on
            purge = epoch if self._resumed else None
            # names have the second alone: a training that begins in the same one would replace the file
            suffix = f".{time.time_ns() % 10**9:09d}"
            self._writers[folder] = _board().SummaryWriter(path, purge_step=purge, filename_suffix=suffix)
        return self._writers[folder]


def _board() -> Any:
    return needed("TensorBoard", "tensorboardX", "tensorboard")
