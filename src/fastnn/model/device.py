"""Devices of models: on the CPU or a GPU, and moves between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from fastnn.backend.cuda.driver.arrays import DeviceArray

if TYPE_CHECKING:
    from fastnn.data.feed import Feed
    from fastnn.runtime.device_buffers import Placement
    from fastnn.runtime.runtime import Runtime

PRECISIONS = ("float32", "tf32", "bf16")


class MovingMixin:
    """The part of models that handles devices."""

    _device: str
    _precision: str
    _runtime: Runtime
    _fitting: bool
    dtype: str

    @property
    def built(self) -> bool:
        """Whether shapes are known and weights exist."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """Where the model is: "cpu", or a GPU such as "cuda:0"."""
        return self._device

    def to(self, device: str, *, precision: str = "float32") -> Self:
        """Move the model to a device; weights and the optimizer's state go with it.

        Parameters
        ----------
        device : str
            "cpu", "cuda" (the first GPU) or "cuda:<number>".
        precision : {"float32", "tf32", "bf16"}
            How a GPU multiplies matrices. The last two round the factors to 11 and 8 bits, and add in float32;
            weights, gradients and everything else stay float32. Only for models of dtype float32.

        Returns
        -------
        Model
            The model itself.

        Raises
        ------
        ValueError
            When there is no such device or precision.
        fastnn.DeviceError
            When no GPU can be used; says what is missing. The model stays where it is.
        fastnn.DeviceMemoryError
            When the model does not fit into the GPU's memory.
        RuntimeError
            When `fit` is training the model.

        Notes
        -----
        Dropout, noise and batches use the same random numbers on all devices. Sums are added in another
        order, so results differ in their last bits, and trainings slowly drift apart.
        """
        if self._fitting:
            raise RuntimeError("to: the model is being trained by fit (in another thread, or from a callback)")
        if self.built:
            self._runtime.fail_within("to")
        placement = self._placement_on(device, precision)
        if self.built:
            if (
                placement is not None
                and self._runtime.placement is not None
                and _same(placement, self._runtime.placement)
            ):
                return self
            self._runtime.move(placement)
        self._device, self._precision = "cpu" if placement is None else placement.name, precision
        return self

    def _placement_on(self, device: Any, precision: str) -> Placement | None:
        """Check a device and a precision; returns None for the CPU."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
        if device == "cpu":
            if precision != "float32":
                raise ValueError(f"precision {precision!r} is for GPUs; on the CPU all arithmetic is {self.dtype}")
            return None
        from fastnn.backend.cuda.driver import available

        number = available.parse(device)
        if precision != "float32" and self.dtype != "float32":
            raise ValueError(f"precision {precision!r} is for models of dtype float32, this one is {self.dtype}")
        from fastnn.runtime.device_buffers import Placement

        return Placement(available.open_device(number), precision)

    @contextmanager
    def _on(self, device: str | None) -> Iterator[None]:
        """Move the model to a device for one call; None leaves it where it is."""
        if device is None or device == self._device:
            yield
            return
        before = self._device, self._precision
        self.to(device)
        try:
            yield
        finally:
            self.to(before[0], precision=before[1])

    def _placed(self, feed: Feed, what: str) -> Feed:
        """Bring checked data to where the model is.

        Raises
        ------
        TypeError, ValueError
            When data on a GPU are given to a model that is not there.
        """
        placement = self._runtime.placement
        for rows in feed.inputs:
            if isinstance(rows.array, DeviceArray):
                where = f"cuda:{rows.array.device.number}"
                if placement is None:
                    raise TypeError(
                        f"{what}x: is on the GPU {where!r}, but the model is on the CPU: move the model with "
                        f"to({where!r}), or copy the data to a NumPy array"
                    )
                if placement.name != where:
                    raise ValueError(f"{what}x: is on the GPU {where!r}, but the model is on {placement.name!r}")
        return feed if placement is None else placement.place(feed)


def _same(one: Placement, other: Placement) -> bool:
    return one.name == other.name and one.precision == other.precision
