"""The progress display of a training, which does not slow it down."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from fastnn.console import bar_class, draw_bar, duration, end_bar, is_interactive, make_bar, quantities, say, waited

__all__ = ["Progress"]

# A separate bar costs an epoch 0.14 ms (two drawings), and one that disappears sooner cannot be read.
OWN_BAR_SECONDS = 0.1
# Less than the 100 ms between two returns of the training loop, so that none of them is skipped.
DRAWING_SECONDS = 0.05
# Without a terminal to redraw a bar on, every drawing stays, for example in a log file.
LOG_SECONDS = 30.0


def _now() -> float:
    """Read the clock, which stops while kernels are compiled, because that happens once."""
    return time.monotonic() - waited()


class Progress:
    """The display of one training: nothing, bars, or lines.

    With ``verbose=1`` every long epoch has a bar, which stays as a line with the final
    quantities. Epochs too short to read share one bar over the whole training. Bars are drawn at most
    twenty times per second; a call between two drawings costs about as much as reading the clock.

    Parameters
    ----------
    verbose : int
        0 shows nothing, 1 shows bars on standard error, 2 prints one line per epoch on standard output.

    Raises
    ------
    ValueError
        If `verbose` is none of these.
    """

    def __init__(self, verbose: int | str = 1) -> None:
        if verbose not in (0, 1, 2):
            raise ValueError(f"verbose is 0 (quiet), 1 (bars) or 2 (a line per epoch), got {verbose!r}")
        self.verbose = int(verbose)
        self._bars: _Bars | None = None

    def begin(self, epochs: int, steps_per_epoch: int | None, initial_epoch: int = 0) -> None:
        """Start the display.

        Parameters
        ----------
        epochs : int
            The epoch, counted from 0, at which training ends (exclusive).
        steps_per_epoch : int or None
            Batches per epoch; None if unknown.
        initial_epoch : int
            The first epoch of this training.
        """
        self.close()
        self._epochs = epochs
        self._epoch_begun = _now()
        # Programs without a console (pythonw) have no standard error.
        if self.verbose == 1 and sys.stderr is not None:
            self._bars = _Bars(epochs, steps_per_epoch, initial_epoch)

    def epoch_begin(self, epoch: int) -> None:
        """Note the start of an epoch, counted from 0."""
        if self._bars is not None:
            self._bars.epoch_begin(epoch)
        elif self.verbose == 2:
            self._epoch_begun = _now()

    def update(self, steps_done: int, logs: Mapping[str, float]) -> None:
        """Note the progress of the epoch; draw if it is time to.

        Parameters
        ----------
        steps_done : int
            Batches since the epoch began.
        logs : mapping of str to float
            Loss and metrics so far.
        """
        if self._bars is not None:
            self._bars.update(steps_done, logs)

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Note the end of an epoch and its final quantities, including the validation's."""
        if self._bars is not None:
            self._bars.epoch_end(logs)
        elif self.verbose == 2:
            seconds = _now() - self._epoch_begun
            parts = [f"Epoch {epoch + 1}/{self._epochs}", duration(seconds)]
            say(" - ".join(parts + quantities(logs, ": ")))

    def close(self) -> None:
        """End the display with the last noted state; harmless if it has ended or never begun."""
        if self._bars is not None:
            self._bars.close()
            self._bars = None


class _Bars:
    """At most one bar at a time: of the current epoch, or of the training, shared by its short epochs."""

    def __init__(self, epochs: int, steps: int | None, initial_epoch: int) -> None:
        self.epochs = epochs
        self.steps = steps
        self.epoch = initial_epoch
        self.steps_done = 0
        self.logs: Mapping[str, float] = {}
        self.bar: Any = None
        self.bar_is_shared = False
        #: seconds that the bar's clock leaves out
        self.waited = 0.0
        self.undrawn = False
        self.interval = DRAWING_SECONDS if is_interactive() else LOG_SECONDS
        self.epoch_begun = self.drawn = _now()
        # The start of a shared bar: after the last epoch that had its own bar.
        self.shared_first = initial_epoch
        self.shared_begun = self.epoch_begun

    def epoch_begin(self, epoch: int) -> None:
        self.epoch = epoch
        self.steps_done = 0
        self.epoch_begun = _now()

    def update(self, steps_done: int, logs: Mapping[str, float]) -> None:
        self.steps_done = steps_done
        self.logs = logs
        self.undrawn = True
        now = _now()
        # A short epoch is drawn when it ends, with the quantities of its validation.
        if now - self.drawn >= self.interval and now - self.epoch_begun >= OWN_BAR_SECONDS:
            self.draw(now)

    def epoch_end(self, logs: Mapping[str, float]) -> None:
        self.logs = logs
        self.undrawn = True
        now = _now()
        if self.bar is None and now - self.epoch_begun >= OWN_BAR_SECONDS:
            self.open(now)
        if self.bar is not None and not self.bar_is_shared:
            self.end_bar(now)
            self.shared_first, self.shared_begun = self.epoch + 1, now
        elif now - self.drawn >= self.interval:
            self.draw(now)

    def close(self) -> None:
        now = _now()
        if self.bar is None and self.undrawn:
            self.open(now)
        if self.bar is not None:
            self.end_bar(now)

    def open(self, now: float) -> None:
        """Make the bar for the current epoch or training, without drawing it yet."""
        self.bar_is_shared = now - self.epoch_begun < OWN_BAR_SECONDS
        total = self.steps
        if self.bar_is_shared:
            total = (self.epochs - self.shared_first) * (self.steps or 1)
        self.bar, self.waited = make_bar(bar_class(), total=total, unit="step"), waited()
        if not self.bar.disable:
            self.bar.start_t -= now - (self.shared_begun if self.bar_is_shared else self.epoch_begun)
            self.bar.last_print_t = self.bar.start_t

    def position(self) -> int:
        if not self.bar_is_shared:
            return self.steps_done
        epochs = self.epoch - self.shared_first
        return epochs + 1 if self.steps is None else epochs * self.steps + self.steps_done

    def draw(self, now: float) -> None:
        if self.bar is None:
            self.open(now)
        before, self.waited = self.waited, waited()
        if not self.bar.disable:
            self.bar.start_t += self.waited - before
        head = f"Epoch {self.epoch + 1}/{self.epochs} "
        counter, times = "{n_fmt}/{total_fmt} ", ["[{elapsed}<{remaining}, {rate_fmt}]", "[{elapsed}<{remaining}]"]
        if self.bar_is_shared:
            counter, times = "", times[1:]
        draw_bar(self.bar, self.position(), head, counter, times, quantities(self.logs))
        self.undrawn = False
        self.drawn = _now()

    def end_bar(self, now: float) -> None:
        """Replace the bar by a line, which has room for quantities; tqdm draws it on closing."""
        first = self.shared_first if self.bar_is_shared else self.epoch
        seconds = now - (self.shared_begun if self.bar_is_shared else self.epoch_begun)
        head = f"Epoch{'s' * (first < self.epoch)} {f'{first + 1}-' * (first < self.epoch)}{self.epoch + 1}"
        unfinished = self.steps is not None and self.steps_done < self.steps
        part = f" (step {self.steps_done}/{self.steps})" if unfinished else ""
        position = self.position()
        values = " ".join(quantities(self.logs))
        end_bar(self.bar, position, f"{head}/{self.epochs}{part}: {duration(seconds)} {values}")
        self.bar = None
        self.undrawn = False
        self.drawn = _now()
