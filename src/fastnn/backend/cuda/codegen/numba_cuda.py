"""Numba's CUDA target: the simulator or numba-cuda, which is imported here, and what is missing of it."""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastnn.errors import DeviceError

INSTALL = 'in a checkout of fastnn, python -m pip install ".[cuda]"'


def simulated() -> bool:
    """Return whether Numba's simulator is used instead of a GPU."""
    numba = sys.modules.get("numba")
    if numba is not None:
        return bool(numba.config.ENABLE_CUDASIM)
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@functools.cache
def missing_package() -> str | None:
    """Return which package of CUDA is missing, or None."""
    try:
        version("numba-cuda")
    except PackageNotFoundError:
        return f"numba-cuda is not installed: {INSTALL}"
    try:
        from cuda.bindings import driver  # noqa: F401
        from cuda.core import Linker  # noqa: F401
    except ImportError as error:
        return f"a part of CUDA's Python packages is missing ({error}): {INSTALL}"
    return None


@functools.cache
def load_numba() -> Any:
    """Import numba-cuda and all of its array functions, and return it.

    It was written for NumPy 2.4: NumPy 2.5 has no `row_stack`, and warns of a time without a unit. Both matter only
    here.
    """
    import numpy as np

    missing = not hasattr(np, "row_stack")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if missing:
            vars(np)["row_stack"] = np.vstack
        try:
            from numba import cuda

            if getattr(cuda, "implementation", "") == "NVIDIA" and not simulated():
                importlib.import_module("numba.cuda.cudaimpl")
        finally:
            if missing:
                del vars(np)["row_stack"]
    return cuda


@functools.cache
def wrong_numba() -> str | None:
    """Return why `numba.cuda` is not numba-cuda, or None if it is."""
    if getattr(load_numba(), "implementation", "") == "NVIDIA":
        return None
    return (
        "numba.cuda is Numba's old version, not numba-cuda's: it was imported first, or "
        f"numba-cuda is damaged; {INSTALL}"
    )


def checked_architecture(text: str) -> str:
    """Return the architecture to compile for without a GPU, such as "90a" for "9.0", "90" or "90a".

    Raises
    ------
    ValueError
        When fastnn's kernels do not run on it.
    DeviceError
        When a part of the compiler is missing.
    """
    from fastnn.backend.cuda.codegen.sizes import ARCHITECTURES, MINIMUM, architecture_of

    match = re.fullmatch(r"(\d{1,2})\.?(\d)[af]?", text)
    capability = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if capability < MINIMUM:
        raise ValueError(f"architecture: expected one from 75 on, such as {', '.join(ARCHITECTURES)}, got {text!r}")
    text = architecture_of(capability)
    reason = missing_package() or wrong_numba()
    if reason is not None:
        raise DeviceError(f"kernels for sm_{text} cannot be compiled: {reason}")
    return text
