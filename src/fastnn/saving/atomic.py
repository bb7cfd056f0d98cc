"""Atomic replacement of model files."""

import os
import stat

from fastnn.errors import ModelFileError
from fastnn.files import write_whole

__all__ = ["replace_file"]


def replace_file(path: str, *parts: bytes | memoryview) -> None:
    """Replace a model file atomically and durably; see `fastnn.files.write_whole`.

    Parameters
    ----------
    path : str
        Target; its folder must exist.
    *parts : bytes or memoryview
        The new contents, concatenated.

    Raises
    ------
    ModelFileError
        If `path` is not the name of a file, or exists and is not a regular file.
    OSError
        If the file cannot be written; it names the path.
    """
    if "\0" in path:
        raise ModelFileError(path, "cannot exist: there is a null character in its name")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    except NotADirectoryError as error:
        raise NotADirectoryError(error.errno, "a folder of the path is a file", path) from error
    if mode is not None and not stat.S_ISREG(mode):
        # Replacing /dev/null would succeed, and leave the machine without it.
        raise ModelFileError(path, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    if os.path.basename(path) in ("", os.curdir, os.pardir):
        raise ModelFileError(path, "is the name of a directory: add the name of a file, such as model.safetensors")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder!r} to write {os.path.basename(path)!r} to")
    write_whole(path, *parts)
