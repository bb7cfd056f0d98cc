"""The bar over many models: how many are trained, and the mean of their final losses."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from fastnn.console import bar_class, is_interactive, width
from fastnn.training.progress import DRAWING_SECONDS, LOG_SECONDS, duration


class Tally:
    """Counts models; drawn at most twenty times a second, in a log every thirty seconds, and always at the end.

    Parameters
    ----------
    total : int
        How many models there are.
    shown : bool
    """

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.count, self.sum = total, 0, 0.0
        # programs without a console (pythonw) have no standard error
        self.shown = shown and sys.stderr is not None
        self.interval = DRAWING_SECONDS if self.shown and is_interactive() else LOG_SECONDS
        self.begun = self.drawn = time.monotonic()
        self.bar: Any = None

    def add(self, loss: float) -> None:
        """Count a model that is trained."""
        self.count += 1
        self.sum += loss
        if self.shown and time.monotonic() - self.drawn >= self.interval:
            if self.bar is None:
                self._open()
            self._show("{n_fmt}/{total_fmt} models |{bar}| [{elapsed}<{remaining}]")
            self.bar.update(self.count - self.bar.n)
            self.drawn = time.monotonic()

    def _open(self) -> None:
        # the delay only keeps tqdm from drawing the new bar, empty, at once
        options = {"miniters": 0, "mininterval": 0, "delay": 1e-9, **width()}
        self.bar = bar_class()(total=self.total, unit="model", **options)
        if not self.bar.disable:
            self.bar.start_t -= time.monotonic() - self.begun
            self.bar.last_print_t = self.bar.start_t

    def _show(self, text: str) -> None:
        mean = f" mean loss={self.sum / self.count:.4g}" if self.count else ""
        self.bar.bar_format = text + mean

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a line that says what was done."""
        if not self.shown:
            return
        if self.bar is None:
            self._open()
        counted = f"{self.total}" if self.count == self.total else f"{self.count} of {self.total}"
        self._show(f"{counted} model{'s' * (self.total > 1)}: {duration(time.monotonic() - self.begun)}")
        self.bar.n = self.count
        self.bar.close()
