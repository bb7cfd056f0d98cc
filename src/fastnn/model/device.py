"""The device of a model: where it is, and moves."""

from __future__ import annotations

from typing import Self

from fastnn.training.state import Trainable


class DeviceMixin(Trainable):
    """A model that is on the CPU or a GPU."""

    @property
    def device(self) -> str:
        """Where the model is: "cpu", or a GPU such as "cuda:0"."""
        return self._state.device

    def to(self, device: str, *, precision: str = "float32") -> Self:
        """Move the model to a device; weights, the optimizer's state, and models that it is made of go with it.

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
            When `fit` is training the model, or one that it is made of.

        Notes
        -----
        Dropout, noise and batches use the same random numbers on all devices. Sums are added in another
        order, so results differ in their last bits, and trainings slowly drift apart.
        """
        self._state.move(device, precision)
        return self
