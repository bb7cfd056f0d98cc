"""Pickles with a digest that detects damage: the unpickled code is executed without further checks.

A digest detects accidents, not malice: like any pickle, load these only from sources that you trust.
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any


def sealed(*parts: Any) -> tuple[bytes, bytes]:
    """Pickle parts, and return the pickle and its digest."""
    packed = pickle.dumps(parts, protocol=5)
    return packed, hashlib.sha256(packed).digest()


def opened(packed: bytes, digest: bytes) -> tuple[Any, ...]:
    """Return the parts that `sealed` has pickled.

    Raises
    ------
    ValueError
        When they are damaged.
    """
    if not isinstance(packed, bytes) or hashlib.sha256(packed).digest() != digest:
        raise ValueError("the pickle of a network or learner is damaged: its digest does not match")
    return tuple(pickle.loads(packed))
