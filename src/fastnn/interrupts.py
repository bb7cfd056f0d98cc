"""Ctrl-C at a moment at which it would leave something half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Delay a Ctrl-C until something is finished, and all other signals that raise KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in _numbers()}
    usual = {number: handler for number, handler in usual.items() if callable(handler)}
    met: list[Any] = []
    for number in usual:
        signal.signal(number, lambda *arguments: met.append(arguments))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if met:
            handler = usual[met[0][0]]
            assert callable(handler)
            handler(*met[0])


def _numbers() -> list[int]:
    """Return the signals that interrupt."""
    others = (getattr(signal, name, None) for name in ("SIGALRM", "SIGTERM", "SIGUSR1"))
    raising = [one for one in others if one is not None and signal.getsignal(one) is signal.default_int_handler]
    return [signal.SIGINT, *raising]
