"""Replacing a file in one step."""

import contextlib
import os
import secrets
import stat

from fastnn.errors import ModelFileError

__all__ = ["replace_file"]


def replace_file(path: str, *parts: bytes | memoryview) -> None:
    """Put new contents under a name in one step, durably.

    The bytes go to a temporary file in the same folder, are forced to the disk, and take the name over; an
    error on the way removes the temporary file. A symbolic link stays, its target is replaced. A replaced
    file's permissions are kept; a new file gets those that the umask leaves.

    Parameters
    ----------
    path : str
        Target; its folder must exist.
    *parts : bytes or memoryview
        The new contents, one after the other.

    Raises
    ------
    ModelFileError
        If `path` exists and is not a regular file.
    OSError
        If the file cannot be written.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"there is no folder {folder!r} to write {os.path.basename(target)!r} to")
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        # Replacing would work on /dev/null, and would leave the machine without one.
        raise ModelFileError(target, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.fastnn.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode) & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        # Some network file systems cannot sync a folder; by now the file itself is complete all the same.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
