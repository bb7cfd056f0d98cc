"""Whether fastnn can use a GPU, and if not, what is missing."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

from fastnn.backend.cuda.codegen.numba_cuda import missing_package, simulated, wrong_numba
from fastnn.backend.protocol import Device
from fastnn.errors import DeviceError

# older drivers do not load the machine code that nvJitLink of CUDA 13 makes
_OLDEST_DRIVER = 13000
# a value of the driver's CUpointer_attribute
_ORDINAL = 9
_PATTERN = re.compile(r"cuda(?::(\d{1,4}))?")


def why_not() -> str | None:
    """Return the reason why fastnn cannot use a GPU, or None if it can."""
    if simulated():
        return None
    return missing_package() or _missing_driver() or wrong_numba()


def _missing_driver() -> str | None:
    try:
        driver = _driver()
        oldest = driver.call("cuDriverGetVersion")
        count = driver.call("cuDeviceGetCount")
    except DeviceError as error:
        return f"the NVIDIA driver does not answer: {error}"
    except Exception:  # the bindings raise errors of several kinds if there is no libcuda
        return "no NVIDIA driver is installed (its library, libcuda, was not found)"
    if oldest < _OLDEST_DRIVER:
        return f"the NVIDIA driver is for CUDA {_spell(oldest)}; fastnn needs one for CUDA 13.0 (580 or newer)"
    if count == 0:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "there is no NVIDIA GPU" + (f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else "")
    return None


def _spell(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


@functools.cache
def _driver() -> Any:
    """Return the initialised driver."""
    from fastnn.backend.cuda.driver.driver import Driver

    found = Driver()
    found.call("cuInit", 0)
    return found


def device_count() -> int:
    """Return the number of GPUs, 0 if none can be used."""
    if simulated():
        return 1
    return 0 if why_not() is not None else int(_driver().call("cuDeviceGetCount"))


def parse(device: Any) -> int:
    """Return the number of a device such as "cuda" or "cuda:1".

    Raises
    ------
    ValueError
        When it is not a device, or its number is too large.
    DeviceError
        When no GPU can be used; says what is missing.
    """
    match = _PATTERN.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:<number>', got {device!r}")
    reason = why_not()
    if reason is not None:
        raise DeviceError(f"device {device!r}: {reason}")
    number, count = int(match.group(1) or 0), device_count()
    if number >= count:
        raise ValueError(
            f"device {device!r}: there {'is 1 GPU' if count == 1 else f'are {count} GPUs'}, numbered from 0"
        )
    return number


@functools.cache
def open_device(number: int) -> Device:
    """Return the device of a number, made once per process.

    Raises
    ------
    DeviceError
        When it is too old.
    """
    if simulated():
        from fastnn.backend.cuda.simulator.device import SimulatedDevice

        return SimulatedDevice(number)
    from fastnn.backend.cuda.driver import device

    return device.Device(number, _driver())


def device_of(address: int) -> Device:
    """Return the device whose memory contains an address.

    Raises
    ------
    DeviceError
        When no GPU can be used.
    """
    if simulated():
        return open_device(0)
    reason = why_not()
    if reason is not None:
        raise DeviceError(f"an array on a GPU cannot be read: {reason}")
    kind = getattr(_driver().bindings, "CUpointer_attribute", int)
    return open_device(int(_driver().call("cuPointerGetAttribute", kind(_ORDINAL), address)))
