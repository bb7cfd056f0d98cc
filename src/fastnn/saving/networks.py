"""Layers and weights in a model file: of the model, and of the models that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from fastnn.layers import architecture_file
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Layer
from fastnn.layers.symbols import Part
from fastnn.program.layout import Buffer
from fastnn.saving import container
from fastnn.training.state import M, Trainable, TrainingState, allows_any_outputs, model_of, part_of, state_of

# in memory, or in a file
Tensor = NDArray[Any] | container.StoredTensor
Tensors = Mapping[str, Tensor]
#: the class of a model by its place among the models of a file, and by the kind that the file names
Kinds = Callable[[str, Any], type[Trainable]]


def describe_network(
    state: TrainingState, kind: str, name: str, tensors: dict[str, NDArray[Any]], path: str = "",
    known: dict[int, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Describe a model's layers and the models that it is made of, and add their weights, each once, to `tensors`.

    Parameters
    ----------
    kind, name : str
        As for `describe`.
    path : str
        The place of a model that others are made of, such as "autoencoder/encoder/".
    known : dict of id to str
        The places of the parts that have been described.
    """
    runtime, known = state.runtime, {} if known is None else known
    table = runtime.table
    architecture = table.architecture
    tensors |= {
        f"weights/{path}{entry.name}": runtime.weight(entry)
        for entry in table
        if entry.place.buffer == Buffer.PARAMETERS
    }
    document: dict[str, Any] = {
        "model": kind,
        "name": name,
        "dtype": state.dtype,
        "seed": str(state.seed),
        "architecture": architecture.config(table.trainable_layers()),
    }
    models = []
    for inner, part in architecture.models.items():
        held = [
            [number, part.labels[id(layer)]]
            for number, layer in enumerate(architecture.layers)
            if architecture.parts[number] is part
        ]
        if id(part) in known:
            described = {"same": known[id(part)]}
        else:
            place = known[id(part)] = f"{path}{inner}/"
            described = describe_network(part.state, part.kind, part.name, tensors, place, known)
        models.append({"as": inner, "layers": held, **described})
    # files of models that are made of layers alone are as they have always been
    return {**document, "models": models} if models else document


def kinds_of(architecture: Architecture, path: str = "") -> dict[str, type[Trainable]]:
    """Return the classes of the models that a model is made of, by their places."""
    found: dict[str, type[Trainable]] = {}
    for name, part in architecture.models.items():
        place = f"{path}{name}/"
        found[place] = type(part.model)
        found |= kinds_of(part.state.runtime.table.architecture, place)
    return found


def network_from(
    kind: type[M], tensors: Tensors, document: dict[str, Any], kinds: Kinds, path: str = "",
    known: dict[str, Part] | None = None,
) -> M:  # fmt: skip
    """Make a model of a class from the result of `describe_network`, and the models that it is made of.

    Raises
    ------
    ValueError, TypeError, KeyError
        When the document does not describe a model.
    """
    if not isinstance(document["seed"], str) or not document["seed"].isdecimal():
        raise ValueError(f"the seed is {document['seed']!r}")
    if document["dtype"] not in ("float32", "float64") or not isinstance(document["name"], str):
        raise ValueError(f"the dtype is {document['dtype']!r}, the name {document['name']!r}")
    known = {} if known is None else known
    given: dict[int, tuple[Layer, Part]] = {}
    for entry in document.get("models", []):
        if "same" in entry:
            part = known[entry["same"]]
        else:
            place = f"{path}{entry['as']}/"
            inner = network_from(kinds(place, entry["model"]), tensors, entry, kinds, place, known)
            part = known[place] = part_of(inner)
        by_label = {part.labels[id(layer)]: layer for layer in part.state.runtime.table.architecture.layers}
        given |= {number: (by_label[label], part) for number, label in entry["layers"]}
    architecture = architecture_file.read(
        document["architecture"], "architecture", given, any_shape=allows_any_outputs(kind)
    )
    found = _expected(tensors, architecture, document["dtype"], path)
    model = model_of(kind, TrainingState(int(document["seed"]), document["dtype"]), document["name"], architecture)
    runtime = state_of(model).runtime
    own = [entry for entry in runtime.table if entry.place.buffer == Buffer.PARAMETERS]
    for weight, tensor in zip(own, found, strict=True):
        copy_into(runtime.weight(weight), tensor)
    for number, (layer, _) in given.items():
        trainable = document["architecture"]["layers"][number]["trainable"]
        if not isinstance(trainable, bool):
            raise ValueError(f"layer {number}: trainable is {trainable!r}")
        # a layer of a model may be trained in one model and not in another
        if layer.trainable != trainable:
            runtime.table.pin(layer, trainable)
    return model


def _expected(tensors: Tensors, architecture: Architecture, dtype: str, path: str) -> list[Tensor]:
    """Return the model's own weights in order, after comparing shapes and dtypes, before any buffer is allocated."""
    return [
        tensor_of(tensors, f"weights/{path}{architecture.labels[layer]}/{spec.name}", spec.shape, dtype)
        for layer, spec in architecture.parameters()
        if architecture.parts[layer] is None
    ]


def tensor_of(tensors: Tensors, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return a tensor; raises ValueError unless it has a shape and dtype."""
    if name not in tensors:
        raise ValueError(f"there is no tensor {name!r}")
    found = tensors[name]
    if found.shape != shape or found.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"tensor {name!r} is {found.dtype.name} {found.shape}, expected {dtype} {shape}")
    return found


def copy_into(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Fill a contiguous array with a tensor of its shape and dtype, straight from the file if it is in one."""
    if isinstance(tensor, container.StoredTensor):
        tensor.read_into(array)
    else:
        array[...] = tensor
    return array
