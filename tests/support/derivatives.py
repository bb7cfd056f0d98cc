"""The gradients of all record ops, for comparison with finite differences.

The record that makes the gradient of one operand from "dy", the gradient of the op's first output, and from the
op's own operands; `op` = "" says that the gradient is dy itself. `dims` are the op's by other names, numbers,
or functions of the op's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastnn.program.layout import Flag


@dataclass(frozen=True)
class Derivative:
    """The gradient of operand `wrt`: output `output` of a record `op`."""

    wrt: str
    op: str = ""
    output: str = ""
    operands: Mapping[str, str] = field(default_factory=dict)
    flags: Flag = field(default=Flag(0))
    dims: Mapping[str, str | int | Callable[[Mapping[str, int]], int]] = field(default_factory=dict)
    variant: str = ""

    def size(self, name: str, dims: Mapping[str, int]) -> int:
        """Return a dimension of the gradient's record, by those of the op's."""
        found = self.dims.get(name, name)
        if callable(found):
            return found(dims)
        return dims.get(found, 0) if isinstance(found, str) else found


def _norm(op: str, wrt: str, output: str) -> Derivative:
    """Describe a gradient of a normalisation; gamma is left out if the record does not take it."""
    operands = {name: name for name in ("dy", "x", "gamma", "mean", "rstd")}
    return Derivative(wrt, op, output, operands)


def _scan(op: str, wrt: str, output: str) -> Derivative:
    """Describe a gradient of a recurrent layer."""
    operands = {name: name for name in ("dy", "gates", "kept", "w", "start", "mask")}
    return Derivative(wrt, f"{op}_grad", output, operands, dims={"ends": 1})


DERIVATIVES: dict[str, tuple[Derivative, ...]] = {
    "matmul": (
        Derivative("a", "matmul", "c", {"a": "dy", "b": "b"}, Flag.TRANSPOSE_B, {"m": "m", "n": "k", "k": "n"}),
        Derivative("b", "matmul", "c", {"a": "a", "b": "dy"}, Flag.TRANSPOSE_A, {"m": "k", "n": "n", "k": "m"}),
        Derivative("bias", "sum_rows", "y", {"x": "dy"}, dims={"rows": "m", "cols": "n"}),
    ),
    "batched_matmul": (  # of square matrices
        Derivative("a", "batched_matmul", "c", {"a": "dy", "b": "b"}, Flag.TRANSPOSE_B),
        Derivative("b", "batched_matmul", "c", {"a": "a", "b": "dy"}, Flag.TRANSPOSE_A),
    ),
    "conv": (
        Derivative("x", "conv_back", "dx", {"dy": "dy", "w": "w"}),
        Derivative("w", "conv_weights", "dw", {"x": "x", "dy": "dy"}, dims={"chunks": 1}),
    ),
    "bias_add": (Derivative("x"), Derivative("bias", "sum_rows", "y", {"x": "dy"})),
    "activation": (Derivative("x", "activation_grad", "dx", {"dy": "dy", "saved": "saved"}),),
    "add": (Derivative("a"), Derivative("b")),
    "multiply": (
        Derivative("a", "multiply", "y", {"a": "dy", "b": "b"}),
        Derivative("b", "multiply", "y", {"a": "dy", "b": "a"}),
    ),
    "broadcast_add": (
        Derivative("a"),
        Derivative("b", "reduce", "y", {"x": "dy"}, dims={"parts": 1, "divisor": 1}, variant="sum"),
    ),
    "broadcast_multiply": (Derivative("a", "broadcast_multiply", "y", {"a": "dy", "b": "b"}),),
    "copy_columns": (
        Derivative(
            "x",
            "copy_columns",
            "y",
            {"x": "dy"},
            dims={
                "target_cols": "source_cols",
                "target_first": "source_first",
                "source_cols": "target_cols",
                "source_first": "target_first",
            },
        ),
    ),
    "strided": (Derivative("x", "strided", "y", {"x": "dy"}),),
    "place": (
        Derivative(
            "x",
            "strided",
            "y",
            {"x": "dy"},
            dims={
                "rows": lambda dims: dims["outer"] * dims["count"],
                "cols": "inner",
                "n1": 1,
                "n2": 1,
                "n3": 1,
                "n4": "count",
                "stride0": lambda dims: dims["size"] * dims["inner"],
                "stride4": lambda dims: dims["step"] * dims["inner"],
                "stride": 1,
                "first": lambda dims: dims["first"] * dims["inner"],
                "size": lambda dims: dims["outer"] * dims["size"] * dims["inner"],
            },
        ),
    ),
    "take": (Derivative("x", "scatter_add", "y", {"x": "dy", "index": "index"}),),
    "scatter_add": (Derivative("x", "take", "y", {"x": "dy", "index": "index"}),),
    "rotate": (
        Derivative(
            "x", "rotate", "y", {"x": "dy", "angles": "angles"}, dims={"inverse": lambda dims: 1 - dims["inverse"]}
        ),
    ),
    "divide_by": (Derivative("x", "divide_by", "y", {"x": "dy"}),),
    "dropout": (Derivative("x", "dropout", "y", {"x": "dy"}),),
    "gaussian_noise": (Derivative("x"),),
    "softmax": (Derivative("x", "softmax_grad", "dx", {"dy": "dy", "y": "y"}),),
    "log_softmax": (Derivative("x", "log_softmax_grad", "dx", {"dy": "dy", "y": "y"}),),
    "layer_norm": (
        _norm("layer_norm_grad", "x", "dx"),
        _norm("layer_norm_param_grad", "gamma", "dgamma"),
        _norm("layer_norm_param_grad", "beta", "dbeta"),
    ),
    **{op: (_scan(op, "z", "dz"), _scan(op, "start", "dstart")) for op in ("simple_rnn", "lstm")},
    "gru": (
        _scan("gru", "start", "dstart"),
    ),  # the gradients of z are columns of a table: those of layers are compared
    "rms_norm": (_norm("rms_norm_grad", "x", "dx"), _norm("rms_norm_param_grad", "gamma", "dgamma")),
    "row_function": (
        Derivative("x", "row_function_grad", "dx", {"dy": "dy", "x": "x", "w": "w"}),
        Derivative("w", "row_function_grad", "dw", {"dy": "dy", "x": "x", "w": "w"}),
    ),
    **{
        op: (
            _norm(f"{op}_grad", "x", "dx"),
            _norm(f"{op}_grad", "gamma", "dgamma"),
            _norm(f"{op}_grad", "beta", "dbeta"),
        )
        for op in ("batch_norm", "batch_norm_inference")
    },
}

# Ops that make the gradient of what they compute themselves: losses (dx) and penalties (dw).
GRADIENTS_WITHIN = {
    **dict.fromkeys(
        (
            "loss", "cross_entropy", "cross_entropy_labels", "cross_entropy_logits", "cross_entropy_logits_labels",
        ), ("x", "dx"),
    ),
    "penalty": ("w", "dw"),
}  # fmt: skip
