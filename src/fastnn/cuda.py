"""GPUs: whether there is one, and what is missing where there is none."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnn.backend.cuda import available
from fastnn.backend.cuda.arrays import DeviceArray
from fastnn.hints import install

__all__ = ["DeviceArray", "DeviceInfo", "device_count", "devices", "empty_pool", "is_available", "why_not"]


class DeviceInfo(NamedTuple):
    """What is known of a GPU.

    Attributes
    ----------
    device : str
        What `Model.to` takes, such as "cuda:0".
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
    """Tell whether models can be moved to a GPU."""
    return available.why_not() is None


def why_not() -> str | None:
    """Return what keeps fastnn from using a GPU, in words; None when nothing does."""
    return available.why_not()


def device_count() -> int:
    """Return the number of GPUs; 0 where none can be used."""
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
    """Give memory that fastnn keeps for later back to the driver, so that other libraries can have it."""
    for number in range(device_count()):
        available.open_device(number).empty_pool()


install(__name__)
