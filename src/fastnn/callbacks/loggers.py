"""Logging to CSV files, and hooks made of plain functions."""

import contextlib
import csv
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastnn.callbacks.base import Callback, Logs
from fastnn.files import write_whole

__all__ = ["CSVLogger", "LambdaCallback"]

# spreadsheets write this at the beginning of files in UTF-8
_MARK = b"\xef\xbb\xbf"


class CSVLogger(Callback):
    """Write one row per epoch to a CSV file (``keras.callbacks.CSVLogger``).

    The columns are ``epoch``, counted from 0, and the quantities of the logs. A quantity that appears later
    gets a new last column; rows without it have an empty field. Each row is written when its epoch
    ends; a resumed training replaces the rows of the epochs that it repeats. Missing folders are created. If a
    row cannot be written (no space left), one RuntimeWarning says so, and training continues.

    Parameters
    ----------
    filename : str or os.PathLike
        The file.
    separator : str
        One character between the fields.
    append : bool
        Whether to append to an existing file, with its columns and line ends; otherwise a training starts
        a new file, unless it is resumed.
    """

    state_names: ClassVar[tuple[str, ...]] = ("begun",)

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ValueError(f"CSVLogger: separator is one character other than a quote, got {separator!r}")
        self.separator = separator
        self.append = bool(append)
        self.begun = False
        self._resumed = False
        self._warned = False
        self._columns: list[str] = []
        self._end = "\r\n"
        self._file: io.TextIOWrapper | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Close the file of an earlier training; check that a file to be appended to can be read and written.

        Raises
        ------
        OSError
            When the file cannot be written.
        ValueError
            When the file has another separator or encoding.
        """
        self.close()
        self.begun = self._resumed = self._warned = False
        os.makedirs(os.path.dirname(self.filename) or ".", exist_ok=True)
        with open(self.filename, "ab"):
            # before anything is computed: the file may not be writable
            pass
        if self.append:
            self._open(keep=True)
            self.close()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`."""
        super().set_state(state)
        self._resumed = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a row."""
        row = {"epoch": epoch, **{str(name): value for name, value in (logs or {}).items() if name != "epoch"}}
        try:
            if self._file is None:
                self._open(keep=self.begun or self.append, before=epoch if self._resumed else None)
                self.begun, self._resumed = True, False
            new = [name for name in row if name not in self._columns]
            if new and not self._changeable() and not self._columns:
                self._columns = new
                self._write(new)
            elif new and self._changeable():
                rows = self._rows()
                width = max([len(self._columns), *map(len, rows)])
                # fields without a column name keep their position
                self._columns += [""] * (width - len(self._columns)) + new
                self._rewrite(rows)
            self._write(self._fields(row))
        except (OSError, ValueError) as error:
            if self._file is not None and self._file.closed:
                self._file = None
            if not self._warned:
                self._warned = True
                warnings.warn(f"CSVLogger: {self.filename!r} lacks rows: {error}", RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            # data that a full disk has not taken by now are lost, with a warning
            with contextlib.suppress(OSError):
                file.close()

    def _open(self, keep: bool, before: int | None = None) -> None:
        """Open the file for new rows: a new one, or an existing one without its rows from an epoch on."""
        os.makedirs(os.path.dirname(self.filename) or ".", exist_ok=True)
        self._columns, self._end = [], "\r\n"
        # bytes that are not UTF-8 are written back unchanged
        options: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
        self._file = open(self.filename, "a" if keep else "w", **options)  # noqa: SIM115
        if not keep or not self._changeable():
            return
        rows = self._rows()
        again = 0 if before is None else _repeated(rows, self._columns, before)
        if again:
            self._rewrite(rows[: len(rows) - again])

    def _changeable(self) -> bool:
        """Return whether the file can be read and written again, unlike a pipe or a device."""
        return stat.S_ISREG(os.stat(self.filename).st_mode)

    def _rows(self) -> list[list[str]]:
        """Read the file: the fields of its rows, its columns and line ends; completes its last line."""
        with open(self.filename, "rb") as file:
            contents = file.read()
        if contents[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"CSVLogger: {self.filename!r} is in UTF-16, rows are in UTF-8: give another file")
        text = contents.removeprefix(_MARK).decode("utf-8", "surrogateescape")
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=self.separator) if row]
        except csv.Error as error:
            raise ValueError(f"CSVLogger: {self.filename!r} is not a CSV file: {error}") from error
        self._columns = rows[0] if rows else []
        if len(self._columns) == 1 and self._columns != ["epoch"] and re.search(r"\bepoch\b", self._columns[0]):
            raise ValueError(
                f"CSVLogger: {self.filename!r} begins with {self._columns[0]!r}: pass the separator that it uses"
            )
        ends = re.search("\r\n|\n|\r", text)
        if ends is not None:
            self._end = ends[0]
        if text and not text.endswith(("\n", "\r")):
            assert self._file is not None
            self._file.write(self._end)
            self._file.flush()
        return rows[1:]

    def _rewrite(self, rows: list[list[str]]) -> None:
        """Replace the file by its columns and these rows."""
        assert self._file is not None
        with open(self.filename, "rb") as file:
            mark = _MARK if file.read(len(_MARK)) == _MARK else b""
        text = io.StringIO(newline="")
        width = len(self._columns)
        whole = [self._columns, *(row + [""] * (width - len(row)) for row in rows)]
        csv.writer(text, delimiter=self.separator, lineterminator=self._end).writerows(whole)
        self._file.close()
        write_whole(self.filename, mark, text.getvalue().encode("utf-8", "surrogateescape"))
        columns, end = self._columns, self._end
        self._open(keep=True)
        self._columns, self._end = columns, end

    def _fields(self, row: Mapping[str, Any]) -> list[Any]:
        """Return a row's values by column; of several columns with one name, the first gets the value."""
        fields: list[Any] = [""] * len(self._columns)
        for name, value in row.items():
            if name in self._columns:
                fields[self._columns.index(name)] = _field(value)
        return fields

    def _write(self, fields: list[Any]) -> None:
        assert self._file is not None
        csv.writer(self._file, delimiter=self.separator, lineterminator=self._end).writerow(fields)
        self._file.flush()


def _field(value: Any) -> Any:
    """Return the content of a field: a number, a text, nothing for None, all elements of an array."""
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        with contextlib.suppress(Exception):
            return to_list()
    return value


def _repeated(rows: list[list[str]], columns: list[str], epoch: int) -> int:
    """Return how many of the last rows, with ascending epochs (one training), are of an epoch or later ones."""
    count, later = 0, float("inf")
    if "epoch" not in columns:
        return 0
    place = columns.index("epoch")
    for row in reversed(rows):
        try:
            number = int(row[place])
        except (ValueError, IndexError):
            break
        if not epoch <= number < later:
            break
        count, later = count + 1, number
    return count


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
        Whether to call `on_train_batch_end` for every batch; see `Callback`.
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
