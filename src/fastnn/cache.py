"""Where compiled kernels are kept on disk, and how to clear them.

Kernels are compiled once a machine and kept as object files in the user's cache folder, in a subfolder named by
a hash of fastnn's own source and of the versions of Numba and LLVM: a change in either starts anew.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import stat
import sys
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastnn.hints import install

__all__ = ["clear", "entries", "location", "size"]

# Only these parts of the package can change what a kernel does.
_SOURCES = ("backend/cpu", "formulas", "program")


@functools.cache
def source_hash() -> str:
    """Return a hash of everything that decides what a compiled kernel does."""
    return fingerprint(_SOURCES, ("numba", "llvmlite"))


def fingerprint(parts: tuple[str, ...], packages: tuple[str, ...]) -> str:
    """Return a hash of parts of fastnn's source, of the versions of packages, and of the kind of machine."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for part in parts:
        for path in sorted((root / part).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for package in packages:
        try:
            digest.update(f"{package}={version(package)}".encode())
        except PackageNotFoundError:
            digest.update(f"{package}=?".encode())
    digest.update(f"{platform.machine()} {sys.platform}".encode())
    return digest.hexdigest()[:16]


def _preferred() -> Path:
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "fastnn" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastnn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastnn"


def _usable(folder: Path) -> bool:
    """Make a folder if need be and tell whether files in it are safe to load: ours alone, and writeable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.stat()
        if hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False


@functools.cache
def _folder() -> Path:
    try:
        preferred = _preferred()
        if _usable(preferred):
            return preferred
    except (OSError, RuntimeError):
        preferred = Path("~/.cache/fastnn")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    shared = Path(tempfile.gettempdir()) / f"fastnn-{user}"
    fallback = shared if _usable(shared) else Path(tempfile.mkdtemp(prefix="fastnn-"))
    warnings.warn(
        f"fastnn cannot use the cache folder {preferred} (not writeable, or others may write to it); compiled "
        f"kernels are kept in {fallback}. Set FASTNN_CACHE_DIR to choose a folder of your own.",
        RuntimeWarning,
        stacklevel=2,
    )
    return fallback


def location() -> Path:
    """Return the folder that holds the compiled kernels of this version of fastnn.

    The environment variable FASTNN_CACHE_DIR chooses another parent folder. When the user's cache folder cannot
    be written, a folder for temporary files is used and a RuntimeWarning says so.
    """
    folder = _folder() / source_hash()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def entries() -> list[Path]:
    """Return the files of all cached kernels, those of other versions of fastnn included."""
    return sorted(_folder().glob("*/*.fnk"))


def size() -> int:
    """Return the number of bytes that all cached kernels take."""
    return sum(path.stat().st_size for path in entries())


def clear() -> int:
    """Remove all cached kernels from the disk and return how many there were.

    Kernels that this process has loaded stay in use.
    """
    found = entries()
    for folder in {path.parent for path in found}:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


install(__name__)
