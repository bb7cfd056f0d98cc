"""Fixtures of all tests."""

import os
import re
import signal

import pytest

from fastnn.backend.cpu.executor import sharing

# small calls have their codes after the same number of calls, whatever the disk has; also in processes that tests start
os.environ.setdefault("FASTNN_BACKGROUND", "0")


def pytest_collection_modifyitems(items):
    """Refuse names of tests that contain addresses: processes that share the tests (-n 2) have to agree on names."""
    for item in items:
        if re.search(r"\b0x[0-9a-f]{6,}", item.nodeid):
            raise pytest.UsageError(f"{item.nodeid}: the name of a test holds an address; give it ids=")


@pytest.fixture(autouse=True, scope="session")
def teams_share_what_they_can():
    """Share short programs, too, where tests ask for several threads, and do not measure whether that pays."""
    sharing.MOST_NANOSECONDS = 0.0


@pytest.fixture
def ctrl_c():
    """Make SIGINT raise KeyboardInterrupt: a shell's background jobs start with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
