"""The number of threads that kernels run on; results are bit-identical for every number.

The default is FASTNN_NUM_THREADS, or else the number of processors that this process may use: those of its affinity
mask (on hybrid processors only the performance cores), but no more than the quota of its container.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from fastnn.checks import integer
from fastnn.locks import ForkSafeLock

MOST = 256
VARIABLE = "FASTNN_NUM_THREADS"

_chosen: int | None = None
_watchers: list[Callable[[int], None]] = []


#: The number of threads in `limited`; native code reads it at its address.
limited_threads = ctypes.c_int64(0)
_counting = ForkSafeLock()


class _Here(threading.local):
    """Settings of the calling thread."""

    number: int | None = None


_here = _Here()


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels run on.

    Parameters
    ----------
    n : int
        From 1 to 256; 1 runs everything on the calling thread. Results are bit-identical for every n.

    Raises
    ------
    TypeError, ValueError
        When n is not an integer from 1 to 256.
    """
    global _chosen
    _chosen = checked("n", n)
    for watcher in list(_watchers):
        watcher(_chosen)


def get_num_threads() -> int:
    """Return the number of threads that kernels run on, the calling thread included.

    Within `fastnn.train_many`, which trains each model on one thread, it is 1.

    Raises
    ------
    ValueError
        When it comes from the environment variable FASTNN_NUM_THREADS and is not an integer from 1 to 256.
    """
    if _here.number is not None:
        return _here.number
    return _default()[0] if _chosen is None else _chosen


@contextmanager
def limited(n: int) -> Iterator[None]:
    """Limit kernels that the calling thread starts to `n` threads, whatever is set."""
    with _counting:
        limited_threads.value += 1
    before, _here.number = _here.number, n
    try:
        yield
    finally:
        _here.number = before
        with _counting:
            limited_threads.value -= 1


def reason() -> str:
    """Describe where the number of threads comes from."""
    if _here.number is not None:
        return "train_many"
    return "set_num_threads" if _chosen is not None else _default()[1]


def watch(watcher: Callable[[int], None]) -> None:
    """Register a function that is called with each newly set number."""
    _watchers.append(watcher)


def checked(name: str, n: object) -> int:
    """Return a number of threads, or raise an error that names it."""
    return integer(name, n, at_most=MOST)


@functools.cache
def _default() -> tuple[int, str]:
    """Return the default number of threads, and its reason."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        try:
            return checked(VARIABLE, int(text)), VARIABLE
        except ValueError:
            raise ValueError(
                f"environment variable {VARIABLE}: expected an integer from 1 to {MOST}, got {text!r}"
            ) from None
    count, why = _processors(), "the processors that this process may use"
    quick = _performance_cores(Path("/"))
    if quick is not None and 0 < quick < count:
        count, why = quick, "the performance cores that this process may use"
    quota = _quota(Path("/"))
    if quota is not None and math.ceil(quota) < count:
        count, why = max(1, math.ceil(quota)), f"the container's quota of {quota:g} processors"
    return min(count, MOST), why


# a process may bind the child of a fork to other processors
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_default.cache_clear)


def _processors() -> int:
    """Return the number of processors in this process's affinity mask."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    affinity = _affinity()
    return (os.cpu_count() or 1) if affinity is None else len(affinity)


def _affinity() -> set[int] | None:
    """Return the numbers of the processors that this process may use, or None if the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _performance_cores(root: Path) -> int | None:
    """Return the number of performance cores that this process may use, or None if all cores are alike.

    Parts of a record are equal: a thread on an efficiency core keeps the others waiting.
    """
    if sys.platform == "darwin":
        return _sysctl("hw.perflevel0.logicalcpu")
    try:
        # exists only on Intel's hybrid processors
        numbers = _listed((root / "sys/devices/cpu_core/cpus").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    affinity = _affinity()
    return len(numbers if affinity is None else numbers & affinity)


def _listed(text: str) -> set[int]:
    """Read a list of processors as Linux writes it, such as "0-3,8"."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _sysctl(name: str) -> int | None:
    """Return a number from macOS, or None if it does not know the name."""
    value = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    try:
        found = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return int(value.value) if found == 0 and value.value > 0 else None


def _quota(root: Path) -> float | None:
    """Return the number of processors that Linux control groups grant this process, or None without a limit.

    Every group from the process's own up to the root may limit it. In a container the process's path may be
    outside the mounted part; the mount is then the container's own group, so it is read as well.
    """
    found = []
    for folder in _groups(root):
        try:
            found.append(_quota_of(folder))
        except (OSError, ValueError):
            continue
    return min((quota for quota in found if quota is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, versions 1 and 2."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            tops = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [mounts / "cpu", mounts / controllers]
        else:
            continue
        inside = PurePosixPath("/" + path.strip("/")).relative_to("/")
        if ".." in inside.parts:
            inside = PurePosixPath()
        for top in tops:
            yield from (top / group for group in (inside, *inside.parents))


def _quota_of(folder: Path) -> float | None:
    """Return the limit of one control group in processors, or None if it has none.

    Raises
    ------
    OSError, ValueError
        When the folder is not a control group.
    """
    unified = folder / "cpu.max"
    if unified.exists():
        quota, period = (*unified.read_text(encoding="ascii").split(), "100000")[:2]
    else:
        quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
        period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
    if quota in ("max", "-1"):
        return None
    if int(quota) <= 0 or int(period) <= 0:
        raise ValueError("a quota is a positive number of microseconds")
    return int(quota) / int(period)
