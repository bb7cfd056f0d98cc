"""Object files of the CPU's kernels on disk, by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastnn import cache
from fastnn.backend.cpu.target import cpu
from fastnn.backend.store import ObjectCode, read_file, write_file

__all__ = ["ObjectCode", "path_of", "read", "write"]


def path_of(name: str) -> Path:
    """Return the file of a kernel; its name holds the processor too, so homes may be shared by machines."""
    machine = hashlib.sha256("\0".join(cpu()).encode()).hexdigest()[:8]
    return cache.location() / f"{name}-{machine}.fnk"


def read(name: str) -> tuple[str, bytes] | None:
    """Return the symbol and object file of a kernel, None when there is none or it is damaged."""
    try:
        path = path_of(name)
    except OSError:
        return None
    return read_file(path)


def write(name: str, compiled: ObjectCode) -> None:
    """Keep a compiled kernel; a folder that cannot be made costs the cache, never the run."""
    try:
        path = path_of(name)
    except OSError:
        return
    write_file(path, compiled)
