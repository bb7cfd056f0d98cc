"""Programs that models share: models with equal layers and objectives use the same ones.

A program holds no addresses of a model's memory, so any model of the same architecture can run it. Making the
two programs of a training takes 3 ms of Python, as long as ten epochs of a small network, and meanwhile no other
thread runs Python.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from fastnn.layers.architecture import Architecture
from fastnn.locks import ForkSafeLock
from fastnn.objective.objective import Objective
from fastnn.optimizers import Optimizer

T = TypeVar("T")

# a program or a code lives as long as a model uses it, and the latest programs longer: the next model is often alike
_RECENT = 64
_recent: deque[Any] = deque(maxlen=_RECENT)
_programs: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
# held while a program is made, so that two threads that need the same one do not both make it
_lock = ForkSafeLock()


def shared(key: Hashable, make: Callable[[], T], *, keep: bool = False) -> T:
    """Return the program or code of a key, from any model that has it, or make it; `keep` it for the next model."""
    with _lock:
        found = _programs.get(key)
        if found is None:
            found = _programs[key] = make()
            if keep:
                _recent.append(found)
        return found


class _Unknown(Exception):
    """A part is user-defined, or another model, so programs cannot be shared."""


def signature(
    architecture: Architecture, dtype: str, objective: Objective | None, optimizer: Optimizer | None
) -> Hashable:
    """Return everything of a model that determines its programs, or None if parts of it are user-defined, or models."""
    update = None
    if optimizer is not None:
        update = (optimizer.formula, optimizer.slots, optimizer.clipvalue, optimizer.clipnorm,
                  optimizer.global_clipnorm, optimizer.gradient_accumulation_steps, optimizer.ema_momentum,
                  optimizer.ema_overwrite_frequency, tuple((optimizer.multipliers or {}).items()))  # fmt: skip
    try:
        return dtype, _spelt(architecture), _spelt(objective), update
    except _Unknown:
        return None


def _spelt(value: Any) -> Hashable:
    """Return a value as nested tuples that are equal only for equal values: 1 is not True, -0.0 is not 0.0."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return type(value), repr(value)
    if isinstance(value, (tuple, list)):
        return tuple([_spelt(part) for part in value])
    kind = type(value)
    if not dataclasses.is_dataclass(kind) or not kind.__module__.startswith("fastnn."):
        raise _Unknown
    # `trainable` may change, and is part of a program's key instead
    names = [field.name for field in dataclasses.fields(value) if field.name != "trainable"]
    return kind, tuple([_spelt(getattr(value, name)) for name in names])
