"""Data for a model: checked against its inputs, outputs and objective, and brought to its device."""

from __future__ import annotations

from typing import Any

from fastnn.backend import devices
from fastnn.backend.devices import DeviceArray
from fastnn.data.feed import Feed, OutputShapes
from fastnn.layers.architecture import Architecture
from fastnn.layers.base import Shape
from fastnn.runtime.runtime import Runtime


def inputs(runtime: Runtime, x: Any, what: str = "", lengths: Any = None) -> Feed:
    """Check data for prediction, and bring them to the model's device; raises as `placed` and `checked_inputs`."""
    return placed(runtime, checked_inputs(runtime, x, what, lengths), what)


def checked_inputs(runtime: Runtime, x: Any, what: str = "", lengths: Any = None) -> Feed:
    """Check data for prediction, and the steps of them that count.

    Raises
    ------
    TypeError, ValueError
        When they do not fit the model's inputs, or layers take steps that do not count.
    """
    architecture = runtime.table.architecture
    return Feed.of_inputs(
        x, specs=architecture.input_specs, n_outputs=len(architecture.outputs),
        output_shapes=_output_shapes(runtime, what, lengths), lengths=lengths, what=what,
    )  # fmt: skip


def feed(
    runtime: Runtime, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "", lengths: Any = None
) -> Feed:
    """Check data for training or evaluation, and bring them to the model's device; raises as `placed` and `checked`."""
    return placed(runtime, checked(runtime, x, y, sample_weight, class_weight, what, lengths), what)


def checked(
    runtime: Runtime, x: Any, y: Any, sample_weight: Any, class_weight: Any, what: str = "", lengths: Any = None
) -> Feed:
    """Check data for training or evaluation of a compiled model.

    Raises
    ------
    TypeError, ValueError
        When they do not fit the model's inputs, outputs or losses.
    """
    table = runtime.table
    return Feed.of(
        x, y, sample_weight, class_weight,
        specs=table.architecture.input_specs, objective=runtime.compiled()[0], dtype=table.dtype,
        output_shapes=_output_shapes(runtime, what, lengths), lengths=lengths, what=what,
    )  # fmt: skip


def architecture_for(runtime: Runtime, feed: Feed) -> Architecture:
    """Return the model's architecture for the data of a feed: all of its sizes are known."""
    return runtime.table.at(feed.shapes).architecture


def _output_shapes(runtime: Runtime, what: str, lengths: Any) -> OutputShapes | None:
    """Return what gives the shapes of outputs, if the model leaves sizes of its inputs open."""
    table = runtime.table
    if lengths is not None:
        runtime.states.refuse(
            "lengths", "lengths would change which samples a batch has: mark padding by Masking or "
            "Embedding(mask_zero=True)",
        )  # fmt: skip
    if not table.architecture.is_open:
        if lengths is not None:
            table.with_lengths()  # raises
        return None

    def output_shapes(shapes: tuple[Shape, ...] | None) -> tuple[Shape, ...]:
        if shapes is None:
            return (table.architecture if lengths is None else table.with_lengths()).output_shapes
        try:
            return table.at(shapes).architecture.output_shapes
        except ValueError as error:
            raise ValueError(f"{what}x: samples of shape {', '.join(map(str, shapes))} do not fit: {error}") from None

    return output_shapes


def placed(runtime: Runtime, feed: Feed, what: str) -> Feed:
    """Bring checked data to where the model is.

    Raises
    ------
    TypeError, ValueError
        When data on a GPU are given to a model that is not there.
    """
    placement = runtime.placement
    for rows in feed.inputs:
        if isinstance(rows.array, DeviceArray):
            where = devices.name_of(rows.array.device)
            if placement is None:
                raise TypeError(
                    f"{what}x: is on the GPU {where!r}, but the model is on the CPU: move the model with "
                    f"to({where!r}), or copy the data to a NumPy array"
                )
            if placement.name != where:
                raise ValueError(f"{what}x: is on the GPU {where!r}, but the model is on {placement.name!r}")
    return feed if placement is None else placement.place(feed)
