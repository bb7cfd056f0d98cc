"""Shapes whose sizes a model's inputs leave open, such as the number of steps of sequences.

A layer says which shape it gives for known shapes. What it gives for open ones follows from trying a few sizes in place
of the open ones: a size that is the same for all of them is known, and any other is open (None). So no layer has to
know of open sizes. Sizes that a layer refuses are not tried in the layers after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Shape = tuple[Any, ...]

#: The sizes that are tried: small ones, for layers that take few steps; large ones, for windows that need many; and
#: multiples of many numbers, for layers that divide.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 60, 64, 100, 128, 240, 480, 1000, 1024, 5040)
#: of the sizes that fit, the largest one up to this stands for open sizes where one is needed
_USUAL = 100


class Result(NamedTuple):
    """One output of a call.

    Attributes
    ----------
    shape : tuple of int or None
        Of a sample, or the whole shape if it is not `batched`; None for open sizes.
    kind : {"real", "int64"}
    batched : bool
    tried : tuple of (int, shape)
        If there are open sizes: the shapes for sizes in place of those that the model's inputs leave open.
    """

    shape: Shape
    kind: str = "real"
    batched: bool = True
    tried: tuple[tuple[int, Shape], ...] = ()


#: Whether there are several outputs, and these.
Described = tuple[bool, list[Result]]


def is_open(shape: Shape) -> bool:
    """Return whether a shape has open sizes."""
    return any(size is None for size in shape)


def filled(shape: Shape, size: int) -> Shape:
    """Return a shape with a size in place of the open ones."""
    return tuple([size if each is None else each for each in shape])


def fits(shape: Sequence[Any], expected: Shape) -> bool:
    """Return whether a shape is as expected, where open sizes fit all, and sizes that may be open only these."""
    return len(shape) == len(expected) and all(
        mine is None or mine == size for mine, size in zip(expected, shape, strict=True)
    )


def start(shape: Shape) -> tuple[tuple[int, Shape], ...]:
    """Return what is tried for an input's shape."""
    return tuple([(size, filled(shape, size)) for size in SIZES]) if is_open(shape) else ()


def usual_first() -> list[int]:
    """Return the sizes that are tried, those first that stand for open ones best."""
    return sorted(SIZES, key=lambda size: (size > _USUAL, abs(size - _USUAL)))


def described(label: str, inputs: Sequence[Result], describe: Callable[[Sequence[Result]], Described]) -> Described:
    """Return what a layer gives for inputs, whose sizes may be open.

    Parameters
    ----------
    label : str
        The layer's name.
    describe : function
        Returns it for inputs of known shapes.

    Raises
    ------
    ValueError
        When the layer needs sizes that are open.
    """
    if not any(x.tried for x in inputs):
        return describe(inputs)
    known = [dict(x.tried) for x in inputs]
    found: dict[int, Described] = {}
    errors: dict[int, Exception] = {}
    for size in SIZES:
        if all(size in shapes or not shapes for shapes in known):
            given = [
                Result(shapes[size] if shapes else x.shape, x.kind, x.batched)
                for x, shapes in zip(inputs, known, strict=True)
            ]
            try:
                found[size] = describe(given)
            except Exception as error:
                errors[size] = error
    if len(found) < 2:
        raise _refused(label, inputs, errors)
    several = next(iter(found.values()))[0]
    columns = zip(*(results for _, results in found.values()), strict=True)
    return several, [_merged(label, list(found), column) for column in columns]


def _merged(label: str, sizes: Sequence[int], results: Sequence[Result]) -> Result:
    """Return an output of a layer: sizes that differ are open."""
    first = results[0]
    shapes = [one.shape for one in results]
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f"layer {label!r}: the number of axes of its result depends on a size that fastnn.Input leaves open (None)"
        )
    merged = tuple([
        size if all(shape[axis] == size for shape in shapes) else None for axis, size in enumerate(first.shape)
    ])  # fmt: skip
    tried = tuple(zip(sizes, shapes, strict=True)) if is_open(merged) else ()
    return Result(merged, first.kind, first.batched, tried)


def _refused(label: str, inputs: Sequence[Result], errors: dict[int, Exception]) -> Exception:
    """Return the error of a layer that needs sizes that are open."""
    if len({str(error) for error in errors.values()}) == 1 and len(errors) > 1:
        return next(iter(errors.values()))  # whatever the sizes are
    shapes = ", ".join(str((None, *x.shape) if x.batched else x.shape) for x in inputs)
    size = next((size for size in usual_first() if size in errors), None)
    why = ""
    if size is not None:
        why = f"; with {size} in their place: {str(errors[size]).removeprefix(f'layer {label!r}: ')}"
    return ValueError(
        f"layer {label!r}: needs sizes, such as the number of steps, that fastnn.Input leaves open (None); it is "
        f"called on {shapes}{why}"
    )
