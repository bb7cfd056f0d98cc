"""The thread team: one per process, made at the first run that has work for it.

Workers are daemon threads, each in one native call (`native/team.py`) that releases the GIL and ends when the team
shrinks below the worker's index. Taking the team, publishing work and waiting happen in native code, where no Python
exception can interrupt them. A run that finds the team taken works alone, so several Python threads never wait for
each other here.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import struct
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np

from fastnn import threads as settings
from fastnn.backend.cpu.layouts import team
from fastnn.backend.cpu.layouts.team import LINE, LINE_BYTES, MOST_PLACED, TeamWord
from fastnn.backend.cpu.loading import library
from fastnn.backend.cpu.loading.collection import without_collection
from fastnn.backend.cpu.loading.entry_point import EntryPoint
from fastnn.backend.cpu.threads.affinity import Affinities
from fastnn.locks import ForkSafeLock
from fastnn.program.program import aligned_zeros
from fastnn.program.record import KernelKey

WORKER, SHRINK = KernelKey("team_worker", "int64"), KernelKey("team_shrink", "int64")

# More than the size of any system's mutex or condition variable (glibc 48 bytes, macOS 64).
_OBJECT_BYTES = 256
_END_SECONDS = 2.0
# A rusage takes 144 bytes with glibc, 272 with musl.
_USAGE_BYTES = 320

#: How often a waiting thread polls before it sleeps: 0.5 ms if a pause takes 27 ns (Zen 3). With 4,000 polls,
#: training steps of 784-256-128-10 on two free cores ran 1.3 instead of 1.6 times as fast as on one. The master does
#: not yield: that gave its processor away for whole time slices, and next to two busy processes a step took 1.7 times
#: as long as on one thread.
SPINS = 20_000
#: Sleeping workers are woken for this much work.
WAKE_NANOSECONDS = team.WAKE_NANOSECONDS
_NOWHERE = -2  # no run has taken the team yet; -1 if the system does not say which processor a thread is on
#: The shortest time slice that Linux grants.
SLICE_NANOSECONDS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


def _system() -> dict[TeamWord, Any]:
    """Return the system's functions that native code calls."""
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32")
        names = ("AcquireSRWLockExclusive", "ReleaseSRWLockExclusive", "SleepConditionVariableSRW",
                 "WakeAllConditionVariable", "SwitchToThread")  # fmt: skip
        functions = [getattr(kernel32, name) for name in names]
    else:
        libc = ctypes.CDLL(None)
        names = ("pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait", "pthread_cond_broadcast",
                 "sched_yield")  # fmt: skip
        functions = [getattr(libc, name) for name in names]
    words = [TeamWord.LOCK_MUTEX, TeamWord.UNLOCK_MUTEX, TeamWord.SLEEP, TeamWord.WAKE, TeamWord.YIELD]
    if sys.platform == "linux":
        functions += [libc.sched_getcpu, libc.getrusage, libc.sched_getaffinity, libc.sched_setaffinity]
        words += [TeamWord.PROCESSOR, TeamWord.USAGE, TeamWord.GET_AFFINITY, TeamWord.SET_AFFINITY]
    elif sys.platform == "win32":
        functions.append(kernel32.GetCurrentProcessorNumber)
        words.append(TeamWord.PROCESSOR)
    return dict(zip(words, functions, strict=True))


def _shorten_slice() -> None:
    """Ask Linux to run the calling thread in short slices: it is then scheduled at once, even if another thread spins.

    Kernels before 6.12 have no slices per thread, and ignore the request.
    """
    number = _SCHED_SETATTR.get(platform.machine()) if sys.platform == "linux" else None
    if number is not None:
        attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, 0, 0, SLICE_NANOSECONDS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def _initialize(mutex: int, conditions: list[int]) -> None:
    """Initialise a mutex and conditions in zeroed bytes; on Windows zeros are already valid."""
    if sys.platform != "win32":
        libc = ctypes.CDLL(None)
        for function, at in ((libc.pthread_mutex_init, mutex), *((libc.pthread_cond_init, c) for c in conditions)):
            if function(ctypes.c_void_p(at), None) != 0:
                raise OSError("the system has no mutex or condition variable for the thread team")


def _worker(entry: EntryPoint) -> None:
    _shorten_slice()
    entry.start()


class Team:
    """Threads that help the thread that runs a program.

    Attributes
    ----------
    address : int
        Address of the team's words, which native code uses.
    size : int
        Number of threads, the master included.
    sleepers : ctypes.c_int64
        Number of sleeping workers that would take part.
    """

    def __init__(self) -> None:
        words = int(TeamWord.CLAIMED) + (settings.MOST + 1) * LINE
        memory = aligned_zeros(8 * words + 3 * _OBJECT_BYTES + settings.MOST * _USAGE_BYTES, LINE_BYTES)
        library.keep_for_good(memory)
        self.words = memory[: 8 * words].view(np.int64)
        self.address = int(self.words.ctypes.data)
        self.sleepers = ctypes.c_int64.from_address(self.address + 8 * TeamWord.SLEEPERS)
        self.size = 1
        self.master_processor = ctypes.c_int64.from_address(self.address + 8 * TeamWord.MASTER_PROCESSOR)
        self.placed = ctypes.c_int64.from_address(self.address + 8 * TeamWord.PLACED)
        self._affinities = Affinities()
        self.words[TeamWord.AFFINITIES] = self._affinities.address
        self._workers: dict[int, threading.Thread] = {}
        self._system = _system()
        for word, function in self._system.items():
            self.words[word] = ctypes.cast(function, ctypes.c_void_p).value or 0
        for place, word in enumerate((TeamWord.MUTEX, TeamWord.WORK, TeamWord.FINISHED)):
            self.words[word] = self.address + 8 * words + place * _OBJECT_BYTES
        self._usages = self.address + 8 * words + 3 * _OBJECT_BYTES
        _initialize(
            int(self.words[TeamWord.MUTEX]), [int(self.words[word]) for word in (TeamWord.WORK, TeamWord.FINISHED)]
        )
        self.words[TeamWord.SIZE] = 1
        self.words[TeamWord.SPINS] = SPINS
        self.master_processor.value = self.placed.value = _NOWHERE

    def grow(self, size: int) -> None:
        """Start missing workers; the team also works with fewer than requested."""
        work = library.address(WORKER)
        self.words[TeamWord.SIZE] = size
        for index in range(1, size):
            worker = self._workers.get(index)
            if worker is None or not worker.is_alive():
                self._affinities.forget(index)
                entry = EntryPoint(work, self.address, index, self._usages + (index - 1) * _USAGE_BYTES)
                worker = threading.Thread(target=_worker, args=(entry,), name=f"fastnn-{index}", daemon=True)
                self._workers[index] = worker
                try:
                    # The starting thread waits until the new one runs. If the new one collected garbage first, a
                    # finalizer that uses the model of the run, whose lock the starting thread holds, would wait for it.
                    with without_collection():
                        worker.start()
                except RuntimeError as error:
                    warnings.warn(
                        f"fastnn runs on {index} instead of {size} threads: {error}", RuntimeWarning, stacklevel=2
                    )
                    break
        self.size = size
        self.placed.value = _NOWHERE  # the new ones have yet to be kept off the master's processor

    def place(self) -> None:
        """Keep workers off the master's processor, if they may run on another."""
        processor = self.master_processor.value
        self.placed.value = processor
        if processor < 0 or self.size > MOST_PLACED or not hasattr(os, "sched_setaffinity"):
            self._affinities.release()
        else:
            self._affinities.place(dict(self._workers), processor)

    def shrink(self, size: int) -> None:
        """End the workers whose index is not below `size`."""
        self.size = min(self.size, size)
        EntryPoint(library.address(SHRINK), self.address, self.size).start()
        for index in [index for index in self._workers if index >= self.size]:
            self._affinities.forget(index)
            worker = self._workers.pop(index, None)
            if worker is not None and worker.is_alive():
                # it finishes its current part
                worker.join(_END_SECONDS)


#: Address of the team's words, 0 while there is no team; native code reads it at its address.
present = ctypes.c_int64(0)

_team: Team | None = None
_guard = ForkSafeLock()
#: whether a thread is making the team larger or smaller, under the guard
_changing = False
_ended = False
_last_end = 0


def gather(size: int, nanoseconds: float) -> int:
    """Return the address of the team, with at least `size` threads, for a run with this much work to share.

    Returns 0 if the run is faster alone: if workers sleep, the run would end before they are awake,
    unless runs follow each other closely. Also returns 0 if there can be no team.
    """
    settle()
    team = _team
    if (
        nanoseconds < WAKE_NANOSECONDS
        and (team is None or team.sleepers.value > 0)
        and time.perf_counter_ns() - _last_end > WAKE_NANOSECONDS
    ):
        return 0
    if team is None or team.size < size or _ended:
        team = grown(size)
    return 0 if team is None else team.address


def claimed() -> int:
    """Return how many parts workers have worked on."""
    team = _team
    if team is None:
        return 0
    words, first = team.words, int(TeamWord.CLAIMED)
    return sum(int(words[first + index * LINE]) for index in range(1, team.size))


def settle() -> None:
    """Keep workers off the processor of the last run's thread, if it has moved."""
    if _team is not None and _team.master_processor.value != _team.placed.value:
        _team.place()


def ended() -> None:
    """Note that a run with work to share has ended."""
    global _last_end
    _last_end = time.perf_counter_ns()


def grown(size: int) -> Team | None:
    """Return the team, enlarged to at least `size` threads; None if there can be none now."""
    global _team, _changing
    with _guard:
        if _ended or _changing:
            # a run that a signal handler or a finalizer starts during a change works alone
            return None
        _changing = True
        try:
            if _team is None:
                _team = Team()
            if _team.size < size:
                _team.grow(size)
            present.value = _team.address
        finally:
            _changing = False
        return _team


def _resize(size: int) -> None:
    global _changing
    with _guard:
        if _team is None or size >= _team.size or _changing:
            return
        _changing = True
        try:
            _team.shrink(size)
        finally:
            _changing = False


def _end() -> None:
    global _ended
    _ended = True
    present.value = 0
    _resize(1)


settings.watch(_resize)
atexit.register(_end)


def _forget() -> None:
    """Start without a team in a child process: threads do not survive a fork."""
    global _team, _changing
    _team, _changing = None, False
    present.value = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def statistics() -> dict[str, Any]:
    """Return the team's size and its counts so far.

    Returns
    -------
    dict
        `threads`; `phases`, published records; `claimed`, parts that each worker has worked on; `sleeps`, how often a
        master slept until a worker had finished; `lent`, how often it lent its processor meanwhile; `wakes`, how often
        one woke sleeping workers.
    """
    team = _team
    if team is None:
        return {"threads": 1, "phases": 0, "claimed": [], "sleeps": 0, "lent": 0, "wakes": 0}
    words = team.words
    return {
        "threads": team.size,
        "phases": int(words[TeamWord.PHASES]),
        "claimed": [int(words[TeamWord.CLAIMED + index * LINE]) for index in range(1, team.size)],
        "sleeps": int(words[TeamWord.MASTER_SLEEPS]),
        "lent": int(words[TeamWord.LENT]),
        "wakes": int(words[TeamWord.WAKES]),
    }
