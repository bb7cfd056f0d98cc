"""Control records of loops: they launch nothing, since the list of launches has the rounds (`launch/loops.py`)."""

from __future__ import annotations

from fastnn.backend.cuda.codegen.kernel import Kit, Stage, kernel


@kernel("repeat", "window")
def control(kit: Kit) -> list[Stage]:
    """Return no stages."""
    return []
