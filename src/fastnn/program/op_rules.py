"""What kernels assume of single records besides shapes: the rules of the entries in the table of ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from fastnn.program.flags import Flag
from fastnn.program.op import Rule
from fastnn.program.window import MOST_TAPS, unpacked


def matmul_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the mapped function of a product, and what it adds to."""
    if (Flag.MAP_GRADIENT in flags) != ("saved" in operands) or (Flag.MAP_FORWARD | Flag.MAP_GRADIENT) in flags:
        return "does not have the operand 'saved' and one mapped function for a gradient"
    if "pre" in operands and Flag.MAP_FORWARD not in flags:
        return "keeps the value before an activation that it does not apply"
    mapped = Flag.MAP_FORWARD in flags or Flag.MAP_GRADIENT in flags
    if Flag.ACCUMULATE in flags and (mapped or "bias" in operands):
        return "accumulates a product with a bias or an activation"
    return None


def batched_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the places of all matrices."""
    m, n, k, count, inner = (dims[name] for name in ("m", "n", "k", "count", "inner"))
    if count % inner:
        return f"has groups of {inner} of {count} matrices"
    for name, (rows, cols), turned, repeated, cycled in (
        ("a", (m, k), Flag.TRANSPOSE_A, Flag.REPEAT_A, Flag.CYCLE_A),
        ("b", (k, n), Flag.TRANSPOSE_B, Flag.REPEAT_B, Flag.CYCLE_B),
    ):
        if repeated | cycled in flags:
            return f"takes the matrices of {name} in two orders"
        rows, cols = (cols, rows) if turned in flags else (rows, cols)
        between, row = dims[f"{name}_between"], dims[f"{name}_row"]
        last = (count // inner if repeated in flags else inner if cycled in flags else count) - 1
        if dims[f"{name}_first"] + last * between + (rows - 1) * row + cols > dims[f"{name}_size"]:
            return f"reads elements past a sample of {name}"
        # the elements of a vector that is a column in memory
        if cols == 1 < rows and row != 1 and (m if name == "a" else n) == 1:
            return f"multiplies by a vector, but {name} has gaps"
    taken = n
    for stride, size in sorted(((dims["c_between"], count), (dims["c_row"], m))):
        if size > 1 and stride < taken:
            return "writes rows of c over each other"
        taken += (size - 1) * stride
    if taken > count * m * n:
        return "writes elements past a sample of c"
    if n == 1 and dims["c_row"] != 1:
        return "multiplies by a vector, but c has gaps"
    return None


def window_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the sizes of a window that slides over maps."""
    window, moves = unpacked(dims["window"]), (*unpacked(dims["stride"]), *unpacked(dims["dilation"]))
    if min(*window, *moves) < 1:
        return "has a window, a stride or a dilation of no size"
    return f"has a window of more than {MOST_TAPS} positions" if prod(window) > MOST_TAPS else None


def convolution_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the weights, groups and mapped function of a convolution."""
    groups, channels, filters = dims["groups"], dims["channels"], dims["filters"]
    if channels % groups or filters % groups:
        return f"has {groups} groups of {channels} channels and {filters} filters"
    if dims["weights"] != prod(unpacked(dims["window"])) * channels // groups * filters:
        return f"has {dims['weights']} weights, which its window and channels do not need"
    if (Flag.MAP_GRADIENT in flags) != ("saved" in operands) or (Flag.MAP_FORWARD | Flag.MAP_GRADIENT) in flags:
        return "does not have the operand 'saved' and one mapped function for a gradient"
    if "pre" in operands and Flag.MAP_FORWARD not in flags:
        return "keeps the value before an activation that it does not apply"
    return window_rule(dims, operands, flags)


def pooling_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that each window has a place in the maps."""
    wrong = window_rule(dims, operands, flags)
    if wrong is not None:
        return wrong
    moves = (unpacked(dims[name]) for name in ("window", "stride", "dilation", "padding"))
    sizes = (("depth", "out_depth"), ("height", "rows"), ("width", "cols"))
    for (size, results), window, stride, dilation, padding in zip(sizes, *moves, strict=True):
        first, last = -padding, (dims[results] - 1) * stride - padding
        # some place of the first window, and of the last one, is in the map; so it is for those between
        reaches = first + (window - 1) * dilation >= 0 and last < dims[size] and (dilation == 1 or padding == 0)
        if not reaches:
            return f"has a window without a place along {size}"
    return None


def chunks_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that no chunk of rows is empty."""
    return f"cuts {dims['rows']} rows into {dims['chunks']} chunks" if dims["chunks"] > dims["rows"] else None


def gather_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the sizes of what is gathered."""
    if dims["size0"] and dims["size0"] * dims["size1"] * dims["size2"] != dims["size"]:
        return "gathers rows of another size than the source's"
    return None


def copy_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that columns are there."""
    for side in ("source", "target"):
        if dims[f"{side}_first"] + dims["cols"] > dims[f"{side}_cols"]:
            return f"copies columns past the {side}'s"
    return None


def place_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the places that are written."""
    last = dims["first"] + (dims["count"] - 1) * dims["step"]
    if not 0 <= last < dims["size"] or dims["first"] >= dims["size"] or (dims["count"] > 1 and not dims["step"]):
        return "writes entries past the target's, or some of them twice"
    return None


def strided_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the elements that are read."""
    rest = dims["n1"] * dims["n2"] * dims["n3"] * dims["n4"]
    sizes = (dims["rows"] // rest, *(dims[f"n{axis}"] for axis in range(1, 5)), dims["cols"])
    strides = (*(dims[f"stride{axis}"] for axis in range(5)), dims["stride"])
    ends = [(size - 1) * stride for size, stride in zip(sizes, strides, strict=True)]
    low, high = (dims["first"] + sum(limit(end, 0) for end in ends) for limit in (min, max))
    return "reads elements past its input" if dims["rows"] % rest or low < 0 or high >= dims["size"] else None


def take_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the places of numbers."""
    last = sum((dims[name] - 1) * dims[f"index_{name}"] for name in ("outer", "count", "inner"))
    return "reads numbers past its indices" if last >= dims["indices"] else None


def recurrence_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that something is carried."""
    if not operands & {"a", "b"}:
        return "has neither factors nor summands"
    return "has flags that are neither 0 nor 1" if max(dims["reverse"], dims["exclusive"]) > 1 else None


def largest_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that a row has as many numbers."""
    return f"takes {dims['k']} of {dims['cols']} numbers" if dims["k"] > dims["cols"] else None


def attention_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the heads and the mask of attention."""
    batch, queries, keys, heads, kv_heads = (dims[name] for name in ("batch", "queries", "keys", "heads", "kv_heads"))
    if heads % kv_heads:
        return f"shares {kv_heads} heads of keys among {heads} heads"
    if dims["causal"] > 1:
        return "has a flag that is neither 0 nor 1"
    if "rows_size" in dims and dims["rows_size"] != 2 * batch * heads * queries + dims["mask_size"]:
        return f"has {dims['rows_size']} numbers of its rows, which its sizes do not need"
    if ("mask" in operands) != bool(dims["mask_size"]) and "rows_size" not in dims:
        return "has a mask without a size, or a size without a mask"
    counts = {"mask_sample": batch, "mask_head": heads, "mask_query": queries}
    last = sum((count - 1) * dims[name] for name, count in counts.items()) + keys
    return "reads elements past its mask" if dims["mask_size"] and last > dims["mask_size"] else None


def attention_step_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check the heads of a step of attention, and that what it keeps lies within a row."""
    if dims["heads"] % dims["kv_heads"]:
        return f"shares {dims['kv_heads']} heads of keys among {dims['heads']} heads"
    if dims["first"] + dims["kv_heads"] * dims["size"] * dims["most"] > dims["row"]:
        return f"keeps {dims['most']} steps from the element {dims['first']} on, past its rows of {dims['row']}"
    return f"takes {dims['steps']} steps of {dims['most']}" if dims["steps"] > dims["most"] else None


def scan_rule(gates: int, states: int) -> Rule:
    """Make the rule of a recurrent layer, or of its gradient."""

    def rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
        if dims["wide"] != gates * dims["units"]:
            return f"has {dims['wide']} columns of gates, expected {gates} times {dims['units']}"
        given = dims["states"]
        if given not in (0, states) or dims["starts"] - given not in (0, 1) or ("start" not in operands and given):
            return f"begins with {given} states among {dims['starts']} arrays"
        if max(dims["reverse"], dims.get("after", 0)) > 1:
            return "has flags that are neither 0 nor 1"
        if dims.get("slots", 0) not in (0, 2 + dims["starts"] - given if "start" in operands else 2):
            return f"keeps {dims['slots']} arrays of each step"
        if "bias" in operands and dims["biases"] != 1 + dims["after"]:
            return f"has {dims['biases']} biases, expected {1 + dims['after']}"
        if dims.get("ends", 1) > states:
            return f"has gradients of {dims['ends']} states, expected at most {states}"
        return None

    return rule


def stack_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that a window is over one stack, and within it in all rounds."""
    if len(operands) != 1:
        return f"is a window over {len(operands)} stacks"
    times, size, first = dims["times"], dims["size"], dims["first"]
    last = first + (times - 1) * dims["step"]
    if min(first, last) < 0 or max(first, last) + size > times * size:
        return "leaves its stack"
    return None


def metric_rule(numbers: Callable[[Mapping[str, int]], int], *, labels: bool = True) -> Rule:
    """Make the rule of an accumulator of some number of numbers, which takes labels of classes or does not."""

    def rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
        if dims["size"] != numbers(dims):
            return f"adds to an accumulator of {dims['size']} numbers, expected {numbers(dims)}"
        if ("target" in operands) == ("labels" in operands):
            return "does not have either targets or labels"
        if "labels" in operands and (dims["cols"] == 1 or not labels):
            return "has labels of classes, but not the scores of classes"
        if dims.get("k", 0) > dims["cols"]:
            return f"looks for the label in the {dims['k']} best of {dims['cols']} scores"
        return None

    return rule


def cells(dims: Mapping[str, int]) -> int:
    """Return how many numbers a table of classes has."""
    classes = max(dims["cols"], 2)
    return classes * (classes + 1)


def pointwise_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    """Check that axes make up the elements."""
    rest = dims["n1"] * dims["n2"] * dims["n3"]
    return f"has {dims['n']} elements along axes of {rest} elements" if dims["n"] % rest else None
