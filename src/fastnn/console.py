"""Progress bars: on a terminal or in a notebook, and nowhere else."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from fastnn.locks import importing

T = TypeVar("T")

# fewer take no longer than a moment
_LEAST = 3


def is_interactive() -> bool:
    """Tell whether somebody sees what is written to the standard error."""
    isatty = getattr(sys.stderr, "isatty", None)
    return "ipykernel" in sys.modules or (isatty is not None and bool(isatty()))


def width() -> dict[str, int | bool]:
    """Follow the terminal's width; containers may give it 0 columns, where tqdm would draw nothing."""
    try:
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": 80, "nrows": 24}
    except (AttributeError, OSError, ValueError):
        pass
    return {"dynamic_ncols": True}


@functools.cache
def bar_class() -> Any:
    """Return tqdm's bar for this console or notebook; one without widgets gets text, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with importing:
            from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        # Otherwise tqdm starts a thread that looks for bars that have not been drawn for long.
        monitor_interval = 0

    return Bar


def compiling(kernels: Sequence[T], what: str) -> Iterator[T]:
    """Walk kernels that have to be compiled, behind a bar where somebody waits for several."""
    if len(kernels) < _LEAST or not is_interactive():
        yield from kernels
        return
    options = {"desc": f"compiling {what} (once)", "unit": "kernel", "leave": False, **width()}
    with bar_class()(kernels, **options) as bar:
        yield from bar
