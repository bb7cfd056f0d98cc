"""Emission: one function per graph op, which writes its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastnn.graph.graph import Node, Tensor
from fastnn.lower.task import Place, Source
from fastnn.program.layout import NO_FLAGS, Buffer, Flag, encode
from fastnn.program.program import KernelKey


@dataclass
class Draft:
    """A record whose operands are still tensors; places in flat buffers are already words."""

    op: str
    operands: dict[str, Tensor | int | None]
    dims: dict[str, int]
    params: dict[str, float] = field(default_factory=dict)
    flags: Flag = NO_FLAGS
    variant: str = ""
    mapped: KernelKey | None = None
    label: str = ""


@dataclass(frozen=True)
class Emitter:
    """The context of emission besides the node: batch size, dtype, and which outputs are read."""

    batch: int
    dtype: str
    used: frozenset[int]
    accumulating: frozenset[int]

    def rows(self, tensor: Tensor) -> int:
        """Return the number of rows: the product of all axes but the last."""
        return self.elements(tensor) // tensor.columns

    def elements(self, tensor: Tensor) -> int:
        """Return the number of elements of a whole batch."""
        return tensor.size * (self.batch if tensor.batched else 1)

    def weighing(self, rows: int, weight: Tensor | None) -> dict[str, int]:
        """Return the dimensions that say how many rows share each weight: those of a sample, or of a part of it."""
        samples = self.batch if weight is None else self.elements(weight)
        return {"rows": rows, "per_sample": rows // samples, "samples": samples}

    def if_used(self, tensor: Tensor) -> Tensor | None:
        """Return the tensor if anything reads it, or None."""
        return tensor if tensor.id in self.used else None

    def flags(self, *outputs: Tensor) -> Flag:
        """Return ACCUMULATE if an output is added to the values already in memory."""
        return Flag.ACCUMULATE if any(y.id in self.accumulating for y in outputs) else Flag(0)


Emit = Callable[[Emitter, Node], list[Draft]]
EMIT: dict[str, Emit] = {}


def _emits(*ops: str) -> Callable[[Emit], Emit]:
    def add(function: Emit) -> Emit:
        for op in ops:
            EMIT[op] = function
        return function

    return add


def _some(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def gather(tensor: Tensor, source: Source, batch: int) -> Draft:
    """Write the record that fetches a batch of one input."""
    inner = list(source.inner) + [(1, 0)] * (3 - len(source.inner)) if source.inner else [(0, 0)] * 3
    dims = {"rows": batch, "size": tensor.size, "row_stride": source.row_stride}
    for axis, (size, stride) in enumerate(inner):
        dims[f"size{axis}"], dims[f"stride{axis}"] = size, stride
    return Draft(
        "gather" if tensor.kind == "real" else "gather_labels",
        {
            "batch": tensor,
            "source": encode(Buffer.DATA + source.slot, 0),
            "index": encode(Buffer.INDEX, 0) if source.indexed else None,
        },
        dims,
        flags=Flag.CHECK_FINITE if source.check_finite else Flag(0),
        variant=source.dtype,
        label=tensor.name,
    )


@_emits("matmul", "matmul_nt", "matmul_tn")
def _matmul(e: Emitter, node: Node) -> list[Draft]:
    a, b = _some(node.inputs[0]), _some(node.inputs[1])
    flags = e.flags(node.outputs[0])
    if node.op == "matmul":
        m, n, k = e.rows(a), b.shape[1], b.shape[0]
    elif node.op == "matmul_nt":
        m, n, k = e.rows(a), b.shape[0], b.shape[1]
        flags |= Flag.TRANSPOSE_B
    else:
        m, n, k = a.columns, b.columns, e.rows(a)
        flags |= Flag.TRANSPOSE_A
    rest = dict(zip(("bias", "saved"), node.inputs[2:], strict=False))
    draft = Draft("matmul", {"a": a, "b": b, **rest}, {"m": m, "n": n, "k": k}, label=node.label)
    draft.operands |= dict(zip(("c", "pre"), node.outputs, strict=False))
    mode = node.attrs.get("map")
    if mode is not None:
        flags |= Flag.MAP_FORWARD if mode == "forward" else Flag.MAP_GRADIENT
        _map(draft, node, mode, e.dtype)
    draft.flags = flags
    return [draft]


def _map(draft: Draft, node: Node, mode: str, dtype: str) -> None:
    draft.mapped = KernelKey("map" if mode == "forward" else "map_grad", dtype, node.attrs["formula"])
    for index, number in enumerate(node.attrs["parameters"]):
        draft.params[f"p{index}"] = number


@_emits("bias_add")
def _bias_add(e: Emitter, node: Node) -> list[Draft]:
    x, bias = node.inputs
    dims = {"rows": e.rows(_some(x)), "cols": _some(x).columns}
    return [Draft("bias_add", {"y": node.outputs[0], "x": x, "bias": bias}, dims, label=node.label)]


@_emits("sum_rows")
def _sum_rows(e: Emitter, node: Node) -> list[Draft]:
    x = _some(node.inputs[0])
    dims = {"rows": e.rows(x), "cols": x.columns}
    return [Draft("sum_rows", {"y": node.outputs[0], "x": x}, dims, flags=e.flags(*node.outputs), label=node.label)]


@_emits("activation", "activation_grad")
def _activation(e: Emitter, node: Node) -> list[Draft]:
    (y,) = node.outputs
    if node.op == "activation":
        operands: dict[str, Tensor | int | None] = {"y": y, "x": node.inputs[0]}
    else:
        operands = {"dx": y, "dy": node.inputs[0], "saved": node.inputs[1]}
    draft = Draft(node.op, operands, {"n": e.elements(y)}, label=node.label)
    _map(draft, node, "forward" if node.op == "activation" else "gradient", e.dtype)
    return [draft]


@_emits("add", "multiply")
def _binary(e: Emitter, node: Node) -> list[Draft]:
    (y,), (a, b) = node.outputs, node.inputs
    return [Draft(node.op, {"y": y, "a": a, "b": b}, {"n": e.elements(y)}, label=node.label)]


@_emits("dropout", "gaussian_noise")
def _random(e: Emitter, node: Node) -> list[Draft]:
    (y,) = node.outputs
    params = {key: node.attrs[key] for key in ("rate", "stddev") if key in node.attrs}
    dims = {"n": e.elements(y), "node": node.attrs["stream"]}
    return [Draft(node.op, {"y": y, "x": node.inputs[0]}, dims, params, label=node.label)]


@_emits("softmax", "log_softmax", "softmax_grad", "log_softmax_grad")
def _rowwise(e: Emitter, node: Node) -> list[Draft]:
    (out,) = node.outputs
    names = ("y", "x") if not node.op.endswith("_grad") else ("dx", "dy", "y")
    operands: dict[str, Tensor | int | None] = dict(zip(names, (out, *node.inputs), strict=True))
    return [Draft(node.op, operands, {"rows": e.rows(out), "cols": out.columns}, label=node.label)]


@_emits("layer_norm", "layer_norm_grad", "layer_norm_param_grad")
@_emits("batch_norm", "batch_norm_grad", "batch_norm_inference", "batch_norm_inference_grad")
def _norm(e: Emitter, node: Node) -> list[Draft]:
    x = _some(node.inputs[0])
    outputs: tuple[Tensor | None, ...] = node.outputs
    if node.op in ("layer_norm", "batch_norm", "batch_norm_inference"):
        names = ["y", "mean", "rstd", "x", "gamma", "beta", "moving_mean", "moving_variance"]
    elif node.op == "layer_norm_grad":
        names = ["dx", "dy", "x", "gamma", "mean", "rstd"]
    elif node.op == "layer_norm_param_grad":
        names = ["dgamma", "dbeta", "dy", "x", "mean", "rstd"]
    else:
        names = ["dx", "dgamma", "dbeta", "dy", "x", "gamma", "mean", "rstd"]
    if node.op.endswith("_grad"):
        outputs = tuple(e.if_used(y) for y in node.outputs)
    operands: dict[str, Tensor | int | None] = dict(zip(names, (*outputs, *node.inputs), strict=False))
    params = {key: node.attrs[key] for key in ("epsilon", "momentum") if key in node.attrs}
    if node.op == "batch_norm_inference":
        params.pop("momentum")
    dims = {"rows": e.rows(x), "cols": x.columns}
    return [Draft(node.op, operands, dims, params, flags=e.flags(*node.outputs), label=node.label)]


@_emits("concatenate")
def _concatenate(e: Emitter, node: Node) -> list[Draft]:
    (y,) = node.outputs
    drafts, first = [], 0
    for x in node.inputs:
        columns = _some(x).columns
        dims = {"rows": e.rows(y), "cols": columns, "target_cols": y.columns, "target_first": first}
        dims |= {"source_cols": columns, "source_first": 0}
        drafts.append(Draft("copy_columns", {"y": y, "x": x}, dims, label=node.label))
        first += columns
    return drafts


@_emits("take_columns")
def _take_columns(e: Emitter, node: Node) -> list[Draft]:
    (y,), x = node.outputs, _some(node.inputs[0])
    dims = {"rows": e.rows(y), "cols": y.columns, "target_cols": y.columns, "target_first": 0}
    dims |= {"source_cols": x.columns, "source_first": node.attrs["first"]}
    return [Draft("copy_columns", {"y": y, "x": x}, dims, label=node.label)]


@_emits("row_function", "row_function_grad")
def _row_function(e: Emitter, node: Node) -> list[Draft]:
    gradient = node.op == "row_function_grad"
    x, w = node.inputs[1:] if gradient else node.inputs
    y = _some(node.inputs[0]) if gradient else node.outputs[0]
    operands: dict[str, Tensor | int | None] = {"x": x, "w": w}
    if gradient:
        operands |= {"dy": y, **dict(zip(("dx", "dw"), node.outputs, strict=False))}
    else:
        operands["y"] = y
    dims = {"rows": e.rows(y), "cols": _some(x).columns, "units": y.columns, "size": 1 if w is None else w.size}
    flags = e.flags(*node.outputs)
    return [Draft(node.op, operands, dims, flags=flags, variant=node.attrs["formula"], label=node.label)]


@_emits("one_hot")
def _one_hot(e: Emitter, node: Node) -> list[Draft]:
    index, (y,) = _some(node.inputs[0]), node.outputs
    return [Draft(node.op, {"y": y, "index": index}, {"rows": e.rows(y), "cols": y.columns}, label=node.label)]


@_emits("loss")
def _loss(e: Emitter, node: Node) -> list[Draft]:
    row_loss, dx = node.outputs
    x, target, weight = node.inputs
    x, target = _some(x), _some(target)
    rows = e.rows(x)
    params = {"scale": node.attrs["loss_weight"] / rows}
    op = node.attrs["formula"]
    variant = ""
    if op.startswith("cross_entropy"):
        params["label_smoothing"] = node.attrs["parameters"][0]
        op = f"{op}_labels" if target.kind == "int64" else op
    else:
        op, variant = "loss", op
        params["row_factor"] = 1.0 / x.columns if node.attrs["row_mean"] else 1.0
        values = node.attrs["parameters"]
        params |= dict(zip(("a", "b")[: len(values)], values, strict=True))  # a record has no room for a third
    operands: dict[str, Tensor | int | None] = {"row_loss": row_loss, "dx": e.if_used(dx), "x": x}
    operands |= {"target": target, "weight": weight}
    dims = {"cols": x.columns, **e.weighing(rows, weight)}
    return [Draft(op, operands, dims, params, variant=variant, label=node.label)]


@_emits("sum_loss")
def _sum_loss(e: Emitter, node: Node) -> list[Draft]:
    row_loss, weight = node.inputs
    rows = e.elements(_some(row_loss))
    operands: dict[str, Tensor | int | None] = {
        "total": node.attrs["total"],
        "row_loss": row_loss,
        "weight": weight,
    }
    op = "sum_loss_by_weight" if node.attrs["by_weight"] and weight is not None else "sum_loss"
    return [Draft(op, operands, e.weighing(rows, weight), label=node.label)]


@_emits("normalize_weights")
def _normalize_weights(e: Emitter, node: Node) -> list[Draft]:
    weight, (y,) = _some(node.inputs[0]), node.outputs
    return [Draft(node.op, {"y": y, "weight": weight}, {"samples": e.elements(weight)}, label=node.label)]


@_emits("metric")
def _metric(e: Emitter, node: Node) -> list[Draft]:
    x, target, weight = node.inputs
    x, target = _some(x), _some(target)
    rows = e.rows(x)
    operands: dict[str, Tensor | int | None] = {"total": node.attrs["total"], "x": x, "weight": weight}
    operands["target" if target.kind == "real" else "labels"] = target
    dims = {"cols": x.columns, **e.weighing(rows, weight), "size": node.attrs["size"], **node.attrs["dims"]}
    return [Draft(node.attrs["accumulator"], operands, dims, dict(node.attrs["params"]), label=node.label)]


@_emits("store")
def _store(e: Emitter, node: Node) -> list[Draft]:
    x = _some(node.inputs[0])
    operands: dict[str, Tensor | int | None] = {"target": encode(Buffer.DATA + node.attrs["slot"], 0), "x": x}
    return [Draft("store", operands, {"rows": e.batch, "size": x.size}, label=node.label)]


def word(place: Place) -> int:
    """Write a place into an operand word."""
    return encode(place.buffer, place.offset)
