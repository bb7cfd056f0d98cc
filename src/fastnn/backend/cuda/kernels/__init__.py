"""CUDA kernels: factories by op, specialised by dtype, variant and algorithm."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.backend.cuda.codegen.kernel import KERNELS, Key, Kit, Stage
from fastnn.modules import import_all

# each module registers its kernels on import
import_all(__name__, __path__)


def stages(key: Key) -> list[Stage]:
    """Make the stages of a kernel."""
    return KERNELS[key.op].factory(Kit(key))


def all_keys() -> Iterator[Key]:
    """Iterate over all kernels, for tests that compile each of them."""
    for op, entry in KERNELS.items():
        for algorithm in entry.algorithms:
            for dtype in entry.dtypes(algorithm):
                for variant in entry.variants(algorithm):
                    yield Key(op, dtype, variant, algorithm)
