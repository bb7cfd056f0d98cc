"""A pool of threads that take numbered jobs, until one of them fails."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable

from fastnn.backend.cpu.loading.entry_point import taking_turns
from fastnn.runtime.cancellation import stop_if_asked, stopped_by
from fastnn.threads import limited

#: How often a thread that waits for its workers checks whether it has to stop itself.
LOOK_SECONDS = 0.05


class Workers:
    """Threads made for one call, which have all ended when it returns.

    Parameters
    ----------
    size : int
        Number of jobs that run at a time; with 1 they run in the calling thread.
    threads : int
        Number of threads that kernels use in each job.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size, self.threads = size, threads

    def run(self, n_jobs: int, job: Callable[[int], float], done: Callable[[float], None]) -> None:
        """Call `job` with each number below `n_jobs`, and, in the calling thread, `done` with each result.

        Raises
        ------
        BaseException
            The first that a job raised. The other jobs are stopped first.
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
    """Pass results on until all threads have finished, or raise the first exception of one."""
    while working:
        try:
            result = results.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            # this thread may itself be a worker that has to stop
            stop_if_asked()
            continue
        if isinstance(result, BaseException):
            raise result
        if result is None:
            working -= 1
        else:
            done(result)


def _end(threads: list[threading.Thread], stop: threading.Event) -> None:
    """Stop the threads, whatever happens meanwhile: none may still use a model that its owner considers free."""
    while True:
        # a second Ctrl-C changes nothing
        with contextlib.suppress(KeyboardInterrupt):
            stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            return
