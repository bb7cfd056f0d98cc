"""Object files of the CPU's kernels on disk, by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastnn import cache
from fastnn.backend.cpu.processor.target import cpu
from fastnn.backend.settings import code_settings
from fastnn.backend.store import ObjectCode, read_file, write_file

__all__ = ["ObjectCode", "path_of", "read", "write"]


def path_of(name: str) -> Path | None:
    """Return the file of a kernel, or None if no files are kept.

    Its name contains the processor, so that machines may share a home folder, and Numba's settings.
    """
    folder = cache.location()
    if folder is None:
        return None
    made_for = hashlib.sha256("\0".join((*cpu(), *code_settings())).encode()).hexdigest()[:8]
    return folder / f"{name}-{made_for}.fnk"


def read(name: str) -> ObjectCode | None:
    """Return a kernel, or None if it is missing or damaged."""
    path = path_of(name)
    return None if path is None else read_file(path)


def write(name: str, compiled: ObjectCode) -> None:
    """Keep a compiled kernel; if a folder cannot be made, it is not kept, without an error."""
    path = path_of(name)
    if path is not None and compiled.lasting:
        write_file(path, compiled)
