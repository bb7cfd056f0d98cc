"""Emission: the records of a node.

Most ops of a graph are one record of the same name: its outputs and inputs are the record's, in their order, and the
record's dimensions follow from their shapes. The others have a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any, NamedTuple

from fastnn.formulas.activations import CLIPS
from fastnn.graph.extent import at
from fastnn.graph.graph import Node, Tensor
from fastnn.graph.ops.norms import in_chunks
from fastnn.graph.ops.pointwise import MOST_GROUPS, axes, strides
from fastnn.graph.ops.strided import product
from fastnn.graph.ops.windows import Sliding
from fastnn.lower.task import Place, Source
from fastnn.modules import entering
from fastnn.program.layout import NO_FLAGS, Buffer, Flag, encode
from fastnn.program.op import Op, Operand
from fastnn.program.opcodes import OPS
from fastnn.program.program import NO_PARAMS
from fastnn.program.record import KernelKey
from fastnn.program.window import packed


@dataclass(slots=True)
class Draft:
    """A record whose operands are still tensors; places in flat buffers are already words."""

    op: str
    operands: dict[str, Tensor | int | None]
    dims: dict[str, Any]
    params: Mapping[str, float] = field(default_factory=lambda: NO_PARAMS)
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
        return self.elements(tensor) // at(tensor.columns, self.batch)

    def elements(self, tensor: Tensor) -> int:
        """Return the number of elements of a whole batch."""
        return at(tensor.size, self.batch) * (self.batch if tensor.batched else 1)

    def weighing(self, rows: int, weight: Tensor | None) -> dict[str, int]:
        """Return the dimensions that say how many rows share each weight: those of a sample, or of a part of it."""
        samples = self.batch if weight is None else self.elements(weight)
        return {"rows": rows, "per_sample": rows // samples, "samples": samples}

    def if_used(self, tensor: Tensor) -> Tensor | None:
        """Return the tensor if anything reads it, or None."""
        return tensor if tensor.id in self.used else None

    def flags(self, *outputs: Tensor) -> Flag:
        """Return ACCUMULATE if an output is added to the values already in memory."""
        if not self.accumulating:
            return NO_FLAGS
        return Flag.ACCUMULATE if any(y.id in self.accumulating for y in outputs) else Flag(0)


Operands = dict[str, Tensor | int | None]
Emit = Callable[[Emitter, Node], list[Draft]]
_EMIT: dict[str, Emit] = {}


def emit(e: Emitter, node: Node) -> list[Draft]:
    """Write the records of a node."""
    function = _EMIT.get(node.op)
    drafts = [_plain(e, node)] if function is None else function(e, node)
    for draft in drafts:
        draft.dims = {name: at(size, e.batch) for name, size in draft.dims.items()}
    return drafts


def _emits(*ops: str) -> Callable[[Emit], Emit]:
    return entering(_EMIT, ops)


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


@_emits("matmul", "matmul_nt", "matmul_tn", "matmul_tt")
def _matmul(e: Emitter, node: Node) -> list[Draft]:
    a, b = _some(node.inputs[0]), _some(node.inputs[1])
    flags = e.flags(node.outputs[0])
    transpose_a, transpose_b = node.op in ("matmul_tn", "matmul_tt"), node.op in ("matmul_nt", "matmul_tt")
    rows = e.rows(a)
    m, k = (a.columns, rows) if transpose_a else (rows, a.columns)
    n = b.whole[0] if transpose_b else b.columns
    flags |= (Flag.TRANSPOSE_A if transpose_a else NO_FLAGS) | (Flag.TRANSPOSE_B if transpose_b else NO_FLAGS)
    operands: Operands = {"a": a, "b": b}
    operands.update(zip(("bias", "saved"), node.inputs[2:], strict=False))
    operands.update(zip(("c", "pre"), node.outputs, strict=False))
    draft = Draft("matmul", operands, {"m": m, "n": n, "k": k}, label=node.label)
    mode = node.attrs.get("map")
    if mode is not None:
        flags |= Flag.MAP_FORWARD if mode == "forward" else Flag.MAP_GRADIENT
        _map(draft, node, mode, e.dtype)
    draft.flags = flags
    return [draft]


def _sliding(node: Node) -> dict[str, Any]:
    """Return the dimensions that say how a node's window slides."""
    axes = (*[Sliding(1, 1, 1, 1, 1, 0)] * (3 - len(node.attrs["axes"])), *node.attrs["axes"])
    dims: dict[str, Any] = {"batch": node.attrs["batch"]}
    dims |= zip(("depth", "height", "width"), (each.size for each in axes), strict=True)
    dims |= zip(("out_depth", "rows", "cols"), (each.results for each in axes), strict=True)
    dims["window"], dims["stride"] = packed([each.window for each in axes]), packed([each.stride for each in axes])
    dims["dilation"], dims["padding"] = packed([each.dilation for each in axes]), packed([each.before for each in axes])
    return dims


@_emits("conv", "conv_back")
def _convolution(e: Emitter, node: Node) -> list[Draft]:
    back = node.op == "conv_back"
    source, w = _some(node.inputs[0]), _some(node.inputs[1])
    groups, filters = node.attrs["groups"], w.columns
    operands: Operands = {"dy" if back else "x": source, "w": w}
    operands.update(zip(("bias", "saved"), node.inputs[2:], strict=False))
    operands.update(zip(("dx" if back else "y", "pre"), node.outputs, strict=False))
    dims = {**_sliding(node), "channels": w.whole[-2] * groups, "filters": filters, "groups": groups, "weights": w.size}
    draft = Draft(node.op, operands, dims, label=node.label)
    mode = node.attrs.get("map")
    if mode is not None:
        draft.flags = Flag.MAP_FORWARD if mode == "forward" else Flag.MAP_GRADIENT
        _map(draft, node, mode, e.dtype)
    return [draft]


@_emits("conv_weights")
def _convolution_weights(e: Emitter, node: Node) -> list[Draft]:
    (x, dy), (dw, *parts) = node.inputs, node.outputs
    x, dy = _some(x), _some(dy)
    dims = {**_sliding(node), "channels": x.columns, "filters": dy.columns, "groups": node.attrs["groups"]}
    dims |= {"weights": dw.size, "chunks": parts[0].whole[0] if parts else 1}
    first = Draft(node.op, {"dw": parts[0] if parts else dw, "x": x, "dy": dy}, dims, label=node.label)
    if not parts:
        return [first]
    rest = {"batch": node.attrs["batch"], "chunks": dims["chunks"], "n": dw.size}
    return [first, Draft("sum_chunks", {"y": dw, "x": parts[0]}, rest, label=node.label)]


@_emits("pool", "max_pool_grad", "average_pool_grad")
def _pooling(e: Emitter, node: Node) -> list[Draft]:
    names = ("x",) if node.op == "pool" else ("dy", "x", "y")
    operands: Operands = dict(zip(names, node.inputs, strict=False))
    operands["y" if node.op == "pool" else "dx"] = node.outputs[0]
    dims = {**_sliding(node), "channels": node.outputs[0].columns}
    flags = Flag.RECTIFY if node.attrs.get("rectify") else NO_FLAGS
    return [Draft(node.op, operands, dims, flags=flags, variant=node.attrs.get("kind", ""), label=node.label)]


_PRODUCT_FLAGS = (
    Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, Flag.REPEAT_A, Flag.REPEAT_B, Flag.CYCLE_A, Flag.CYCLE_B,
)  # fmt: skip


@_emits("batched_matmul")
def _batched_matmul(e: Emitter, node: Node) -> list[Draft]:
    a, b = _some(node.inputs[0]), _some(node.inputs[1])
    attrs, (c,) = node.attrs, node.outputs
    for each in attrs.get("slices", ()):
        _check_slice(e, each)
    dims = {name: attrs[name] for name in ("samples", "count", "inner", "m", "n", "k")}
    whole = attrs["samples"] == 1
    flags = Flag(0)
    for flag in _PRODUCT_FLAGS:
        flags |= flag if attrs[str(flag.name).lower()] else NO_FLAGS
    for name, x, size in (("a", a, dims["m"] * dims["k"]), ("b", b, dims["k"] * dims["n"])):
        dims[f"{name}_size"] = prod(x.whole) if whole else x.size
        dims |= {f"{name}_first": 0, f"{name}_between": size, f"{name}_row": x.columns}
    dims |= {"c_between": dims["m"] * dims["n"], "c_row": c.columns}
    # where views are read or written in place, the places are those in the tensors that they are views of
    dims |= {name: number for name, number in attrs.items() if name in dims}
    return [Draft(node.op, {"c": c, "a": a, "b": b}, dims, {"scale": attrs["scale"]}, flags, label=node.label)]


# one key for all layers that are alike: making it takes longer than finding it
_of_formula = cache(KernelKey)


def _mapped(kind: str, dtype: str, formula: str) -> KernelKey:
    """Return the key of a mapped function; that of a user-defined one is not kept, since it keeps the function."""
    return _of_formula(kind, dtype, formula) if type(formula) is str else KernelKey(kind, dtype, formula)


def _map(draft: Draft, node: Node, mode: str, dtype: str) -> None:
    draft.mapped = _mapped("map" if mode == "forward" else "map_grad", dtype, node.attrs["formula"])
    if node.attrs["parameters"]:
        draft.params = {f"p{index}": number for index, number in enumerate(node.attrs["parameters"])}


@_emits("concatenate")
def _concatenate(e: Emitter, node: Node) -> list[Draft]:
    (y,), axis = node.outputs, node.attrs["axis"]
    rows, inner, width = product(y.whole[:axis]), product(y.whole[axis + 1 :]), product(y.whole[axis:])
    drafts: list[Draft] = []
    first: Any = 0
    for x in node.inputs:
        columns = _some(x).whole[axis] * inner
        dims = {"rows": rows, "cols": columns, "target_cols": width, "target_first": first}
        dims |= {"source_cols": columns, "source_first": 0}
        drafts.append(Draft("copy_columns", {"y": y, "x": x}, dims, label=node.label))
        first += columns
    return drafts


@_emits("keep")
def _keep(e: Emitter, node: Node) -> list[Draft]:
    x, state = _some(node.inputs[0]), _some(node.inputs[1])
    dims = {"rows": e.rows(x), "cols": x.columns, "target_cols": state.columns, "target_first": node.attrs["first"]}
    dims |= {"source_cols": x.columns, "source_first": 0}
    return [Draft("copy_columns", {"y": state, "x": x}, dims, label=node.label)]


@_emits("permute", "transpose", "broadcast", "slice")
def _strided(e: Emitter, node: Node) -> list[Draft]:
    x, (y,) = _some(node.inputs[0]), node.outputs
    _check_slice(e, node)
    op = "strided" if x.kind == "real" else "strided_integers"
    return [Draft(op, {"y": y, "x": x}, {name: node.attrs[name] for name in OPS[op].dims}, label=node.label)]


def _check_slice(e: Emitter, node: Node) -> None:
    """Refuse a batch that does not have the entries that a slice takes."""
    x = _some(node.inputs[0])
    for axis, (start, step, count) in enumerate(node.attrs.get("ranges", ())):
        size, entries = at(x.whole[axis], e.batch), at(count, e.batch)
        last = at(start, e.batch) + (entries - 1) * step
        if entries < 1 or not 0 <= last < size or not 0 <= at(start, e.batch) < size:
            raise ValueError(
                f"{node.label}: a slice takes {count} entries of axis {axis} of {x.whole}, from {start} on by steps of "
                f"{step}, and the axis has {size} in a batch of {e.batch}"
            )


@_emits("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
def _reduce(e: Emitter, node: Node) -> list[Draft]:
    (y, *parts), kind = node.outputs, node.attrs["formula"]
    dims = {name: node.attrs[name] for name in ("outer", "repeat", "inner", "divisor")}
    if not parts:
        return [Draft("reduce", {"y": y, "x": node.inputs[0]}, {**dims, "parts": 1}, variant=kind, label=node.label)]
    count = parts[0].whole[-2]
    first = Draft("reduce", {"y": parts[0], "x": node.inputs[0]}, {**dims, "parts": count, "divisor": 1}, variant=kind,
                  label=node.label)  # fmt: skip
    second = {**dims, "parts": 1, "repeat": count}
    return [first, Draft("reduce", {"y": y, "x": parts[0]}, second, variant=kind, label=node.label)]


@_emits("batch_norm", "batch_norm_inference")
def _batch_norm(e: Emitter, node: Node) -> list[Draft]:
    (x, gamma, beta, moving_mean, moving_variance, *added), (y, mean, rstd, sums) = node.inputs, node.outputs
    x, label = _some(x), node.label
    clip = node.attrs.get("formula", "")
    params, flags = {"epsilon": node.attrs["epsilon"], "high": CLIPS.get(clip, 0.0)}, Flag.RECTIFY if clip else NO_FLAGS
    momentum = {"momentum": node.attrs["momentum"]} if node.op == "batch_norm" else {}
    dims = {"rows": e.rows(x), "cols": x.columns}
    read: Operands = {"y": y, "x": x, "gamma": gamma, "beta": beta, "mean": mean, "rstd": rstd}
    moved: Operands = {"moving_mean": moving_mean, "moving_variance": moving_variance}
    if node.op == "batch_norm_inference" or not in_chunks(node):
        return [Draft(node.op, read | moved, dims, params | momentum, flags, label=label)]
    cut = {**dims, "chunks": sums.shape[0]}
    statistics: Operands = {"mean": mean, "rstd": rstd, "x": x, "moments": sums, **moved}
    return [
        Draft("column_moments", {"moments": sums, "x": x}, cut, label=label),
        Draft("batch_statistics", statistics, cut, {"epsilon": params["epsilon"], **momentum}, label=label),
        Draft("normalize_columns", {**read, "added": added[0] if added else None}, dims, params, flags, label=label),
    ]


@_emits("batch_norm_grad", "batch_norm_inference_grad")
def _batch_norm_grad(e: Emitter, node: Node) -> list[Draft]:
    (dy, x, gamma, mean, rstd), (dx, dgamma, dbeta, products, means) = node.inputs, node.outputs
    x, label = _some(x), node.label
    dims, flags = {"rows": e.rows(x), "cols": x.columns}, e.flags(dgamma, dbeta)
    read: Operands = {"dy": dy, "x": x, "mean": mean, "rstd": rstd}
    made: Operands = {"dgamma": e.if_used(dgamma), "dbeta": e.if_used(dbeta)}
    wanted, by_batch = e.if_used(dx), node.op == "batch_norm_grad"
    if not in_chunks(node):
        return [Draft(node.op, read | made | {"dx": wanted, "gamma": gamma}, dims, flags=flags, label=label)]
    cut, drafts = {**dims, "chunks": products.shape[0]}, []
    if by_batch or any(value is not None for value in made.values()):
        drafts = [
            Draft("column_products", read | {"products": products}, cut, label=label),
            Draft("add_products", made | {"means": means, "products": products}, cut, flags=flags, label=label),
        ]
    if wanted is not None:
        more: Operands = {"dx": dx, "gamma": gamma, "means": means if by_batch else None}
        drafts.append(Draft("normalize_columns_grad", read | more, dims, label=label))
    return drafts


@_emits("attention_grad")
def _attention_grad(e: Emitter, node: Node) -> list[Draft]:
    (dy, q, k, v, y, lse, mask), (dq, dk, dv, rows), attrs = node.inputs, node.outputs, node.attrs
    first: Operands = {"rows": rows, "dy": dy, "y": y, "lse": lse, "mask": mask}
    second: Operands = {"dq": dq, "dk": dk, "dv": dv, "dy": dy, "q": q, "k": k, "v": v, "rows": rows}
    return [
        Draft("attention_rows", first, {name: attrs[name] for name in OPS["attention_rows"].dims}, label=node.label),
        Draft(node.op, second, {name: attrs[name] for name in OPS[node.op].dims},
              {name: attrs[name] for name in OPS[node.op].params}, label=node.label),
    ]  # fmt: skip


@_emits("one_hot")
def _one_hot(e: Emitter, node: Node) -> list[Draft]:
    index, (y,) = _some(node.inputs[0]), node.outputs
    return [Draft(node.op, {"y": y, "index": index}, {"rows": e.rows(y), "cols": y.columns}, label=node.label)]


@_emits("pointwise")
def _pointwise(e: Emitter, node: Node) -> list[Draft]:
    (y,) = node.outputs
    tensors = [x for x in node.inputs if x is not None]
    # the axes are those for every batch size, so that strides are polynomials of it
    groups = ([(1, (False,) * len(tensors))] * MOST_GROUPS + axes(tensors, y.whole))[-MOST_GROUPS:]
    dims = {f"n{axis}": size for axis, (size, _) in enumerate(groups) if axis} | {"n": e.elements(y)}
    operands: Operands = {"y": y}
    number = 0
    for name, x in zip("abc", (*node.inputs, None, None), strict=False):
        found = [0] * MOST_GROUPS if x is None else strides(groups, number)
        dims |= {f"{name}{axis}": stride for axis, stride in enumerate(found)}
        if x is not None:
            operands[name] = x
            number += 1
    params = {f"p{index}": value for index, value in enumerate(node.attrs["numbers"])}
    mapped = _mapped("pointwise_map", e.dtype, node.attrs["formula"])
    return [Draft(node.op, operands, dims, params, mapped=mapped, label=node.label)]


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
        values = node.attrs["parameters"]
        params |= dict(zip(("a", "b")[: len(values)], values, strict=True))  # a record has no room for a third
    operands: Operands = {"row_loss": row_loss, "dx": e.if_used(dx), "x": x}
    operands |= {"target": target, "weight": weight}
    dims = {"cols": x.columns, **e.weighing(rows, weight)}
    if op == "loss":
        dims["divisor"] = x.columns if node.attrs["row_mean"] else 1
    return [Draft(op, operands, dims, params, variant=variant, label=node.label)]


@_emits("sum_loss")
def _sum_loss(e: Emitter, node: Node) -> list[Draft]:
    row_loss, weight = node.inputs
    rows = e.elements(_some(row_loss))
    operands: Operands = {
        "total": node.attrs["total"],
        "row_loss": row_loss,
        "weight": weight,
    }
    op = "sum_loss_by_weight" if node.attrs["by_weight"] and weight is not None else "sum_loss"
    params = {"most": node.attrs.get("most", 0.0)}
    return [Draft(op, operands, e.weighing(rows, weight), params, label=node.label)]


@_emits("normalize_weights")
def _normalize_weights(e: Emitter, node: Node) -> list[Draft]:
    weight, (y,) = _some(node.inputs[0]), node.outputs
    dims = e.weighing(e.batch * node.attrs["rows"], weight)
    return [Draft(node.op, {"y": y, "weight": weight}, dims, label=node.label)]


@_emits("mask_weights")
def _mask_weights(e: Emitter, node: Node) -> list[Draft]:
    (mask, weight), (y,) = node.inputs, node.outputs
    dims = {**e.weighing(e.elements(_some(mask)), weight), "normalized": node.attrs["normalized"]}
    return [Draft(node.op, {"y": y, "mask": mask, "weight": weight}, dims, label=node.label)]


@_emits("metric")
def _metric(e: Emitter, node: Node) -> list[Draft]:
    x, target, weight = node.inputs
    x, target = _some(x), _some(target)
    rows = e.rows(x)
    operands: Operands = {"total": node.attrs["total"], "x": x, "weight": weight}
    operands["target" if target.kind == "real" else "labels"] = target
    dims = {"cols": x.columns, **e.weighing(rows, weight), "size": node.attrs["size"], **node.attrs["dims"]}
    return [Draft(node.attrs["accumulator"], operands, dims, dict(node.attrs["params"]), label=node.label)]


@_emits("store")
def _store(e: Emitter, node: Node) -> list[Draft]:
    x = _some(node.inputs[0])
    operands: Operands = {"target": encode(Buffer.DATA + node.attrs["slot"], 0), "x": x}
    rows = e.batch if x.batched else 1
    return [Draft("store", operands, {"rows": rows, "size": at(x.size, e.batch)}, label=node.label)]


class _Form(NamedTuple):
    """An op's operands as a node has them: the written ones, then those that are read, then those that are updated."""

    operands: tuple[Operand, ...]
    written: int
    op: Op


@cache
def _form(name: str) -> _Form:
    op = OPS[name]
    by_access = {
        access: [each for each in op.operands if each.access == access] for access in ("write", "read", "update")
    }
    return _Form((*by_access["write"], *by_access["read"], *by_access["update"]), len(by_access["write"]), op)


def _plain(e: Emitter, node: Node) -> Draft:
    """Write a node as the record of the same name."""
    specs, written, op = _form(node.op)
    tensors = (*node.outputs, *(None,) * (written - len(node.outputs)), *node.inputs)
    operands: Operands = {}
    dims = {name: node.attrs[name] for name in op.dims if name in node.attrs}
    for number, (spec, tensor) in enumerate(zip(specs, tensors, strict=False)):
        if tensor is None:
            continue
        operands[spec.name] = e.if_used(tensor) if number < written and spec.optional else tensor
        first, *others = spec.shape
        for axis, name in enumerate(reversed(others), 1):
            dims.setdefault(str(name), tensor.shape[-axis] if axis <= len(tensor.shape) else 1)
        if str(first) not in dims:
            total = e.elements(tensor)
            for name in others:
                total //= at(dims[str(name)], e.batch)
            dims[str(first)] = total
    # dimensions of operands that are absent
    dims = {name: dims.get(name, 1) for name in op.dims}
    draft = Draft(node.op, operands, dims, flags=e.flags(*node.outputs), label=node.label)
    draft.params = {name: node.attrs[name] for name in op.params if name in node.attrs}
    if op.maps:
        _map(draft, node, "forward" if op.maps == "map" else "gradient", e.dtype)
    elif op.variants:
        draft.variant = node.attrs["formula"]
    return draft


def word(place: Place) -> int:
    """Write a place into an operand word."""
    return encode(place.buffer, place.offset)
