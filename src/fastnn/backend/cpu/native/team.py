"""The native part of the thread team: claiming and running parts, waiting for work and for each other.

The thread that runs a program (the master) publishes a record that is worth sharing as a number of parts. Each free
thread, including the master, claims the next part by a compare-and-exchange of one word; another word counts the
parts that workers have finished. The master continues when no part is left and the workers' parts are finished: it
never waits for a thread that has not begun. A claim succeeds only if the word has not changed since it was read, so
a thread always claims the next part of the current phase, however long it slept in between. The description
of a phase does not change until all its parts are finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.backend.cpu.codegen.atomics import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_system,
    compare_exchange,
    pause,
)
from fastnn.backend.cpu.codegen.float_mode import enter_kernel_mode, restore_mode
from fastnn.backend.cpu.codegen.intrinsics import call_kernel, int64_pointer, smaller
from fastnn.backend.cpu.codegen.kernel import Kit, kernel
from fastnn.backend.cpu.codegen.options import helper
from fastnn.backend.cpu.layouts.team import LINE, MASK_BYTES, MOST_PLACED, Affinity, TeamWord
from fastnn.program.layout import KERNEL_WORD, Counter, Status

_LOCK, _SIZE, _ACTIVE, _SLEEPERS = TeamWord.LOCK * 8, TeamWord.SIZE * 8, TeamWord.ACTIVE * 8, TeamWord.SLEEPERS * 8
_CLAIM, _RECORD, _CONTEXT, _DONE = TeamWord.CLAIM * 8, TeamWord.RECORD * 8, TeamWord.CONTEXT * 8, TeamWord.DONE * 8
_MASTER_ASLEEP, _CLAIMED, _LINE_BYTES = TeamWord.MASTER_ASLEEP * 8, TeamWord.CLAIMED * 8, LINE * 8
_PHASES, _MASTER_SLEEPS, _WAKES = int(TeamWord.PHASES), int(TeamWord.MASTER_SLEEPS), int(TeamWord.WAKES)
_MUTEX, _WORK, _FINISHED = int(TeamWord.MUTEX), int(TeamWord.WORK), int(TeamWord.FINISHED)
_LOCK_MUTEX, _UNLOCK_MUTEX = int(TeamWord.LOCK_MUTEX), int(TeamWord.UNLOCK_MUTEX)
_SLEEP, _WAKE, _YIELD, _SPINS = int(TeamWord.SLEEP), int(TeamWord.WAKE), int(TeamWord.YIELD), int(TeamWord.SPINS)
_PROCESSOR, _USAGE, _MASTER_PROCESSOR = int(TeamWord.PROCESSOR), int(TeamWord.USAGE), int(TeamWord.MASTER_PROCESSOR)
_CONTENDED, _LENT = int(TeamWord.CONTENDED), int(TeamWord.LENT)
_GET_AFFINITY, _SET_AFFINITY = int(TeamWord.GET_AFFINITY), int(TeamWord.SET_AFFINITY)
_AFFINITIES, _AFFINITY_BYTES = int(TeamWord.AFFINITIES), 8 * int(Affinity.SIZE)
_KEPT, _LENT_TO, _PRESENT = 8 * int(Affinity.KEPT), 8 * int(Affinity.LENT), 8 * int(Affinity.PRESENT)
_STATUS, _DETAIL, _RAISED = int(Counter.STATUS), int(Counter.STATUS_DETAIL), int(Status.KERNEL_RAISED)
# An idle worker checks for preemption after this many polls, some 30 us.
_LOOK_MASK = 1023
# A preempted worker goes to sleep earlier from then on: Linux schedules a thread that wakes at once, but one that spins
# waits up to 4 ms for its turn. Each time that it keeps its processor until it sleeps, it spins a little longer again.
_SOONER, _LATER, _LEAST_LOOKS = 8, 128, 64
# A master polls this many times less before it lends its processor, if workers lost theirs.
_SHORT_WAIT = 16
_THIS_THREAD = 1  # RUSAGE_THREAD
_PREEMPTIONS = 17  # the word of a rusage that counts involuntary switches
_FOREVER = 0xFFFFFFFF  # a time limit that only Windows' function reads


@helper
def lock(team: int) -> None:
    """Take the mutex for sleeping and waking."""
    words = int64_pointer(team)
    call_system(words[_LOCK_MUTEX], words[_MUTEX], 0, 0, 0)


@helper
def unlock(team: int) -> None:
    """Release the mutex."""
    words = int64_pointer(team)
    call_system(words[_UNLOCK_MUTEX], words[_MUTEX], 0, 0, 0)


@helper
def sleep(team: int, condition: int) -> None:
    """Release the mutex until a condition is signalled, and take it again."""
    words = int64_pointer(team)
    call_system(words[_SLEEP], condition, words[_MUTEX], _FOREVER, 0)


@helper
def wake(team: int, condition: int) -> None:
    """Wake all threads that sleep on a condition."""
    words = int64_pointer(team)
    lock(team)
    call_system(words[_WAKE], condition, 0, 0, 0)
    unlock(team)


@helper
def wake_workers(team: int) -> None:
    """Wake all sleeping workers, once: they count as awake from now on, however late the system schedules them."""
    words = int64_pointer(team)
    lock(team)
    words[_WAKES] += 1
    atomic_store(team + _SLEEPERS, 0)
    call_system(words[_WAKE], words[_WORK], 0, 0, 0)
    unlock(team)


@helper
def asleep(team: int) -> bool:
    """Return whether workers have to be woken first."""
    return atomic_load(team + _SLEEPERS) > 0


@helper
def contended(team: int) -> bool:
    """Return whether workers sleep because other threads want their processors."""
    return asleep(team) and int64_pointer(team)[_CONTENDED] != 0


@helper
def is_open(team: int) -> bool:
    """Return whether a part can be claimed."""
    word = atomic_load(team + _CLAIM)
    return word & 0xFFFF < word >> 16


@helper
def claim(team: int) -> int:
    """Claim the next part of the current phase and return `parts << 16 | part`, or -1 if none is left."""
    word = atomic_load(team + _CLAIM)
    while word & 0xFFFF < word >> 16:
        found = compare_exchange(team + _CLAIM, word, word + 1)
        if found == word:
            return word
        word = found
    return -1


@helper
def work(record: int, context: int, claimed: int) -> None:
    """Run one part."""
    if call_kernel(int64_pointer(record)[KERNEL_WORD], record, context, claimed & 0xFFFF, claimed >> 16) != 0:
        atomic_store(context + _DETAIL * 8, record)
        atomic_store(context + _STATUS * 8, _RAISED)


@helper
def processor(team: int) -> int:
    """Return the number of the calling thread's processor, -1 if the system does not say."""
    words = int64_pointer(team)
    return call_system(words[_PROCESSOR], 0, 0, 0, 0) if words[_PROCESSOR] != 0 else -1


@helper
def preemptions(team: int, usage: int) -> int:
    """Return how often the calling thread was preempted, 0 if the system does not say."""
    words = int64_pointer(team)
    if words[_USAGE] == 0 or call_system(words[_USAGE], _THIS_THREAD, usage, 0, 0) != 0:
        return 0
    return int64_pointer(usage)[_PREEMPTIONS]


@helper
def move(team: int, index: int, present: int, wanted: int) -> bool:
    """Move a worker from the processors of one mask to those of another; return whether it was on the first."""
    words = int64_pointer(team)
    worker = words[_AFFINITIES] + (index - 1) * _AFFINITY_BYTES
    thread, found = int64_pointer(worker)[0], worker + _PRESENT
    if thread == 0 or call_system(words[_GET_AFFINITY], thread, MASK_BYTES, found, 0) != 0:
        return False
    for word in range(MASK_BYTES // 8):
        if int64_pointer(found)[word] != int64_pointer(worker + present)[word]:
            return False  # another program has bound the thread
    return call_system(words[_SET_AFFINITY], thread, MASK_BYTES, worker + wanted, 0) == 0


@helper
def late_worker(team: int) -> int:
    """Return the index of a worker that is at a part, 0 when none is."""
    for index in range(1, smaller(atomic_load(team + _ACTIVE), MOST_PLACED)):
        if int64_pointer(team + _CLAIMED + index * _LINE_BYTES)[1] != 0:
            return index
    return 0


@helper
def enter(team: int, nth: int) -> bool:
    """Take the team for a run of `nth` threads, unless another run has it."""
    if atomic_load(team + _LOCK) != 0 or compare_exchange(team + _LOCK, 0, 1) != 0:
        return False
    int64_pointer(team)[_MASTER_PROCESSOR] = processor(team)
    if atomic_load(team + _ACTIVE) != nth:
        lock(team)
        raised = atomic_load(team + _ACTIVE) < nth
        atomic_store(team + _ACTIVE, nth)
        unlock(team)
        if raised:
            wake_workers(team)
    return True


@helper
def leave(team: int) -> None:
    """Release the team."""
    atomic_store(team + _LOCK, 0)


@helper
def sleep_until_finished(team: int, others: int) -> None:
    """Sleep until workers have finished their parts; one of them may use the master's processor meanwhile.

    Another thread may have preempted it in the middle of a part. Without the loan a product of 1024 x 1024 next to
    spinning threads of NumPy's took as long as on one thread.
    """
    words = int64_pointer(team)
    words[_MASTER_SLEEPS] += 1
    late = late_worker(team) if words[_SET_AFFINITY] != 0 else 0
    lent = late != 0 and move(team, late, _KEPT, _LENT_TO)
    words[_LENT] += lent
    lock(team)
    atomic_store(team + _MASTER_ASLEEP, 1)
    while atomic_load(team + _DONE) < others:
        sleep(team, words[_FINISHED])
    atomic_store(team + _MASTER_ASLEEP, 0)
    unlock(team)
    if lent:
        move(team, late, _LENT_TO, _KEPT)


@helper
def run_together(team: int, record: int, context: int, parts: int) -> None:
    """Run a record's parts with all free threads, and return when all are finished."""
    words = int64_pointer(team)
    words[_RECORD // 8], words[_CONTEXT // 8] = record, context
    words[_PHASES] += 1
    atomic_store(team + _DONE, 0)
    atomic_store(team + _CLAIM, parts << 16)
    if atomic_load(team + _SLEEPERS) > 0:
        wake_workers(team)
    others = parts
    claimed = claim(team)
    while claimed >= 0:
        work(record, context, claimed)
        others -= 1
        claimed = claim(team)
    idle, looks = 0, words[_SPINS]
    if words[_CONTENDED] != 0:
        looks //= _SHORT_WAIT
    while atomic_load(team + _DONE) < others:
        idle += 1
        if idle < looks:
            pause()
        else:
            sleep_until_finished(team, others)


@helper
def park(team: int, index: int) -> None:
    """Sleep until a worker has work or has to end."""
    words = int64_pointer(team)
    lock(team)
    while atomic_load(team + _SIZE) > index:
        takes_part = atomic_load(team + _ACTIVE) > index
        if takes_part:
            # announced before the last check for work: the master publishes first and then looks for sleepers
            atomic_add(team + _SLEEPERS, 1)
            if is_open(team):
                atomic_add(team + _SLEEPERS, -1)
                break
        wakes = words[_WAKES]
        sleep(team, words[_WORK])
        if takes_part and words[_WAKES] == wakes:
            atomic_add(team + _SLEEPERS, -1)  # woken by something else, and still counted
        elif takes_part:
            break
    unlock(team)


@kernel("team_worker", arguments=3, returns=True)
def team_worker(kit: Kit, variant: str) -> Callable[..., Any]:
    """Work on parts until the team shrinks to the worker's index; return the number of parts."""

    def team_worker(team, index, usage):
        words = int64_pointer(team)
        count = int64_pointer(team + _CLAIMED + index * _LINE_BYTES)
        idle, looks = 0, words[_SPINS]
        mode = enter_kernel_mode()
        preempted = preemptions(team, usage)
        while atomic_load(team + _SIZE) > index:
            claimed = claim(team) if atomic_load(team + _ACTIVE) > index else -1
            if claimed >= 0:
                idle, count[1] = 0, 1
                work(words[_RECORD // 8], words[_CONTEXT // 8], claimed)
                count[0], count[1] = count[0] + 1, 0
                atomic_add(team + _DONE, 1)
                if atomic_load(team + _MASTER_ASLEEP) != 0:
                    wake(team, words[_FINISHED])
                    if processor(team) == words[_MASTER_PROCESSOR]:
                        call_system(words[_YIELD], 0, 0, 0, 0)  # it was lent
                continue
            idle += 1
            pause()
            if idle & _LOOK_MASK != 0 and idle < looks:
                continue
            lost = preemptions(team, usage) != preempted
            if lost or idle >= looks:
                looks = max(looks // _SOONER, _LEAST_LOOKS) if lost else smaller(looks + _LATER, words[_SPINS])
                words[_CONTENDED] = lost
                park(team, index)
                idle = 0
            elif processor(team) == words[_MASTER_PROCESSOR]:
                call_system(words[_YIELD], 0, 0, 0, 0)
            preempted = preemptions(team, usage)
        restore_mode(mode)
        return count[0]

    return team_worker


@kernel("team_shrink", arguments=2, returns=True)
def team_shrink(kit: Kit, variant: str) -> Callable[..., Any]:
    """End the workers whose index is not below a size, including sleeping ones.

    In one native call: a signal handler that ran a program while Python held the mutex would wait for it forever.
    """

    def team_shrink(team, size):
        words = int64_pointer(team)
        lock(team)
        atomic_store(team + _SIZE, size)
        call_system(words[_WAKE], words[_WORK], 0, 0, 0)
        unlock(team)
        return size

    return team_shrink
