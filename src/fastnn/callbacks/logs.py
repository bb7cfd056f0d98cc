"""The entries of logs that are numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any


def numbers_of(logs: Mapping[Any, Any] | None) -> dict[str, float]:
    """Return the entries that are numbers with a name; texts, None, and arrays of several are left out."""
    found = {}
    for name, value in (logs or {}).items():
        if not isinstance(name, str) or isinstance(value, (str, bytes)):
            continue
        # anything that converts to a number: NumPy's, those of other libraries, arrays without axes
        with contextlib.suppress(Exception):
            if not getattr(value, "ndim", 0):
                found[name] = float(value)
    return found
