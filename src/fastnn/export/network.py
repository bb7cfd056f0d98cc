"""Make frozen networks of models."""

from __future__ import annotations

from typing import Any

from fastnn.backend import devices
from fastnn.backend.cpu.frozen import network as backend
from fastnn.backend.cpu.frozen.network import FrozenNetwork
from fastnn.backend.cpu.layouts.code import MOST_ROWS
from fastnn.checks import integer
from fastnn.nopython import device_freeze
from fastnn.nopython.device_freeze import FrozenDeviceNetwork
from fastnn.runtime.programs.codes import input_gradients, network
from fastnn.runtime.runtime import Runtime


def checked_rows(what: str, rows: Any) -> int | None:
    """Return the number of rows that a network or a learner is for, if it is not for any."""
    return None if rows is None else integer(f"{what}: rows", rows, at_most=MOST_ROWS)


def freeze(runtime: Runtime, *, gradients: bool, rows: int | None = None) -> FrozenNetwork:
    """Make the frozen network of a model's architecture and current weights, for any number of rows or for `rows`.

    Raises
    ------
    ValueError
        When there is no gradient.
    """
    table = runtime.table.apart()
    if gradients and not table.architecture.takes_numbers:
        raise ValueError("freeze: all inputs hold integers, which have no gradient: expected gradients=False")
    with runtime.lock:
        gradient = input_gradients(table, rows) if gradients else None
        return backend.freeze(network(table, rows), gradient, runtime.gathered().view(table.dtype))


def freeze_on_device(runtime: Runtime, device: str) -> FrozenDeviceNetwork:
    """Make the network of a model's architecture and current weights in the memory of a GPU.

    Raises
    ------
    ValueError
        When the model has several inputs or outputs, or there is no such device.
    NotImplementedError
        When it contains a user-defined function.
    DeviceError
        When no GPU can be used.
    """
    table = runtime.table.apart()
    found = len(table.architecture.inputs), len(table.architecture.outputs)
    if found != (1, 1):
        raise ValueError(
            f"freeze: expected a model with one input and one output for device={device!r}, this one has {found[0]} "
            f"and {found[1]}"
        )
    number = devices.number_of(device)
    made = network(table)
    make, described = made.make, made.interface
    (given,), (result,) = described.inputs, described.results
    integers = given.integers if given.holds_integers else None
    weights = sum(count for _, count in described.weights)
    with runtime.lock:
        parameters = runtime.gathered().view(table.dtype)
        sizes = given.size, result.size
        return device_freeze.freeze(make(1), parameters, sizes, integers, weights, number)
