"""Every op of `fastnn.ops` beside NumPy: what the tests of values and of derivatives run through."""

# ruff: noqa: B008, E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from fastnn import ops
from sliding import by_channel, convolved, pooled, transposed

B = 5


@dataclass(frozen=True)
class Case:
    """An op on symbols, the same in NumPy, and the arrays that both take (batches of B rows)."""

    name: str
    symbolic: Callable[..., Any]
    plain: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    smooth: bool = True

    def __str__(self) -> str:
        return self.name


RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=(B, *shape)) + 0.05


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.3, 2.0, (B, *shape))


def normal_kernel(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape)


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _top(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, order, -1), order


SQRT2 = np.sqrt(2.0)
CASES: list[Case] = []


def case(name: str, symbolic: Callable[..., Any], plain: Callable[..., Any], *arrays: np.ndarray, smooth: bool = True):
    CASES.append(Case(name, symbolic, plain, arrays, smooth))


# --- element by element ---------------------------------------------------------------------------------------
UNARY: dict[str, tuple[Callable[..., Any], np.ndarray, bool]] = {
    "negative": (np.negative, normal(3), True), "absolute": (np.abs, normal(3), True), "sign": (np.sign, normal(3), False),
    "exp": (np.exp, normal(3), True), "log": (np.log, positive(3), True), "log1p": (np.log1p, positive(3), True),
    "expm1": (np.expm1, normal(3), True), "sqrt": (np.sqrt, positive(3), True),
    "rsqrt": (lambda x: 1 / np.sqrt(x), positive(3), True), "square": (np.square, normal(3), True),
    "reciprocal": (np.reciprocal, positive(3), True), "sin": (np.sin, 3 * normal(3), True),
    "cos": (np.cos, 3 * normal(3), True), "tan": (np.tan, 0.4 * normal(3), True), "sinh": (np.sinh, normal(3), True),
    "cosh": (np.cosh, normal(3), True), "arctan": (np.arctan, normal(3), True), "tanh": (np.tanh, normal(3), True),
    "sigmoid": (special.expit, normal(3), True), "erf": (special.erf, normal(3), True),
    "floor": (np.floor, 3 * normal(3), False), "ceil": (np.ceil, 3 * normal(3), False),
    "round": (np.round, 3 * normal(3), False), "isnan": (np.isnan, normal(3), False),
    "isfinite": (np.isfinite, normal(3), False), "logical_not": (np.logical_not, np.sign(normal(3)), False),
    "relu": (lambda x: np.maximum(x, 0), normal(3), True),
    "relu6": (lambda x: np.clip(x, 0, 6), normal(3), True), "silu": (lambda x: x * special.expit(x), normal(3), True),
    "softplus": (lambda x: np.log1p(np.exp(x)), normal(3), True),
    "softsign": (lambda x: x / (1 + np.abs(x)), normal(3), True),
    "mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), normal(3), True),
    "hard_sigmoid": (lambda x: np.clip(x + 3, 0, 6) / 6, normal(3), True),
    "selu": (lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), normal(3), True),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), normal(3), True),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), normal(3), True),
    "gelu": (lambda x: 0.5 * x * (1 + special.erf(x / SQRT2)), normal(3), True),
    "softmax": (_softmax, normal(3), True), "log_softmax": (lambda x: np.log(_softmax(x)), normal(3), True),
}  # fmt: skip
for name, (plain, x, smooth) in UNARY.items():
    case(name, getattr(ops, name), plain, x, smooth=smooth)

BINARY: dict[str, tuple[Callable[..., Any], bool]] = {
    "add": (np.add, True), "subtract": (np.subtract, True), "multiply": (np.multiply, True),
    "divide": (np.divide, True), "power": (np.power, True), "mod": (np.mod, True), "maximum": (np.maximum, True),
    "minimum": (np.minimum, True), "less": (np.less, False), "less_equal": (np.less_equal, False),
    "greater": (np.greater, False), "greater_equal": (np.greater_equal, False), "equal": (np.equal, False),
    "not_equal": (np.not_equal, False), "logical_and": (np.logical_and, False), "logical_or": (np.logical_or, False),
}  # fmt: skip
for name, (plain, smooth) in BINARY.items():
    case(name, getattr(ops, name), plain, positive(4, 3), positive(1, 3), smooth=smooth)
case("operators", lambda a, b: -a + 2 * b - a / (b + 3) + (1 - a) ** 2 + 2**b + abs(a) + +b,
     lambda a, b: -a + 2 * b - a / (b + 3) + (1 - a) ** 2 + 2**b + abs(a) + +b, normal(3), positive(3))  # fmt: skip
case("comparisons", lambda a, b: (a < b) + 2 * (a >= b) + 4 * ((a == a) & ~(a > b)) + 8 * ((a != b) | (a <= b)),
     lambda a, b: (a < b) + 2.0 * (a >= b) + 4 * (a <= b) + 8 * ((a != b) | (a <= b)), normal(3), normal(3),
     smooth=False)  # fmt: skip
case(
    "where",
    lambda c, a, b: ops.where(c > 0, a, b),
    lambda c, a, b: np.where(c > 0, a, b),
    normal(3),
    normal(3),
    normal(3),
)
case("masked", lambda c, x: ops.softmax(ops.where(c > 0, x, -np.inf)), lambda c, x: _softmax(np.where(c > 0, x, -np.inf)),
     np.array([[1.0, -1.0, 1.0]] * B), normal(3))  # fmt: skip
case("infinite", lambda x: ops.minimum(x, np.inf) + ops.where(ops.isnan(x * np.nan), 1.0, 0.0), lambda x: x + 1.0, normal(3),
     smooth=False)  # fmt: skip
case("clip", lambda x: ops.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), normal(3))
case("broadcast_over_the_batch", lambda x: x - ops.mean(x, 0), lambda x: x - x.mean(0), normal(3))
case("all_pairs", lambda x: ops.sum(ops.square(x[:, None] - x[None]), -1),
     lambda x: np.square(x[:, None] - x[None]).sum(-1), normal(3))  # fmt: skip
case("array", lambda x: x * np.array([1.0, 2.0, 3.0]), lambda x: x * np.array([1.0, 2.0, 3.0]), normal(3))
case("softmax_batch", lambda x: ops.softmax(x[:, 0]), lambda x: _softmax(x[:, 0]), normal(2))
case("log_softmax_batch", lambda x: ops.log_softmax(x, 0), lambda x: np.log(_softmax(x, 0)), normal(2))
case("softmax_axis", lambda x: ops.softmax(x, 1), lambda x: _softmax(x, 1), normal(4, 3))

# --- reductions -----------------------------------------------------------------------------------------------
for name in ("sum", "mean", "max", "min", "prod", "var", "std"):
    for axis in (None, -1, 0, 1, (0, 2)):
        case(f"{name}_{axis}", lambda x, f=getattr(ops, name), a=axis: f(x, a), lambda x, f=getattr(np, name), a=axis: f(x, a),
             normal(4, 3))  # fmt: skip
    case(f"{name}_keepdims", lambda x, f=getattr(ops, name): f(x, (0, 1), keepdims=True),
         lambda x, f=getattr(np, name): f(x, (0, 1), keepdims=True), normal(4, 3))  # fmt: skip
case("logsumexp", lambda x: ops.logsumexp(x, -1), lambda x: special.logsumexp(x, -1), 30 * normal(4, 3))
case("logsumexp_batch", lambda x: ops.logsumexp(x, 0), lambda x: special.logsumexp(x, 0), normal(4, 3))
for order in (None, 1, 2, np.inf):
    case(
        f"norm_{order}",
        lambda x, o=order: ops.norm(x, o, axis=-1),
        lambda x, o=order: np.linalg.norm(x, o, axis=-1),
        normal(3),
    )
case("cumsum", lambda x: ops.cumsum(x, 1), lambda x: np.cumsum(x, 1), normal(4, 3))
case("cumsum_batch", lambda x: ops.cumsum(x, 0), lambda x: np.cumsum(x, 0), normal(4, 3))
case("argmax", lambda x: ops.cast(ops.argmax(x, -1), "float"), lambda x: np.argmax(x, -1), normal(4), smooth=False)
case("argmin", lambda x: ops.cast(ops.argmin(x, 0), "float"), lambda x: np.argmin(x, 0), normal(4), smooth=False)
case("top_k", lambda x: ops.top_k(x, 2)[0], lambda x: _top(x, 2)[0], normal(5))
case("top_k_axis", lambda x: ops.top_k(x, 2, axis=1)[0], lambda x: np.sort(x, 1)[:, ::-1][:, :2], normal(4, 3))
case("top_k_places_axis", lambda x: ops.cast(ops.top_k(x, 2, axis=0)[1], "float"), lambda x: np.argsort(-x, 0)[:2],
     normal(4, 3), smooth=False)  # fmt: skip
case("top_k_places", lambda x: ops.cast(ops.top_k(x, 2)[1], "float"), lambda x: _top(x, 2)[1], normal(5), smooth=False)

# --- shapes ---------------------------------------------------------------------------------------------------
case("reshape", lambda x: ops.reshape(x, (-1, 2)), lambda x: x.reshape(-1, 2), normal(4))
case("reshape_rows", lambda x: ops.reshape(x, (None, 2, 2)), lambda x: x.reshape(B, 2, 2), normal(4))
case("transpose", ops.transpose, np.transpose, normal(4, 3))
case("transpose_axes", lambda x: ops.transpose(x, (1, 0, 2)), lambda x: np.transpose(x, (1, 0, 2)), normal(4, 3))
case("T", lambda x: x.T, lambda x: x.T, normal(4))
case("swapaxes", lambda x: ops.swapaxes(x, 0, 1), lambda x: np.swapaxes(x, 0, 1), normal(4, 3))
case("moveaxis", lambda x: ops.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), normal(4, 3))
case("expand_dims", lambda x: ops.expand_dims(x, 1), lambda x: np.expand_dims(x, 1), normal(4))
case("squeeze", lambda x: ops.squeeze(x, 2), lambda x: np.squeeze(x, 2), normal(4, 1))
case("broadcast_to", lambda x: ops.broadcast_to(x, (3, None, 4)), lambda x: np.broadcast_to(x, (3, B, 4)), normal(4))
case("concatenate", lambda a, b: ops.concatenate([a, b]), lambda a, b: np.concatenate([a, b], -1), normal(4), normal(2))
case(
    "concatenate_rows",
    lambda a, b: ops.concatenate([a, b], 0),
    lambda a, b: np.concatenate([a, b]),
    normal(4),
    normal(4),
)
case("stack", lambda a, b: ops.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), normal(4), normal(4))
case("split", lambda x: ops.split(x, 2, 1)[1], lambda x: np.split(x, 2, 1)[1], normal(4, 3))
for label, key in {
    "columns": (slice(None), slice(1, 3)), "step": (slice(None), slice(None, None, 2)), "last": (..., -1),
    "backwards": (slice(None), slice(None, None, -1)), "new": (slice(None), None, 2), "row": (1,),
    "but_first": (slice(1, None),),
}.items():  # fmt: skip
    case(f"getitem_{label}", lambda x, k=key: x[k], lambda x, k=key: x[k], normal(5, 3))
case("flip", lambda x: ops.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2)), normal(4, 3))
case("roll", lambda x: ops.roll(x, 2, 1), lambda x: np.roll(x, 2, 1), normal(4, 3))
case("roll_rows", lambda x: ops.roll(x, 1, 0), lambda x: np.roll(x, 1, 0), normal(3))
case(
    "pad",
    lambda x: ops.pad(x, ((0, 0), (1, 2)), constant_values=3.0),
    lambda x: np.pad(x, ((0, 0), (1, 2)), constant_values=3.0),
    normal(4),
)
case("tile", lambda x: ops.tile(x, (1, 2)), lambda x: np.tile(x, (1, 2)), normal(4))
case("repeat", lambda x: ops.repeat(x, 3, 1), lambda x: np.repeat(x, 3, 1), normal(4))

# --- products -------------------------------------------------------------------------------------------------
case("matmul", lambda a, b: ops.matmul(a, b), np.matmul, normal(4, 3), normal(3, 2))
case("matmul_rows", lambda a, b: a @ b.T, lambda a, b: a @ b.T, normal(4), normal(4))
case("matmul_columns", lambda a, b: a.T @ b, lambda a, b: a.T @ b, normal(4), normal(3))
case("matmul_vector", lambda a, b: ops.matmul(a, b[0]), lambda a, b: a @ b[0], normal(4), normal(4))
case("dot", lambda a, b: ops.dot(a, ops.transpose(b)), lambda a, b: np.dot(a, b.T), normal(4), normal(4))
case("outer", lambda a, b: ops.outer(a, b), np.outer, normal(2), normal(2))
for text, first, second in (
    ("bij,bjk->bik", (4, 3), (3, 2)), ("bij,bkj->bik", (4, 3), (2, 3)), ("bi,ci->bc", (3,), (3,)), ("bi,bi->b", (3,), (3,)),
    ("bi,bj->bij", (3,), (2,)), ("bi,bi->", (3,), (3,)),
):  # fmt: skip
    case(f"einsum_{text}", lambda a, b, t=text: ops.einsum(t, a, b), lambda a, b, t=text: np.einsum(t, a, b),
         normal(*first), normal(*second))  # fmt: skip

# --- windows --------------------------------------------------------------------------------------------------
case("conv", lambda x: ops.conv(x, normal_kernel(2, 3, 2, 4), 2, "same"),
     lambda x: convolved(x, normal_kernel(2, 3, 2, 4), (2, 2), (1, 1), "same", 2), normal(5, 4, 4))  # fmt: skip
case("depthwise_conv", lambda x: ops.depthwise_conv(x, normal_kernel(3, 2, 2)),
     lambda x: by_channel(x, normal_kernel(3, 2, 2), (1,), (1,), "valid"), normal(6, 2))  # fmt: skip
case("separable_conv", lambda x: ops.separable_conv(x, normal_kernel(3, 2, 2), normal_kernel(1, 4, 3)),
     lambda x: by_channel(x, normal_kernel(3, 2, 2), (1,), (1,), "valid") @ normal_kernel(1, 4, 3)[0],
     normal(6, 2))  # fmt: skip
case("conv_transpose", lambda x: ops.conv_transpose(x, normal_kernel(3, 2, 3, 2), 2, "same"),
     lambda x: transposed(x, normal_kernel(3, 2, 3, 2), (2, 2), (1, 1), "same", None), normal(3, 2, 2))  # fmt: skip
case("max_pool", lambda x: ops.max_pool(x, 2, padding="same"), lambda x: pooled(x, (2, 2), (2, 2), "same", "max"),
     normal(5, 4, 2), smooth=False)  # fmt: skip
case("average_pool", lambda x: ops.average_pool(x, 3, 2, "same"),
     lambda x: pooled(x, (3,), (2,), "same", "average"), normal(6, 2))  # fmt: skip

# --- entries --------------------------------------------------------------------------------------------------
case("take", lambda x: ops.take(x, [2, 0, 2], 1), lambda x: np.take(x, [2, 0, 2], 1), normal(4, 3))
case("take_along_axis", lambda x: ops.take_along_axis(x, ops.expand_dims(ops.argmax(x, -1), -1)),
     lambda x: np.take_along_axis(x, np.argmax(x, -1)[..., None], -1), normal(4))  # fmt: skip
case(
    "one_hot",
    lambda x: ops.one_hot(ops.argmax(x, -1), 4),
    lambda x: np.eye(4)[np.argmax(x, -1)],
    normal(4),
    smooth=False,
)
case("stop_gradient", lambda x: x * ops.stop_gradient(x), lambda x: x * x, normal(3), smooth=False)
case("cast", lambda x: ops.cast(ops.cast(x, "int64"), "float"), np.trunc, 3 * normal(3), smooth=False)
