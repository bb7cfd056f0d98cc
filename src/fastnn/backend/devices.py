"""The devices besides the CPU. The rooms above the backends get devices, their programs and their arrays from here.

So far all of them are CUDA GPUs. What opens one imports it then, because a model on the CPU does without.
"""

from __future__ import annotations

from typing import Any

from fastnn.backend.cuda.driver.arrays import DeviceArray, foreign, is_on_gpu
from fastnn.backend.protocol import Device, DeviceExecutable
from fastnn.program.program import Program

__all__ = ["DeviceArray", "executable", "is_on_gpu", "name_of", "number_of", "open_device", "received"]


def number_of(name: Any) -> int:
    """Return the number of a device by its name, such as "cuda" or "cuda:1".

    Raises
    ------
    ValueError
        When there is no such device.
    DeviceError
        When no GPU can be used.
    """
    from fastnn.backend.cuda.driver import available

    return available.parse(name)


def name_of(device: Device) -> str:
    """Return a device's name, such as "cuda:0"."""
    return f"cuda:{device.number}"


def open_device(number: int) -> Device:
    """Return the device of a number, made once per process.

    Raises
    ------
    DeviceError
        When it is too old.
    """
    from fastnn.backend.cuda.driver import available

    return available.open_device(number)


def executable(program: Program, device: Device, precision: str) -> DeviceExecutable:
    """Load a program's kernels on a device; `precision` is that of matrix products."""
    from fastnn.backend.cuda.launch.engine import CudaProgram

    return CudaProgram(program, device, precision)


def received(value: Any, what: str) -> DeviceArray:
    """Return an array on a GPU, of any library, as one of fastnn's, without a copy.

    Raises
    ------
    TypeError, ValueError
        When it is not an array of numbers that kernels read.
    DeviceError
        When no GPU can be used.
    """
    from fastnn.backend.cuda.driver.available import device_of

    return foreign(value, device_of, what)
