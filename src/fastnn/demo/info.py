"""What this installation is, and what it found on this machine."""

from __future__ import annotations

import ctypes
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastnn as fnn
from fastnn.program.disassembly import format_bytes

_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def installed(package: str) -> str:
    """Return the version of an installed package, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the processor's name as its maker writes it, where the system tells."""
    path = Path("/proc/cpuinfo")
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def threads() -> str:
    """Tell on how many threads kernels run, and why."""
    try:
        return f"{fnn.get_num_threads()}, from {fnn.threads.reason()}"
    except ValueError as error:
        return f"none: {error}"


def cuda() -> str:
    """Tell what there is of CUDA."""
    parts = [f"numba-cuda {installed('numba-cuda')}", f"NVIDIA driver {'found' if _has_driver() else 'not found'}"]
    return ", ".join(parts) + "; this version of fastnn runs on the CPU only"


def _has_driver() -> bool:
    name = _DRIVERS.get(sys.platform)
    if name is None:
        return False
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def describe() -> str:
    """Return versions, processor, threads, cache and CUDA, one a line."""
    from fastnn.backend.cpu import target

    entries = fnn.cache.entries()
    rows = {
        "fastnn": f"{fnn.__version__} in {Path(fnn.__file__).parent}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform})",
        "NumPy": installed("numpy"),
        "Numba": installed("numba"),
        "llvmlite": installed("llvmlite"),
        "processor": f"{processor()} (LLVM: {target.cpu()[0]})",
        "vector registers": f"{target.vector_registers()} of {8 * target.vector_bytes()} bits",
        "threads": threads(),
        "kernel cache": str(fnn.cache.location()),
        "cached kernels": f"{len(entries)}, {format_bytes(fnn.cache.size())} (all versions of fastnn)",
        "CUDA": cuda(),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
