"""The library of compiled CUDA kernels: each is read from disk, or else compiled, on first use."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from fastnn import cache
from fastnn.backend.cuda.codegen.kernel import Key, Stage
from fastnn.backend.settings import cuda_settings
from fastnn.backend.store import ObjectCode, read_file, write_file
from fastnn.formulas import custom

#: a kernel, a stage's number, and the stage
Part = tuple[Key, int, Stage]

# the packages that compile kernels, besides Numba, whose version is part of the cache folder's name
_PACKAGES = ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink")


@functools.cache
def _made_by() -> str:
    """Return a hash of this backend's sources and of the packages that compile them."""
    return cache.fingerprint(("backend/cuda",), _PACKAGES)


def path_of(key: Key, number: int, architecture: str) -> Path | None:
    """Return the file of a kernel's stage, or None if no files are kept."""
    folder = cache.location()
    if folder is None:
        return None
    settings = cuda_settings()
    under = hashlib.sha256("\0".join(settings).encode()).hexdigest()[:8] if settings else "plain"
    return folder / f"{key}-{number}-sm_{architecture}-{_made_by()}-{under}.fnk"


def missing(parts: Sequence[Part], architecture: str) -> list[Part]:
    """Return the stages of kernels that would have to be compiled."""
    if architecture == "simulated":
        return []
    places = [(part, path_of(part[0], part[1], architecture)) for part in parts]
    return [part for part, place in places if place is None or not place.exists()]


def machine_code(key: Key, number: int, stage: Stage, architecture: str) -> ObjectCode:
    """Return the machine code of a kernel's stage, compiled if the disk has none.

    Raises
    ------
    ValueError
        When a user-defined function cannot be compiled, or has changed.
    """
    users = custom.find(key.variant)
    path = path_of(key, number, architecture) if users is None or users.cacheable else None
    found = None if path is None else read_file(path)
    if found is not None:
        return found
    from fastnn.backend.cuda.codegen.compile import compile_stage

    if users is not None:
        users.check_unchanged()
    try:
        compiled = compile_stage(stage, architecture)
    except Exception as error:
        if users is None:
            raise
        raise ValueError(
            f"numba-cuda cannot compile the function {users.name!r} for {key.dtype} numbers: {error}"
        ) from error
    code = ObjectCode(compiled.symbol, compiled.code)
    if path is not None:
        write_file(path, code)
    return code
