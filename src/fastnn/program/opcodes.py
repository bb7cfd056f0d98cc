"""The table of record ops: everything that the other rooms have to know about an op.

This is the one definition that the lowering, the verifier, the disassembly, the reference backend, the sharing of work
among threads and the kernels share: operands with shapes as names of dimensions, the time that an op takes, how threads
share it, and what its kernel assumes. `op` describes the notation. The sizes of records follow from it (`layout`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from fastnn.program.flags import Flag
from fastnn.program.op import Op, Rule, Table
from fastnn.program.window import MOST_TAPS, unpacked

TABLE = Table()
_op = TABLE.define

# Rates are elements of float32 per nanosecond: the fastest variant in common use, measured on 256 x 256 elements with
# AVX2 at 3.5 GHz, rounded up.


# --- rules ----------------------------------------------------------------------------------------------


def _matmul_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    if (Flag.MAP_GRADIENT in flags) != ("saved" in operands) or (Flag.MAP_FORWARD | Flag.MAP_GRADIENT) in flags:
        return "does not have the operand 'saved' and one mapped function for a gradient"
    if "pre" in operands and Flag.MAP_FORWARD not in flags:
        return "keeps the value before an activation that it does not apply"
    mapped = Flag.MAP_FORWARD in flags or Flag.MAP_GRADIENT in flags
    if Flag.ACCUMULATE in flags and (mapped or "bias" in operands):
        return "accumulates a product with a bias or an activation"
    return None


def _batched_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
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


def _window_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    window, moves = unpacked(dims["window"]), (*unpacked(dims["stride"]), *unpacked(dims["dilation"]))
    if min(*window, *moves) < 1:
        return "has a window, a stride or a dilation of no size"
    return f"has a window of more than {MOST_TAPS} positions" if prod(window) > MOST_TAPS else None


def _convolution_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    groups, channels, filters = dims["groups"], dims["channels"], dims["filters"]
    if channels % groups or filters % groups:
        return f"has {groups} groups of {channels} channels and {filters} filters"
    if dims["weights"] != prod(unpacked(dims["window"])) * channels // groups * filters:
        return f"has {dims['weights']} weights, which its window and channels do not need"
    if (Flag.MAP_GRADIENT in flags) != ("saved" in operands) or (Flag.MAP_FORWARD | Flag.MAP_GRADIENT) in flags:
        return "does not have the operand 'saved' and one mapped function for a gradient"
    if "pre" in operands and Flag.MAP_FORWARD not in flags:
        return "keeps the value before an activation that it does not apply"
    return _window_rule(dims, operands, flags)


def _pooling_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    wrong = _window_rule(dims, operands, flags)
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


def _chunks_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    return f"cuts {dims['rows']} rows into {dims['chunks']} chunks" if dims["chunks"] > dims["rows"] else None


def _gather_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    if dims["size0"] and dims["size0"] * dims["size1"] * dims["size2"] != dims["size"]:
        return "gathers rows of another size than the source's"
    return None


def _copy_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    for side in ("source", "target"):
        if dims[f"{side}_first"] + dims["cols"] > dims[f"{side}_cols"]:
            return f"copies columns past the {side}'s"
    return None


def _place_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    last = dims["first"] + (dims["count"] - 1) * dims["step"]
    if not 0 <= last < dims["size"] or dims["first"] >= dims["size"] or (dims["count"] > 1 and not dims["step"]):
        return "writes entries past the target's, or some of them twice"
    return None


def _strided_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    rest = dims["n1"] * dims["n2"] * dims["n3"] * dims["n4"]
    sizes = (dims["rows"] // rest, *(dims[f"n{axis}"] for axis in range(1, 5)), dims["cols"])
    strides = (*(dims[f"stride{axis}"] for axis in range(5)), dims["stride"])
    ends = [(size - 1) * stride for size, stride in zip(sizes, strides, strict=True)]
    low, high = (dims["first"] + sum(limit(end, 0) for end in ends) for limit in (min, max))
    return "reads elements past its input" if dims["rows"] % rest or low < 0 or high >= dims["size"] else None


def _take_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    last = sum((dims[name] - 1) * dims[f"index_{name}"] for name in ("outer", "count", "inner"))
    return "reads numbers past its indices" if last >= dims["indices"] else None


def _recurrence_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    if not operands & {"a", "b"}:
        return "has neither factors nor summands"
    return "has flags that are neither 0 nor 1" if max(dims["reverse"], dims["exclusive"]) > 1 else None


def _largest_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    return f"takes {dims['k']} of {dims['cols']} numbers" if dims["k"] > dims["cols"] else None


def _metric_rule(numbers: Callable[[Mapping[str, int]], int], *, labels: bool = True) -> Rule:
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


def _cells(dims: Mapping[str, int]) -> int:
    classes = max(dims["cols"], 2)
    return classes * (classes + 1)


def _pointwise_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
    rest = dims["n1"] * dims["n2"] * dims["n3"]
    return f"has {dims['n']} elements along axes of {rest} elements" if dims["n"] % rest else None


def _attention_rule(dims: Mapping[str, int], operands: frozenset[str], flags: Flag) -> str | None:
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


# --- data -----------------------------------------------------------------------------------------------
# rows `index[cursor + i]` (or `cursor + i`) of a strided source become rows of a contiguous batch;
# size0 = 0 says that a source row is contiguous, otherwise it has shape (size0, size1, size2)
_GATHER = "rows size row_stride~ size0? size1? size2? stride0~ stride1~ stride2~"
_op("gather", outputs="batch[rows,size]", inputs="source:any[] index?:any[]", dims=_GATHER, variants="source dtype",
    rate=6.0, shared="rows", rule=_gather_rule)  # fmt: skip
_op("gather_labels", outputs="batch:int64[rows,size]", inputs="source:any[] index?:any[]", dims=_GATHER,
    variants="source dtype", rate=4.0, shared="rows", rule=_gather_rule)  # fmt: skip
_op("store", outputs="target:any[]", inputs="x[rows,size]", dims="rows size", rate=10.0, shared="rows")
_op("tick", dims="rows", update=True)

# --- dense ----------------------------------------------------------------------------------------------
# c (+)= op(a) @ op(b) + bias; `pre` keeps the value before a mapped activation, `saved` feeds its gradient
_op("matmul", outputs="c[m,n] pre?[m,n]", inputs="a[m,k] b[k,n] bias?[n] saved?[m,n]", dims="m n k",
    params="p0 p1", variants="mapped activation", maps="flags", multiply_adds="m n k", shared="tiles",
    rule=_matmul_rule)  # fmt: skip
# In every sample `count` matrices c = scale op(a) op(b), in groups of `inner`. The first begins at the element `first`
# of a sample, and others `between` elements after each other, with rows that are `row` elements apart. An operand has
# one matrix for each, or, by a flag, one for each group (REPEAT) or one for each matrix of a group (CYCLE). The first
# dimensions are those of `matmul`: codes choose algorithms of both by the same words.
_op("batched_matmul", outputs="c[samples,count,m,n]", inputs="a[samples,a_size] b[samples,b_size]",
    dims="m n k samples count inner a_size a_first? a_between a_row b_size b_first? b_between b_row c_between c_row",
    params="scale", multiply_adds="samples count m n k", shared="samples count m",
    rule=_batched_rule)  # fmt: skip
_op("bias_add", outputs="y[rows,cols]", inputs="x[rows,cols] bias[cols]", dims="rows cols", rate=10.0, shared="rows")
_op("sum_rows", outputs="y[cols]", inputs="x[rows,cols]", dims="rows cols", rate=20.0, shared="cols/64")

# --- windows over maps ------------------------------------------------------------------------------------
# Maps are (batch, depth, height, width, channels). The value at a place of `windows` is made of those of `maps` in the
# window that begins at place * stride - padding, whose neighbours are `dilation` apart; what lies outside is zero.
# `window`, `stride`, `dilation` and `padding` hold three numbers each (`program/window.py`).
_MAPS, _PLACES = "[batch,depth,height,width,channels]", "[batch,out_depth,rows,cols,filters]"
_CONV = ("batch depth height width channels out_depth rows cols filters groups window stride dilation padding? "
         "weights")  # fmt: skip
_ADDS = "batch out_depth rows cols weights"
# y (+ bias) = f(x * w); the weights are (*window, channels / groups, filters)
_op("conv", outputs=f"y{_PLACES} pre?{_PLACES}", inputs=f"x{_MAPS} w[weights] bias?[filters]", dims=_CONV,
    params="p0 p1", variants="mapped activation", maps="flags", multiply_adds=_ADDS, shared="batch out_depth rows",
    rule=_convolution_rule)  # fmt: skip
# its gradient for x, with relu's applied to it; and the transposed convolution
_op("conv_back", outputs=f"dx{_MAPS}", inputs=f"dy{_PLACES} w[weights] bias?[channels] saved?{_MAPS}", dims=_CONV,
    params="p0 p1", variants="mapped activation", maps="flags", multiply_adds=_ADDS, shared="batch depth height",
    rule=_convolution_rule)  # fmt: skip
# its gradient for w, in `chunks` sums over slices of the batch; a chunk without samples is not written
_op("conv_weights", outputs="dw[chunks,weights]", inputs=f"x{_MAPS} dy{_PLACES}", dims=f"{_CONV} chunks",
    multiply_adds=_ADDS, shared="chunks", rule=_convolution_rule)  # fmt: skip
_op("sum_chunks", outputs="y[n]", inputs="x[chunks,n]", dims="batch chunks n", rate=10.0, shared="n/64")

_POOL = "batch depth height width channels out_depth rows cols window stride dilation padding?"
_POOLED = "[batch,out_depth,rows,cols,channels]"
# the maximum or the average of the places of a window that lie within the maps, of which there has to be one
_op("pool", outputs=f"y{_POOLED}", inputs=f"x{_MAPS}", dims=_POOL, variants="reduction", rate=4.0,
    shared="batch out_depth rows", rule=_pooling_rule)  # fmt: skip
# the first maximum of a window has its gradient; with RECTIFY only if it is positive
_op("max_pool_grad", outputs=f"dx{_MAPS}", inputs=f"dy{_POOLED} x{_MAPS} y{_POOLED}", dims=_POOL, rate=3.0,
    shared="batch", rule=_pooling_rule)  # fmt: skip
_op("average_pool_grad", outputs=f"dx{_MAPS}", inputs=f"dy{_POOLED}", dims=_POOL, rate=4.0, shared="batch",
    rule=_pooling_rule)  # fmt: skip

# --- elementwise ----------------------------------------------------------------------------------------
_op("activation", outputs="y[n]", inputs="x[n]", dims="n", params="p0 p1", variants="activation", maps="map",
    rate=6.0, shared="n/64", elementwise=True)  # fmt: skip
_op("activation_grad", outputs="dx[n]", inputs="dy[n] saved[n]", dims="n", params="p0 p1", variants="activation",
    maps="map_grad", rate=6.0, shared="n/64", elementwise=True)  # fmt: skip
_op("add", outputs="y[n]", inputs="a[n] b[n]", dims="n", rate=6.0, shared="n/64", elementwise=True)
_op("multiply", outputs="y[n]", inputs="a[n] b[n]", dims="n", rate=6.0, shared="n/64", elementwise=True)
# b is the same for `repeat` neighbours
_BROADCAST = "outer repeat inner"
_op("broadcast_add", outputs="y[outer,repeat,inner]", inputs="a[outer,repeat,inner] b[outer,inner]", dims=_BROADCAST,
    rate=6.0, shared="outer repeat")  # fmt: skip
_op("broadcast_multiply", outputs="y[outer,repeat,inner]", inputs="a[outer,repeat,inner] b[outer,inner]",
    dims=_BROADCAST, rate=6.0, shared="outer repeat")  # fmt: skip
_op("dropout", outputs="y[n]", inputs="x[n]", dims="n node?", params="rate", rate=1.2, shared="n/64",
    elementwise=True)  # fmt: skip
_op("gaussian_noise", outputs="y[n]", inputs="x[n]", dims="n node?", params="stddev", rate=0.4, shared="n/64",
    elementwise=True)  # fmt: skip
# y = f(a, b, c); y has n elements, along axes of n / (n1 n2 n3), n1, n2 and n3. An operand's elements are found by its
# strides, 0 along axes over which it is broadcast; an argument without an operand is the parameter of its number.
_op("pointwise", outputs="y[n]", inputs=" ".join(f"{x}?[n:{x}0,n1:{x}1,n2:{x}2,n3:{x}3]" for x in "abc"),
    dims=" ".join(("n n1 n2 n3", *(f"{x}{axis}?" for x in "abc" for axis in range(4)))), params="p0 p1 p2",
    variants="function", maps="pointwise_map", rate=6.0, elements="n", shared="n/64",
    elementwise=True, rule=_pointwise_rule)  # fmt: skip
_op("to_real", outputs="y[n]", inputs="x:int64[n]", dims="n", rate=2.0, shared="n/64")
# towards zero; NaN becomes the smallest integer, and what is beyond the integers the nearest of them
_op("to_integer", outputs="y:int64[n]", inputs="x[n]", dims="n", rate=2.0, shared="n/64")
# numbers of a distribution: normal (mean, standard deviation), uniform (low, high), bernoulli (probability of a 1)
_op("random", outputs="y[n]", dims="n node?", params="p0 p1", variants="distribution", rate=0.4, shared="n/64",
    elementwise=True)  # fmt: skip

# --- moves ----------------------------------------------------------------------------------------------
# columns [source_first, source_first + cols) of x become columns [target_first, ...) of y
_op("copy_columns", outputs="y[rows,target_cols]", inputs="x[rows,source_cols]",
    dims="rows cols target_cols target_first? source_cols source_first?", rate=10.0, elements="rows cols",
    shared="rows cols/64", rule=_copy_rule)  # fmt: skip
# element j of row ((i0 n1 + i1) n2 + ...) n4 + i4 of y is the element first + i0 stride0 + ... + i4 stride4 + j stride
# of x: transpositions, slices with steps, flips, and the same elements again and again (strides of 0)
_VIEW = "rows cols n1 n2 n3 n4 stride0~ stride1~ stride2~ stride3~ stride4~ stride~ first? size"
_op("strided", outputs="y[rows,cols]", inputs="x[size]", dims=_VIEW, rate=2.0, elements="rows cols",
    shared="rows cols/64", rule=_strided_rule)  # fmt: skip
_op("strided_integers", outputs="y:int64[rows,cols]", inputs="x:int64[size]", dims=_VIEW, rate=2.0,
    elements="rows cols", shared="rows cols/64", rule=_strided_rule)  # fmt: skip
# entries first, first + step, ... of the middle axis of y are those of x; the others are filled
_op("place", outputs="y[outer,size,inner]", inputs="x[outer,count,inner]", dims="outer count inner size first? step~",
    params="fill", rate=10.0, elements="outer size inner", shared="outer size", rule=_place_rule)  # fmt: skip
# entry number `index` of the middle axis of x, from its end if the number is negative, NaN if there is none; the number
# of (o, m, i) is at the place o index_outer + m index_count + i index_inner
_TAKE = "outer count inner size index_outer? index_count? index_inner? indices"
_op("take", outputs="y[outer,count,inner]", inputs="x[outer,size,inner] index:int64[indices]", dims=_TAKE, rate=2.0,
    elements="outer count inner", shared="outer count", rule=_take_rule)  # fmt: skip
# its gradient: x is added to the entries that it would be taken from, one after the other; numbers of none are skipped
_op("scatter_add", outputs="y[outer,size,inner]", inputs="x[outer,count,inner] index:int64[indices]", dims=_TAKE,
    rate=1.0, elements="outer count inner", shared="outer size", rule=_take_rule)  # fmt: skip

# --- reductions -----------------------------------------------------------------------------------------
# y = f(x) over part p of `repeat`, from repeat p // parts to repeat (p + 1) // parts, which may be empty; a sum is then
# divided by `divisor`
_op("reduce", outputs="y[outer,parts,inner]", inputs="x[outer,repeat,inner]", dims="outer parts repeat inner divisor",
    variants="reduction", rate=10.0, elements="outer repeat inner", shared="outer parts inner")  # fmt: skip
# the first place of the largest or smallest of `repeat`, or of the first NaN
_op("arg_reduce", outputs="y:int64[outer,inner]", inputs="x[outer,repeat,inner]", dims="outer repeat inner",
    variants="reduction", rate=1.0, shared="outer inner")  # fmt: skip
# y_t = a_t y_(t-1) + b_t along the middle axis, with y_0 = initial; without a: a_t = 1, without b: b_t = 0;
# `reverse` goes from the end, `exclusive` gives y_(t-1)
_op("recurrence", outputs="y[outer,size,inner]", inputs="a?[outer,size,inner] b?[outer,size,inner]",
    dims="outer size inner reverse? exclusive?", params="initial", rate=1.0, shared="outer inner/64",
    rule=_recurrence_rule)  # fmt: skip
# the k largest of a row and their places, in falling order; of equal ones the first comes first, NaN is the largest
_op("largest", outputs="values[rows,k] indices:int64[rows,k]", inputs="x[rows,cols]", dims="rows cols k", rate=0.3,
    elements="rows cols", shared="rows", rule=_largest_rule)  # fmt: skip
# y = x / divisor: a size, which may depend on the batch
_op("divide_by", outputs="y[n]", inputs="x[n]", dims="n divisor", rate=6.0, shared="n/64")

# --- rows -----------------------------------------------------------------------------------------------
_op("softmax", outputs="y[rows,cols]", inputs="x[rows,cols]", dims="rows cols", rate=1.5, shared="rows")
_op("softmax_grad", outputs="dx[rows,cols]", inputs="dy[rows,cols] y[rows,cols]", dims="rows cols", rate=6.0,
    shared="rows")  # fmt: skip
_op("log_softmax", outputs="y[rows,cols]", inputs="x[rows,cols]", dims="rows cols", rate=1.5, shared="rows")
_op("log_softmax_grad", outputs="dx[rows,cols]", inputs="dy[rows,cols] y[rows,cols]", dims="rows cols", rate=1.5,
    shared="rows")  # fmt: skip

# y = 1 in the column of each row's number, 0 elsewhere; a number that is no column gives zeros
_op("one_hot", outputs="y[rows,cols]", inputs="index:int64[rows]", dims="rows cols", rate=10.0, shared="rows")

# --- attention ------------------------------------------------------------------------------------------
# In every sample and head: scores = scale q k^T + mask, minus infinity after a query's own place if `causal`; then
# y = dropout(softmax(scores)) v. `heads / kv_heads` neighbouring heads share keys and values. A query without any key
# gives zeros. The mask of (sample, head, query, key) is the element of these strides, 1 along keys; a size of 0 says
# that there is none. The random word of (sample, head, key, query) has the number ((sample heads + head) keys + key) n
# + query, where n is the number of queries, rounded up to 64.
_ATTENTION = "batch queries keys heads kv_heads size causal? node? mask_size? mask_sample? mask_head? mask_query?"
_QUERIES, _KEYS = "[batch,queries,heads,size]", "[batch,keys,kv_heads,size]"
# lse = log(sum(exp(scores))) in every row, 0 in one without keys
_op("attention", outputs=f"y{_QUERIES} lse?[batch,heads,queries]",
    inputs=f"q{_QUERIES} k{_KEYS} v{_KEYS} mask?[mask_size]", dims=_ATTENTION, params="scale rate",
    multiply_adds="batch heads queries keys size", shared="batch heads queries", rule=_attention_rule)  # fmt: skip
# what its gradient needs besides q, k, v and dy, one after the other: lse, the sum of dy y of each row, the mask
_op("attention_rows", outputs="rows[rows_size]", inputs=f"dy{_QUERIES} y{_QUERIES} lse[batch,heads,queries] "
    "mask?[mask_size]", dims="batch queries heads size mask_size? rows_size", rate=10.0,
    elements="batch queries heads size", shared="batch queries/16")  # fmt: skip
_op("attention_grad", outputs=f"dq{_QUERIES} dk{_KEYS} dv{_KEYS}",
    inputs=f"dy{_QUERIES} q{_QUERIES} k{_KEYS} v{_KEYS} rows[rows_size]", dims=f"{_ATTENTION} rows_size",
    params="scale rate", multiply_adds="batch heads queries keys size", shared="batch kv_heads",
    rule=_attention_rule)  # fmt: skip

# --- norms ----------------------------------------------------------------------------------------------
# means are float64: at a large offset the rounding error of float32 may be as large as the deviation
_op("layer_norm", outputs="y[rows,cols] mean:float64[rows] rstd[rows]", inputs="x[rows,cols] gamma?[cols] beta?[cols]",
    dims="rows cols", params="epsilon", rate=5.0, shared="rows")  # fmt: skip
_op("layer_norm_grad", outputs="dx[rows,cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[rows] rstd[rows]", dims="rows cols", rate=5.0,
    shared="rows")  # fmt: skip
_op("layer_norm_param_grad", outputs="dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] mean:float64[rows] rstd[rows]", dims="rows cols", rate=8.0,
    shared="cols/64")  # fmt: skip
_op("rms_norm", outputs="y[rows,cols] rstd[rows]", inputs="x[rows,cols] gamma?[cols]", dims="rows cols",
    params="epsilon", rate=8.0, shared="rows")  # fmt: skip
_op("rms_norm_grad", outputs="dx[rows,cols]", inputs="dy[rows,cols] x[rows,cols] gamma?[cols] rstd[rows]",
    dims="rows cols", rate=6.0, shared="rows")  # fmt: skip
_op("rms_norm_param_grad", outputs="dgamma[cols]", inputs="dy[rows,cols] x[rows,cols] rstd[rows]", dims="rows cols",
    rate=10.0, shared="cols/64")  # fmt: skip
# columns are normalised over the rows; with RECTIFY relu follows, and if `high` is not 0, y is not above it
_op("batch_norm", outputs="y[rows,cols] mean:float64[cols] rstd[cols]",
    updates="moving_mean[cols] moving_variance[cols]", inputs="x[rows,cols] gamma?[cols] beta?[cols]",
    dims="rows cols", params="epsilon momentum high", rate=4.0, shared="cols/64")  # fmt: skip
_op("batch_norm_grad", outputs="dx?[rows,cols] dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols]", dims="rows cols", rate=4.0,
    shared="cols/64")  # fmt: skip
_op("batch_norm_inference", outputs="y[rows,cols] mean:float64[cols] rstd[cols]",
    inputs="x[rows,cols] gamma?[cols] beta?[cols] moving_mean[cols] moving_variance[cols]", dims="rows cols",
    params="epsilon high", rate=8.0, shared="rows cols/4096")  # fmt: skip
_op("batch_norm_inference_grad", outputs="dx?[rows,cols] dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols]", dims="rows cols", rate=4.0,
    shared="cols/64")  # fmt: skip
# The same for tables of many rows, which are summed in chunks: chunk i begins at row `rows * i / chunks`, rounded down.
# Of each chunk there are the means of the columns, and the sums of the squared distances from them; of gradients the
# sums of dy xhat, and of dy. `means` are those of the whole table. What is added is so before relu.
_op("column_moments", outputs="moments:float64[chunks,2,cols]", inputs="x[rows,cols]", dims="rows cols chunks",
    rate=5.0, elements="rows cols", shared="chunks", rule=_chunks_rule)  # fmt: skip
_op("batch_statistics", outputs="mean:float64[cols] rstd[cols]", updates="moving_mean[cols] moving_variance[cols]",
    inputs="x[rows,cols] moments:float64[chunks,2,cols]", dims="rows cols chunks", params="epsilon momentum",
    rate=1.0, elements="chunks cols", shared="cols/64", rule=_chunks_rule)  # fmt: skip
_op("normalize_columns", outputs="y[rows,cols]",
    inputs="x[rows,cols] gamma?[cols] beta?[cols] mean:float64[cols] rstd[cols] added?[rows,cols]", dims="rows cols",
    params="epsilon high", rate=8.0, shared="rows/64")  # fmt: skip
_op("column_products", outputs="products:float64[chunks,2,cols]",
    inputs="dy[rows,cols] x[rows,cols] mean:float64[cols] rstd[cols]", dims="rows cols chunks", rate=4.0,
    elements="rows cols", shared="chunks", rule=_chunks_rule)  # fmt: skip
_op("add_products", outputs="means:float64[2,cols] dgamma?[cols] dbeta?[cols]",
    inputs="products:float64[chunks,2,cols]", dims="rows cols chunks", rate=1.0, elements="chunks cols",
    shared="cols/64", rule=_chunks_rule)  # fmt: skip
# without `means` the statistics do not depend on x
_op("normalize_columns_grad", outputs="dx[rows,cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols] means?:float64[2,cols]",
    dims="rows cols", rate=4.0, shared="rows/64")  # fmt: skip

# --- losses ---------------------------------------------------------------------------------------------
# row_loss is not weighted; dx is the gradient of scale * sum_i(weight_i * row_loss_i); a sample has
# `per_sample` rows, which share its weight
_LOSS = "rows cols per_sample samples"
_op("loss", outputs="row_loss[rows] dx?[rows,cols]", inputs="x[rows,cols] target[rows,cols] weight?[samples]",
    dims=_LOSS, params="scale row_factor a b", per_row="scale", variants="loss formula", rate=6.0,
    shared="rows")  # fmt: skip
_op("cross_entropy", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target[rows,cols] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing", per_row="scale", rate=1.2, shared="rows")  # fmt: skip
_op("cross_entropy_labels", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target:int64[rows] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing", per_row="scale", rate=1.2, shared="rows")  # fmt: skip
_op("cross_entropy_logits", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target[rows,cols] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing", per_row="scale", rate=1.0, shared="rows")  # fmt: skip
_op("cross_entropy_logits_labels", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target:int64[rows] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing", per_row="scale", rate=1.0, shared="rows")  # fmt: skip
_op("sum_loss", updates="total:float64[2]", inputs="row_loss[rows] weight?[samples]", dims="rows per_sample samples")
# total += [weighted sum of the rows' losses, sum of the rows' weights]
_op("sum_loss_by_weight", updates="total:float64[2]", inputs="row_loss[rows] weight[samples]",
    dims="rows per_sample samples")  # fmt: skip
# y = weight * rows / (sum of the rows' weights), whose mean is 1; zeros where the sum is 0
_op("normalize_weights", outputs="y[samples]", inputs="weight[samples]", dims="rows per_sample samples")
# total[0] += batch * (l1 sum|w| + l2 sum w^2); dw += its gradient
_op("penalty", updates="total:float64[1] dw?[n]", inputs="w[n]", dims="n batch", params="l1 l2", rate=6.0,
    shared="n/64")  # fmt: skip

# --- metrics: streaming float64 accumulators -------------------------------------------------------------
_METRIC = "rows cols per_sample samples size"
_TARGETS = "target?[rows,cols] labels?:int64[rows] weight?[samples]"
_op("count_correct", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=_metric_rule(lambda dims: 2))  # fmt: skip
_op("top_k", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} k",
    rule=_metric_rule(lambda dims: 2))  # fmt: skip
_op("confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=_metric_rule(_cells))  # fmt: skip
_op("label_confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=_metric_rule(lambda dims: 6 * dims["cols"]))  # fmt: skip
_op("auc_histogram", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} bins",
    rule=_metric_rule(lambda dims: 2 * dims["bins"]))  # fmt: skip
_op("regression_sums", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    rule=_metric_rule(lambda dims: 10 * dims["cols"], labels=False))  # fmt: skip

# --- optimizer ------------------------------------------------------------------------------------------
_op("clip_by_value", updates="g[n]", dims="n", params="limit", rate=12.0, shared="n/64", update=True)
_op("sum_squares", outputs="total:float64[1]", inputs="x[n]", dims="n", update=True)
_op("clip_by_norm", updates="g[n]", inputs="total:float64[1]", dims="n", params="limit", rate=12.0, shared="n/64",
    update=True)  # fmt: skip
# total += g, but in the last of `steps` steps: g = (total + g) / steps, and total = 0
_op("accumulate", updates="g[n] total[n]", dims="n steps", rate=6.0, shared="n/64", update=True)
# does nothing but in the last of `accumulated` steps; 0 says every step
_op("optimizer", updates="p[n] s0?[n] s1?[n] s2?[n]", inputs="g[n] hyper:float64[8]", dims="n accumulated?",
    variants="optimizer formula", rate=3.5, shared="n/64", update=True)  # fmt: skip
# mean = momentum * mean + (1 - momentum) * p, but mean = p in the first `steps` steps and where mean is NaN, which says
# that there is none yet; then p = mean in every `overwrite`-th stretch of `steps` steps, never where that is 0
_op("moving_average", updates="mean[n] p[n]", dims="n steps overwrite?", params="momentum", rate=6.0, shared="n/64",
    update=True)  # fmt: skip
# columns of w, seen as (outer, size, inner), are scaled down to an L2 norm over `size` of at most `limit`
_op("max_norm", updates="w[outer,size,inner]", dims="outer size inner", params="limit", rate=2.0,
    shared="outer inner", update=True)  # fmt: skip

# --- user-defined functions, row by row ------------------------------------------------------------------
_op("row_function", outputs="y[rows,units]", inputs="x[rows,cols] w?[size]", dims="rows cols units size",
    variants="user's function")  # fmt: skip
_op("row_function_grad", outputs="dx[rows,cols] dw?[size]", inputs="dy[rows,units] x[rows,cols] w?[size]",
    dims="rows cols units size", variants="user's function")  # fmt: skip


OPS: Mapping[str, Op] = TABLE.ops
