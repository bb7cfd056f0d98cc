"""Random numbers: new in each training step, and the same on all devices for a seed.

They depend on the model's seed, the number of the step and the place in the model. In prediction the number of the step
stands still, so another prediction has the same numbers; each batch of one has its own. A shape has the batch axis,
whose size None stands for; or it is that of a symbol, which is given instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.checks import number
from fastnn.graph.extent import Extent
from fastnn.graph.graph import Tensor
from fastnn.graph.ops import pointwise
from fastnn.layers.tracing import Place
from fastnn.ops.definition import Operand, op
from fastnn.ops.shapes import sizes

__all__ = ["random_bernoulli", "random_normal", "random_uniform"]


def _random(place: Place, distribution: str, shape: Any, **parameters: Any) -> Tensor:
    whole = shape.whole if isinstance(shape, Tensor) else sizes(shape)
    for size in whole:
        if not isinstance(size, Extent) and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(
                f"random_{distribution}: shape: expected sizes of at least 1, and None for the batch, got {shape!r}"
            )
    known = {name: number(f"random_{distribution}: {name}", value) for name, value in parameters.items()}
    return pointwise.random(place.graph, distribution, whole, place.stream(), place.label, **known)


@op(numpy="random.Generator.normal", free=True)
def random_normal(
    place: Place, shape: Sequence[int | None] | Operand, mean: float = 0.0, stddev: float = 1.0
) -> Tensor:
    """Return numbers of a normal distribution."""
    return _random(place, "normal", shape, mean=mean, stddev=stddev)


@op(numpy="random.Generator.uniform", free=True)
def random_uniform(place: Place, shape: Sequence[int | None] | Operand, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return numbers that are equally likely everywhere from `low` on and below `high`."""
    return _random(place, "uniform", shape, low=low, high=high)


@op(numpy="random.Generator.binomial", free=True)
def random_bernoulli(place: Place, shape: Sequence[int | None] | Operand, p: float = 0.5) -> Tensor:
    """Return 1 with the probability p, else 0."""
    if not 0.0 <= number("random_bernoulli: p", p) <= 1.0:
        raise ValueError(f"random_bernoulli: p: expected a probability, got {p!r}")
    return _random(place, "bernoulli", shape, p=p)
