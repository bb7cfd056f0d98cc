"""`load`: models from the files that `Model.save` wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastnn import config
from fastnn.errors import ModelFileError
from fastnn.model.base import BaseModel
from fastnn.model.function import Function
from fastnn.model.model import Model
from fastnn.model.sequential import Sequential
from fastnn.model.train_function import TrainFunction
from fastnn.optimizers import Optimizer
from fastnn.saving import container
from fastnn.saving.model_file import model_from
from fastnn.saving.networks import Tensors

_KINDS: dict[Any, type[BaseModel]] = {"Model": Model, "Sequential": Sequential}
_FUNCTIONS: dict[Any, type[BaseModel]] = {"Function": Function, "TrainFunction": TrainFunction}


def load(
    path: str | os.PathLike[str],
    *,
    compile: bool = True,
    optimizer: Optimizer | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Load a model that `Model.save` wrote, or a function that its `save` wrote, with the models that it is made of.

    Parameters
    ----------
    path : path
    compile : bool
        Whether to restore the optimizer, losses, metrics and the position in training too.
    optimizer : Optimizer, optional
        Replaces the saved one, but keeps its state: needed if the saved learning rate was a function.
    custom_objects : dict of str to function or object, optional
        The user-defined functions that the model uses, by name: as functions, or as `activations.Custom`,
        `losses.Custom`, `losses.Function` and `optimizers.Custom` objects.

    Returns
    -------
    Model, Function or TrainFunction
        Predicts the same values, bit for bit; `fit(..., resume=True)` continues its training.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, from another program, or does not describe a model.
    TypeError
        When `optimizer` is not an optimizer.
    """
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an optimizer or None, got {optimizer!r}")
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise TypeError(f"custom_objects: expected a dict by name or None, got {custom_objects!r}")
    with container.opened(path) as (tensors, document):
        try:
            with config.custom_objects(custom_objects or {}):
                return _model(tensors, document, compile, optimizer)
        except MemoryError as error:
            raise ModelFileError(path, "describes a model that does not fit into memory") from error
        except Exception as error:
            # a document can be wrong in many ways; the error carries the cause
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ModelFileError(path, f"does not describe a model: {reason}") from error


def _model(tensors: Tensors, document: Any, training: bool, optimizer: Optimizer | None) -> BaseModel:
    """Make the model of a document, which may be anything."""
    if not isinstance(document, dict):
        raise ValueError("the document is not an object")
    kind = _FUNCTIONS.get(document["model"]) or _kind("", document["model"])
    return model_from(kind, tensors, document, _kind, training=training, optimizer=optimizer)


def _kind(place: str, named: Any) -> type[BaseModel]:
    """Return the class of a model in a file, wherever it is there."""
    if named == "LoRA":
        raise ValueError("it holds adapters: fastnn.lora.load(model, path) reads it")
    if named not in ("Model", "Sequential"):
        raise ValueError(f"unknown kind of model {named!r}")
    return _KINDS[named]
