"""Calls that read a model for longer than one run; a handler that interrupts them may not change it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast


class _Model(Protocol):
    """The parts of a model that `reads` needs."""

    @property
    def _runtime(self) -> Any:
        """The runtime."""

    @property
    def built(self) -> bool:
        """Whether it has a runtime."""


N = TypeVar("N", bound=_Model)
P = ParamSpec("P")
R = TypeVar("R")


def reads(method: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[N, P], R]:
    """Note the calling thread in `Runtime.inside` while a method runs, for `Runtime.fail_within`."""

    @functools.wraps(method)
    def call(self: N, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.built:
            return method(self, *args, **kwargs)
        inside, me = self._runtime.inside, get_ident()
        outermost = me not in inside
        # a store and not a call: a Ctrl-C comes before it, or inside the `try`
        try:
            inside[me] = True
            return method(self, *args, **kwargs)
        finally:
            if outermost:
                inside.pop(me, None)

    return cast(Callable[Concatenate[N, P], R], call)
