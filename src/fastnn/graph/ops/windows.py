"""Windows that slide along the axes of maps: convolutions, pooling, and their gradients.

Maps are (..., *axes, channels), with one to three axes that windows slide along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fastnn.graph.extent import Size
from fastnn.graph.graph import Graph, Node, Tensor, output
from fastnn.graph.ops.dense import matmul
from fastnn.graph.ops.strided import product, reshape, sliced
from fastnn.graph.rules import Gradients, NoGradientError, gradient

#: Most entries of an axis that a window slides along, and most places of a window: what records have room for.
MOST_ENTRIES, MOST_PLACES = (1 << 20) - 1, 4096
#: How the gradient for weights is summed over the batch: in eight slices, fewer where there are many weights, so that
#: the slices' sums take no more memory than this many numbers.
_MOST_CHUNKS, _MOST_SUMS = 8, 1 << 18


@dataclass(frozen=True)
class Sliding:
    """How a window slides along one axis.

    Attributes
    ----------
    size, results : int
        Entries of the axis of the maps, and of that of the results.
    window, stride, dilation : int
        Places of the window, entries between the first places of neighbouring windows, entries between places.
    before : int
        Entries of zeros before the axis; those behind follow from `results`.
    """

    size: int
    results: int
    window: int
    stride: int
    dilation: int
    before: int

    @property
    def takes_all(self) -> bool:
        """Whether the window has one place, which is at every entry in turn: results are those of single entries."""
        return self == Sliding(self.size, self.size, 1, 1, self.dilation, 0)

    @classmethod
    def padded(cls, size: int, window: int, stride: int, dilation: int, before: int, behind: int) -> Sliding:
        """Return how a window slides along an axis with zeros around it.

        Raises
        ------
        ValueError
            If the window is longer than the axis with its zeros.
        """
        reach = (window - 1) * dilation + 1
        length = size + before + behind
        if reach > length:
            raise ValueError(f"a window that reaches over {reach} entries does not fit an axis of {length}")
        return cls(size, (length - reach) // stride + 1, window, stride, dilation, before)


Slidings = tuple[Sliding, ...]
#: What may be said of zeros around maps; "causal" is for one axis: a result depends on nothing after its place.
PADDINGS = ("valid", "same", "causal")


def slidings(
    sizes: Sequence[Size], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: str
) -> Slidings:
    """Return how a window slides along axes, padded as TensorFlow pads them.

    Raises
    ------
    ValueError
        If it does not fit, or has too many places.
    """
    found = []
    for axis, size in enumerate(sizes):
        if not isinstance(size, int):
            raise ValueError(f"windows slide along axes of known sizes, got one of {size}")
        reach = (window[axis] - 1) * dilation[axis]
        before = behind = 0
        if padding == "same":
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach + 1 - size, 0)
            before, behind = total // 2, total - total // 2
        elif padding == "causal":
            before = reach
        found.append(Sliding.padded(size, window[axis], stride[axis], dilation[axis], before, behind))
    return _checked(found)


def transposed_slidings(
    sizes: Sequence[Size],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    more: Sequence[int] | None,
) -> Slidings:
    """Return how the window slides whose gradient for inputs a transposed convolution is, from its inputs' sizes.

    Its results are as long as Keras' are; `more` says how much longer than the shortest ones ("output_padding").
    """
    found = []
    for axis, results in enumerate(sizes):
        if not isinstance(results, int):
            raise ValueError(f"windows slide along axes of known sizes, got one of {results}")
        reach = (window[axis] - 1) * dilation[axis] + 1
        if more is None:
            size = results * stride[axis] + (max(reach - stride[axis], 0) if padding == "valid" else 0)
        else:
            size = (results - 1) * stride[axis] + reach + more[axis] - (2 * (reach // 2) if padding == "same" else 0)
        total = max((results - 1) * stride[axis] + reach - size, 0)
        if size < 1 or (padding == "same" and -(-size // stride[axis]) != results):
            raise ValueError(
                f"no convolution with a window of {window[axis]} and strides of {stride[axis]} makes {results} entries "
                f"of {size}: output_padding does not fit"
            )
        before = total // 2 if padding == "same" else 0
        found.append(Sliding(size, results, window[axis], stride[axis], dilation[axis], before))
    return _checked(found)


def _checked(axes: Sequence[Sliding]) -> Slidings:
    places = prod(each.window for each in axes)
    if places > MOST_PLACES:
        raise ValueError(f"a window has at most {MOST_PLACES} places, got {places}")
    most = max(max(each.size, each.window, each.stride, each.dilation, each.before) for each in axes)
    if most > MOST_ENTRIES:
        raise ValueError(f"axes and windows have at most {MOST_ENTRIES} entries, got {most}")
    return tuple(axes)


def _around(x: Tensor, axes: Slidings) -> tuple[Size, ...]:
    """Return the sizes of a tensor's axes before those that windows slide along."""
    return x.whole[: -len(axes) - 1]


def convolution(graph: Graph, x: Tensor, w: Tensor, axes: Slidings, groups: int, label: str) -> Tensor:
    """Convolve maps (..., *sizes, channels) with weights (*window, channels / groups, filters)."""
    filters = w.whole[-1]
    x, axes = _without_zeros(graph, x, axes)
    w, axes = _reaching(graph, w, axes, label)
    whole = (*_around(x, axes), *(each.results for each in axes), filters)
    if groups == 1 and all(each.takes_all for each in axes):
        return matmul(graph, x, reshape(graph, w, (w.whole[-2], filters), label), label)
    outputs = [output(whole, f"{label}.convolution")]
    return graph.add("conv", (x, w), outputs, label, axes=axes, groups=groups, batch=product(_around(x, axes)))[0]


def _without_zeros(graph: Graph, x: Tensor, axes: Slidings) -> tuple[Tensor, Slidings]:
    """Return the maps around which zeros have been put, and how the window slides over them and their zeros."""
    node, found = graph.producer(x), list(axes)
    while node is not None and node.op == "place" and node.attrs["fill"] == 0.0 and node.attrs["step"] == 1:
        number = node.attrs["axis"] - len(_around(x, axes))
        if not 0 <= number < len(axes):
            break
        each, first = found[number], node.attrs["first"]
        if each.before + first > MOST_ENTRIES:
            break
        found[number] = replace(each, size=node.attrs["count"], before=each.before + first)
        source = node.inputs[0]
        assert source is not None
        x, node = source, graph.producer(source)
    return x, tuple(found)


def _reaching(graph: Graph, w: Tensor, axes: Slidings, label: str) -> tuple[Tensor, Slidings]:
    """Return the weights without those that meet nothing but zeros, and how their window slides.

    Dilation may move most of a window out of small maps. Kernels copy all that it reaches over.
    """
    found, ranges = list(axes), [(0, 1, size) for size in w.whole]
    for axis, each in enumerate(axes):
        if each.dilation == 1 or each.window == 1:
            continue
        # each place of the window meets the entries from `start` to `start + way`
        way = (each.results - 1) * each.stride
        starts = ((place, place * each.dilation - each.before) for place in range(each.window))
        meeting = [place for place, start in starts if start + way >= 0 and start < each.size] or [0]
        # there are no zeros of negative number
        first = min(meeting[0], each.before // each.dilation)
        count = meeting[-1] + 1 - first
        ranges[axis] = (first, 1, count)
        found[axis] = replace(
            each, window=count, dilation=each.dilation if count > 1 else 1, before=each.before - first * each.dilation
        )
    if tuple(found) == axes:
        return w, axes
    return sliced(graph, w, ranges, [count for _, _, count in ranges], label), tuple(found)


def transposed_convolution(graph: Graph, dy: Tensor, w: Tensor, axes: Slidings, groups: int, label: str) -> Tensor:
    """Return the gradient of `convolution` for x: maps (..., *sizes, channels) from (..., *results, filters)."""
    w, axes = _reaching(graph, w, axes, label)
    whole = (*_around(dy, axes), *(each.size for each in axes), w.whole[-2] * groups)
    outputs = [output(whole, f"{label}.dx")]
    return graph.add("conv_back", (dy, w), outputs, label, axes=axes, groups=groups, batch=product(_around(dy, axes)))[
        0
    ]


def _for_weights(graph: Graph, x: Tensor, dy: Tensor, axes: Slidings, groups: int, label: str) -> Tensor:
    """Return the gradient of `convolution` for w."""
    shape = (*(each.window for each in axes), x.whole[-1] // groups, dy.whole[-1])
    chunks = min(_MOST_CHUNKS, max(1, _MOST_SUMS // prod(shape)))
    outputs = [output(shape, f"{label}.dkernel")]
    if chunks > 1:
        outputs.append(output((chunks, prod(shape)), f"{label}.dkernel.parts"))
    return graph.add(
        "conv_weights", (x, dy), outputs, label, axes=axes, groups=groups, batch=product(_around(x, axes))
    )[0]  # fmt: skip


@gradient("conv", unbounded="linear")
def _convolution(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x, w), axes, groups = node.inputs, node.attrs["axes"], node.attrs["groups"]
    assert x is not None and w is not None
    dx = transposed_convolution(graph, dy, w, axes, groups, node.label) if needs[0] else None
    return dx, _for_weights(graph, x, dy, axes, groups, node.label) if needs[1] else None


@gradient("conv_back", unbounded="linear")
def _transposed_convolution(graph: Graph, node: Node, ddx: Tensor, needs: Sequence[bool]) -> Gradients:
    (dy, w), axes, groups = node.inputs, node.attrs["axes"], node.attrs["groups"]
    assert dy is not None and w is not None
    ddy = convolution(graph, ddx, w, axes, groups, node.label) if needs[0] else None
    return ddy, _for_weights(graph, ddx, dy, axes, groups, node.label) if needs[1] else None


@gradient("conv_weights", unbounded="linear")
def _weights(graph: Graph, node: Node, ddw: Tensor, needs: Sequence[bool]) -> Gradients:
    (x, dy), axes, groups = node.inputs, node.attrs["axes"], node.attrs["groups"]
    assert x is not None and dy is not None
    dx = transposed_convolution(graph, dy, ddw, axes, groups, node.label) if needs[0] else None
    return dx, convolution(graph, x, ddw, axes, groups, node.label) if needs[1] else None


def pool(graph: Graph, x: Tensor, kind: str, axes: Slidings, label: str) -> Tensor:
    """Take the "max" or the "average" of every window; places outside of the maps do not count."""
    if all(each.takes_all for each in axes):
        return x
    outputs = [output((*_around(x, axes), *(each.results for each in axes), x.whole[-1]), f"{label}.{kind}")]
    return graph.add("pool", (x,), outputs, label, kind=kind, axes=axes, batch=product(_around(x, axes)))[0]


@gradient("pool")
def _pool(graph: Graph, node: Node, dy: Tensor, needs: Sequence[bool]) -> Gradients:
    (x,), (y,), attrs = node.inputs, node.outputs, node.attrs
    assert x is not None
    inputs = (dy, x, y) if attrs["kind"] == "max" else (dy,)
    outputs = [output(x.whole, f"{node.label}.dx")]
    return graph.add(
        f"{attrs['kind']}_pool_grad", inputs, outputs, node.label, axes=attrs["axes"], batch=attrs["batch"]
    )  # fmt: skip


@gradient("average_pool_grad", unbounded="linear")
def _average_pool_grad(graph: Graph, node: Node, ddx: Tensor, needs: Sequence[bool]) -> Gradients:
    return (pool(graph, ddx, "average", node.attrs["axes"], node.label),)


@gradient("max_pool_grad")
def _max_pool_grad(graph: Graph, node: Node, ddx: Tensor, needs: Sequence[bool]) -> Gradients:
    raise NoGradientError(f"layer {node.label!r}: the gradient of max pooling cannot be differentiated again")
