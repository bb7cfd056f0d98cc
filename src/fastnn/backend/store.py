"""Machine code on disk: one file a kernel, written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAGIC = b"fastnn kernel 1\n"


@dataclass(frozen=True)
class ObjectCode:
    """Machine code of one function: an object file, and the symbol to call.

    `environments` are what parts of it that call Python need, by the variables that point to them; such code belongs
    to its process.
    """

    symbol: str
    code: bytes
    environments: tuple[tuple[str, Any], ...] = ()


def read_file(path: Path) -> tuple[str, bytes] | None:
    """Return the symbol and object file of a kernel, None when there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    magic, digest, rest = data[: len(_MAGIC)], data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if magic != _MAGIC or hashlib.sha256(rest).digest() != digest:
        return None
    symbol, _, code = rest.partition(b"\0")
    return symbol.decode(), code


def write_file(target: Path, compiled: ObjectCode) -> None:
    """Keep a compiled kernel.

    Processes that compile the same kernel at the same time write files of their own and rename them into
    place: each reader sees one whole file. A full or read-only disk costs the cache, never the run.
    """
    rest = compiled.symbol.encode() + b"\0" + compiled.code
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(rest).digest() + rest)
            os.replace(temporary, target)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return
