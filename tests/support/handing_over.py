"""Blocks of Numba's simulator whose threads wake each other at barriers.

The simulator polls the threads of a block in a busy loop, which competes with them for the
interpreter's lock. Here the last thread to arrive at a barrier wakes the others, without polling.
"""

import threading

import numpy as np
from numba.cuda.simulator import kernel as simulator


class AnotherFailedError(RuntimeError):
    """A thread stops because another one of its block has failed."""


class Block(simulator.BlockManager):
    """The threads of one block."""

    def run(self, grid_point, *arguments):
        """Run all threads to their end; raises the first exception of one of them."""

        def work():
            # a GPU does not warn where NaN and infinity are computed with
            with np.errstate(all="ignore"):
                self._f(*arguments)

        self.lock = threading.Lock()
        self.waiting = []
        points = np.ndindex(*self._block_dim)
        self.threads = [Thread(work, self, grid_point, point, self._debug) for point in points]
        self.running = len(self.threads)
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        failed = [thread.exception for thread in self.threads if thread.exception is not None]
        # the cause before its consequences
        for error, trace in sorted(failed, key=lambda each: isinstance(each[0], AnotherFailedError)):
            raise error.with_traceback(trace)

    def arrive(self, thread=None):
        """Note that a thread waits at a barrier, or without an argument that a thread has ended."""
        with self.lock:
            if thread is None:
                self.running -= 1
            else:
                self.waiting.append(thread)
            if len(self.waiting) == self.running:
                freed, self.waiting = self.waiting, []
                for each in freed:
                    each.syncthreads_event.set()

    def abort(self):
        """End all threads that wait, because one has failed."""
        for thread in self.threads:
            thread.abort = True
            thread.syncthreads_event.set()


class Thread(simulator.BlockThread):
    """A thread of a block."""

    def run(self):
        """Run, and notify the block at the end."""
        super().run()
        if self.exception is not None:
            self._manager.abort()
        self._manager.arrive()

    def syncthreads(self):
        """Wait until all threads of the block that still run are here."""
        if not self.abort:
            self._manager.arrive(self)
            self.syncthreads_event.wait()
            self.syncthreads_event.clear()
        if self.abort:
            raise AnotherFailedError("another thread of the block has failed")


def install():
    """Make the simulator run blocks in this way."""
    simulator.BlockManager = Block
