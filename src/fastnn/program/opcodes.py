"""The table of record ops: everything that the other rooms have to know about an op.

This is the one definition that the lowering, the verifier, the disassembly, the reference backend, the sharing of work
among threads and the kernels share: operands with shapes as names of dimensions, the time that an op takes, how threads
share it, and what its kernel assumes. `op` describes the notation. The sizes of records follow from it (`layout`).
"""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.program.op import Op, Table
from fastnn.program.op_rules import (
    attention_rule,
    attention_step_rule,
    batched_rule,
    cells,
    chunks_rule,
    convolution_rule,
    copy_rule,
    gather_rule,
    largest_rule,
    matmul_rule,
    metric_rule,
    place_rule,
    pointwise_rule,
    pooling_rule,
    recurrence_rule,
    scan_rule,
    stack_rule,
    strided_rule,
    take_rule,
)

TABLE = Table()
_op = TABLE.define

# Rates are elements of float32 per nanosecond: the fastest variant in common use, measured on 256 x 256 elements with
# AVX2 at 3.5 GHz, rounded up.

# --- data -----------------------------------------------------------------------------------------------
# rows `index[cursor + i]` (or `cursor + i`) of a strided source become rows of a contiguous batch;
# size0 = 0 says that a source row is contiguous, otherwise it has shape (size0, size1, size2)
_GATHER = "rows size row_stride~ size0? size1? size2? stride0~ stride1~ stride2~"
_op("gather", outputs="batch[rows,size]", inputs="source:any[] index?:any[]", dims=_GATHER, variants="source dtype",
    rate=6.0, shared="rows", rule=gather_rule)  # fmt: skip
_op("gather_labels", outputs="batch:int64[rows,size]", inputs="source:any[] index?:any[]", dims=_GATHER,
    variants="source dtype", rate=4.0, shared="rows", rule=gather_rule)  # fmt: skip
_op("store", outputs="target:any[]", inputs="x[rows,size]", dims="rows size", rate=10.0, shared="rows")
_op("tick", dims="rows", update=True)

# --- dense ----------------------------------------------------------------------------------------------
# c (+)= op(a) @ op(b) + bias; `pre` keeps the value before a mapped activation, `saved` feeds its gradient
_op("matmul", outputs="c[m,n] pre?[m,n]", inputs="a[m,k] b[k,n] bias?[n] saved?[m,n]", dims="m n k",
    params="p0 p1", variants="mapped activation", maps="flags", multiply_adds="m n k", shared="tiles",
    rule=matmul_rule)  # fmt: skip
# In every sample `count` matrices c = scale op(a) op(b), in groups of `inner`. The first begins at the element `first`
# of a sample, and others `between` elements after each other, with rows that are `row` elements apart. An operand has
# one matrix for each, or, by a flag, one for each group (REPEAT) or one for each matrix of a group (CYCLE). The first
# dimensions are those of `matmul`: codes choose algorithms of both by the same words.
_op("batched_matmul", outputs="c[samples,count,m,n]", inputs="a[samples,a_size] b[samples,b_size]",
    dims="m n k samples count inner a_size a_first? a_between a_row b_size b_first? b_between b_row c_between c_row",
    params="scale", multiply_adds="samples count m n k", shared="samples count m",
    rule=batched_rule)  # fmt: skip
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
    rule=convolution_rule)  # fmt: skip
# its gradient for x, with relu's applied to it; and the transposed convolution
_op("conv_back", outputs=f"dx{_MAPS}", inputs=f"dy{_PLACES} w[weights] bias?[channels] saved?{_MAPS}", dims=_CONV,
    params="p0 p1", variants="mapped activation", maps="flags", multiply_adds=_ADDS, shared="batch depth height",
    rule=convolution_rule)  # fmt: skip
# its gradient for w, in `chunks` sums over slices of the batch; a chunk without samples is not written
_op("conv_weights", outputs="dw[chunks,weights]", inputs=f"x{_MAPS} dy{_PLACES}", dims=f"{_CONV} chunks",
    multiply_adds=_ADDS, shared="chunks", rule=convolution_rule)  # fmt: skip
_op("sum_chunks", outputs="y[n]", inputs="x[chunks,n]", dims="batch chunks n", rate=10.0, shared="n/64")

_POOL = "batch depth height width channels out_depth rows cols window stride dilation padding?"
_POOLED = "[batch,out_depth,rows,cols,channels]"
# the maximum or the average of the places of a window that lie within the maps, of which there has to be one
_op("pool", outputs=f"y{_POOLED}", inputs=f"x{_MAPS}", dims=_POOL, variants="reduction", rate=4.0,
    shared="batch out_depth rows", rule=pooling_rule)  # fmt: skip
# the first maximum of a window has its gradient; with RECTIFY only if it is positive
_op("max_pool_grad", outputs=f"dx{_MAPS}", inputs=f"dy{_POOLED} x{_MAPS} y{_POOLED}", dims=_POOL, rate=3.0,
    shared="batch", rule=pooling_rule)  # fmt: skip
_op("average_pool_grad", outputs=f"dx{_MAPS}", inputs=f"dy{_POOLED}", dims=_POOL, rate=4.0, shared="batch",
    rule=pooling_rule)  # fmt: skip

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
    elementwise=True, rule=pointwise_rule)  # fmt: skip
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
    shared="rows cols/64", rule=copy_rule)  # fmt: skip
# element j of row ((i0 n1 + i1) n2 + ...) n4 + i4 of y is the element first + i0 stride0 + ... + i4 stride4 + j stride
# of x: transpositions, slices with steps, flips, and the same elements again and again (strides of 0)
_VIEW = "rows cols n1 n2 n3 n4 stride0~ stride1~ stride2~ stride3~ stride4~ stride~ first? size"
_op("strided", outputs="y[rows,cols]", inputs="x[size]", dims=_VIEW, rate=2.0, elements="rows cols",
    shared="rows cols/64", rule=strided_rule)  # fmt: skip
_op("strided_integers", outputs="y:int64[rows,cols]", inputs="x:int64[size]", dims=_VIEW, rate=2.0,
    elements="rows cols", shared="rows cols/64", rule=strided_rule)  # fmt: skip
# entries first, first + step, ... of the middle axis of y are those of x; the others are filled
_op("place", outputs="y[outer,size,inner]", inputs="x[outer,count,inner]", dims="outer count inner size first? step~",
    params="fill", rate=10.0, elements="outer size inner", shared="outer size", rule=place_rule)  # fmt: skip
# entry number `index` of the middle axis of x, from its end if the number is negative, NaN if there is none; the number
# of (o, m, i) is at the place o index_outer + m index_count + i index_inner
_TAKE = "outer count inner size index_outer? index_count? index_inner? indices"
_op("take", outputs="y[outer,count,inner]", inputs="x[outer,size,inner] index:int64[indices]", dims=_TAKE, rate=2.0,
    elements="outer count inner", shared="outer count", rule=take_rule)  # fmt: skip
# its gradient: x is added to the entries that it would be taken from, one after the other; numbers of none are skipped
_op("scatter_add", outputs="y[outer,size,inner]", inputs="x[outer,count,inner] index:int64[indices]", dims=_TAKE,
    rate=1.0, elements="outer count inner", shared="outer size", rule=take_rule)  # fmt: skip

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
    rule=recurrence_rule)  # fmt: skip
# the k largest of a row and their places, in falling order; of equal ones the first comes first, NaN is the largest
_op("largest", outputs="values[rows,k] indices:int64[rows,k]", inputs="x[rows,cols]", dims="rows cols k", rate=0.3,
    elements="rows cols", shared="rows", rule=largest_rule)  # fmt: skip
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

# --- recurrent layers -------------------------------------------------------------------------------------
# All time steps of a batch. `z` are the products of the inputs with their kernel, and the bias; `w` is the recurrent
# kernel, with the columns of the gates as Keras has them. `start` holds `states` initial states of a sample, and the
# factors of recurrent dropout if it has one array more. Where `mask` is 0, states are carried on; where it is negative,
# they are zero before the step. `reverse` goes from the last step to the first. The gradient needs the activated
# `gates`, which may lie where `z` was, and what is `kept`: the states before each step, of the first of them what is
# multiplied by `w`. A parameter `a` is that of the activation function, `ra` that of the gates'.
_SCAN = "batch steps units wide starts? states? reverse?"
_STEPS = "[batch,steps,units]"
_START = "start?[batch,starts,units] mask?[batch,steps]"
_GATES = "z[batch,steps,wide] w[units,wide]"
_ACTIVATED = "gates?=z[batch,steps,wide]"
_op("simple_rnn", outputs=f"y?{_STEPS} last?[batch,units] {_ACTIVATED} kept?{_STEPS}", inputs=f"{_GATES} {_START}",
    dims=_SCAN, params="a", variants="activation", multiply_adds="batch steps units wide", shared="batch",
    rule=scan_rule(1, 1))  # fmt: skip
# z, r, h; of what is kept the state before each step comes last, if dropout makes it another than what is multiplied;
# with `after` r is a factor of the product of the state, which has a second bias then, else of the state
_op("gru", outputs=f"y?{_STEPS} last?[batch,units] {_ACTIVATED} kept?[batch,steps,slots,units]",
    inputs=f"{_GATES} bias?[biases,wide] {_START}", dims=f"{_SCAN} slots after? biases?", params="a ra",
    variants="activations", multiply_adds="batch steps units wide", shared="batch", rule=scan_rule(3, 1))  # fmt: skip
# i, f, c, o; `cell` is the last state of the cells
_op("lstm", outputs=f"y?{_STEPS} last?[batch,units] cell?[batch,units] {_ACTIVATED} kept?[batch,steps,2,units]",
    inputs=f"{_GATES} {_START}", dims=_SCAN, params="a ra", variants="activations",
    multiply_adds="batch steps units wide", shared="batch", rule=scan_rule(4, 2))  # fmt: skip
# `dz` is zero where the mask is; `dlast` is the gradient of the last state, and of the last cells if there is one
_SCAN_GRAD = f"dy?{_STEPS} dlast?[batch,ends,units] gates[batch,steps,wide]"
_op("simple_rnn_grad", outputs="dz=gates[batch,steps,wide] dstart?[batch,states,units]",
    inputs=f"{_SCAN_GRAD} w[units,wide] {_START}", dims=f"{_SCAN} ends?", params="a",
    variants="activation", multiply_adds="batch steps units wide", shared="batch", rule=scan_rule(1, 1))  # fmt: skip
# the gradients of the product of the state with the columns of h, of z, of r, and of the inputs' with those of h
_op("gru_grad", outputs="dz[batch,steps,4,units] dstart?[batch,states,units]",
    inputs=f"{_SCAN_GRAD} kept[batch,steps,slots,units] w[units,wide] {_START}", dims=f"{_SCAN} slots ends? after?",
    params="a ra", variants="activations", multiply_adds="batch steps units wide", shared="batch",
    rule=scan_rule(3, 1))  # fmt: skip
_op("lstm_grad", outputs="dz=gates[batch,steps,wide] dstart?[batch,states,units]",
    inputs=f"{_SCAN_GRAD} kept[batch,steps,2,units] w[units,wide] {_START}", dims=f"{_SCAN} ends?",
    params="a ra", variants="activations", multiply_adds="batch steps units wide", shared="batch",
    rule=scan_rule(4, 2))  # fmt: skip

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
    multiply_adds="batch heads queries keys size", shared="batch heads queries", rule=attention_rule)  # fmt: skip
# what its gradient needs besides q, k, v and dy, one after the other: lse, the sum of dy y of each row, the mask
_op("attention_rows", outputs="rows[rows_size]", inputs=f"dy{_QUERIES} y{_QUERIES} lse[batch,heads,queries] "
    "mask?[mask_size]", dims="batch queries heads size mask_size? rows_size", rate=10.0,
    elements="batch queries heads size", shared="batch queries/16")  # fmt: skip
_op("attention_grad", outputs=f"dq{_QUERIES} dk{_KEYS} dv{_KEYS}",
    inputs=f"dy{_QUERIES} q{_QUERIES} k{_KEYS} v{_KEYS} rows[rows_size]", dims=f"{_ATTENTION} rows_size",
    params="scale rate", multiply_adds="batch heads queries keys size", shared="batch kv_heads",
    rule=attention_rule)  # fmt: skip

# One step of causal attention, or `steps` of them, one after the other: keys and values of the steps so far are in
# the caller's rows `keys` and `values`, one a sequence. Element 0 of a row of `keys` is the number of steps so far,
# which is left as it is. From the element `first` on are for each head the keys, transposed, (size, most), or the
# values, (most, size); those of these steps are appended.
_NEW = "[sequences,steps,kv_heads,size]"
_op("attention_step", outputs="y[sequences,steps,heads,size]", updates="keys[sequences,row] values[sequences,row]",
    inputs=f"q[sequences,steps,heads,size] k{_NEW} v{_NEW}",
    dims="sequences steps heads kv_heads size most row first", params="scale", rate=8.0,
    elements="sequences steps heads most size", shared="sequences kv_heads", keeps_state=True,
    rule=attention_step_rule)  # fmt: skip

# --- positions ------------------------------------------------------------------------------------------
# cosines and sines of the angles position scale exp(-i decay), i = 0, ..., half - 1, in float64 and then rounded;
# without an operand the position of a row is its number
_op("angles", outputs="y[rows,2,half]", inputs="position?:int64[rows]", dims="rows half", params="scale decay",
    rate=0.1, shared="rows")  # fmt: skip
# pairs (a, b), a half apart, become (a cos - b sin, b cos + a sin); `inverse` has the other sign of the sine
_op("rotate", outputs="y[outer,rows,heads,2,half]", inputs="x[outer,rows,heads,2,half] angles[rows,2,half]",
    dims="outer rows heads half inverse?", rate=4.0, shared="outer rows")  # fmt: skip

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
    rate=5.0, elements="rows cols", shared="chunks", rule=chunks_rule)  # fmt: skip
_op("batch_statistics", outputs="mean:float64[cols] rstd[cols]", updates="moving_mean[cols] moving_variance[cols]",
    inputs="x[rows,cols] moments:float64[chunks,2,cols]", dims="rows cols chunks", params="epsilon momentum",
    rate=1.0, elements="chunks cols", shared="cols/64", rule=chunks_rule)  # fmt: skip
_op("normalize_columns", outputs="y[rows,cols]",
    inputs="x[rows,cols] gamma?[cols] beta?[cols] mean:float64[cols] rstd[cols] added?[rows,cols]", dims="rows cols",
    params="epsilon high", rate=8.0, shared="rows/64")  # fmt: skip
_op("column_products", outputs="products:float64[chunks,2,cols]",
    inputs="dy[rows,cols] x[rows,cols] mean:float64[cols] rstd[cols]", dims="rows cols chunks", rate=4.0,
    elements="rows cols", shared="chunks", rule=chunks_rule)  # fmt: skip
_op("add_products", outputs="means:float64[2,cols] dgamma?[cols] dbeta?[cols]",
    inputs="products:float64[chunks,2,cols]", dims="rows cols chunks", rate=1.0, elements="chunks cols",
    shared="cols/64", rule=chunks_rule)  # fmt: skip
# without `means` the statistics do not depend on x
_op("normalize_columns_grad", outputs="dx[rows,cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols] means?:float64[2,cols]",
    dims="rows cols", rate=4.0, shared="rows/64")  # fmt: skip

# --- losses ---------------------------------------------------------------------------------------------
# row_loss is not weighted; dx is the gradient of scale * sum_i(weight_i * row_loss_i); a sample has
# `per_sample` rows, which share its weight. Sums of elements are divided by `divisor`.
_LOSS = "rows cols per_sample samples"
_op("loss", outputs="row_loss[rows] dx?[rows,cols]", inputs="x[rows,cols] target[rows,cols] weight?[samples]",
    dims=f"{_LOSS} divisor", params="scale a b", per_row="scale", variants="loss formula", rate=6.0,
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
# total += [weighted sum of the rows' losses, number of rows]; a loss counts as no more than `most`, if that is not 0
_op("sum_loss", updates="total:float64[2]", inputs="row_loss[rows] weight?[samples]",
    dims="rows per_sample samples", params="most")  # fmt: skip
# total += [weighted sum of the rows' losses, sum of the rows' weights]
_op("sum_loss_by_weight", updates="total:float64[2]", inputs="row_loss[rows] weight[samples]",
    dims="rows per_sample samples", params="most")  # fmt: skip
# y = weight * rows / (sum of the rows' weights), whose mean is 1; zeros where the sum is 0
_op("normalize_weights", outputs="y[samples]", inputs="weight[samples]", dims="rows per_sample samples")
# y = mask * weight, and with `normalized` times rows / (sum of the mask): a mean over the rows that there are
_op("mask_weights", outputs="y[rows]", inputs="mask[rows] weight?[samples]",
    dims="rows per_sample samples normalized?")  # fmt: skip
# total[0] += batch s (l1 sum|w| + l2 sum w^2); dw += its gradient; s is 1, or the last number of the hyper row
_op("penalty", updates="total:float64[1] dw?[n]", inputs="w[n] hyper?:float64[8]", dims="n batch", params="l1 l2",
    rate=6.0, shared="n/64")  # fmt: skip

# --- metrics: streaming float64 accumulators -------------------------------------------------------------
_METRIC = "rows cols per_sample samples size"
_TARGETS = "target?[rows,cols] labels?:int64[rows] weight?[samples]"
_op("count_correct", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=metric_rule(lambda dims: 2))  # fmt: skip
_op("top_k", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} k",
    rule=metric_rule(lambda dims: 2))  # fmt: skip
_op("confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=metric_rule(cells))  # fmt: skip
_op("label_confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold", rule=metric_rule(lambda dims: 6 * dims["cols"]))  # fmt: skip
_op("auc_histogram", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} bins",
    rule=metric_rule(lambda dims: 2 * dims["bins"]))  # fmt: skip
_op("regression_sums", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    rule=metric_rule(lambda dims: 10 * dims["cols"], labels=False))  # fmt: skip

# --- optimizer ------------------------------------------------------------------------------------------
_op("clip_by_value", updates="g[n]", dims="n", params="limit", rate=12.0, shared="n/64", update=True)
_op("sum_squares", outputs="total:float64[1]", inputs="x[n]", dims="n", update=True)
_op("clip_by_norm", updates="g[n]", inputs="total:float64[1]", dims="n", params="limit", rate=12.0, shared="n/64",
    update=True)  # fmt: skip
# total += g, but in the last of `steps` steps: g = (total + g) / steps, and total = 0
_op("accumulate", updates="g[n] total[n]", dims="n steps", rate=6.0, shared="n/64", update=True)
# does nothing but in the last of `accumulated` steps; 0 says every step. `multiplier` is a factor of the learning rate.
_op("optimizer", updates="p[n] s0?[n] s1?[n] s2?[n]", inputs="g[n] hyper:float64[8]", dims="n accumulated?",
    params="multiplier", variants="optimizer formula", rate=3.5, shared="n/64", update=True)  # fmt: skip
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

# --- loops ------------------------------------------------------------------------------------------------
# the `body` records that follow run `times` times: executors do it, see `loop_rules`
_op("repeat", dims="times body")
# A window of a loop: in round t its buffer, the number `number` among those of windows, begins at the element
# first + t step of a stack of `times` arrays of `size` elements of `item` bytes, which the loop reads or writes.
_op("window", outputs="made?[times,size] made_float64?:float64[times,size] made_int64?:int64[times,size]",
    inputs="stack?[times,size] stack_float64?:float64[times,size] stack_int64?:int64[times,size]",
    dims="times size number? first? step~ item", rule=stack_rule)  # fmt: skip

OPS: Mapping[str, Op] = TABLE.ops
#: records that say which others run, and on what: executors know what they do
CONTROL = frozenset({"repeat", "window"})
