"""Features of the host's processor, read from LLVM, so that Numba need not be imported."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

from fastnn.backend import settings


def is_x86(triple: str) -> bool:
    """Return whether an LLVM target is a processor of the x86 family."""
    return triple.startswith(("x86", "i386", "i686"))


def is_arm64(triple: str) -> bool:
    """Return whether an LLVM target is a 64-bit ARM processor."""
    return triple.startswith(("aarch64", "arm64"))


@cache
def cpu() -> tuple[str, str]:
    """Return the name and the feature string of the processor for which kernels are compiled.

    `NUMBA_CPU_NAME`, `NUMBA_CPU_FEATURES` and `NUMBA_ENABLE_AVX` change them as they do for Numba.
    """
    return settings.processor()


@cache
def vector_bytes() -> int:
    """Return the width in bytes of the processor's vector registers: 64 (AVX-512), 32 (AVX2) or 16."""
    features = set(cpu()[1].split(","))
    if "+avx512f" in features:
        return 64
    return 32 if "+avx2" in features and "+fma" in features else 16


@cache
def vector_registers() -> int:
    """Return the number of vector registers: 32 with AVX-512 and on ARM, else 16."""
    return 32 if vector_bytes() == 64 or not is_x86(llvm.get_default_triple()) else 16
