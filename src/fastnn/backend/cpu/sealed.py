"""Pickles whose damage is found: what is unpickled here is executed, and nothing checks it when it runs.

A digest finds accidents, not malice: like any pickle, these are for who trusts where they come from.
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any


def sealed(*parts: Any) -> tuple[bytes, bytes]:
    """Pickle parts, and return the digest of the pickle with it."""
    packed = pickle.dumps(parts, protocol=5)
    return packed, hashlib.sha256(packed).digest()


def opened(packed: bytes, digest: bytes) -> tuple[Any, ...]:
    """Return the parts that `sealed` has pickled.

    Raises
    ------
    ValueError
        When they are not what was pickled.
    """
    if not isinstance(packed, bytes) or hashlib.sha256(packed).digest() != digest:
        raise ValueError("the pickle of a network or learner is damaged: its digest is not that of what was pickled")
    return tuple(pickle.loads(packed))
