"""Compilation of a kernel's stages into machine code for one architecture; it needs numba-cuda, but no GPU.

Numba and NVVM compile a Python function to PTX, nvJitLink compiles the PTX to machine code. Users' machines and the
tests take the same path, so the code that the tests inspect is the code that runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from numba import types

from fastnn.backend.cuda.codegen.kernel import Stage, capability
from fastnn.backend.cuda.codegen.numba_cuda import load_numba
from fastnn.backend.cuda.codegen.sizes import MINIMUM
from fastnn.locks import ForkSafeLock
from fastnn.program.layout import RECORD_WORDS

_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")
_USED = re.compile(r"Used (\d+) registers")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_DOUBLE = re.compile(r"\b(?:add|sub|mul|fma|div|rcp|sqrt|min|max|abs|neg)(?:\.\w+)*\.f64")
_WAITS = re.compile(r"warpgroup\.\w+ is injected|wgmma\.mma_async instructions are serialized")
_lock = ForkSafeLock(held=True)


@dataclass(frozen=True)
class Compiled:
    """Machine code of one stage, the symbol to launch, and the assembler's report.

    `doubles` is the number of instructions that compute in float64, which is slow on most GPUs; `waits` is
    whether the assembler makes warpgroups wait for products where the kernel does not.
    """

    symbol: str
    code: bytes
    registers: int
    stack: int
    spilled: int
    doubles: int
    waits: bool


def compile_stage(stage: Stage, architecture: str) -> Compiled:
    """Compile a stage for an architecture, such as "80" or "90a".

    Raises
    ------
    RuntimeError
        When numba-cuda or a part of the CUDA toolkit is missing.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode

    ptx = _ptx(stage)
    symbol = _ENTRY.search(ptx)
    if symbol is None:
        raise RuntimeError("numba-cuda has made PTX without a kernel in it")
    options = LinkerOptions(arch=f"sm_{architecture}", ptxas_options="-v")
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    code = bytes(linker.link("cubin").code)
    log = linker.get_info_log()
    used, frame = _USED.search(log), _FRAME.search(log)
    registers = int(used.group(1)) if used else -1
    stack, stores, loads = (int(one) for one in frame.groups()) if frame else (-1, -1, -1)
    waits, doubles = bool(_WAITS.search(log)), len(_DOUBLE.findall(ptx))
    return Compiled(symbol.group(1), code, registers, stack, stores + loads, doubles, waits)


@lru_cache(maxsize=8)
def _ptx(stage: Stage) -> str:
    """Return a stage's PTX, for the oldest architecture that it can run on, or the only one.

    The assembler gets the real one. So Numba compiles each stage once, and a test assembles the same PTX for six
    architectures that is assembled for a user's.
    """
    cuda = load_numba()
    virtual = capability(stage.only) if stage.only else max(MINIMUM, stage.minimum)
    signature = types.void(types.UniTuple(types.int64, RECORD_WORDS), types.int64)
    bounds = (stage.threads, stage.blocks_at_once) if stage.blocks_at_once else stage.threads
    with _lock, _device_of(virtual):
        ptx, _ = cuda.compile(
            stage.function, signature, cc=virtual, output="ptx", device=False, abi="numba", launch_bounds=bounds
        )
    return str(ptx).replace("div.rn.f32", "div.full.f32") if stage.quick_division else str(ptx)


@contextmanager
def _device_of(capability: tuple[Any, ...]) -> Iterator[None]:
    """Let Numba compile device functions without asking the driver for a device."""
    from numba.cuda import dispatcher

    usual = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = usual
