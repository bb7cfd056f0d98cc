"""Exceptions that fastnn raises where a built-in one would say too little."""

import os

__all__ = ["DeviceError", "DeviceMemoryError", "InputNotFiniteError", "ModelFileError"]


class DeviceError(RuntimeError):
    """A GPU that cannot be used, or that has failed: no driver, too old, a part of CUDA that is missing."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU has not enough memory for what was asked of it."""


class InputNotFiniteError(ValueError):
    """Training data hold NaN or infinity; the weights are those before the step that met it.

    Parameters
    ----------
    row : int
        Of the data.
    step : int
        The training step that met it, counted from 1.
    dtype : {"float32", "float64"}
        The model's.

    Attributes
    ----------
    cell : str
        Where in the row the number is, and what it is; empty until it has been looked for.
    """

    def __init__(self, row: int, step: int, dtype: str) -> None:
        super().__init__(row, step, dtype)
        self.row, self.step, self.dtype = row, step, dtype
        self.cell = ""

    def __str__(self) -> str:
        """Return the message."""
        cell = f": {self.cell}" if self.cell else ""
        return (
            f"row {self.row} of the data holds NaN, infinity or a value too large for {self.dtype} "
            f"(met at training step {self.step}){cell}; the weights are those before that step"
        )


class ModelFileError(ValueError):
    """A model file that cannot be used as it is: missing, damaged, foreign or too new.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    reason : str
        What is wrong with it, as the end of a sentence that begins with the path.

    Attributes
    ----------
    path : str
    reason : str
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        # Both arguments go to args, so that the exception survives pickling between processes.
        super().__init__(os.fspath(path), reason)
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        """Return path and reason as one sentence."""
        return f"model file {self.path!r} {self.reason}"
