"""The code of a network or a learner for calls in this process; it keeps the functions that it calls."""

from __future__ import annotations

from fastnn.backend.cpu.executor.engine import prepare
from fastnn.backend.cpu.frozen.code import Interface, Make, Training, draft, link
from fastnn.backend.cpu.layouts.code import Word
from fastnn.formulas import custom
from fastnn.program.layout import RECORD_WORDS


class BoundCode:
    """A code, and what it needs to live as long as it is used: kernels of user-defined functions.

    Models of equal layers share one: it holds no address of their memory.

    Parameters
    ----------
    make, interface, training
        As for `frozen.code.assemble`, which also says what is raised.

    Attributes
    ----------
    code : ndarray of int64
        Read-only.
    calls_python : bool
        Whether a user-defined function runs Python in the middle of a call.
    """

    def __init__(self, make: Make, interface: Interface, training: Training | None = None) -> None:
        code, places = draft(make, interface, training)
        self._held = prepare(set(places))
        link(code, places, self._held)
        code.flags.writeable = False
        self.code = code
        self.calls_python = any(kernel.calls_python for kernel in self._held.values())
        # keys of user-defined functions keep these
        self._users = [
            (at, key.variant) for key, where in places.items() if custom.is_custom(key.variant) for at in where
        ]

    @property
    def has_users(self) -> bool:
        """Whether it calls user-defined functions, whose time is unknown."""
        return bool(self._users)

    def function_at(self, record: int, rows: int) -> str:
        """Return name and place of the user-defined function that a record calls, or "".

        Parameters
        ----------
        record : int
            The number of the record, among those for one row or for many.
        rows : int
        """
        at = self.code[Word.ONE_AT if rows == 1 else Word.MANY_AT] + record * RECORD_WORDS
        found = custom.first(*(key for place, key in self._users if at <= place < at + RECORD_WORDS))
        return "" if found is None else found.described()
