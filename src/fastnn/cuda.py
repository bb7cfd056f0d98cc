"""GPUs: which ones can be used, and what is missing if none can."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.backend.cuda.driver import available
from fastnn.backend.cuda.driver.arrays import DeviceArray
from fastnn.hints import install

__all__ = ["DeviceArray", "DeviceInfo", "device_count", "devices", "empty_pool", "is_available", "why_not"]


class DeviceInfo(NamedTuple):
    """Properties of a GPU.

    Attributes
    ----------
    device : str
        The name for `Model.to`, such as "cuda:0".
    name : str
    capability : tuple of int
        The compute capability, such as (9, 0).
    multiprocessors : int
    free, total : int
        Bytes of memory.
    """

    device: str
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    free: int
    total: int


def is_available() -> bool:
    """Return whether models can be moved to a GPU."""
    return available.why_not() is None


def why_not() -> str | None:
    """Return the reason why fastnn cannot use a GPU, as text; None if it can."""
    return available.why_not()


def device_count() -> int:
    """Return the number of GPUs; 0 if none can be used."""
    return available.device_count()


def devices() -> list[DeviceInfo]:
    """Describe all GPUs.

    Raises
    ------
    fastnn.DeviceError
        When one of them is too old.
    """
    return [_describe(available.open_device(number)) for number in range(device_count())]


def _describe(device: Any) -> DeviceInfo:
    return DeviceInfo(f"cuda:{device.number}", device.name, device.capability, device.multiprocessors, *device.memory())


def empty_pool() -> None:
    """Return memory that fastnn keeps for later use to the driver, so that other libraries can use it."""
    for number in range(device_count()):
        available.open_device(number).empty_pool()


install(__name__)
