"""The code of a network or a learner for calls in this process; it keeps the functions that it calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.addresses import address
from fastnn.backend.cpu.calls.code_call import TAKE_ARRAYS, TAKE_ROWS
from fastnn.backend.cpu.executor.engine import prepare
from fastnn.backend.cpu.frozen.code import Recipe, draft, link
from fastnn.backend.cpu.frozen.estimate import Sharing, rows_within, sharing
from fastnn.backend.cpu.layouts.code import BLOCK, UNIT, CodeWord, extra_bytes, learner_bytes, network_bytes
from fastnn.backend.cpu.loading import background
from fastnn.backend.cpu.processor import cost
from fastnn.formulas import custom
from fastnn.program.layout import ALIGNMENT, RECORD_WORDS


class StillCompiling(Exception):
    """Functions of a code are not compiled yet; another process compiles them, or will."""


def compiling() -> bool:
    """Return whether it is too early to ask again for a code that was `StillCompiling`."""
    return background.busy()


#: Releasing the GIL takes 60 ns, and another thread could not use a shorter time than this.
SHORT_NANOSECONDS = 5000.0


class BoundCode:
    """A code, and what it needs to live as long as it is used: kernels of user-defined functions.

    Models of equal layers share one: it holds no address of their memory.

    Parameters
    ----------
    recipe : Recipe
        `frozen.code.assemble` says what else is raised.
    wait : bool
        Whether to compile what is missing here and now.

    Raises
    ------
    StillCompiling
        When functions are missing that another process compiles, without `wait`.

    Attributes
    ----------
    code : ndarray of int64
        Read-only.
    calls_python : bool
        Whether a user-defined function runs Python in the middle of a call.
    short_rows : int
        Calls of at most this many rows are so short that they should hold the GIL; 0 if a user-defined function takes
        an unknown time.
    """

    def __init__(self, recipe: Recipe, *, wait: bool = False) -> None:
        self._learns = recipe.training is not None
        code, places = draft(recipe)
        if not wait and not background.ready({*places, TAKE_ARRAYS if self._learns else TAKE_ROWS}):
            raise StillCompiling
        self._held = prepare(set(places))
        link(code, places, self._held)
        records = code[code[CodeWord.MANY_AT] :][: code[CodeWord.MANY_RUN] * RECORD_WORDS].reshape(-1, RECORD_WORDS)
        dtype = f"float{8 * code[CodeWord.ITEM_BYTES]}"
        nanoseconds = cost.total(records, dtype)
        self.short_rows = 0 if self._held else int(SHORT_NANOSECONDS * UNIT / max(nanoseconds, 1.0))
        # into how many parts a team cuts one row's records; those of more rows are cut when they are patched
        cost.cut(
            code[code[CodeWord.ONE_AT] :][: code[CodeWord.ONE_COUNT] * RECORD_WORDS].reshape(-1, RECORD_WORDS), dtype
        )
        code.flags.writeable = False
        self.code = code
        self.calls_python = any(kernel.calls_python for kernel in self._held.values())
        # estimating takes a millisecond, and models share codes
        self._sharing: dict[int, Sharing] = {}
        self._within: dict[tuple[float, int], int] = {}
        # keys of user-defined functions keep these
        self._users = [
            (at, key.variant) for key, where in places.items() if custom.is_custom(key.variant) for at in where
        ]

    @property
    def has_users(self) -> bool:
        """Whether it calls user-defined functions, whose time is unknown."""
        return bool(self._users)

    def sharing(self, most: int) -> Sharing:
        """Return what a team of threads shares in calls on up to `most` rows."""
        if most not in self._sharing:
            self._sharing[most] = sharing(self.code, most, max(BLOCK, most) if self._learns else BLOCK)
        return self._sharing[most]

    def rows_within(self, limit: float, most: int) -> int:
        """Return about how many rows take no longer than a number of nanoseconds on one thread, at most `most`."""
        if (limit, most) not in self._within:
            self._within[limit, most] = rows_within(self.code, limit, most)
        return self._within[limit, most]

    def unpacked_rows(self, most: int) -> int:
        """Return up to how many rows no product packs blocks of matrices, at most `most`."""
        at_once = most if self._learns else min(most, BLOCK)
        blocks_from = int(self.code[CodeWord.BLOCKS_FROM])
        return blocks_from - 1 if 0 < blocks_from <= at_once else most

    def workspace(self, rows: int) -> NDArray[np.int64]:
        """Allocate what calls on at most `rows` rows need."""
        word = self.code
        sizes = word[CodeWord.MANY_COUNT], word[CodeWord.MANY_ARENA], word[CodeWord.ONE_ARENA], word[CodeWord.ROWS]
        if self._learns:
            needed = max(learner_bytes(*sizes, n) for n in (1, rows))
        else:
            rows = max(2, min(rows, BLOCK))  # with records for several rows, which one row leaves where they are
            needed = network_bytes(*sizes, rows)
        more = extra_bytes(word[CodeWord.ROW_BYTES], word[CodeWord.SLOTS_COUNT], word[CodeWord.BLOCKS_FROM], rows)
        return np.empty(-(-int(needed + more) // 8), np.int64)

    def function_at(self, record: int, rows: int, work: NDArray[np.int64]) -> str:
        """Return name and place of the user-defined function that a record calls, or "".

        Parameters
        ----------
        record : int
            The record's address.
        rows : int
            Of the call: the records for one row are the code's own, those for more are in the workspace.
        work : ndarray
            The workspace.
        """
        table = self.code[CodeWord.ONE_AT if rows == 1 else CodeWord.MANY_AT]
        start = address(self.code) + 8 * table if rows == 1 else -(-address(work) // ALIGNMENT) * ALIGNMENT
        first = table + (record - start) // 8
        found = custom.first(*(key for place, key in self._users if first <= place < first + RECORD_WORDS))
        return "" if found is None else found.described()
