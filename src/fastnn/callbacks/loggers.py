"""Writing down what happens, and hooks made of plain functions."""

import csv
import io
import os
from collections.abc import Callable
from typing import Any, ClassVar

from fastnn.callbacks.base import Callback, Logs

__all__ = ["CSVLogger", "LambdaCallback"]


class CSVLogger(Callback):
    """Write one row per epoch to a CSV file (``keras.callbacks.CSVLogger``).

    The columns are ``epoch``, counted from 0, and the quantities of the logs. A quantity that turns up later
    gets a new last column; rows that lack one have an empty field. A row is in the file when its epoch has
    ended. Missing folders are made.

    Parameters
    ----------
    filename : str or os.PathLike
        The file.
    separator : str
        One character between the fields.
    append : bool
        Whether to go on with an existing file; otherwise a training begins a new one, unless it is resumed.
    """

    state_names: ClassVar[tuple[str, ...]] = ("begun",)

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ValueError(f"CSVLogger: separator is one character other than a quote, got {separator!r}")
        self.separator = separator
        self.append = bool(append)
        self.begun = False
        self._columns: list[str] = []
        self._file: io.TextIOWrapper | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Leave the file of an earlier training."""
        self.close()
        self.begun = False

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a row."""
        row = {"epoch": epoch, **(logs or {})}
        if self._file is None:
            self._begin()
        new = [name for name in row if name not in self._columns]
        if new:
            rows = self._rows()
            self._columns += new
            self._rewrite(rows)
        self._write(row)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        keep = self.begun or self.append
        self.begun = True
        os.makedirs(os.path.dirname(self.filename) or ".", exist_ok=True)
        self._file = open(self.filename, "a+" if keep else "w+", newline="", encoding="utf-8")  # noqa: SIM115
        self._rows()

    def _rows(self) -> list[dict[str, Any]]:
        """Read the file: its rows, and its columns."""
        assert self._file is not None
        self._file.seek(0)
        reader = csv.DictReader(self._file, delimiter=self.separator)
        rows = list(reader)
        self._columns = list(reader.fieldnames or [])
        self._file.seek(0, os.SEEK_END)
        return rows

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        csv.writer(self._file, delimiter=self.separator).writerow(self._columns)
        for row in rows:
            self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        assert self._file is not None
        csv.writer(self._file, delimiter=self.separator).writerow([row.get(name, "") for name in self._columns])
        self._file.flush()


class LambdaCallback(Callback):
    """A callback made of functions (``keras.callbacks.LambdaCallback``).

    Parameters
    ----------
    on_train_begin, on_train_end, on_test_begin, on_test_end : callable or None
        Functions of ``(logs)``.
    on_epoch_begin, on_epoch_end : callable or None
        Functions of ``(epoch, logs)``.
    on_train_batch_begin, on_train_batch_end : callable or None
        Functions of ``(batch, logs)``.
    every_batch : bool
        Whether `on_train_batch_end` has to be called for every batch; see `Callback`.
    """

    def __init__(
        self,
        *,
        on_train_begin: Callable[[Logs], object] | None = None,
        on_train_end: Callable[[Logs], object] | None = None,
        on_epoch_begin: Callable[[int, Logs], object] | None = None,
        on_epoch_end: Callable[[int, Logs], object] | None = None,
        on_train_batch_begin: Callable[[int, Logs], object] | None = None,
        on_train_batch_end: Callable[[int, Logs], object] | None = None,
        on_test_begin: Callable[[Logs], object] | None = None,
        on_test_end: Callable[[Logs], object] | None = None,
        every_batch: bool = False,
    ) -> None:
        self.every_batch = bool(every_batch)
        hooks = {
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            "on_test_begin": on_test_begin,
            "on_test_end": on_test_end,
        }
        for name, function in hooks.items():
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"LambdaCallback: {name} is a function, got {function!r}")
            setattr(self, name, function)
