"""The number of parts that kernels cut their work into.

Every kernel works on part `ith` of `nth` of its outputs, and no result depends on `nth`. In this version the parts
run one after the other on the calling thread.
"""

from __future__ import annotations

_parts = 1


def set_num_threads(n: int) -> None:
    """Set into how many parts kernels cut their work.

    Parameters
    ----------
    n : int
        At least 1. Results are bit-identical for every n; in this version the parts run one after the other.
    """
    global _parts
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"the number of threads must be an integer, got {n!r}")
    if not 1 <= n <= 256:
        raise ValueError(f"the number of threads must be from 1 to 256, got {n}")
    _parts = n


def get_num_threads() -> int:
    """Return into how many parts kernels cut their work."""
    return _parts
