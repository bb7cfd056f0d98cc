"""Settings of Numba that change compiled code, read without importing Numba.

Numba takes its settings from variables of the environment, from a file in the working directory, and from programs
that assign to `numba.config`. Kernels compiled under other settings are separate files in the cache.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import llvmlite.binding as llvm

# Names in `numba.config`, the variables that set them, and their defaults. `NUMBA_DISABLE_JIT` is not among
# them: with it nothing is compiled.
_NUMBERS: dict[str, tuple[str, int | None]] = {
    "LOOP_VECTORIZE": ("NUMBA_LOOP_VECTORIZE", 1),
    "SLP_VECTORIZE": ("NUMBA_SLP_VECTORIZE", 0),
    "BOUNDSCHECK": ("NUMBA_BOUNDSCHECK", None),
    "DEBUGINFO_DEFAULT": ("NUMBA_DEBUGINFO", 0),
    "EXTEND_VARIABLE_LIFETIMES": ("NUMBA_EXTEND_VARIABLE_LIFETIMES", 0),
    "ENABLE_PROFILING": ("NUMBA_ENABLE_PROFILING", 0),
    "DEBUG_JIT": ("NUMBA_DEBUG_JIT", 0),
    "DEBUG_NRT": ("NUMBA_DEBUG_NRT", 0),
    "DISABLE_INTEL_SVML": ("NUMBA_DISABLE_INTEL_SVML", 0),
    "LLVM_REFPRUNE_PASS": ("NUMBA_LLVM_REFPRUNE_PASS", 1),
}
_LEVELS = ("0", "1", "2", "3", "max")
_FILE = ".numba_config.yaml"
_CONFIG = "numba.core.config"
# Processors whose AVX Numba leaves alone.
_WITHOUT_AVX = {"corei7-avx", "core-avx-i", "sandybridge", "ivybridge", "nocona"}
# Variables of numba-cuda that do not change code; any other one may.
_CUDA_HARMLESS = {
    "NUMBA_CUDA_LOG_LEVEL", "NUMBA_CUDA_LOG_API_ARGS", "NUMBA_CUDA_LOG_SIZE", "NUMBA_CUDA_VERBOSE_JIT_LOG",
    "NUMBA_CUDA_DRIVER", "NUMBA_CUDA_MEMORY_MANAGER", "NUMBA_CUDA_MAX_PENDING_DEALLOCS_COUNT",
    "NUMBA_CUDA_MAX_PENDING_DEALLOCS_RATIO", "NUMBA_CUDA_WARN_ON_IMPLICIT_COPY", "NUMBA_CUDA_ARRAY_INTERFACE_SYNC",
    "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS",
}  # fmt: skip


def code_settings() -> tuple[str, ...]:
    """Return the settings that change code and differ from Numba's defaults, as "NAME=value"."""
    config = _numba_config()
    found = {name: _number(config, name) for name in _NUMBERS}
    if config is None:
        # a profiler turns profiling on, and profiling debug information
        profiling = _parsed(os.environ.get("NUMBA_ENABLE_PROFILING"), int("VS_PROFILER" in os.environ))
        found["ENABLE_PROFILING"] = profiling
        found["DEBUGINFO_DEFAULT"] = _parsed(os.environ.get("NUMBA_DEBUGINFO"), profiling)
    level, flags = _level(config), _prune_flags(config, found["LLVM_REFPRUNE_PASS"])
    listed = [f"{name}={value}" for name, value in found.items() if value != _NUMBERS[name][1]]
    listed += [f"OPT={level}"] * (level != "3")
    return (*listed, *[f"LLVM_REFPRUNE_FLAGS={flags}"] * (flags != "all"))


def cuda_settings() -> tuple[str, ...]:
    """Return the settings that change a GPU's code and differ from the defaults, as "NAME=value"."""
    variables = sorted(name for name in os.environ if name.startswith("NUMBA_CUDA_") and name not in _CUDA_HARMLESS)
    return (*code_settings(), *(f"{name}={os.environ[name]}" for name in variables))


def processor() -> tuple[str, str]:
    """Return the name and the feature string of the processor for which Numba compiles, by Numba's rule.

    `NUMBA_CPU_NAME` alone changes only the name; the features stay those of the host, except for the name "generic".
    """
    config = _numba_config()
    if config is not None:
        name, features, avx = config.CPU_NAME, config.CPU_FEATURES, bool(config.ENABLE_AVX)
    else:
        name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
        if features is None and str(name).lower() == "generic":
            features = ""
        default = int((name or llvm.get_host_cpu_name()) not in _WITHOUT_AVX)
        avx = bool(_parsed(os.environ.get("NUMBA_ENABLE_AVX"), default))
    if features is None:
        features = _host_features(avx)
    return llvm.get_host_cpu_name() if name is None else name, features


def _host_features(avx: bool) -> str:
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:
        return ""
    if not avx:
        for name in features:
            if name.startswith("avx"):
                features[name] = False
    return str(features.flatten())


def _numba_config() -> Any:
    """Return Numba's settings if it is imported, or has to be, since only it can read its file; else None."""
    config: Any = sys.modules.get(_CONFIG)
    if config is None and os.path.isfile(_FILE):
        config = importlib.import_module(_CONFIG)
    if not hasattr(config, "reload_config"):
        return None
    # as before each compilation: the environment may have changed
    config.reload_config()
    return config


def _number(config: Any, name: str) -> int | None:
    variable, default = _NUMBERS[name]
    if config is None:
        return _parsed(os.environ.get(variable), default)
    value = getattr(config, name, default)
    return None if value is None else int(value)


def _parsed(text: str | None, default: int | None) -> int | None:
    """Return a variable's value as Numba reads it: the default if it is not an integer."""
    try:
        return default if text is None else int(text)
    except ValueError:
        return default


def _level(config: Any) -> str:
    if config is None:
        text = os.environ.get("NUMBA_OPT", "3")
        return text if text in _LEVELS else "3"
    return "max" if getattr(config.OPT, "is_opt_max", False) else str(int(config.OPT))


def _prune_flags(config: Any, prunes: int | None) -> str:
    if config is not None:
        return str(getattr(config, "LLVM_REFPRUNE_FLAGS", "all"))
    return os.environ.get("NUMBA_LLVM_REFPRUNE_FLAGS", "all" if prunes else "")
