"""Processes that help to compile kernels, so that a first step uses all cores.

Threads would not: Numba's compiler and each call of LLVM hold a lock of the process. The names of absent kernels are
in a pipe, from which this process and its helpers take one after the other. Helpers write what they compile to the
disk, and this process loads it from there. What they leave out, for whatever reason, this process compiles itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastnn.backend.cpu.loading import library, store
from fastnn.formulas import custom
from fastnn.locks import PATIENCE
from fastnn.program.record import KernelKey

#: The most helpers: with more of them, the longest kernel takes longer than their shares. Each needs 0.2 GB.
MOST = 3
# A helper imports Numba first, which takes a second of its core: it should have this many seconds of work.
_LEAST_SECONDS = 1.5
# Seconds that ops take to compile, where they differ from the others'.
_SECONDS = {
    "matmul": 1.0, "batched_matmul": 2.1, "panel": 0.5, "sum_rows": 0.7, "softmax": 0.7, "run": 0.7, "team_worker": 0.5,
    "cross_entropy_logits": 1.1, "cross_entropy_logits_labels": 1.1, "batch_norm": 2.7, "batch_norm_grad": 1.5,
    "batch_norm_inference_grad": 1.5, "column_moments": 1.6, "column_products": 1.0, "normalize_columns": 1.0,
    "call_network": 2.0, "call_learner": 2.5, "conv": 2.0, "conv_back": 2.2, "conv_weights": 1.1, "taps": 1.5,
    "shifted_weights": 0.4,
}  # fmt: skip
_OTHER_SECONDS = 0.25
# The most kernels that go through the pipe, where each is a number of three digits: their names are arguments
# of a process, of which Windows allows 32 kB.
_MOST_KERNELS, _DIGITS = 400, 3
# What each process reads at last. The end of the pipe would not do: a fork in another thread may keep it open.
_NO_MORE = 999
# A helper imports what this process imports, from the same folders, and nothing from the folder where it runs.
_HELPER = (
    "import json, os, sys; keys, sys.path[:], place, idle = json.loads(sys.argv[1]);"
    "from fastnn.backend.cpu.loading.helpers import help_with; help_with(keys, place, idle); os._exit(0)"
)

# What helpers add to their niceness where this process does something else meanwhile.
_NICE = 10

# The process that has helpers, so that its other threads, which may compile at the same time, do not start more.
_helped: set[int] = set()


class Absent:
    """Kernels to load or compile, in the order in which this process should take them.

    It iterates over those that it takes from the pipe, then waits for helpers, and then over all others.

    Parameters
    ----------
    keys : list of KernelKey
    shared : int
        How many of the first ones helpers may compile.
    """

    def __init__(self, keys: list[KernelKey], shared: int = 0) -> None:
        self._keys = keys
        self._shared = keys[: min(shared, _MOST_KERNELS)]
        self._queue: int | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[KernelKey]:
        left = dict.fromkeys(self._keys)
        if self._queue is not None:
            for index in _taken(self._queue):
                del left[self._shared[index]]
                yield self._shared[index]
            for helper in self._helpers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    helper.wait(PATIENCE)
        yield from left

    @property
    def working(self) -> bool:
        """Whether a helper runs."""
        return any(helper.poll() is None for helper in self._helpers)

    def start(self, count: int, place: Path, *, idle: bool = False) -> None:
        """Start helpers that write to the folder of `place`, at low priority if `idle`; fewer if the system refuses."""
        names = [[key.op, key.dtype, key.variant] for key in self._shared]
        work = json.dumps([names, sys.path, str(place), idle])
        with contextlib.suppress(OSError):
            self._queue, end = os.pipe()
            with open(end, "wb") as pipe:
                numbers = [*range(len(names)), *[_NO_MORE] * (count + 1)]
                pipe.write(b"".join(b"%0*d" % (_DIGITS, number) for number in numbers))
            for _ in range(count):
                self._helpers.append(
                    subprocess.Popen(
                        [sys.executable, "-I" if sys.flags.isolated else "-P", "-c", _HELPER, work],
                        stdin=self._queue,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        env={**os.environ, "FASTNN_CACHE_DIR": str(place.parent.parent)},
                        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                    )
                )

    def stop(self) -> None:
        """End helpers that still run, and close the pipe."""
        for helper in self._helpers:
            if helper.poll() is None:
                helper.kill()
            helper.wait()
        self._close()

    def leave(self) -> None:
        """Forget helpers in the child of a fork: they are its parent's."""
        for helper in self._helpers:
            helper.returncode = 0
        self._close()

    def _close(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            os.close(queue)


@contextmanager
def helping(keys: list[KernelKey], cores: int) -> Iterator[Absent]:
    """Return kernels to load or compile, and compile some of them in other processes meanwhile.

    Parameters
    ----------
    keys : list of KernelKey
        Those that are neither in memory nor on the disk.
    cores : int
        The number of cores that may be used.
    """
    process, place = os.getpid(), folder()
    ours = longest_first(keys)
    count = min(MOST, cores - 1, int(sum(map(_seconds, ours)) / _LEAST_SECONDS) - 1)
    if count < 1 or place is None or process in _helped:
        yield Absent(keys)
        return
    absent = Absent([*ours, *(key for key in keys if key not in ours)], len(ours))
    _helped.add(process)
    try:
        absent.start(count, place)
        yield absent
    finally:
        absent.stop()
        _helped.discard(process)


def longest_first(keys: Iterable[KernelKey]) -> list[KernelKey]:
    """Return the kernels that other processes can compile: those of no user-defined functions."""
    ours = [key for key in keys if custom.find(key.variant) is None]
    return sorted(ours, key=lambda key: (-_seconds(key), key))


def folder() -> Path | None:
    """Return where helpers would write, or None if there can be no helpers."""
    return _place() if _is_python() else None


def help_with(names: list[list[str]], place: str, idle: bool = False) -> None:
    """Compile kernels from the pipe at the standard input until it is empty, or until the process that made it ends.

    Parameters
    ----------
    names : list
        Op, dtype and variant of each kernel.
    place : str
        Where that process looks for kernels: one with other settings of Numba has other files.
    idle : bool
        Whether that process does something else meanwhile, and should not be slowed.
    """
    parent = os.getppid()
    if str(_place()) != place:
        return
    if idle and hasattr(os, "nice"):
        os.nice(_NICE)
    for index in _taken(0):
        if os.getppid() != parent:
            return
        library.compile_to_disk(KernelKey(*names[index]))


def _taken(queue: int) -> Iterator[int]:
    """Take one kernel after the other from the pipe; each goes to one process."""
    while (digits := os.read(queue, _DIGITS)) and int(digits) != _NO_MORE:
        yield int(digits)


def _seconds(key: KernelKey) -> float:
    return _SECONDS.get(key.op, _OTHER_SECONDS)


def _place() -> Path | None:
    return store.path_of("any")


def _is_python() -> bool:
    """Return whether the process runs in an interpreter that can be started again; other programs embed Python."""
    return Path(sys.executable or "").stem.lower().startswith("python") and not getattr(sys, "frozen", False)
