"""Where compiled kernels are kept on disk, and how to clear them.

Kernels are compiled once a machine and kept as object files in the user's cache folder, in a subfolder named by
a hash of fastnn's own source and of the versions of Numba and LLVM: a change in either starts anew.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import stat
import sys
import sysconfig
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
    # not `platform.machine()`, which asks a service on Windows that may not answer for a while
    digest.update(f"{sysconfig.get_platform()} {sys.platform}".encode())
    return digest.hexdigest()[:16]


def is_private(info: os.stat_result) -> bool:
    """Tell whether a file or folder is the user's, and nobody else may write to it; true where there are no owners."""
    if not hasattr(os, "geteuid"):
        return True
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _preferred() -> Path:
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA", Path.home()) / "fastnn" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastnn"
    return _absolute("XDG_CACHE_HOME", Path.home() / ".cache") / "fastnn"


def _absolute(variable: str, default: Path) -> Path:
    """Return the folder that a variable names; a relative one is ignored, as the XDG specification asks for."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else default


def _usable(folder: Path) -> bool:
    """Make a folder if need be and tell whether files in it are safe to load: ours alone, and writeable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_private(folder.stat()):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False


_chosen: list[Path | None] = []


def _folder() -> Path | None:
    """Return the folder of all versions' kernels, chosen at the first call; None where no folder can be written.

    It is absolute and free of links, so that neither a change of the working directory nor of a link moves it.
    """
    if not _chosen:
        folder, complaint = _choose()
        _chosen.append(folder)
        if complaint:
            warnings.warn(
                f"{complaint}. Set FASTNN_CACHE_DIR to choose a folder of your own.", RuntimeWarning, stacklevel=2
            )
    return _chosen[0]


def _choose() -> tuple[Path | None, str]:
    """Return the folder and, unless it is the preferred one, what to say about that."""
    try:
        preferred = _preferred()
        if _usable(preferred):
            return preferred.resolve(), ""
    except (OSError, RuntimeError):
        preferred = Path(os.environ.get("FASTNN_CACHE_DIR") or "~/.cache/fastnn")
    unusable = f"fastnn cannot use the cache folder {preferred} (not writeable, or others may write to it)"
    fallback = _temporary()
    if fallback is None:
        return None, f"{unusable}, nor one for temporary files; each process compiles its kernels, and keeps none"
    return fallback, f"{unusable}; compiled kernels are kept in {fallback}"


def _temporary() -> Path | None:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        shared = Path(tempfile.gettempdir()) / f"fastnn-{user}"
        return (shared if _usable(shared) else Path(tempfile.mkdtemp(prefix="fastnn-"))).resolve()
    except (OSError, RuntimeError):
        return None


def location() -> Path | None:
    """Return the folder that holds the compiled kernels of this version of fastnn.

    The environment variable FASTNN_CACHE_DIR chooses another parent folder. When the user's cache folder cannot
    be written, a folder for temporary files is used; when neither can, there is none (None), and kernels are compiled
    by each process. A RuntimeWarning says so, once.
    """
    parent = _folder()
    if parent is None:
        return None
    folder = parent / source_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder


def described() -> str:
    """Return in words where kernels are kept."""
    folder = location()
    return "memory: no folder can be written" if folder is None else str(folder)


def entries() -> list[Path]:
    """Return the files of all cached kernels, those of other versions of fastnn included."""
    parent = _folder()
    return [] if parent is None else sorted(parent.glob("*/*.fnk"))


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
