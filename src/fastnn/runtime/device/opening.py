"""The devices that a model may be on, by name, and the precision of its products there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastnn.backend import devices

if TYPE_CHECKING:
    from fastnn.runtime.device.placement import Placement

PRECISIONS = ("float32", "tf32", "bf16")


def placement_on(device: Any, precision: str, dtype: str) -> Placement | None:
    """Check a device and a precision for a model's dtype, and open the device; returns None for the CPU.

    Raises
    ------
    ValueError
        When there is no such device or precision, or the precision is not for the dtype.
    DeviceError
        When no GPU can be used.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if device == "cpu":
        if precision != "float32":
            raise ValueError(f"precision {precision!r} is for GPUs; on the CPU all arithmetic is {dtype}")
        return None
    number = devices.number_of(device)
    if precision != "float32" and dtype != "float32":
        raise ValueError(f"precision {precision!r} is for models of dtype float32, this one is {dtype}")
    # not at the top: a model on the CPU does not import Numba
    from fastnn.runtime.device.placement import Placement

    return Placement(devices.open_device(number), precision)
