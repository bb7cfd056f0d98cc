"""Console output: lines and progress bars. It never ends a run.

A stream may be missing (pythonw), closed, full, a pipe whose reader has left, or unable to write a letter. Then less is
shown, and nothing is raised.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fastnn.locks import importing

T = TypeVar("T")

# compiling fewer takes only a moment
_LEAST = 3
_COLUMNS = 80


def is_interactive() -> bool:
    """Return whether standard error is a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    try:
        return bool(sys.stderr.isatty())
    except Exception:
        return False


def columns() -> int | None:
    """Return the terminal's width, 80 if unknown; None if lines may have any length."""
    if "ipykernel" in sys.modules or not is_interactive():
        return None
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except Exception:
        return _COLUMNS


def say(text: str) -> None:
    """Print a line on standard output without breaking a progress bar; failures are ignored."""
    with contextlib.suppress(Exception), _between_bars():
        write(text + "\n", "stdout")


def complain(text: str) -> None:
    """Print a line on standard error; failures are ignored."""
    with contextlib.suppress(Exception), _between_bars():
        write(text + "\n", "stderr")


def tell(text: str) -> None:
    """Print a line that is the result of a command, on standard output.

    Raises
    ------
    Exception
        The stream's exceptions: a command has to know that its result was not delivered.
    """
    with _between_bars():
        write(text + "\n", "stdout")


def write(text: str, stream_name: str) -> None:
    """Write text to "stdout" or "stderr" at once; letters that it cannot write become question marks.

    Raises
    ------
    Exception
        The stream's exceptions.
    """
    stream = getattr(sys, stream_name)
    # programs without a console (pythonw) have no streams
    if stream is None:
        return
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if raw is None or os.name != "posix":
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(stream, "encoding", None) or "ascii"
            stream.write(text.encode(encoding, "replace").decode(encoding))
        if hasattr(stream, "flush"):
            stream.flush()
        return
    stream.flush()
    # Not through the buffer: text that cannot be written would stay there, and the interpreter fails when it exits.
    rest = _encoded(text, stream.encoding, stream.errors)
    while rest:
        count = raw.write(rest)
        if count is None:
            raise BlockingIOError(f"{stream_name} is full")
        rest = rest[count:]


def _encoded(text: str, encoding: str, errors: str | None) -> bytes:
    try:
        return text.encode(encoding, errors or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "replace")


@contextlib.contextmanager
def _between_bars() -> Iterator[None]:
    """Clear the console's bars, and draw them again afterwards."""
    tqdm: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if not getattr(tqdm, "_instances", None):
        yield
        return
    with tqdm.get_lock():
        bars = [bar for bar in list(tqdm._instances) if _on_console(bar)]
        for bar in bars:
            bar.clear(nolock=True)
        try:
            yield
        finally:
            for bar in bars:
                bar.refresh(nolock=True)


def _on_console(bar: Any) -> bool:
    """Return whether a bar, ours or another program's, has been drawn on the console."""
    file = getattr(getattr(bar, "fp", None), "_wrapped", getattr(bar, "fp", None))
    return hasattr(bar, "start_t") and (isinstance(file, _StandardError) or file in (sys.stdout, sys.stderr))


class _StandardError:
    """Standard error as tqdm needs it; text that cannot be written is not shown."""

    def __init__(self) -> None:
        self.encoding = getattr(sys.stderr, "encoding", None)

    def write(self, text: str) -> None:
        """Write text, if possible."""
        with contextlib.suppress(Exception):
            write(text, "stderr")

    def flush(self) -> None:
        """Do nothing: everything is written immediately."""


@functools.cache
def bar_class() -> Any:
    """Return tqdm's bar of text.

    Its bars of widgets are not for notebooks that others read: the file has what was drawn first, if anything.
    """
    with importing:
        from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        # Otherwise tqdm starts a thread that looks for bars that have not been drawn for a while.
        monitor_interval = 0

    return Bar


def make_bar(kind: Any, **options: Any) -> Any:
    """Make a bar on standard error that is drawn when it is updated, but not when it is made.

    Parameters
    ----------
    kind : class
        From `bar_class`.
    **options
        tqdm's.
    """
    # The delay only keeps tqdm from drawing the new bar, empty, immediately.
    usual: dict[str, Any] = {"miniters": 0, "mininterval": 0, "delay": 1e-9}
    if "ipykernel" in sys.modules:
        # each drawing on standard error would be an output of its own in the notebook's file
        usual |= {"file": _notebook_line()}
    else:
        usual |= {"file": _StandardError(), "ncols": columns()}
    return kind(**usual | options)


def _notebook_line() -> Any:
    """Return where a bar is drawn in a notebook."""
    try:
        from IPython.display import display
    except ImportError:
        return _StandardError()
    return _NotebookLine(display)


class _NotebookLine:
    """A line of a cell's output, which is replaced in place; tqdm writes a return before each new one."""

    encoding = "utf-8"

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._shown: Any = None
        self._text = ""

    def write(self, text: str) -> None:
        """Replace the line by what follows the last return, if possible."""
        line = text.rpartition("\r")[2].rstrip()
        # tqdm ends a bar that stays with a new line
        if line == self._text or text == "\n":
            return
        self._text = line
        data = {"text/plain": line} if line else {"text/plain": "", "text/html": ""}
        with contextlib.suppress(Exception):
            if self._shown is None:
                self._shown = self._display(data, raw=True, display_id=True)
            else:
                self._shown.update(data, raw=True)

    def flush(self) -> None:
        """Do nothing: everything is shown immediately."""


def draw_bar(bar: Any, position: int, head: str, counter: str, times: Sequence[str], values: Sequence[str]) -> None:
    """Draw a bar, cut to the terminal's width: values come first, then the bar, then times.

    Parameters
    ----------
    position : int
        The amount of work done.
    head, counter : str
        The text before the bar, and after it.
    times : sequence of str
        Formats of times, the longest first.
    values : sequence of str
        Quantities.
    """
    width, tail = columns(), " ".join(values)
    middle = f"|{{bar}}| {counter}{times[0]} "
    if width is not None:
        bar.ncols = width
        candidates = [f"|{{bar}}| {counter}{each} " for each in times] + [f"|{{bar}}| {counter}", counter, ""]
        room = width - len(head) - len(tail)
        middle = next((each for each in candidates if _length(each, bar) <= room), "")
        if not middle and room < 0:
            # one column free: a terminal may begin a new line after the last one
            tail = tail[: max(0, width - len(head) - 4)] + "..."
    bar.bar_format = _plain(head) + middle + _plain(tail)
    bar.update(position - bar.n)


def _length(text: str, bar: Any) -> int:
    """Estimate the length of a format, with a bar of eight letters."""
    lengths = {"{bar}": 8, "{elapsed}": 5, "{remaining}": 5, "{rate_fmt}": 12, "{n_fmt}": len(str(bar.total))}
    lengths["{total_fmt}"] = lengths["{n_fmt}"]
    return len(text) + sum(length - len(name) for name, length in lengths.items() if name in text)


def end_bar(bar: Any, position: int, text: str) -> None:
    """Replace a bar by a line of any length."""
    bar.bar_format = _plain(text)
    if "ipykernel" not in sys.modules:
        bar.ncols = None
    bar.n = position
    bar.close()


def _plain(text: str) -> str:
    """Escape text for a bar's format."""
    return text.replace("{", "{{").replace("}", "}}")


def quantities(values: Mapping[Any, Any], between: str = "=") -> list[str]:
    """Return each quantity's name and value as text; values that are not numbers are shortened."""
    return [f"{name}{between}{_quantity(value)}" for name, value in values.items()]


def _quantity(value: Any) -> str:
    try:
        text = f"{value:.4g}" if not isinstance(value, str) else value if value.isprintable() else repr(value)
    except Exception:
        try:
            text = " ".join(repr(value).split())
        except Exception:
            text = type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."


def duration(seconds: float) -> str:
    """Return a number of seconds as text."""
    return f"{seconds:.3g} s" if seconds < 100.0 else f"{seconds:.0f} s"


class _Waited(threading.local):
    """The time that the calling thread has waited for kernels."""

    seconds = 0.0
    waiting = False


class _Everyone:
    """The time during which any thread waited for kernels."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count, self.since, self.seconds = 0, 0.0, 0.0


_waited = _Waited()
_everyone = _Everyone()


def _renew_everyone() -> None:
    """Reset in a child process, which does not have the threads that waited."""
    global _everyone
    _everyone = _Everyone()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_everyone)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Count the time of this block as compilation, not as training."""
    if _waited.waiting:
        yield
        return
    everyone, begin = _everyone, time.monotonic()
    _waited.waiting = True
    with everyone.lock:
        if everyone.count == 0:
            everyone.since = begin
        everyone.count += 1
    try:
        yield
    finally:
        end = time.monotonic()
        _waited.seconds += end - begin
        try:
            with everyone.lock:
                everyone.count -= 1
                if everyone.count == 0:
                    everyone.seconds += end - everyone.since
        finally:
            # not earlier: a signal handler that ran a model would wait for the lock, which this thread holds
            _waited.waiting = False


def waited(*, by_any: bool = False) -> float:
    """Return the seconds that this thread, or any, has waited for kernels so far.

    Displays of training subtract them, because a wait that happens once says nothing about the remaining time.
    """
    return _everyone.seconds if by_any else _waited.seconds


@contextlib.contextmanager
def unannounced() -> Iterator[None]:
    """Show no lines about compilation in this thread: the caller has its own."""
    _silent.on = True
    try:
        yield
    finally:
        _silent.on = False


class _Silent(threading.local):
    on = False


_silent = _Silent()


def compiling(kernels: Collection[T], what: str) -> Iterator[T]:
    """Iterate over kernels to compile: with a bar on a terminal, else with a line before and one after.

    Nothing is shown for one or two of them.
    """
    if len(kernels) < _LEAST:
        yield from kernels
        return
    if not is_interactive():
        if _silent.on:
            yield from kernels
            return
        begin = time.monotonic()
        complain(f"fastnn: compiling {len(kernels)} {what} for this processor, once ...")
        yield from kernels
        complain(f"fastnn: compiled {len(kernels)} {what} in {duration(time.monotonic() - begin)}")
        return
    bar = make_bar(
        bar_class(), total=len(kernels), desc=f"compiling {what} (once)", unit="kernel", leave=False, delay=0
    )
    try:
        for kernel in kernels:
            yield kernel
            bar.update()
    finally:
        bar.close()
