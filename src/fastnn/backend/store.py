"""Machine code on disk: one file per kernel, written atomically, checked when read.

A file's digest covers its name and its folder's, which identify the code: a copy under another name is refused. On
systems that open files relative to an open folder, folder, subfolder and file are checked by their descriptors, so that
the checked file is the one that is read: the user has to own them, and no other user may write to them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnn import cache
from fastnn.files import replace

_MAGIC = b"fastnn kernel 3\n"
_DIGEST_BYTES = 32
# Windows cannot open files relative to a folder; there the user's profile keeps others out.
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "geteuid")


@dataclass(frozen=True)
class ObjectCode:
    """Machine code of one function: an object file, and the symbol to call.

    `needs` are the symbols of other compiled functions that it calls. `lasting` is whether it may be kept on disk.
    `environments` are Numba's environments for parts that call Python, by the variables that point to them; such code
    belongs to its process.
    """

    symbol: str
    code: bytes
    needs: tuple[str, ...] = ()
    lasting: bool = True
    environments: tuple[tuple[str, Any], ...] = ()


def read_file(path: Path) -> ObjectCode | None:
    """Return a kernel, or None if it is missing, damaged, or writable by other users."""
    try:
        data = _read(path)
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    magic, digest, rest = data[: len(_MAGIC)], data[len(_MAGIC) : head], data[head:]
    if magic != _MAGIC or _digest(path, rest) != digest:
        return None
    names, _, code = rest.partition(b"\0")
    # an object file contains the names of its functions, and of those that it calls
    if not names or any(name not in code for name in names.split(b" ")):
        return None
    try:
        symbol, *needs = names.decode().split(" ")
        return ObjectCode(symbol, code, tuple(needs))
    except UnicodeDecodeError:
        return None


def write_file(path: Path, compiled: ObjectCode) -> None:
    """Keep a compiled kernel.

    Processes that compile the same kernel at the same time write separate files and rename them, so that
    each reader sees one whole file. On a full or read-only disk nothing is kept, without an error.
    """
    rest = " ".join((compiled.symbol, *compiled.needs)).encode() + b"\0" + compiled.code
    with contextlib.suppress(OSError):
        _write(path, _MAGIC + _digest(path, rest) + rest)


def _digest(path: Path, rest: bytes) -> bytes:
    return hashlib.sha256(f"{path.parent.name}/{path.name}\0".encode() + rest).digest()


def _read(path: Path) -> bytes:
    if not _BY_DESCRIPTOR:
        return path.read_bytes()
    with _opened(path.parent) as folder:
        # opening a pipe under a kernel's name would block
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            _check(descriptor, stat.S_ISREG)
            return file.read()


def _write(path: Path, data: bytes) -> None:
    if not _BY_DESCRIPTOR:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        _write_and_rename(descriptor, data, Path(temporary), path, None)
        return
    with _opened(path.parent) as folder:
        name = f".writing-{secrets.token_hex(8)}"
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        _write_and_rename(descriptor, data, Path(name), Path(path.name), folder)


def _write_and_rename(descriptor: int, data: bytes, temporary: Path, target: Path, folder: int | None) -> None:
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if folder is None:
            replace(temporary, target)
        else:
            os.replace(temporary, target, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise


@contextlib.contextmanager
def _opened(subfolder: Path) -> Iterator[int]:
    """Open a folder of kernels through its parent; raises OSError if other users may write to either."""
    parent = os.open(subfolder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check(parent, stat.S_ISDIR)
        folder = os.open(subfolder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        _check(folder, stat.S_ISDIR)
        yield folder
    finally:
        os.close(folder)


def _check(descriptor: int, kind: Callable[[int], bool]) -> None:
    info = os.fstat(descriptor)
    if not kind(info.st_mode) or not cache.is_private(info):
        raise PermissionError("others than the user may have written this")
