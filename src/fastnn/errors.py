"""Exceptions that fastnn raises where a built-in one would be too general."""

import os

__all__ = ["DeviceError", "DeviceMemoryError", "InputNotFiniteError", "ModelFileError"]


class DeviceError(RuntimeError):
    """A GPU cannot be used, or has failed: no driver, too old, a missing part of CUDA."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU does not have enough memory for a request."""


class InputNotFiniteError(ValueError):
    """Training data hold NaN or infinity; the weights are those before the step that read it.

    Parameters
    ----------
    row : int
        The row of the data.
    step : int
        The training step that read it, counted from 1.
    dtype : {"float32", "float64"}
        The model's dtype.

    Attributes
    ----------
    cell : str
        The number and its place in the row; empty until it has been looked up.
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
    """A model file that cannot be used: missing, damaged, foreign or too new.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    reason : str
        The problem, as the end of a sentence that begins with the path.

    Attributes
    ----------
    path : str
    reason : str
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        # Both arguments are in args, so that the exception can be pickled between processes.
        super().__init__(os.fspath(path), reason)
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        """Return path and reason as one sentence."""
        return f"model file {self.path!r} {self.reason}"
