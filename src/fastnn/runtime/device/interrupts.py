"""Ctrl-C during a run on a GPU."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Delay a Ctrl-C until a run is finished and the host has recorded what it changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):
        yield
        return
    met: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: met.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if met:
            usual(*met[0])
