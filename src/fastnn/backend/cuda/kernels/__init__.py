"""CUDA kernels: factories by op, specialised by dtype, variant and algorithm."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.backend.cuda.kernels import (
    batch_norms,
    data,
    elementwise,
    fused_backward,
    fused_forward,
    losses,
    matmul,
    metric_cells,
    metric_columns,
    metrics,
    norms,
    optimizers,
    rows,
)
from fastnn.backend.cuda.kit import KERNELS, Key, Kit, Stage

# each module registers its kernels on import
MODULES = (
    batch_norms, data, elementwise, fused_backward, fused_forward, losses, matmul, metric_cells, metric_columns,
    metrics, norms, optimizers, rows,
)  # fmt: skip


def stages(key: Key) -> list[Stage]:
    """Make the stages of a kernel."""
    return KERNELS[key.op].factory(Kit(key))


def all_keys() -> Iterator[Key]:
    """Iterate over all kernels, for tests that compile each of them."""
    for op, entry in KERNELS.items():
        for way in entry.ways:
            for dtype in entry.dtypes(way):
                for variant in entry.variants(way):
                    yield Key(op, dtype, variant, way)
