"""Prepared calls by what determines them: a limited number, and markers for what is not prepared."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Larger arrays are not copied through locked memory that is kept.
MOST_BYTES = 1 << 18


def keep(kept: dict[Any, Any], key: Any, value: Any, markers: Collection[Any], most: int = 64) -> None:
    """Put a value into a dictionary of at most `most`, instead of the oldest marker, or else of the oldest value."""
    kept.pop(key, None)
    while len(kept) >= most:
        # a copy of the dictionary, which other threads may empty
        held = list(kept.items())
        oldest = next((each for each, marker in held if any(marker is one for one in markers)), None)
        kept.pop(held[0][0] if oldest is None and held else oldest, None)
    kept[key] = value
