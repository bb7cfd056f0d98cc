"""The table of record ops: their inputs and outputs, with shapes as names of dimensions.

This is the one definition that the lowering, the verifier, the disassembly, the reference backend and the
kernels share. An operand is written `name[dim,dim]`; `name?` may be absent; `name:int64` or `name:float64` has
that dtype instead of the program's own (`real`), and `name:any` is described by the record's variant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from fastnn.program.layout import (
    DIMS_AT,
    MAX_DIMS,
    MAX_OPERANDS,
    MAX_PARAMS,
    OPERANDS_AT,
    PARAMS_AT,
)


@dataclass(frozen=True)
class Operand:
    """One operand of an op: its access ("write", "update" or "read"), kind and shape by dimension names."""

    name: str
    access: str
    kind: str
    shape: tuple[str | int, ...]
    optional: bool


@dataclass(frozen=True)
class Op:
    """A record op: its number, operands (outputs, updates, inputs), dimensions and float64 parameters."""

    code: int
    name: str
    operands: tuple[Operand, ...]
    dims: tuple[str, ...]
    params: tuple[str, ...]
    variants: str

    def word(self, name: str) -> int:
        """Return the record word that holds the operand, dimension or parameter of this name."""
        return self._words[name]

    @cached_property
    def _words(self) -> dict[str, int]:
        # operands come before dimensions of the same name, and these before parameters
        found = {name: PARAMS_AT + index for index, name in enumerate(self.params)}
        found |= {name: DIMS_AT + index for index, name in enumerate(self.dims)}
        return found | {operand.name: OPERANDS_AT + index for index, operand in enumerate(self.operands)}

    def words(self, *names: str) -> tuple[int, ...]:
        """Return the record words of several names: what a kernel binds before it is compiled."""
        return tuple(self.word(name) for name in names)


OPS: dict[str, Op] = {}
_OPERAND = re.compile(r"(\w+)(\?)?(?::(\w+))?\[([\w,]*)\]")


def _operands(text: str, access: str) -> tuple[Operand, ...]:
    found = []
    for word in text.split():
        match = _OPERAND.fullmatch(word)
        if match is None:
            raise ValueError(f"operand {word!r} is not of the form name[dim,dim]")
        name, optional, kind, shape = match.groups()
        sizes = tuple(int(size) if size.isdigit() else size for size in shape.split(",") if size)
        found.append(Operand(name, access, kind or "real", sizes, bool(optional)))
    return tuple(found)


def _op(
    name: str,
    *,
    outputs: str = "",
    updates: str = "",
    inputs: str = "",
    dims: str = "",
    params: str = "",
    variants: str = "",
) -> None:
    operands = _operands(outputs, "write") + _operands(updates, "update") + _operands(inputs, "read")
    op = Op(len(OPS), name, operands, tuple(dims.split()), tuple(params.split()), variants)
    names = [operand.name for operand in operands] + list(op.dims) + list(op.params)
    if len(set(names)) != len(names):
        raise ValueError(f"op {name!r} names something twice: {names}")
    if len(operands) > MAX_OPERANDS or len(op.dims) > MAX_DIMS or len(op.params) > MAX_PARAMS:
        raise ValueError(f"op {name!r} does not fit into a record")
    for operand in operands:
        for size in operand.shape:
            if isinstance(size, str) and size not in op.dims:
                raise ValueError(f"op {name!r}: operand {operand.name!r} has an unknown dimension {size!r}")
    OPS[name] = op


# --- data -----------------------------------------------------------------------------------------------
# rows `index[cursor + i]` (or `cursor + i`) of a strided source become rows of a contiguous batch;
# size0 = 0 says that a source row is contiguous, otherwise it has shape (size0, size1, size2)
_GATHER = "rows size row_stride size0 size1 size2 stride0 stride1 stride2"
_op(
    "gather",
    outputs="batch[rows,size]",
    inputs="source:any[] index?:any[]",
    dims=_GATHER,
    variants="source dtype",
)
_op("gather_labels", outputs="batch:int64[rows,size]", inputs="source:any[] index?:any[]", dims=_GATHER,
    variants="source dtype")  # fmt: skip
_op("store", outputs="target:any[]", inputs="x[rows,size]", dims="rows size")
_op("tick", dims="rows")

# --- dense ----------------------------------------------------------------------------------------------
# c (+)= op(a) @ op(b) + bias; `pre` keeps the value before a mapped activation, `saved` feeds its gradient
_op("matmul", outputs="c[m,n] pre?[m,n]", inputs="a[m,k] b[k,n] bias?[n] saved?[m,n]", dims="m n k",
    params="p0 p1", variants="mapped activation")  # fmt: skip
_op("bias_add", outputs="y[rows,cols]", inputs="x[rows,cols] bias[cols]", dims="rows cols")
_op("sum_rows", outputs="y[cols]", inputs="x[rows,cols]", dims="rows cols")

# --- elementwise ----------------------------------------------------------------------------------------
_op("activation", outputs="y[n]", inputs="x[n]", dims="n", params="p0 p1", variants="activation")
_op(
    "activation_grad",
    outputs="dx[n]",
    inputs="dy[n] saved[n]",
    dims="n",
    params="p0 p1",
    variants="activation",
)
_op("add", outputs="y[n]", inputs="a[n] b[n]", dims="n")
_op("multiply", outputs="y[n]", inputs="a[n] b[n]", dims="n")
_op("dropout", outputs="y[n]", inputs="x[n]", dims="n node", params="rate")
_op("gaussian_noise", outputs="y[n]", inputs="x[n]", dims="n node", params="stddev")
# columns [source_first, source_first + cols) of x become columns [target_first, ...) of y
_op("copy_columns", outputs="y[rows,target_cols]", inputs="x[rows,source_cols]",
    dims="rows cols target_cols target_first source_cols source_first")  # fmt: skip

# y = 1 in the column of each row's number, 0 elsewhere; a number that is no column gives zeros
_op("one_hot", outputs="y[rows,cols]", inputs="index:int64[rows]", dims="rows cols")

# --- rows -----------------------------------------------------------------------------------------------
_op("softmax", outputs="y[rows,cols]", inputs="x[rows,cols]", dims="rows cols")
_op("softmax_grad", outputs="dx[rows,cols]", inputs="dy[rows,cols] y[rows,cols]", dims="rows cols")
_op("log_softmax", outputs="y[rows,cols]", inputs="x[rows,cols]", dims="rows cols")
_op("log_softmax_grad", outputs="dx[rows,cols]", inputs="dy[rows,cols] y[rows,cols]", dims="rows cols")
# means are float64: at a large offset the rounding error of float32 may be as large as the deviation
_op("layer_norm", outputs="y[rows,cols] mean:float64[rows] rstd[rows]", inputs="x[rows,cols] gamma?[cols] beta?[cols]",
    dims="rows cols", params="epsilon")  # fmt: skip
_op("layer_norm_grad", outputs="dx[rows,cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[rows] rstd[rows]", dims="rows cols")  # fmt: skip
_op("layer_norm_param_grad", outputs="dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] mean:float64[rows] rstd[rows]", dims="rows cols")  # fmt: skip
_op("batch_norm", outputs="y[rows,cols] mean:float64[cols] rstd[cols]",
    updates="moving_mean[cols] moving_variance[cols]", inputs="x[rows,cols] gamma?[cols] beta?[cols]",
    dims="rows cols", params="epsilon momentum")  # fmt: skip
_op("batch_norm_grad", outputs="dx?[rows,cols] dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols]", dims="rows cols")  # fmt: skip
_op("batch_norm_inference", outputs="y[rows,cols] mean:float64[cols] rstd[cols]",
    inputs="x[rows,cols] gamma?[cols] beta?[cols] moving_mean[cols] moving_variance[cols]", dims="rows cols",
    params="epsilon")  # fmt: skip
_op("batch_norm_inference_grad", outputs="dx?[rows,cols] dgamma?[cols] dbeta?[cols]",
    inputs="dy[rows,cols] x[rows,cols] gamma?[cols] mean:float64[cols] rstd[cols]", dims="rows cols")  # fmt: skip

# --- losses ---------------------------------------------------------------------------------------------
# row_loss is not weighted; dx is the gradient of scale * sum_i(weight_i * row_loss_i); a sample has
# `per_sample` rows, which share its weight
_LOSS = "rows cols per_sample samples"
_op("loss", outputs="row_loss[rows] dx?[rows,cols]", inputs="x[rows,cols] target[rows,cols] weight?[samples]",
    dims=_LOSS, params="scale row_factor a b", variants="loss formula")  # fmt: skip
_op("cross_entropy", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target[rows,cols] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing")  # fmt: skip
_op("cross_entropy_labels", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target:int64[rows] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing")  # fmt: skip
_op("cross_entropy_logits", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target[rows,cols] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing")  # fmt: skip
_op("cross_entropy_logits_labels", outputs="row_loss[rows] dx?[rows,cols]",
    inputs="x[rows,cols] target:int64[rows] weight?[samples]", dims=_LOSS,
    params="scale label_smoothing")  # fmt: skip
_op(
    "sum_loss",
    updates="total:float64[2]",
    inputs="row_loss[rows] weight?[samples]",
    dims="rows per_sample samples",
)
# total += [weighted sum of the rows' losses, sum of the rows' weights]
_op(
    "sum_loss_by_weight",
    updates="total:float64[2]",
    inputs="row_loss[rows] weight[samples]",
    dims="rows per_sample samples",
)
# y = weight * samples / sum(weight), whose mean is 1; zeros where the sum is 0
_op("normalize_weights", outputs="y[samples]", inputs="weight[samples]", dims="samples")
# total[0] += batch * (l1 sum|w| + l2 sum w^2); dw += its gradient
_op("penalty", updates="total:float64[1] dw?[n]", inputs="w[n]", dims="n batch", params="l1 l2")

# --- metrics: streaming float64 accumulators -------------------------------------------------------------
_METRIC = "rows cols per_sample samples size"
_TARGETS = "target?[rows,cols] labels?:int64[rows] weight?[samples]"
_op("count_correct", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold")  # fmt: skip
_op("top_k", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} k")
_op("confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold")  # fmt: skip
_op("label_confusion", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC,
    params="threshold")  # fmt: skip
_op("auc_histogram", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=f"{_METRIC} bins")
_op("regression_sums", updates="total:float64[size]", inputs=f"x[rows,cols] {_TARGETS}", dims=_METRIC)

# --- optimizer ------------------------------------------------------------------------------------------
_op("clip_by_value", updates="g[n]", dims="n", params="limit")
_op("sum_squares", outputs="total:float64[1]", inputs="x[n]", dims="n")
_op("clip_by_norm", updates="g[n]", inputs="total:float64[1]", dims="n", params="limit")
# total += g, but in the last of `steps` steps: g = (total + g) / steps, and total = 0
_op("accumulate", updates="g[n] total[n]", dims="n steps")
# does nothing but in the last of `accumulated` steps; 0 says every step
_op("optimizer", updates="p[n] s0?[n] s1?[n] s2?[n]", inputs="g[n] hyper:float64[8]", dims="n accumulated",
    variants="optimizer formula")  # fmt: skip
# mean = momentum * mean + (1 - momentum) * p, but mean = p in the first `steps` steps and where mean is NaN, which says
# that there is none yet; then p = mean in every `overwrite`-th stretch of `steps` steps, never where that is 0
_op("moving_average", updates="mean[n] p[n]", dims="n steps overwrite", params="momentum")
# columns of w, seen as (outer, size, inner), are scaled down to an L2 norm over `size` of at most `limit`
_op("max_norm", updates="w[outer,size,inner]", dims="outer size inner", params="limit")

# --- user-defined functions, row by row ----------------------------------------------------------------------
_op("row_function", outputs="y[rows,units]", inputs="x[rows,cols] w?[size]", dims="rows cols units size",
    variants="user's function")  # fmt: skip
_op("row_function_grad", outputs="dx[rows,cols] dw?[size]", inputs="dy[rows,units] x[rows,cols] w?[size]",
    dims="rows cols units size", variants="user's function")  # fmt: skip

BY_CODE: tuple[Op, ...] = tuple(OPS.values())
