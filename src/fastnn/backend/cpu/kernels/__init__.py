"""Kernels: one function an op, specialised by dtype and variant, compiled when a program first needs it."""

from __future__ import annotations

from fastnn.backend.cpu.compile import compile_native
from fastnn.backend.cpu.kernels import (
    data,
    direct,
    elementwise,
    executor,
    frozen,
    learner,
    losses,
    matmul,
    metrics,
    norms,
    optimizers,
    rows,
    team,
)
from fastnn.backend.cpu.kernels.kit import KERNELS, Kit
from fastnn.backend.cpu.store import ObjectCode
from fastnn.program.program import KernelKey

# each module registers its kernels when it is imported
MODULES = (data, direct, elementwise, executor, frozen, learner, losses, matmul, metrics, norms, optimizers, rows, team)


def build(key: KernelKey) -> ObjectCode:
    """Compile the function of a key."""
    entry = KERNELS[key.op]
    function = entry.factory(Kit(key.op, key.dtype), key.variant)
    return compile_native(function, entry.arguments, returns=entry.returns)
