"""Checks of a model file's data about a resumable training; nothing of it is trusted."""

from __future__ import annotations

from typing import Any

from fastnn.checks import shorten

__all__ = ["COUNTERS", "check_callbacks", "check_position", "check_run", "check_samples"]

#: counters of the training: numbers of steps, rows and epochs
COUNTERS = ("step", "cursor", "epoch")
# beyond this, neighbouring integers are the same float64
_LIMIT = 2**53


def check_position(value: Any) -> dict[str, int]:
    """Return the counters of a training.

    Parameters
    ----------
    value : object
        The document's value: an object with the names in `COUNTERS` and ``first_step``, the step at which the
        optimizer's state began; all are integers from 0 on.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    names = (*COUNTERS, "first_step")
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError(f"position: expected an object with {', '.join(names)}, got {shorten(value)}")
    found = {name: _integer(value[name], f"position: {name}") for name in names}
    _integer(found["first_step"], "position: first_step", below=found["step"] + 1)
    return found


def check_run(value: Any, position: dict[str, int]) -> dict[str, Any]:
    """Return the description of the run that may be resumed, empty if there was none.

    Parameters
    ----------
    value : object
        The document's value: the epoch counter at the run's epoch 0, its data, and the logs of an epoch whose
        validation is unfinished.
    position : dict of str to int
        From `check_position`.

    Raises
    ------
    ValueError
        If it is anything else, or the position does not belong to this run.
    """
    if not isinstance(value, dict):
        raise ValueError(f"run: expected an object, got {shorten(value)}")
    if not value:
        return {}
    if not {"start", "data"} <= set(value) <= {"start", "data", "trained"}:
        raise ValueError(f"run: expected an object with start and data, got {shorten(value)}")
    _integer(value["start"], "run: start", least=-_LIMIT, below=position["epoch"] + 1)
    _check_data(value["data"], position)
    if "trained" in value:
        _check_trained(value["trained"])
    return dict(value)


def check_callbacks(value: Any) -> None:
    """Check the states of callbacks: class names, and an object for each.

    Parameters
    ----------
    value : object
        The document's value.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if not isinstance(value, list):
        raise ValueError(f"callbacks: expected a list, got {shorten(value)}")
    for index, part in enumerate(value):
        if not isinstance(part, dict) or set(part) != {"callback", "state"}:
            raise ValueError(f"callbacks[{index}]: expected an object with callback and state, got {shorten(part)}")
        if not isinstance(part["callback"], str) or not isinstance(part["state"], dict):
            raise ValueError(f"callbacks[{index}]: expected a name and an object, got {shorten(part)}")


def check_samples(value: Any) -> int:
    """Return the number of samples that a file has states of; raises ValueError if it is anything else."""
    return _integer(value, "samples", least=1)


def _check_data(data: Any, position: dict[str, int]) -> None:
    if data is None:
        return
    names, steps = {"rows", "batch_size", "shuffle"}, {"steps_per_epoch", "initial_epoch"}
    if not isinstance(data, dict) or set(data) - {"lengths"} not in (names, names | steps):
        raise ValueError(f"run: data: expected an object with rows, batch_size and shuffle, got {shorten(data)}")
    if "lengths" in data:
        _integer(data["lengths"], "run: data: lengths", below=2**32)
    if "steps_per_epoch" in data:
        _integer(data["steps_per_epoch"], "run: steps_per_epoch", least=1)
        _integer(data["initial_epoch"], "run: initial_epoch")
    _integer(data["rows"], "run: rows", least=max(1, position["cursor"]))
    _integer(data["batch_size"], "run: batch_size", least=1)
    if not isinstance(data["shuffle"], bool):
        raise ValueError(f"run: shuffle: expected a bool, got {shorten(data['shuffle'])}")


def _check_trained(trained: Any) -> None:
    if not isinstance(trained, dict) or set(trained) != {"epoch", "logs"} or not isinstance(trained["logs"], dict):
        raise ValueError(f"run: trained: expected an object with epoch and logs, got {shorten(trained)}")
    _integer(trained["epoch"], "run: trained: epoch")
    for name, number in trained["logs"].items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"run: trained: {name}: expected a number, got {shorten(number)}")


def _integer(value: Any, what: str, least: int = 0, below: int = _LIMIT) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < below:
        raise ValueError(f"{what}: expected an integer from {least} to {below - 1}, got {shorten(value)}")
    return value
