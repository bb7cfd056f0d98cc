"""Threads that take jobs by their number, until one of them fails."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable

from fastnn.backend.cpu.entry import taking_turns
from fastnn.threads import limited
from fastnn.training.pace import stop_if_asked, stopped_by

#: How often a thread that waits for its crew looks whether it has to stop itself.
LOOK_SECONDS = 0.05


class Crew:
    """Some threads, made for one call, that are all gone when it ends.

    Parameters
    ----------
    size : int
        How many jobs run at a time; with 1 the calling thread does them.
    threads : int
        How many threads kernels have in each job.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.threads = size, threads

    def run(self, n_jobs: int, job: Callable[[int], float], done: Callable[[float], None]) -> None:
        """Call `job` for each number below `n_jobs`, and, in the calling thread, `done` with each result.

        Raises
        ------
        BaseException
            The first that a job raised. Others are told to stop, and have stopped on return.
        """
        if self.size == 1:
            with limited(self.threads):
                for number in range(n_jobs):
                    done(job(number))
            return
        stop = threading.Event()
        jobs = deque(range(n_jobs))
        results: queue.SimpleQueue[float | BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                with limited(self.threads), stopped_by(stop.is_set):
                    while not stop.is_set():
                        try:
                            number = jobs.popleft()
                        except IndexError:
                            break
                        results.put(job(number))
            except BaseException as error:
                results.put(error)
            finally:
                results.put(None)

        threads: list[threading.Thread] = []
        try:
            with taking_turns():
                for index in range(self.size):
                    threads.append(threading.Thread(target=work, name=f"fastnn-model-{index}", daemon=True))
                    threads[-1].start()
                _wait(len(threads), results, done)
        finally:
            _end(threads, stop)


def _wait(
    working: int, results: queue.SimpleQueue[float | BaseException | None], done: Callable[[float], None]
) -> None:
    """Hand results on until all threads are through, or raise what one of them raised."""
    while working:
        try:
            result = results.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            # this thread may itself be one of a crew that is told to stop
            stop_if_asked()
            continue
        if isinstance(result, BaseException):
            raise result
        if result is None:
            working -= 1
        else:
            done(result)


def _end(threads: list[threading.Thread], stop: threading.Event) -> None:
    """Stop the threads, whatever happens meanwhile: none may go on with a model that its owner takes for free."""
    while True:
        # a second Ctrl-C changes nothing
        with contextlib.suppress(KeyboardInterrupt):
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            return
