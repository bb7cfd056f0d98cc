"""The content of a model file: architecture, weights, the arguments of `compile`, and the position in training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import config, cuda
from fastnn.config import REGISTRY, from_config, to_config
from fastnn.losses import Loss
from fastnn.objective.objective import Objective
from fastnn.objective.resolve import Named
from fastnn.optimizers import Optimizer
from fastnn.program.layout import Counter
from fastnn.runtime.buffers import Unaveraged
from fastnn.runtime.programs.requests import output_ends
from fastnn.saving import container
from fastnn.saving.networks import Kinds, Tensors, copy_into, describe_network, network_from, tensor_of
from fastnn.saving.position import COUNTERS, check_callbacks, check_position, check_run, check_samples
from fastnn.training.history import History
from fastnn.training.state import Compiled, M, Trainable, TrainingState, state_of, take_options, take_preparation


def save(
    state: TrainingState, path: str | os.PathLike[str], kind: str, name: str, *, training: bool = True,
    options: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a model to a file, atomically; arguments are as for `describe`."""
    with state.require_built().lock:
        container.write(path, *describe(state, kind, name, training=training, options=options))


def describe(
    state: TrainingState, kind: str, name: str, *, training: bool = True, options: dict[str, Any] | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return a model as tensors and a JSON document; the tensors are views of the model's memory.

    Parameters
    ----------
    kind : {"Model", "Sequential", "Function", "TrainFunction"}
    name : str
        The model's name.
    options : dict, optional
        What else the model is made of, as JSON values.
    """
    runtime = state.require_built()
    with runtime.lock:
        tensors: dict[str, NDArray[Any]] = {}
        document = {**describe_network(state, kind, name, tensors), "training": None}
        if training and runtime.objective is not None:
            document["training"] = _training(state, tensors)
        if options is not None:
            document["options"] = options
        # files of models without it are as they have always been
        if state.preparation is not None:
            document["preparation"] = to_config(state.preparation)
        return tensors, document


def _training(state: TrainingState, tensors: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Add the tensors of a training, and return the rest of it."""
    runtime = state.runtime
    (objective, optimizer), table = runtime.compiled(), runtime.table
    for index, slot in enumerate(optimizer.slots):
        for entry in table:
            tensors[f"optimizer/{slot}/{entry.name}"] = table.view(runtime.optimizer_state, entry, index)
    replaced = runtime.unaveraged
    if replaced is not None and replaced.step == runtime.step_count():
        for entry in table:
            tensors[f"unaveraged/{entry.name}"] = table.view(replaced.weights, entry)
    tensors["totals"] = state.totals
    tensors |= {f"states/{number}": array for number, array in enumerate(runtime.states.arrays())}
    callbacks = state.callback_states()
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
            **{name: int(runtime.training[Counter[name.upper()]]) for name in COUNTERS},
        },
        "run": state.run,
        # absent in files of models that have no states
        **({} if runtime.states.rows is None else {"samples": runtime.states.rows}),
        "history": None if state.history is None else state.history.to_dict(),
        "callbacks": None if callbacks is None else callbacks["callbacks"],
    }


def model_from(
    kind: type[M],
    tensors: Tensors,
    document: dict[str, Any],
    kinds: Kinds,
    *,
    training: bool = True,
    optimizer: Optimizer | None = None,
) -> M:
    """Make a model of a class from the result of `describe`.

    Parameters
    ----------
    kinds : function
        Gives the classes of the models that it is made of.
    training : bool
        Whether to restore what belongs to training, too.
    optimizer : Optimizer, optional
        Replaces the described one.

    Raises
    ------
    ValueError, TypeError, KeyError
        When the document does not describe a model; nothing that is in a file is trusted.
    """
    model = network_from(kind, tensors, document, kinds)
    take_options(model, document.get("options"))
    prepared = document.get("preparation")
    if prepared is not None:
        from fastnn.tables.preparation import Preparation  # which registers its classes

        found = from_config(prepared, REGISTRY["preparation"], "preparation")
        if not isinstance(found, Preparation):
            raise ValueError(f"preparation: got {type(found).__name__}")
        take_preparation(model, found)
    if training and document["training"] is not None:
        _restore(state_of(model), tensors, document["training"], optimizer)
    return model


def restore(
    kind: type[M],
    tensors: dict[str, NDArray[Any]],
    document: dict[str, Any],
    optimizer: Optimizer | None,
    custom: Mapping[str, Any],
    device: str,
    precision: str,
    made_of: Mapping[str, type[Trainable]] = MappingProxyType({}),
) -> M:
    """Make a model from the result of `describe`, with its optimizer, functions and device, which files do not hold.

    Pickled models call this function by its name. `made_of` has the classes of the models that it is made of, by place.
    """
    with config.custom_objects(custom):
        model = model_from(kind, tensors, document, lambda place, _: made_of[place], optimizer=optimizer)
    if device != "cpu" and cuda.is_available():
        state_of(model).move(device, precision)
    return model


def _named(entry: Any, what: str) -> Named:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str) or not entry[0]:
        raise ValueError(f"{what}: expected [name, metric], got {entry!r}")
    return Named(entry[0], from_config(entry[1], REGISTRY["metric"], what))


def _restore(state: TrainingState, tensors: Tensors, training: dict[str, Any], optimizer: Optimizer | None) -> None:
    """Restore a training's arguments, state and position."""
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
    runtime = state.runtime
    table = runtime.table
    names, shapes, ends = table.architecture.output_names, table.architecture.output_shapes, output_ends(table)
    objective = Objective.bind(losses, training["loss_weights"], metrics[0], metrics[1], names, shapes, ends,
                               table.architecture.extra_names)  # fmt: skip
    # checked before anything of a size that only the document claims is allocated
    totals = tensor_of(tensors, "totals", (objective.size,), "float64")
    state.compile(Compiled(optimizer, losses, training["loss_weights"], metrics[0], metrics[1]))
    slots = runtime.optimizer_state
    for index, slot in enumerate(optimizer.slots):
        for entry in table:
            value = tensor_of(tensors, f"optimizer/{slot}/{entry.name}", entry.spec.shape, state.dtype)
            copy_into(table.view(slots, entry, index), value)
    if optimizer.use_ema and any(name.startswith("unaveraged/") for name in tensors):
        weights = table.allocate()
        for entry in table:
            value = tensor_of(tensors, f"unaveraged/{entry.name}", entry.spec.shape, state.dtype)
            copy_into(table.view(weights, entry), value)
        runtime.unaveraged = Unaveraged(training["position"]["step"], weights)
    if "samples" in training:
        rows = check_samples(training["samples"])
        found = [
            tensor_of(tensors, f"states/{number}", (rows, *shape), state.dtype)
            for number, shape in enumerate(runtime.states.shapes)
        ]
        for array, tensor in zip(runtime.states.begin(rows), found, strict=True):
            copy_into(array, tensor)
    state.totals = copy_into(np.empty((objective.size,)), totals)
    position = check_position(training["position"])
    runtime.begin_optimizer(position.pop("first_step"))
    for name, count in position.items():
        runtime.training[Counter[name.upper()]] = count
    state.run = check_run(training["run"], position)
    state.history = None if training["history"] is None else History.from_dict(training["history"])
    if training["callbacks"] is not None:
        check_callbacks(training["callbacks"])
        saved = {
            name.removeprefix("callbacks/"): tensor.array() if isinstance(tensor, container.StoredTensor) else tensor
            for name, tensor in tensors.items()
            if name.startswith("callbacks/")
        }
        state.resumable = {"callbacks": training["callbacks"], "tensors": saved}
