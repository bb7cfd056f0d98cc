"""Exceptions that fastnn raises where a built-in one would say too little."""

import os

__all__ = ["DeviceError", "DeviceMemoryError", "ModelFileError"]


class DeviceError(RuntimeError):
    """A GPU that cannot be used, or that has failed: no driver, too old, a part of CUDA that is missing."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A GPU has not enough memory for what was asked of it."""


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
