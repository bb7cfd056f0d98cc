"""Files that are replaced atomically and durably, and never become more readable than the ones they replace."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["SUFFIX", "replace", "write_whole"]

#: the suffix of temporary files
SUFFIX = ".fastnn.tmp"
# Virus scanners and search indices open a new file for some tens of milliseconds; meanwhile Windows refuses to rename
# another file over it. Through network drives this also happens on other systems.
PATIENCE_SECONDS = 1.0
# Without locks (Windows), age decides that a temporary file is no longer written.
_OLD_SECONDS = 60.0
# Errors of fsync and chmod after which the contents may be lost; others only mean that this is not supported.
_LOST = {errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def replace(temporary: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file over another, as `os.replace` does, but retry for a while if a program holds the other one.

    Raises
    ------
    OSError
        As `os.replace` does; a PermissionError after `PATIENCE_SECONDS` of attempts.
    """
    end, pause = time.monotonic() + PATIENCE_SECONDS, 0.002
    while True:
        try:
            os.replace(temporary, target)
            return
        except PermissionError:
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause *= 2.0


def write_whole(path: str, *parts: bytes | memoryview) -> None:
    """Replace the contents of a file atomically and durably.

    The bytes go to a temporary file in the same folder, which is synced to the disk and then renamed. An error on
    the way removes the temporary file; leftovers of an earlier, killed process are removed too. A
    symbolic link is kept, and its target is replaced. A replaced file's permissions are kept, a new file gets those
    of the umask. If the file system refuses permissions or fsync, the contents are still written.

    Parameters
    ----------
    path : str
        Target, a regular file if it exists; its folder must exist.
    *parts : bytes or memoryview
        The new contents, concatenated.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    try:
        _write_whole(path, parts)
    except OSError as error:
        # the error names the temporary file, or none (no space left has no name)
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def _write_whole(path: str, parts: tuple[bytes | memoryview, ...]) -> None:
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    try:
        before = os.stat(target)
    except FileNotFoundError:
        before = None
    # a hash, because the name itself may have the maximum length
    prefix = f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"
    _remove_left_behind(folder, prefix)
    file, temporary = _create(os.path.join(folder, prefix), 0o666 if before is None else 0o600)
    try:
        with file:
            file.writelines(parts)
            file.flush()
            with _unless_refused():
                os.fsync(file.fileno())
            if before is not None:
                _permit(temporary, before)
            if fcntl is not None:
                # under the lock, so that no process takes the temporary file for a leftover
                replace(temporary, target)
        if fcntl is None:
            replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        # Some network file systems cannot sync a folder; the file itself is complete by now.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _create(beginning: str, mode: int) -> tuple[Any, str]:
    """Create a temporary file, locked while it is open."""
    while True:
        temporary = f"{beginning}{secrets.token_hex(8)}{SUFFIX}"
        file = open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), "wb")  # noqa: SIM115
        # another process may have found the file before it was locked, and removed it
        if _lock(file.fileno()) is not False and os.path.exists(temporary):
            return file, temporary
        file.close()


def _lock(descriptor: int) -> bool | None:
    """Lock a file: True on success, False if a process holds it, None on systems without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_left_behind(folder: str, prefix: str) -> None:
    """Remove leftovers of killed processes, but never a file that a process is writing."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(SUFFIX)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            _remove_if_left(os.path.join(folder, name))


def _remove_if_left(temporary: str) -> None:
    if fcntl is None:
        if time.time() - os.stat(temporary).st_mtime > _OLD_SECONDS:
            os.unlink(temporary)
        return
    # a link or a pipe of this name is not ours
    descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
            os.unlink(temporary)
    finally:
        os.close(descriptor)


def _permit(temporary: str, before: os.stat_result) -> None:
    """Give a temporary file the owner and the permissions of the file that it replaces, as far as possible."""
    mode = stat.S_IMODE(before.st_mode) & 0o777
    if hasattr(os, "chown"):
        now = os.stat(temporary)
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            try:
                os.chown(temporary, before.st_uid, before.st_gid)
            except OSError:
                # the old group's permissions must not pass to the new group
                mode = mode & ~0o070 | (mode & 0o007) << 3 & mode
    with _unless_refused():
        os.chmod(temporary, mode)


@contextlib.contextmanager
def _unless_refused() -> Any:
    """Ignore errors that only mean that a file system lacks a feature; raise those that lose the contents."""
    try:
        yield
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno in _LOST:
            raise
