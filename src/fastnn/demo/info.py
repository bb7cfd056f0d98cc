"""Information about this installation and this machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastnn as fnn
from fastnn.program.disassembly import format_bytes


def installed(package: str) -> str:
    """Return the version of an installed package, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the processor's name from its maker, if the system has it."""
    path = Path("/proc/cpuinfo")
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if sys.platform == "win32":
        # there `platform` asks a service that may take long to answer
        return os.environ.get("PROCESSOR_IDENTIFIER", "unknown")
    return platform.processor() or platform.machine()


def threads() -> str:
    """Describe the number of threads, and its reason."""
    try:
        return f"{fnn.get_num_threads()}, from {fnn.threads.reason()}"
    except ValueError as error:
        return f"none: {error}"


def cuda() -> str:
    """List the GPUs, or the reason why none can be used."""
    reason = fnn.cuda.why_not()
    if reason is not None:
        return f"none: {reason}"
    try:
        return "; ".join(
            f"{one.device} {one.name}, compute capability {one.capability[0]}.{one.capability[1]}, "
            f"{format_bytes(one.free)} of {format_bytes(one.total)} free"
            for one in fnn.cuda.devices()
        )
    except fnn.DeviceError as error:
        return f"none: {error}"


def describe() -> str:
    """Return versions, processor, threads, cache and CUDA, one per line."""
    from fastnn.backend.cpu.processor import target

    entries = fnn.cache.entries()
    rows = {
        "fastnn": f"{fnn.__version__} in {Path(fnn.__file__).parent}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform})",
        "NumPy": installed("numpy"),
        "Numba": installed("numba"),
        "llvmlite": installed("llvmlite"),
        "numba-cuda": installed("numba-cuda"),
        "processor": f"{processor()} (LLVM: {target.cpu()[0]})",
        "vector registers": f"{target.vector_registers()} of {8 * target.vector_bytes()} bits",
        "threads": threads(),
        "kernel cache": fnn.cache.described(),
        "cached kernels": f"{len(entries)}, {format_bytes(fnn.cache.size())} (all versions of fastnn)",
        "CUDA": cuda(),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())
