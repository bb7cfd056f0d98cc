"""A model as a notebook shows it: a table of its layers, and how it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from fastnn import markup
from fastnn.model.inspection import NOT_BUILT, counts_of
from fastnn.training.state import TrainingState

# longer tables are closed at first
_OPEN_ROWS = 40


def model(state: TrainingState, title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a model as HTML, from its state and the table of its layers."""
    count = len(rows) - 1
    parts = [markup.line(title, strong=True)]
    layers = f"{count} layer{'' if count == 1 else 's'}"
    parts.append(markup.opening(layers, markup.table(rows, (3,)), is_open=count <= _OPEN_ROWS))
    parts.append(markup.line(f"parameters: {counts_of(state.runtime.table)}" if state.built else NOT_BUILT))
    if state.compiled is not None:
        compiled = state.compiled
        known = [("optimizer", compiled.optimizer), ("loss", compiled.loss), ("metrics", compiled.metrics)]
        described = [("", ""), *((name, _described(value)) for name, value in known if value is not None)]
        steps = f"{state.runtime.step_count():,} training steps" if state.built else "not trained"
        parts.append(markup.opening(f"compiled, {steps}", markup.table(described)))
    if state.device != "cpu":
        parts.append(markup.line(f"on {state.device}"))
    return markup.block(*parts)


def _described(value: Any) -> str:
    """Return an object's class and hyperparameters, without options that are off; other values as they are."""
    if not is_dataclass(value) or isinstance(value, type):
        return str(value)
    given = [(one.name, getattr(value, one.name)) for one in fields(value) if one.repr]
    shown = ", ".join(f"{name}={each!r}" for name, each in given if each is not None and each is not False)
    return f"{type(value).__name__}({shown})"
