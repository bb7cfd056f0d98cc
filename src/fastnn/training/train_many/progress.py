"""The bar over many models: the number trained, and the mean of their final losses."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from fastnn.console import bar_class, draw_bar, duration, end_bar, is_interactive, make_bar, waited
from fastnn.training.progress import DRAWING_SECONDS, LOG_SECONDS


def _now() -> float:
    """Read the clock, which stops while kernels are compiled."""
    return time.monotonic() - waited(by_any=True)


class ModelBar:
    """Counts models; drawn at most twenty times per second, in a log every thirty seconds, and always at the end.

    Parameters
    ----------
    total : int
        The number of models.
    shown : bool
    """

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.count, self.sum = total, 0, 0.0
        # programs without a console (pythonw) have no standard error
        self.shown = shown and sys.stderr is not None
        self.interval = DRAWING_SECONDS if self.shown and is_interactive() else LOG_SECONDS
        self.begun = self.drawn = _now()
        self.bar: Any = None

    def add(self, loss: float) -> None:
        """Count a trained model."""
        self.count += 1
        self.sum += loss
        if self.shown and _now() - self.drawn >= self.interval:
            if self.bar is None:
                self._open()
            head = f"{self.count}/{self.total} models "
            draw_bar(self.bar, self.count, head, "", ["[{elapsed}<{remaining}]"], self._mean())
            self.drawn = _now()

    def _open(self) -> None:
        self.bar = make_bar(bar_class(), total=self.total, unit="model")
        if not self.bar.disable:
            self.bar.start_t -= _now() - self.begun
            self.bar.last_print_t = self.bar.start_t

    def _mean(self) -> list[str]:
        return [f"mean loss={self.sum / self.count:.4g}"] if self.count else []

    def __enter__(self) -> ModelBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a line with the final count."""
        if not self.shown:
            return
        if self.bar is None:
            self._open()
        counted = f"{self.total}" if self.count == self.total else f"{self.count} of {self.total}"
        head = f"{counted} model{'s' * (self.total > 1)}: {duration(_now() - self.begun)}"
        end_bar(self.bar, self.count, " ".join([head, *self._mean()]))
