"""The library of compiled CUDA kernels: each is read from disk, or else compiled, when it is first asked for."""

from __future__ import annotations

import functools
from pathlib import Path

from fastnn import cache
from fastnn.backend.cuda.kit import Key, Stage
from fastnn.backend.store import ObjectCode, read_file, write_file

# what makes machine code of kernels, beside Numba, whose version the cache's folder stands for
_PACKAGES = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")


@functools.cache
def _made_by() -> str:
    """Return a hash of this backend's sources and of the packages that compile them."""
    return cache.fingerprint(("backend/cuda",), _PACKAGES)


def path_of(key: Key, number: int, architecture: str) -> Path:
    """Return the file of a kernel's stage."""
    return cache.location() / f"{key}-{number}-sm_{architecture}-{_made_by()}.fnk"


def machine_code(key: Key, number: int, stage: Stage, architecture: str) -> ObjectCode:
    """Return the machine code of a kernel's stage, compiled where the disk has none."""
    try:
        path = path_of(key, number, architecture)
    except OSError:
        path = None
    found = None if path is None else read_file(path)
    if found is not None:
        return ObjectCode(*found)
    from fastnn.backend.cuda.compile import compile_stage

    compiled = compile_stage(stage, architecture)
    code = ObjectCode(compiled.symbol, compiled.code)
    if path is not None:
        write_file(path, code)
    return code
