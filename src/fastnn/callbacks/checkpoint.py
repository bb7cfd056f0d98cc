"""Saving the model during training."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fastnn.callbacks.base import Callback, Logs
from fastnn.callbacks.monitor import Monitor
from fastnn.checks import integer, number, shorten
from fastnn.console import say

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Callback):
    """Save the model after epochs or batches (``keras.callbacks.ModelCheckpoint``).

    Every file is replaced atomically, so an interrupted training leaves whole files.

    Parameters
    ----------
    filepath : str or os.PathLike
        File name, which may contain ``{epoch:02d}`` and ``{batch}`` (both counted from 1) and quantities of the
        logs such as ``{val_loss:.3f}``. Missing folders are created.
    monitor : str
        The quantity that `save_best_only` compares.
    verbose : int
        1 prints a line for every file.
    save_best_only : bool
        Whether to save only a model that is better than all before.
    save_weights_only : bool
        Whether files leave out the optimizer's state and the position in training, which `fit(resume=True)` needs.
        They always contain the architecture: `fastnn.load` makes a model from them, which is not compiled.
    mode : {"auto", "min", "max"}
        Whether smaller or larger values are better; ``"auto"`` decides by the name.
    save_freq : "epoch" or int
        When to save: after every epoch, or after every `save_freq` batches. Training returns to Python
        at least every 100 ms; a file that becomes due in between is written then.
    initial_value_threshold : float or None
        The value that the first model saved by `save_best_only` must beat.

    Attributes
    ----------
    best : float or None
        Best value so far, with `save_best_only`; kept from one training to the next.
    last_path : str or None
        The last file written.
    """

    saves_model = True
    state_names: ClassVar[tuple[str, ...]] = ("best", "last_path", "batches_since_save", "epoch", "last_batch")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        *,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Literal["epoch"] | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        self.filepath = _checked_path(filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = bool(save_best_only)
        self.save_weights_only = bool(save_weights_only)
        self.watched = Monitor("ModelCheckpoint", monitor, mode) if self.save_best_only else None
        if save_freq != "epoch":
            save_freq = integer("ModelCheckpoint save_freq, if not 'epoch'", save_freq)
        self.save_freq = save_freq
        self.best = (
            None
            if initial_value_threshold is None
            else number("ModelCheckpoint initial_value_threshold", initial_value_threshold)
        )
        self.last_path: str | None = None
        self.batches_since_save = 0
        self.epoch = -1
        self.last_batch = -1

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start to count batches; the best value is kept.

        Raises
        ------
        ValueError
            If the file name is that of a folder.
        """
        if os.path.isdir(self.filepath):
            raise ValueError(f"ModelCheckpoint: filepath is the name of a file, got the folder {self.filepath!r}")
        self.batches_since_save = 0
        self.epoch = self.last_batch = -1

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the epoch; a resumed epoch continues with its batches."""
        if epoch != self.epoch:
            self.last_batch = -1
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save if `save_freq` batches have passed."""
        if self.save_freq == "epoch":
            return
        self.batches_since_save += batch - self.last_batch
        self.last_batch = batch
        if self.batches_since_save >= self.save_freq:
            self.batches_since_save %= self.save_freq
            self._save(self.epoch, batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save if `save_freq` is ``"epoch"``."""
        if self.save_freq == "epoch":
            steps = self.params.get("steps")
            self._save(epoch, steps - 1 if steps else 0, logs or {})

    def _save(self, epoch: int, batch: int, logs: Logs) -> None:
        if self.watched is not None:
            if self.watched.rests(epoch, logs, self.params):
                return
            value = self.watched.value(logs)
            if not self.watched.improves(value, self.best):
                return
            self.best = value
        path = self._path({**logs, "epoch": epoch + 1, "batch": batch + 1})
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        before, self.last_path = self.last_path, path
        try:
            self.model.save(path, **({"include_optimizer": False} if self.save_weights_only else {}))
        except BaseException:
            self.last_path = before
            raise
        if self.verbose:
            say(f"Epoch {epoch + 1}: saved the model to {path}")

    def _path(self, fields: Mapping[str, Any]) -> str:
        try:
            return self.filepath.format(**fields)
        except KeyError as error:
            available = ", ".join(fields)
            raise ValueError(
                f"ModelCheckpoint: the file name {self.filepath!r} needs {error}; available are: {available}"
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            # for example from an entry of the logs that a callback added and that is not a number
            raise ValueError(
                f"ModelCheckpoint: the file name {self.filepath!r} cannot be made of {shorten(dict(fields))}: {error}"
            ) from error


def _checked_path(filepath: str | os.PathLike[str]) -> str:
    path = os.fspath(filepath)
    if not isinstance(path, str):
        raise TypeError(f"ModelCheckpoint: filepath is a str or a path, got {filepath!r}")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(path) if field is not None]
    except ValueError as error:
        raise ValueError(f"ModelCheckpoint: the file name {path!r} is not a format: {error}") from error
    if not path or path.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise ValueError(f"ModelCheckpoint: filepath is the name of a file, got the folder {path!r}")
    if "\0" in path:
        raise ValueError(f"ModelCheckpoint: no file can have the name {path!r}")
    if any(not field or field[0].isdigit() for field in fields):
        raise ValueError(f"ModelCheckpoint: the fields of {path!r} need names, such as {{epoch:02d}}")
    return path
