"""The check that Numba can infer the types of a user's formula: `check_types`, connected with what knows Numba.

It is imported on first use, by name: the rooms that define formulas know no backend.
"""

from __future__ import annotations

from fastnn.formulas.custom import CustomFunction, check_types, check_with
from fastnn.modules import import_later

__all__ = ["check_types"]


def _check(custom: CustomFunction, kind: str) -> None:
    import_later("fastnn.backend.cpu.codegen.custom_types").check(custom, kind)


check_with(_check)
