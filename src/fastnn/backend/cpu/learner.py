"""Where pickles of learners, and indices of Numba's caches, from earlier versions of fastnn look for names."""

from __future__ import annotations

from typing import Any


def _restore(*parts: Any) -> None:
    """Refuse a learner of another version."""
    raise ValueError("the learner was made by another version of fastnn: make it again")


# Numba reads a whole index before it looks for a type in it.
class Learner(tuple[Any, ...]):
    """The type of a learner in an earlier index; no learner has it any more."""


class Learners(tuple[Any, ...]):
    """The type of several learners in an earlier index."""
