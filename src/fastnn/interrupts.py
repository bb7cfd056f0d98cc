"""Ctrl-C at a moment at which it would leave something half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = [int(getattr(signal, name)) for name in ("SIGINT", "SIGALRM", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Delay a Ctrl-C until something is finished, and all other signals that raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual: dict[int, Any] = {}
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if _interrupts(number, handler):
            usual[number] = handler
    met: list[Any] = []
    for number in usual:
        signal.signal(number, lambda *arguments: met.append(arguments))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if met:
            usual[met[0][0]](*met[0])


def _interrupts(number: int, handler: Any) -> bool:
    """Return whether a signal is Ctrl-C, with a handler in Python, or raises KeyboardInterrupt as it does."""
    return callable(handler) if number == signal.SIGINT else handler is signal.default_int_handler
