"""LoRA: adapters for models with trained weights (Hu et al. 2021, "LoRA", arXiv:2106.09685).

::

    tuned = fnn.lora.add(model, rank=8)
    tuned.compile(fnn.AdamW(0.001), "cross_entropy")
    tuned.fit(x, y)
    fnn.lora.save(tuned, "style.safetensors")
    again = fnn.lora.load(model, "style.safetensors")
    plain = fnn.lora.merge(again)

Functions return new models, not compiled and on the CPU; the model that they are given stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import covers, shorten
from fastnn.errors import ModelFileError
from fastnn.hints import install
from fastnn.initializers import Initializer
from fastnn.layers import (
    Dense,
    GroupedQueryAttention,
    Layer,
    LoRA,
    MultiHeadAttention,
    SwiGLU,
    TimeDistributed,
    TransformerDecoder,
    TransformerEncoder,
)
from fastnn.layers.architecture import Architecture
from fastnn.layers.low_rank import Adaptable
from fastnn.model import Model, Sequential
from fastnn.runtime.parameters import ParameterTable
from fastnn.saving import container
from fastnn.saving.networks import tensor_of
from fastnn.seeding import as_seed, derive
from fastnn.training.state import TrainingState, model_of, state_of

__all__ = ["add", "load", "merge", "save"]

Array: TypeAlias = NDArray[Any]
_KIND = "LoRA"
_ATTENTION = (MultiHeadAttention, GroupedQueryAttention, TransformerEncoder, TransformerDecoder)


def add(
    model: Model,
    rank: int,
    alpha: float | None = None,
    layers: str | Sequence[str] | None = None,
    *,
    a_initializer: Initializer | str = "he_uniform",
    seed: int | np.random.Generator | None = None,
    name: str | None = None,
) -> Model:
    """Return a model with the weights of another one, which are frozen, and adapters, which are trained.

    ::

        tuned = fnn.lora.add(model, rank=8, alpha=16, layers=["*_attention", "*_up/kernel"])

    Parameters
    ----------
    model : Model or Sequential
        Its results are those of the new model, until that is trained.
    rank, alpha, a_initializer
        Of all adapters, as for `fastnn.LoRA`.
    layers : str or sequence of str, optional
        What gets adapters: names of layers, of models that the model is made of, or of weights, such as
        "block1_attention/query_kernel"; ``*`` stands for any letters. A layer's name stands for all its kernels. Names
        of layers that were made without ``name=`` are numbered in the order of the graph, as in `summary`. None
        means the kernels of queries and values if the model has attention, also in blocks such as `TransformerEncoder`,
        as in the paper, and those of all `Dense` and `SwiGLU` if not.
    seed : int or numpy.random.Generator, optional
        The new model's, which decides A, the order of samples and dropout; None means that of `model`.
    name : str, optional
        The new model's; None means that of `model`.

    Returns
    -------
    Model or Sequential
        With copies of all weights. Layers have the names that they have in `model`; those of models that it is made of
        are its own layers. All are frozen but the adapters; ``tuned.get_layer(name).trainable = True`` trains a whole
        layer as well.

    Raises
    ------
    TypeError
        When it is no model, or an argument is invalid.
    ValueError
        When a name fits no kernel that can be adapted, or the model has adapters already.
    RuntimeError
        When the model is not built.
    """
    table = _table_of(model)
    architecture = table.architecture
    _check_plain(architecture)
    adapters = {
        number: LoRA(_bare(architecture.layers[number]), rank, alpha, targets, a_initializer=a_initializer)
        for number, targets in _chosen(table, layers).items()
    }
    seed = state_of(model).seed if seed is None else as_seed(seed)
    made = _made(model, _with_adapters(architecture, adapters), seed, name)
    _fill(made, _by_name(model))
    return made


def merge(model: Model, *, name: str | None = None) -> Model:
    """Return a model without adapters, whose kernels are W + alpha / rank * A @ B.

    ::

        plain = fnn.lora.merge(tuned)

    Parameters
    ----------
    model : Model or Sequential
        With adapters.
    name : str, optional
        The new model's; None means that of `model`.

    Returns
    -------
    Model or Sequential
        Its results are those of `model`, to rounding. All layers are trained again.

    Raises
    ------
    TypeError
        When it is no model.
    ValueError
        When it has no adapters, or a kernel with an update is used outside its layer (tied weights).
    RuntimeError
        When the model is not built.
    """
    table = _table_of(model)
    architecture = table.architecture
    adapters = _adapters_of(architecture)
    for call in architecture.calls:
        layer = adapters.get(call.layer)
        if layer is not None and call.weight is not None:
            spec = [entry.spec for entry in table if entry.layer == call.layer][call.weight]
            if spec.name in (layer.targets or ()) or spec.name.startswith("lora_"):
                raise ValueError(
                    f"layer {architecture.labels[call.layer]!r}: its weight {spec.name!r} is used outside the layer, "
                    "where the update does not count: it cannot be merged"
                )
    plain = architecture.with_layers([
        (adapters[number].layer if number in adapters else layer).copied(label, trainable=True)
        for number, (layer, label) in enumerate(zip(architecture.layers, architecture.labels, strict=True))
    ])  # fmt: skip
    made = _made(model, plain, state_of(model).seed, name)
    weights: list[Array] = []
    given = _by_name(model)
    for number, label in enumerate(architecture.labels):
        names = [entry.spec.name for entry in table if entry.layer == number]
        arrays = [given[f"{label}/{each}"] for each in names]
        weights += _merged(adapters[number], arrays, names) if number in adapters else arrays
    made.set_weights(weights)
    return made


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Save a model's adapters in a safetensors file, without the weights that fine-tuning does not change.

    ::

        fnn.lora.save(tuned, "style.safetensors")

    Parameters
    ----------
    model : Model or Sequential
        With adapters. The weights of other layers that it trains are saved, too.
    path : path
        Written atomically.

    Raises
    ------
    TypeError
        When it is no model.
    ValueError
        When it has no adapters.
    RuntimeError
        When the model is not built.
    """
    table = _table_of(model)
    adapters = _adapters_of(table.architecture)
    trained = table.trainable_layers()
    tensors = {
        f"weights/{entry.name}": array
        for entry, array in zip(table, model.get_weights(), strict=True)
        if (entry.spec.name.startswith("lora_") if entry.layer in adapters else trained[entry.layer])
    }
    labels = table.architecture.labels
    others = [labels[entry.layer] for entry in table if trained[entry.layer] and entry.layer not in adapters]
    document = {
        "model": _KIND,
        "name": model.name,
        "dtype": model.dtype,
        "adapters": [
            {"layer": labels[number], "rank": layer.rank, "alpha": layer.alpha, "targets": list(layer.targets or ())}
            for number, layer in adapters.items()
        ],
        "trained": list(dict.fromkeys(others)),
    }
    container.write(path, tensors, document)


def load(model: Model, path: str | os.PathLike[str], *, name: str | None = None) -> Model:
    """Return a model with the weights of another one and the adapters of a file.

    ::

        tuned = fnn.lora.load(model, "style.safetensors")

    Parameters
    ----------
    model : Model or Sequential
        Without adapters: the one that `add` was given, or one with the same layers and weights.
    path : path
        Of a file that `save` wrote.
    name : str, optional
        The new model's; None means that of `model`.

    Returns
    -------
    Model or Sequential
        As of `add`. Predicts what the saved model did, bit for bit.

    Raises
    ------
    TypeError
        When it is no model.
    ValueError
        When the model has adapters already.
    ModelFileError
        When the file is missing, damaged, or its adapters do not fit the model's layers.
    RuntimeError
        When the model is not built.
    """
    table = _table_of(model)
    _check_plain(table.architecture)
    tensors, document = container.read(path)
    if document.get("model") != _KIND:
        raise ModelFileError(path, "holds no adapters, but a model: fastnn.load reads it")
    try:
        if document["dtype"] != model.dtype:
            raise ValueError(f"the adapters are of {document['dtype']!r}, the model of {model.dtype!r}")
        numbers = {label: number for number, label in enumerate(table.architecture.labels)}
        adapters: dict[int, LoRA] = {}
        for entry in document["adapters"]:
            number = _number(entry["layer"], numbers)
            layer = _bare(table.architecture.layers[number])
            adapters[number] = LoRA(layer, entry["rank"], entry["alpha"], entry["targets"])
        trained = {_number(label, numbers) for label in document["trained"]}
        architecture = _with_adapters(table.architecture, adapters, trained)
        # sizes are compared before anything of a size that only the file claims is allocated
        found: dict[str, Any] = {}
        for number, spec in architecture.parameters():
            if spec.name.startswith("lora_") if number in adapters else number in trained:
                full = f"{architecture.labels[number]}/{spec.name}"
                found[full] = tensor_of(tensors, f"weights/{full}", spec.shape, model.dtype)
    except Exception as error:
        # a document can be wrong in many ways; the error carries the cause
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(path, f"does not fit the model: {reason}") from error
    made = _made(model, architecture, state_of(model).seed, name)
    _fill(made, {**_by_name(model), **found})
    return made


# --- models with other layers ---------------------------------------------------------------------------------


def _table_of(model: Any) -> ParameterTable:
    """Return the table of weights of a built model."""
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a Model or a Sequential, got {shorten(model)}")
    return state_of(model).require_built().table


def _check_plain(architecture: Architecture) -> None:
    if any(isinstance(layer, LoRA) for layer in architecture.layers):
        raise ValueError("model: it has adapters already: fastnn.lora.merge(model) merges them")


def _adapters_of(architecture: Architecture) -> dict[int, LoRA]:
    """Return the adapters of an architecture by the numbers of layers, at least one."""
    found = {number: layer for number, layer in enumerate(architecture.layers) if isinstance(layer, LoRA)}
    if not found:
        raise ValueError("model: it has no adapters: fastnn.lora.add(model, rank) makes a model that has")
    return found


def _number(label: Any, numbers: Mapping[str, int]) -> int:
    """Return the number of a layer that a file names."""
    if label not in numbers:
        raise ValueError(f"the model has no layer {label!r}")
    return numbers[label]


def _with_adapters(
    architecture: Architecture, adapters: Mapping[int, LoRA], trained: Iterable[int] = ()
) -> Architecture:
    """Return an architecture with adapters in the places of some layers; others are frozen, but for those trained."""
    open_ = {*adapters, *trained, *(number for number, one in enumerate(architecture.layers) if one.arity == (0, 0))}
    return architecture.with_layers([
        adapters.get(number, layer).copied(label, trainable=number in open_)
        for number, (layer, label) in enumerate(zip(architecture.layers, architecture.labels, strict=True))
    ])  # fmt: skip


def _made(model: Model, architecture: Architecture, seed: int, name: str | None) -> Model:
    """Make a model like another one, with zeros as weights."""
    chain = isinstance(model, Sequential) and architecture.bare().is_chain
    state = TrainingState(seed, model.dtype, "cpu")
    state.preparation = model.preparation
    return model_of(Sequential if chain else Model, state, model.name if name is None else name, architecture)


def _by_name(model: Model) -> dict[str, Array]:
    """Return copies of a model's weights by their names."""
    return {entry.name: array for entry, array in zip(_table_of(model), model.get_weights(), strict=True)}


def _fill(model: Model, weights: Mapping[str, Array]) -> None:
    """Give a model its weights: those that have a name among others, and new ones."""
    seed = state_of(model).seed
    model.set_weights([
        weights[entry.name] if entry.name in weights
        else entry.spec.initializer(entry.spec.shape, derive(seed, "weights", index), model.dtype)
        for index, entry in enumerate(_table_of(model))
    ])  # fmt: skip


def _bare(layer: Layer) -> Layer:
    """Return a layer without `TimeDistributed` around it, which changes nothing."""
    return layer.layer if isinstance(layer, TimeDistributed) else layer


def _chosen(table: ParameterTable, wanted: Any) -> dict[int, list[str]]:
    """Return the weights that get adapters, by the numbers of their layers."""
    architecture = table.architecture
    tied = {(call.layer, call.weight) for call in architecture.calls if call.weight is not None}
    able: dict[str, tuple[int, str]] = {}
    refused: list[str] = []
    layers = [_bare(layer) for layer in architecture.layers]
    for number, layer in enumerate(layers):
        specs = [entry.spec for entry in table if entry.layer == number]
        for place, spec in enumerate(specs):
            full = f"{architecture.labels[number]}/{spec.name}"
            if not isinstance(layer, Adaptable) or spec.name not in layer.adaptable:
                continue
            if (number, place) in tied:
                refused.append(full)
            else:
                able[full] = number, spec.name
    if wanted is None:
        attention = [name for name, (number, _) in able.items() if isinstance(layers[number], _ATTENTION)]
        names = [name for name in attention if name.endswith(("query_kernel", "value_kernel"))]
        if not attention:
            names = [name for name, (number, _) in able.items() if isinstance(layers[number], (Dense, SwiGLU))]
        if not names:
            raise ValueError(
                "layers: the model has neither attention nor Dense nor SwiGLU with kernels of their own: name what "
                "gets adapters"
            )
    else:
        names = _matching(wanted, list(able), refused)
    found: dict[int, list[str]] = {}
    for name in names:
        number, weight = able[name]
        found.setdefault(number, []).append(weight)
    return found


def _matching(wanted: Any, able: Sequence[str], tied: Sequence[str]) -> list[str]:
    """Return the names of weights that patterns cover."""
    patterns = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(patterns, (list, tuple)) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise TypeError(f"layers: expected names of layers or weights, or None, got {shorten(wanted)}")
    for pattern in patterns:
        if any(covers(pattern, name) for name in able):
            continue
        if any(covers(pattern, name) for name in tied):
            raise ValueError(
                f"layers: {pattern!r} is used outside its layer, too (tied weights), where an update would not count"
            )
        raise ValueError(
            f"layers: {pattern!r} is no kernel that can be adapted: those of Dense, Embedding, SwiGLU, attention and "
            f"transformer blocks can; in this model {shorten(list(able))}"
        )
    return [name for name in able if any(covers(pattern, name) for pattern in patterns)]


def _merged(layer: LoRA, weights: Sequence[Array], names: Sequence[str]) -> list[Array]:
    """Return the weights of the layer that is adapted, with the updates added."""
    own, pairs = layer.split(weights, names)
    for place, name in enumerate(names[: len(own)]):
        if name in pairs:
            a, b = (one.astype(np.float64) for one in pairs[name])
            own[place] = own[place] + (layer.scale * (a @ b)).reshape(own[place].shape)
    return own


install(__name__)
