"""The hooks of training, and the list that calls them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastnn.callbacks.monitor import Monitor

__all__ = ["HOOKS", "Callback", "CallbackList", "Logs"]

Logs = dict[str, float]

HOOKS = (
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_end",
)
# A method with such a name is meant to be called in training; one that is not in HOOKS never would be.
HOOK_PREFIXES = ("on_train_", "on_epoch_", "on_batch_", "on_test_")


class Callback:
    """Base class of callbacks, which are called at fixed points of training: override the hooks that you need.

    Training runs many batches in compiled code before it returns to Python (at least every 100 ms), so
    `on_train_batch_end` is called once per return, with the index of the last finished batch. A callback
    that needs every single batch sets ``every_batch = True``: then the loop runs one batch at a time, which
    is slower. `on_train_batch_begin` is called only in such a loop; overriding it selects one.

    `logs` is one dict, passed to all callbacks in order: later callbacks see the entries that earlier ones add, and
    numbers go into the history. Hook names and arguments are those of ``keras.callbacks.Callback``.

    Attributes
    ----------
    model : the model in training, or None before
        Set ``model.stop_training = True`` to end training.
    params : dict
        ``epochs`` (int), ``steps`` (int, batches per epoch), ``verbose`` (int), ``validates`` (with validation
        data: function that returns whether an epoch is validated), ``optimizer`` (str, if it is not the model's own).
    every_batch : bool
        Whether the batch hooks have to be called for every batch.
    saves_model : bool
        Whether the callback saves the model. It is then called after the others, wherever it is in the
        list, so that the file contains their state.
    state_names : tuple of str
        Names of the attributes, with JSON values, that a resumed training needs.
    watched : Monitor or None
        The quantity that the callback monitors, whose name is checked before the training.
    """

    every_batch: bool = False
    saves_model: bool = False
    watched: Monitor | None = None
    state_names: ClassVar[tuple[str, ...]] = ()
    params: Mapping[str, Any] = MappingProxyType({})

    @property
    def model(self) -> Any:
        """The model in training; None before, and after it has been freed."""
        # a weak reference: a model that is dropped is freed at once, not when the cycle collector runs
        held = self.__dict__.get("_model")
        return held() if isinstance(held, weakref.ref) else held

    @model.setter
    def model(self, model: Any) -> None:
        try:
            self.__dict__["_model"] = None if model is None else weakref.ref(model)
        except TypeError:
            self.__dict__["_model"] = model

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies: everything except the model."""
        return {name: value for name, value in self.__dict__.items() if name != "_model"}

    def set_model(self, model: Any) -> None:
        """Set the model that is about to be trained."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Set the parameters of the training: ``epochs``, ``steps`` and ``verbose``."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run after the last epoch; `logs` are those of that epoch. Not called after an exception."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation; `logs` has loss and metrics, and ``val_`` for the validation's."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch, counted from 0 within the epoch (only in a loop of single batches)."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a return to Python; `batch` is the last finished one, `logs` the averages so far."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before a validation or evaluation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after a validation or evaluation; `logs` has its results."""

    def close(self) -> None:
        """Release files and the like; called last, however training ended, also after an exception."""

    def get_state(self) -> dict[str, Any]:
        """Return the state that a resumed training needs, as JSON values."""
        return {name: getattr(self, name) for name in self.state_names}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`; called after `on_train_begin`."""
        missing = [name for name in self.state_names if name not in state]
        if missing:
            raise ValueError(f"the state for {type(self).__name__} lacks {', '.join(missing)}; it has {list(state)}")
        for name in self.state_names:
            setattr(self, name, state[name])

    def get_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that belong to the state (such as remembered weights), by name."""
        return {}

    def set_tensors(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore the arrays of `get_tensors`; called after `set_state`."""


class CallbackList:
    """Callbacks that are called as one, in order, those that save the model last.

    `on_train_end` is called in reverse order.

    Parameters
    ----------
    callbacks : Callback, iterable of Callback or None
        The members.
    model
        The model in training, given to every member.
    params : mapping
        ``epochs``, ``steps`` and ``verbose``, given to every member.

    Attributes
    ----------
    every_batch : bool
        Whether a member needs the loop to run one batch at a time.

    Raises
    ------
    TypeError
        If a member is not a `Callback`, or has a hook that would never be called.
    ValueError
        If a member is in the list twice.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        model: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.callbacks = _checked(callbacks)
        # sorted is stable: the others keep their order
        ordered = sorted(self.callbacks, key=lambda member: member.saves_model)
        self._calls = {
            hook: [getattr(member, hook) for member in ordered if _overrides(member, hook)] for hook in HOOKS
        }
        self._savers = sum(member.saves_model and _overrides(member, "on_epoch_end") for member in ordered)
        self.every_batch = self.wants("on_train_batch_begin") or any(member.every_batch for member in self.callbacks)
        for member in self.callbacks:
            member.set_model(model)
            member.set_params(dict(params or {}))

    def check_monitors(self, names: Collection[str]) -> None:
        """Raise a ValueError if a member monitors a quantity that is not in `names`, and no other member may add it."""
        others = [member for member in self.callbacks if member.watched is None]
        if any(_adds_to_logs(member) for member in others):
            return
        for member in self.callbacks:
            if member.watched is not None:
                member.watched.check(names)

    def wants(self, hook: str) -> bool:
        """Whether any member overrides a hook; if not, its logs need not be computed."""
        return bool(self._calls[hook])

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Call the members' `on_train_begin`."""
        self._call("on_train_begin", {} if logs is None else logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Call the members' `on_train_end`, the last member first."""
        logs = {} if logs is None else logs
        for call in reversed(self._calls["on_train_end"]):
            call(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Call the members' `on_epoch_begin`."""
        self._call("on_epoch_begin", epoch, {} if logs is None else logs)

    def on_epoch_end(
        self, epoch: int, logs: Logs | None = None, before_saving: Callable[[Logs], None] | None = None
    ) -> None:
        """Call the members' `on_epoch_end`, and `before_saving` with the logs before the model is saved."""
        logs = {} if logs is None else logs
        calls = self._calls["on_epoch_end"]
        first_saver = len(calls) - self._savers
        for call in calls[:first_saver]:
            call(epoch, logs)
        if before_saving is not None:
            before_saving(logs)
        for call in calls[first_saver:]:
            call(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Call the members' `on_train_batch_begin`."""
        self._call("on_train_batch_begin", batch, {} if logs is None else logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Call the members' `on_train_batch_end`."""
        self._call("on_train_batch_end", batch, {} if logs is None else logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Call the members' `on_test_begin`."""
        self._call("on_test_begin", {} if logs is None else logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Call the members' `on_test_end`."""
        self._call("on_test_end", {} if logs is None else logs)

    def close(self) -> None:
        """Close every member, the last one first, even if one of them fails; the first error is raised."""
        first: Exception | None = None
        for member in reversed(self.callbacks):
            try:
                member.close()
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    def get_state(self) -> list[dict[str, Any]]:
        """Return class name and state of every member, as JSON values."""
        return [{"callback": type(member).__name__, "state": member.get_state()} for member in self.callbacks]

    def set_state(self, states: list[dict[str, Any]]) -> None:
        """Restore the states of `get_state` of the same members in the same order.

        Raises
        ------
        ValueError
            If the states come from other members.
        """
        saved = [state["callback"] for state in states]
        present = [type(member).__name__ for member in self.callbacks]
        if saved != present:
            raise ValueError(f"the training to be resumed had the callbacks {saved}, now there are {present}")
        for member, state in zip(self.callbacks, states, strict=True):
            member.set_state(state["state"])

    def get_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of all members, named ``<index of the member>.<name>``."""
        return {
            f"{index}.{name}": np.asarray(array)
            for index, member in enumerate(self.callbacks)
            for name, array in member.get_tensors().items()
        }

    def set_tensors(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore the arrays of `get_tensors` of the members; called after `set_state`."""
        for index, member in enumerate(self.callbacks):
            prefix = f"{index}."
            member.set_tensors(
                {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
            )

    def _call(self, hook: str, *arguments: Any) -> None:
        for call in self._calls[hook]:
            call(*arguments)


def _checked(callbacks: Callback | Iterable[Callback] | None) -> tuple[Callback, ...]:
    if callbacks is None:
        return ()
    if isinstance(callbacks, Callback):
        return (callbacks,)
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
    members = tuple(callbacks)
    for index, member in enumerate(members):
        if isinstance(member, type) and issubclass(member, Callback):
            raise TypeError(
                f"callbacks[{index}] is the class {member.__name__}; pass an object: {member.__name__}(...)"
            )
        if not isinstance(member, Callback):
            raise TypeError(f"callbacks[{index}]: expected a fastnn callback, got {member!r}")
        if any(member is other for other in members[:index]):
            raise ValueError(f"callbacks[{index}], a {type(member).__name__}, is in the list twice")
        unknown = [name for name in dir(member) if name.startswith(HOOK_PREFIXES) and name not in HOOKS]
        if unknown:
            raise TypeError(f"{type(member).__name__}.{unknown[0]} is never called; the hooks are {', '.join(HOOKS)}")
    return members


def _adds_to_logs(member: Callback) -> bool:
    """Return whether the member passes logs to user-defined functions, which may add to them."""
    own = not type(member).__module__.startswith("fastnn.")
    return any(hook in vars(member) or (own and _overrides(member, hook)) for hook in HOOKS)


def _overrides(member: Callback, hook: str) -> bool:
    return hook in vars(member) or getattr(type(member), hook) is not getattr(Callback, hook)
