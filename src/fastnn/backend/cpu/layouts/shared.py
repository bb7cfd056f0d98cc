"""Functions that several kernels share: each is compiled once, and the linker finds it by its symbol."""

from __future__ import annotations

from fastnn.backend.cpu.processor.blocking import ATTENTION, CONVOLUTIONS, PRODUCTS, RECURRENT, Blocking
from fastnn.program.record import KernelKey

#: How the symbols of shared functions begin.
PREFIX = "fastnn."


def symbol_of(key: KernelKey) -> str:
    """Return the symbol by which kernels call a shared function."""
    return PREFIX + ".".join((key.op, key.dtype, key.variant))


def key_of(symbol: str) -> KernelKey:
    """Return the shared function of a symbol."""
    op, dtype, variant = symbol.removeprefix(PREFIX).split(".")
    return KernelKey(op, dtype, variant)


def shared_by(key: KernelKey) -> tuple[KernelKey, ...]:
    """Return the shared functions that a kernel calls, so that they are compiled beside it."""
    if key.op in CONVOLUTIONS:
        if key.variant == "by_channel":
            return ()
        return taps_of(key.op, key.dtype)
    products = key.op in PRODUCTS and key.variant in ("", "simple", "blocked")
    if not products and key.op not in (*ATTENTION, *RECURRENT):
        return ()
    if products and key.variant == "blocked":
        return (packed_panel(key.dtype),)
    return KernelKey("panel", key.dtype, "wide"), KernelKey("panel", key.dtype, "narrow")


def packed_panel(dtype: str) -> KernelKey:
    """Return the panel function of large products, which prefetches the next panel where that pays."""
    return KernelKey("panel", dtype, "fetching" if Blocking.of(dtype).fetches else "wide")


def taps_of(op: str, dtype: str) -> tuple[KernelKey, ...]:
    """Return the functions of taps that a convolution, or the gradient for its weights, calls."""
    if op == "conv_weights":
        names = ("taps", "wide_neighbours"), ("taps", "narrow_neighbours"), ("shifted_weights", "")
    else:
        names = ("taps", "wide"), ("taps", "narrow"), ("taps", "narrow_shifts")
    return tuple(KernelKey(name, dtype, variant) for name, variant in names)
