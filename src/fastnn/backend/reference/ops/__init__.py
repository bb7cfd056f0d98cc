"""The meaning of every op, in plain NumPy: each module registers the functions of a family of ops."""

from __future__ import annotations

from fastnn.backend.reference.instruction import EXECUTE as EXECUTE
from fastnn.modules import import_all

# each module fills its part of EXECUTE on import
import_all(__name__, __path__)
