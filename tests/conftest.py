"""Fixtures of all tests."""

import signal

import pytest


@pytest.fixture
def ctrl_c():
    """Let SIGINT raise KeyboardInterrupt: a shell's background jobs begin with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
