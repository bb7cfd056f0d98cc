"""The folder of compiled kernels on disk, and how to clear it.

Kernels are compiled once per machine and kept as object files in the user's cache folder, in a subfolder named by
a hash of fastnn's own source and of the versions of Numba and LLVM. If either changes, kernels are compiled again.
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

# Only these parts of the package affect compiled kernels, and the builtins that are kept beside them.
_SOURCES = (
    *(f"backend/cpu/{room}" for room in ("layouts", "processor", "codegen", "kernels", "native", "loading", "calls")),
    *("formulas", "program"),
)


@functools.cache
def source_hash() -> str:
    """Return a hash of everything that determines compiled kernels."""
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
    # not `platform.machine()`, which on Windows asks a service that may take long to answer
    digest.update(f"{sysconfig.get_platform()} {sys.platform}".encode())
    return digest.hexdigest()[:16]


def is_private(info: os.stat_result) -> bool:
    """Return whether only the user owns and may write to a file or folder; true on systems without owners."""
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
    """Return the folder that a variable names; a relative one is ignored, as the XDG specification requires."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else default


def _usable(folder: Path) -> bool:
    """Make a folder if needed; returns whether it is writable and safe to load from: only ours."""
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
    """Return the folder of all versions' kernels, chosen at the first call; None if no folder can be written.

    It is absolute and without links, so that changes of the working directory or of a link do not affect it.
    """
    if not _chosen:
        folder, complaint = _choose()
        _chosen.append(folder)
        if complaint:
            warnings.warn(f"{complaint}. Set FASTNN_CACHE_DIR to choose another folder.", RuntimeWarning, stacklevel=2)
    return _chosen[0]


def _choose() -> tuple[Path | None, str]:
    """Return the folder and, unless it is the preferred one, a complaint about that."""
    try:
        preferred = _preferred()
        if _usable(preferred):
            return preferred.resolve(), ""
    except (OSError, RuntimeError):
        preferred = Path(os.environ.get("FASTNN_CACHE_DIR") or "~/.cache/fastnn")
    unusable = f"fastnn cannot use the cache folder {preferred} (not writable, or other users may write to it)"
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

    The environment variable FASTNN_CACHE_DIR chooses another parent folder. If the user's cache folder cannot
    be written, a folder for temporary files is used. If neither can, the result is None, and each process compiles its
    kernels. One RuntimeWarning says so.
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
    """Describe where kernels are kept."""
    folder = location()
    return "memory: no folder can be written" if folder is None else str(folder)


def entries() -> list[Path]:
    """Return the files of all cached kernels, including those of other versions of fastnn."""
    parent = _folder()
    return [] if parent is None else sorted(parent.glob("*/*.fnk"))


def size() -> int:
    """Return the number of bytes that all cached kernels take."""
    return sum(path.stat().st_size for path in entries())


def clear() -> int:
    """Remove all cached kernels from the disk and return their number.

    Kernels that this process has loaded stay in use.
    """
    found = entries()
    for folder in {path.parent for path in found}:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


install(__name__)
