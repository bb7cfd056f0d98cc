"""The memory layout of a thread team."""

from __future__ import annotations

from enum import IntEnum

#: Sleeping workers are woken for this much work.
WAKE_NANOSECONDS = 100_000.0

#: A record is cut into this many parts for each thread if another program's threads hold the workers' processors:
#: workers come late or in turns then, and the master does more.
FINER = 4

#: Teams of up to this many threads are kept off the master's processor; larger ones find idle processors.
MOST_PLACED = 8

#: distance of words that different threads write: 128 bytes. That is a cache line of Apple's processors, and two of
#: x86's, which are fetched in pairs.
LINE = 16
LINE_BYTES = 8 * LINE


class TeamWord(IntEnum):
    """The words of a team; separate lines for the master's words, the claims, and the workers' counts."""

    LOCK = 0  # 1 while a run has the team
    SIZE = 1  # threads of the team, the master included: a worker whose index is not below it ends
    ACTIVE = 2  # threads that may take part in the current run
    SLEEPERS = 3  # sleeping workers that would take part
    MUTEX = 4  # from here on addresses of the system's objects and functions
    WORK = 5
    FINISHED = 6
    LOCK_MUTEX = 7
    UNLOCK_MUTEX = 8
    SLEEP = 9
    WAKE = 10
    YIELD = 11
    SPINS = 12  # polls of a word before a thread goes to sleep
    PROCESSOR = 13  # the system's function that returns the calling thread's processor, 0 if there is none
    USAGE = 14  # the system's function that counts preemptions of the calling thread, 0 if there is none
    GET_AFFINITY = 15  # the system's functions that return and set a thread's processors, 0 if there are none
    CLAIM = LINE  # parts << 16 | the next part
    RECORD = 2 * LINE
    CONTEXT = 2 * LINE + 1
    PHASES = 2 * LINE + 2  # counts for tests and benchmarks: published records,
    MASTER_SLEEPS = 2 * LINE + 3  # how often the master went to sleep, waiting for a worker's part
    WAKES = 2 * LINE + 4  # how often it woke sleeping workers (under the mutex)
    MASTER_PROCESSOR = 2 * LINE + 5  # the master's processor when it took the team
    PLACED = 2 * LINE + 6  # the processor that workers are kept off
    SET_AFFINITY = 2 * LINE + 7
    AFFINITIES = 2 * LINE + 8  # the address of what `Affinity` describes, for workers 1 to MOST_PLACED - 1
    LENT = 2 * LINE + 9  # how often a sleeping master lent its processor
    DONE = 3 * LINE  # finished parts of the current phase that workers claimed
    MASTER_ASLEEP = 3 * LINE + 1
    CONTENDED = 3 * LINE + 2  # whether the worker that went to sleep last had lost its processor to another thread
    CLAIMED = 4 * LINE  # at CLAIMED + i * LINE: the parts that worker i has worked on, and whether it is at one now


class Affinity(IntEnum):
    """The words about the processors of one worker; each mask has room for 1024 processors."""

    THREAD = 0  # the system's number of the thread; 0 where it has no processor but the master's, or none is its
    KEPT = 16  # where it may run: not on the master's processor
    LENT = 32  # the master's processor
    PRESENT = 48  # room for what the system answers
    SIZE = 64


MASK_BYTES = 128
