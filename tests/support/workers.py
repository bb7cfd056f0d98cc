"""Waiting for the thread team in tests."""

from __future__ import annotations

import time

from fastnn.backend.cpu.threads import thread_pool


def until_workers_sleep() -> None:
    """Wait until the team has nothing to do and its workers sleep."""
    deadline = time.monotonic() + 60
    while thread_pool._team.sleepers.value == 0:
        assert time.monotonic() < deadline, "no worker went to sleep"
        time.sleep(0.01)
