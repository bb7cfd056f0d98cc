"""Between a buffer of parameters, whose weights are aligned, and a vector, which holds them without gaps."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from fastnn.backend.cpu.layouts.code import WEIGHT_WORDS, CodeWord

_AT, _COUNT = int(CodeWord.WEIGHTS_AT), int(CodeWord.WEIGHTS_COUNT)


@register_jitable
def flatten(code: Any, buffer: Any, flat: Any) -> None:
    """Copy all weights from a buffer into a vector."""
    at, first = code[_AT], 0
    for _ in range(code[_COUNT]):
        start, size = code[at], code[at + 1]
        flat[first : first + size] = buffer[start : start + size]
        first += size
        at += WEIGHT_WORDS


@register_jitable
def unflatten(code: Any, flat: Any, buffer: Any) -> None:
    """Copy all weights from a vector into a buffer."""
    at, first = code[_AT], 0
    for _ in range(code[_COUNT]):
        start, size = code[at], code[at + 1]
        buffer[start : start + size] = flat[first : first + size]
        first += size
        at += WEIGHT_WORDS
