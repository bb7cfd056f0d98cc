"""The processors that workers of the thread team may run on: any but the master's, if there is another."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import numpy as np

from fastnn.backend.cpu.layouts.team import MASK_BYTES, MOST_PLACED, Affinity
from fastnn.backend.cpu.loading import library
from fastnn.program.program import aligned_zeros


class Affinities:
    """Keeps workers off the processor that a master runs on.

    Attributes
    ----------
    address : int
        Of the words that native code reads to lend a sleeping master's processor.
    """

    def __init__(self) -> None:
        memory = aligned_zeros(8 * Affinity.SIZE * (MOST_PLACED - 1))
        library.keep_for_good(memory)
        self._words = memory.view(np.int64).reshape(MOST_PLACED - 1, Affinity.SIZE)
        self.address = int(self._words.ctypes.data)
        # of each worker that was placed: its thread, where it may run, and what it was told
        self._placed: dict[int, tuple[int, set[int], set[int]]] = {}

    def forget(self, index: int) -> None:
        """Drop what is known of a worker that ends: the system may give its number to another thread."""
        if index < MOST_PLACED:
            self._words[index - 1, Affinity.THREAD] = 0
        self._placed.pop(index, None)

    def place(self, workers: dict[int, threading.Thread], processor: int) -> None:
        """Keep workers off a processor, if they may run on another.

        A worker that another program has bound stays within its bounds.
        """
        for index, worker in workers.items():
            thread = worker.native_id
            if thread is None:
                continue
            try:
                present = os.sched_getaffinity(thread)
                _, allowed, told = self._placed.get(index, (thread, present, present))
                if present != told and present != allowed:
                    allowed = present
                wanted = allowed - {processor} or allowed
                if wanted != present:
                    os.sched_setaffinity(thread, wanted)
            except OSError:
                continue
            self._placed[index] = thread, allowed, wanted
            self._describe(index, thread, wanted, allowed - wanted)

    def release(self) -> None:
        """Let workers run wherever they may; nothing is asked of the system if none has been kept off a processor."""
        while self._placed:
            index, (thread, allowed, told) = self._placed.popitem()
            self.forget(index)
            with suppress(OSError):
                if os.sched_getaffinity(thread) == told != allowed:
                    os.sched_setaffinity(thread, allowed)

    def _describe(self, index: int, thread: int, kept: set[int], lent: set[int]) -> None:
        if index >= MOST_PLACED:
            return
        words = self._words[index - 1]
        words[Affinity.THREAD] = 0
        if lent and max(kept | lent) < 8 * MASK_BYTES:
            for at, mask in ((Affinity.KEPT, kept), (Affinity.LENT, lent)):
                bits = sum(1 << processor for processor in mask).to_bytes(MASK_BYTES, "little")
                words[at : at + MASK_BYTES // 8] = np.frombuffer(bits, "<i8")
            words[Affinity.THREAD] = thread
