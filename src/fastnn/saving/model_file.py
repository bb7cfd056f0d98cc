"""The content of a model file: architecture, weights, the arguments of `compile`, and the position in training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn import config, cuda
from fastnn.config import REGISTRY, from_config, to_config
from fastnn.errors import ModelFileError
from fastnn.layers.architecture import Architecture
from fastnn.losses import Loss
from fastnn.objective.objective import Objective
from fastnn.objective.resolve import Named
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.runtime.programs import output_ends
from fastnn.runtime.runtime import Unaveraged
from fastnn.saving import container, progress
from fastnn.training.history import History

if TYPE_CHECKING:
    from fastnn.model.model import Model

# in memory, or in a file
Tensor = NDArray[Any] | container.StoredTensor
Tensors = Mapping[str, Tensor]


def save(model: Model, path: str | os.PathLike[str], *, training: bool = True) -> None:
    """Write a model to a file, atomically."""
    model._architecture_or_fail()
    with model._runtime.lock:
        container.write(path, *describe(model, training=training))


def describe(model: Model, *, training: bool = True) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return a model as tensors and a JSON document; the tensors are views of the model's memory."""
    from fastnn.model.sequential import Sequential

    architecture, table = model._architecture_or_fail(), model._table
    runtime = model._runtime
    with runtime.lock:
        tensors: dict[str, NDArray[Any]] = {
            f"weights/{entry.name}": table.view(runtime.parameters, entry) for entry in table
        }
        document: dict[str, Any] = {
            "model": "Sequential" if isinstance(model, Sequential) else "Model",
            "name": model.name,
            "dtype": model.dtype,
            "seed": str(model.seed),
            "architecture": architecture.config(table.trainable_layers()),
            "training": None,
        }
        if training and model._objective is not None:
            document["training"] = _training(model, tensors)
        return tensors, document


def _training(model: Model, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    optimizer, objective, runtime = model.optimizer, model._objective_or_fail(), model._runtime
    table = model._table
    for index, slot in enumerate(optimizer.slots):
        for entry in table:
            tensors[f"optimizer/{slot}/{entry.name}"] = table.view(runtime.optimizer_state, entry, index)
    replaced = runtime.unaveraged
    if replaced is not None and replaced.step == runtime.step_count():
        for entry in table:
            tensors[f"unaveraged/{entry.name}"] = table.view(replaced.weights, entry)
    tensors["totals"] = model._totals
    callbacks = model._resumable
    if model._callbacks is not None:
        callbacks = {"callbacks": model._callbacks.get_state(), "tensors": model._callbacks.get_tensors()}
    for name, array in (callbacks["tensors"] if callbacks is not None else {}).items():
        tensors[f"callbacks/{name}"] = array
    plain: list[list[Any]] = [[] for _ in objective.losses]
    weighted: list[list[Any]] = [[] for _ in objective.losses]
    for reading in objective.readings:
        chosen = weighted if reading.measure.weighted else plain
        chosen[reading.measure.output].append([reading.named.name, to_config(reading.named.metric)])
    return {
        "optimizer": to_config(optimizer),
        "losses": [None if loss is None else to_config(loss) for loss in objective.losses],
        "loss_weights": list(objective.loss_weights),
        "metrics": plain,
        "weighted_metrics": weighted,
        "position": {
            "first_step": runtime.first_step,
            **{name: int(runtime.training[Counter[name.upper()]]) for name in progress.COUNTERS},
        },
        "run": model._run,
        "history": None if model.history is None else model.history.to_dict(),
        "callbacks": None if callbacks is None else callbacks["callbacks"],
    }


def load(
    path: str | os.PathLike[str],
    *,
    compile: bool = True,
    optimizer: Optimizer | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model that `Model.save` wrote.

    Parameters
    ----------
    path : path
    compile : bool
        Whether to restore the optimizer, losses, metrics and the position in training too.
    optimizer : Optimizer, optional
        Replaces the saved one, but keeps its state: needed if the saved learning rate was a function.
    custom_objects : dict of str to function or object, optional
        The user-defined functions that the model uses, by name: as functions, or as `activations.Custom`,
        `losses.Custom` and `optimizers.Custom` objects.

    Returns
    -------
    Model
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
                return _load(tensors, document, compile, optimizer)
        except MemoryError as error:
            raise ModelFileError(path, "describes a model that does not fit into memory") from error
        except Exception as error:
            # a document can be wrong in many ways; the error carries the cause
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ModelFileError(path, f"does not describe a model: {reason}") from error


def _load(
    tensors: Tensors,
    document: Any,
    compiled: bool,
    optimizer: Optimizer | None,
    kind: type[Model] | None = None,
) -> Model:
    from fastnn.model.model import Model
    from fastnn.model.sequential import Sequential

    if not isinstance(document, dict):
        raise ValueError("the document is not an object")
    kinds: dict[Any, type[Model]] = {"Model": Model, "Sequential": Sequential}
    if document["model"] not in ("Model", "Sequential"):
        raise ValueError(f"unknown kind of model {document['model']!r}")
    if not isinstance(document["seed"], str) or not document["seed"].isdecimal():
        raise ValueError(f"the seed is {document['seed']!r}")
    if document["dtype"] not in ("float32", "float64") or not isinstance(document["name"], str):
        raise ValueError(f"the dtype is {document['dtype']!r}, the name {document['name']!r}")
    architecture = Architecture.from_config(document["architecture"], "architecture")
    found = _expected(tensors, architecture, document["dtype"])
    if kind is None:
        kind = kinds[document["model"]]
    model: Model = kind.__new__(kind)
    model._begin(int(document["seed"]), document["dtype"], "cpu", document["name"])
    if isinstance(model, Sequential):
        if not architecture.is_chain:
            raise ValueError("a Sequential is a chain of layers, each on the one before")
        model._stack = list(architecture.layers)
    model._realize(architecture, initialize=False)
    parameters = model._runtime.parameters
    for entry, tensor in zip(model._table, found, strict=True):
        _copy(tensor, model._table.view(parameters, entry))
    if compiled and document["training"] is not None:
        _restore(model, tensors, document["training"], optimizer)
    return model


def restore(
    kind: type[Model],
    tensors: dict[str, NDArray[Any]],
    document: dict[str, Any],
    optimizer: Optimizer | None,
    custom: Mapping[str, Any],
    device: str,
    precision: str,
) -> Model:
    """Make a model from the result of `describe`, with its optimizer, functions and device, which files do not hold."""
    with config.custom_objects(custom):
        model = _load(tensors, document, True, optimizer, kind)
    return model.to(device, precision=precision) if device != "cpu" and cuda.is_available() else model


def _expected(tensors: Tensors, architecture: Architecture, dtype: str) -> list[Tensor]:
    """Return the stored weights in order, after comparing shapes and dtypes, before any buffer is allocated."""
    found = []
    for layer, spec in architecture.parameters():
        name = f"weights/{architecture.labels[layer]}/{spec.name}"
        found.append(_tensor(tensors, name, spec.shape, dtype))
    return found


def _tensor(tensors: Tensors, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"there is no tensor {name!r}")
    found = tensors[name]
    if found.shape != shape or found.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"tensor {name!r} is {found.dtype.name} {found.shape}, expected {dtype} {shape}")
    return found


def _copy(tensor: Tensor, array: NDArray[Any]) -> NDArray[Any]:
    """Fill a contiguous array with a tensor of its shape and dtype, straight from the file if it is in one."""
    if isinstance(tensor, container.StoredTensor):
        tensor.read_into(array)
    else:
        array[...] = tensor
    return array


def _named(entry: Any, what: str) -> Named:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str) or not entry[0]:
        raise ValueError(f"{what}: expected [name, metric], got {entry!r}")
    return Named(entry[0], from_config(entry[1], REGISTRY["metric"], what))


def _restore(model: Model, tensors: Tensors, training: dict[str, Any], optimizer: Optimizer | None) -> None:
    if optimizer is None:
        if "<callable>" in json.dumps(training["optimizer"]):
            raise ValueError(
                "was trained with a function as learning rate, which is not saved: pass the optimizer again, as in "
                "load(path, optimizer=fastnn.Adam(function))"
            )
        optimizer = from_config(training["optimizer"], REGISTRY["optimizer"], "optimizer")
    losses: list[Loss | None] = [
        None if described is None else from_config(described, REGISTRY["loss"], f"loss {index}")
        for index, described in enumerate(training["losses"])
    ]
    metrics = [
        [[_named(entry, what) for entry in part] for part in training[what]] for what in ("metrics", "weighted_metrics")
    ]
    architecture = model._architecture_or_fail()
    names, shapes = architecture.output_names, architecture.output_shapes
    ends = output_ends(model._table)
    objective = Objective.bind(losses, training["loss_weights"], metrics[0], metrics[1], names, shapes, ends)
    # checked before anything of a size that only the document claims is allocated
    totals = _tensor(tensors, "totals", (objective.size,), "float64")
    model.compile(
        optimizer,
        losses,
        metrics=metrics[0],
        loss_weights=training["loss_weights"],
        weighted_metrics=metrics[1],
    )
    table, runtime, state = model._table, model._runtime, model._runtime.optimizer_state
    for index, slot in enumerate(optimizer.slots):
        for entry in table:
            value = _tensor(tensors, f"optimizer/{slot}/{entry.name}", entry.spec.shape, model.dtype)
            _copy(value, table.view(state, entry, index))
    if optimizer.use_ema and any(name.startswith("unaveraged/") for name in tensors):
        weights = table.allocate()
        for entry in table:
            value = _tensor(tensors, f"unaveraged/{entry.name}", entry.spec.shape, model.dtype)
            _copy(value, table.view(weights, entry))
        runtime.unaveraged = Unaveraged(training["position"]["step"], weights)
    model._totals = _copy(totals, np.empty((objective.size,)))
    position = progress.check_position(training["position"])
    runtime.begin_optimizer(position.pop("first_step"))
    for name, count in position.items():
        runtime.training[Counter[name.upper()]] = count
    model._run = progress.check_run(training["run"], position)
    model.history = None if training["history"] is None else History.from_dict(training["history"])
    if training["callbacks"] is not None:
        progress.check_callbacks(training["callbacks"])
        saved = {
            name.removeprefix("callbacks/"): tensor.array() if isinstance(tensor, container.StoredTensor) else tensor
            for name, tensor in tensors.items()
            if name.startswith("callbacks/")
        }
        model._resumable = {"callbacks": training["callbacks"], "tensors": saved}
