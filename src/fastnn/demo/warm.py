"""Compiling kernels ahead of their first use."""

from __future__ import annotations

import time
from collections.abc import Iterable

import fastnn as fnn
from fastnn.program.program import Program
from fastnn.program.record import KernelKey

_ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "elu", "leaky_relu", "softplus")
OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")


def keys_of(program: Program) -> set[KernelKey]:
    """Return all compiled functions that a program calls."""
    from fastnn.backend.cpu.executor.engine import functions_of

    return functions_of(program)


def missing(keys: set[KernelKey]) -> list[KernelKey]:
    """Return the functions that are not on the disk yet."""
    from fastnn.backend.cpu.loading import library

    return library.missing(keys)


def prepare(keys: set[KernelKey]) -> float:
    """Load or compile functions, with a bar on a terminal; returns the time in seconds."""
    from fastnn.backend.cpu.calls import code_call, matmul_call
    from fastnn.backend.cpu.executor import engine
    from fastnn.backend.cpu.frozen import code
    from fastnn.backend.cpu.threads import thread_pool

    begin = time.perf_counter()
    calls = {*matmul_call.FUNCTIONS, *code_call.FUNCTIONS, code.NETWORK, code.LEARNER, code.NOTE}
    engine.prepare(keys | calls | {thread_pool.WORKER})
    return time.perf_counter() - begin


def common(dtypes: Iterable[str]) -> set[KernelKey]:
    """Return the functions of the usual networks: dense layers, activations, dropout, norms, losses, optimizers.

    Parameters
    ----------
    dtypes : iterable of {"float32", "float64"}
    """
    from fastnn.backend.cpu.processor.blocking import ALGORITHMS

    keys: set[KernelKey] = set()
    for dtype in dtypes:
        # of any size
        keys |= {KernelKey("matmul", dtype, algorithm) for algorithm in ALGORITHMS} | {KernelKey("convert", dtype)}
        for optimizer in OPTIMIZERS:
            for loss, last in (
                ("cross_entropy", "softmax"),
                ("binary_cross_entropy", "sigmoid"),
                ("mean_squared_error", None),
                ("mean_absolute_error", None),
                ("huber", None),
            ):
                model = network(dtype, last)
                model.compile(optimizer=optimizer, loss=loss)
                keys |= keys_of(model.program)
        model = network(dtype, "softmax")
        keys |= keys_of(model.program)
        model.compile(loss="cross_entropy", metrics=["accuracy"])
        keys |= keys_of(model.program)
    return keys


def network(dtype: str, last: str | None) -> fnn.Sequential:
    """Return a network with one of each layer; its last layer with an activation or without one."""
    layers: list[fnn.layers.Layer | fnn.layers.Symbol] = [fnn.Input((8,))]
    for activation in _ACTIVATIONS:
        layers.append(fnn.Dense(8, activation=activation))
    layers += [fnn.Dense(8), fnn.BatchNorm(), fnn.Activation("relu"), fnn.LayerNorm(), fnn.Dropout(0.5)]
    layers.append(fnn.Dense(1 if last == "sigmoid" else 8, activation=last))
    return fnn.Sequential(layers, seed=0, dtype=dtype)
