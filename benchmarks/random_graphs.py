"""Random graphs of ops beside PyTorch's autograd: values, first and second derivatives, in float64.

    python benchmarks/random_graphs.py --graphs 60

Each graph takes two inputs of shape (B, 3, 4) and applies random ops, some of which mix the rows of the batch. With g
the gradients of the weighted sum of its result, the second derivatives are those of the sum of log(1 + g^2). An error
is the largest difference over the largest number of PyTorch's array, or over 1 if that is less. The exit status is 1
if one is above 1e-10. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import ops

torch: Any = importlib.import_module("torch")

SHAPE, BATCH, BOUND = (3, 4), 5, 1e-10
T = torch
F = torch.nn.functional
Function = Callable[..., Any]
#: for each op the number of operands, fastnn's function and PyTorch's; all operands and results have one shape
TABLE: dict[str, tuple[int, Function, Function]] = {}


def same(name: str, arity: int, function: Function) -> None:
    """Add an op that is written alike in both libraries: the function takes the library's functions first."""
    TABLE[name] = (arity, lambda *xs: function(ops, *xs), lambda *xs: function(torch, *xs))


def op(name: str, arity: int, ours: Function, theirs: Function) -> None:
    """Add an op."""
    TABLE[name] = (arity, ours, theirs)


for function in ("tanh", "sigmoid", "sin", "cos", "erf", "arctan", "square", "negative"):
    same(function, 1, lambda f, x, n=function: getattr(f, n)(x))
op("absolute", 1, ops.absolute, T.abs)
for function in ("exp", "expm1", "sinh", "cosh", "tan"):
    same(function, 1, lambda f, x, n=function: getattr(f, n)(f.tanh(x)))
for function in ("log", "sqrt", "rsqrt", "reciprocal"):
    same(function, 1, lambda f, x, n=function: getattr(f, n)(f.square(x) + 0.7))
same("log1p", 1, lambda f, x: f.log1p(f.square(x)))
for function in ("gelu", "silu", "mish", "softplus", "elu", "selu", "relu", "relu6", "softsign"):
    op(function, 1, getattr(ops, function), getattr(F, function))
op("leaky_relu", 1, lambda x: ops.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2))
# that of PyTorch has no second derivative
op("hard_sigmoid", 1, ops.hard_sigmoid, lambda x: T.clamp(x + 3.0, 0.0, 6.0) / 6.0)
op("softmax", 1, lambda x: ops.softmax(x, -1), lambda x: T.softmax(x, -1))
op("softmax_middle", 1, lambda x: ops.softmax(x, 1), lambda x: T.softmax(x, 1))
op("log_softmax", 1, lambda x: ops.log_softmax(x, -1), lambda x: T.log_softmax(x, -1))
op("clip", 1, lambda x: ops.clip(x, -0.8, 0.9), lambda x: T.clamp(x, -0.8, 0.9))
op("where", 2, lambda a, b: ops.where(a > b, a * b, b), lambda a, b: T.where(a > b, a * b, b))
same("add", 2, lambda f, a, b: a + b)
same("subtract", 2, lambda f, a, b: a - 0.5 * b)
same("multiply", 2, lambda f, a, b: a * b)
same("divide", 2, lambda f, a, b: a / (1.0 + f.square(b)))
op("power", 2, lambda a, b: ops.power(ops.square(a) + 0.7, ops.tanh(b)), lambda a, b: (a.square() + 0.7) ** T.tanh(b))
same("maximum", 2, lambda f, a, b: f.maximum(a, b))
same("minimum", 2, lambda f, a, b: f.minimum(a, b))

for axis in (0, 1, -1, (0, 2), (1, 2), (0, 1, 2)):
    op(f"mean {axis}", 1, lambda x, a=axis: x - ops.mean(x, a, keepdims=True),
       lambda x, a=axis: x - x.mean(a, keepdim=True))  # fmt: skip
    op(f"sum {axis}", 1, lambda x, a=axis: x * ops.tanh(ops.sum(x, a, keepdims=True)),
       lambda x, a=axis: x * T.tanh(x.sum(a, keepdim=True)))  # fmt: skip
    op(f"max {axis}", 1, lambda x, a=axis: x - ops.max(x, a, keepdims=True),
       lambda x, a=axis: x - x.amax(a, keepdim=True))  # fmt: skip
    op(f"min {axis}", 1, lambda x, a=axis: x * ops.min(x, a, keepdims=True),
       lambda x, a=axis: x * x.amin(a, keepdim=True))  # fmt: skip
    op(f"variance {axis}", 1, lambda x, a=axis: x / (0.3 + ops.var(x, a, keepdims=True)),
       lambda x, a=axis: x / (0.3 + x.var(a, unbiased=False, keepdim=True)))  # fmt: skip
    op(f"logsumexp {axis}", 1, lambda x, a=axis: x - ops.logsumexp(x, a, keepdims=True),
       lambda x, a=axis: x - T.logsumexp(x, a, keepdim=True))  # fmt: skip
# values stay small: PyTorch's logsumexp and its derivatives lose the digits that x has before the point
for axis in (0, 1, 2):
    op(f"prod {axis}", 1, lambda x, a=axis: x + ops.prod(ops.tanh(x), a, keepdims=True),
       lambda x, a=axis: x + T.tanh(x).prod(a, keepdim=True))  # fmt: skip
    op(f"cumsum {axis}", 1, lambda x, a=axis: ops.cumsum(x, a), lambda x, a=axis: T.cumsum(x, a))
    op(f"flip {axis}", 1, lambda x, a=axis: x * ops.flip(x, a), lambda x, a=axis: x * T.flip(x, (a,)))
    op(f"roll {axis}", 1, lambda x, a=axis: x + ops.roll(x, 1, a), lambda x, a=axis: x + T.roll(x, 1, a))
op("norm", 1, lambda x: x / (1.0 + ops.norm(x, axis=-1, keepdims=True)),
   lambda x: x / (1.0 + T.linalg.vector_norm(x, dim=-1, keepdim=True)))  # fmt: skip
op("std", 1, lambda x: x / (1.0 + ops.std(x, 0, keepdims=True)),
   lambda x: x / (1.0 + x.std(0, unbiased=False, keepdim=True)))  # fmt: skip
op("top_k", 1, lambda x: x + ops.sum(ops.top_k(x, 2)[0], -1, keepdims=True),
   lambda x: x + T.topk(x, 2)[0].sum(-1, keepdim=True))  # fmt: skip

op("matmul", 2, lambda a, b: ops.matmul(ops.matmul(a, ops.swapaxes(b, 1, 2)), a) / 8.0,
   lambda a, b: (a @ b.transpose(1, 2)) @ a / 8.0)  # fmt: skip
op("gram", 1, lambda x: ops.matmul(ops.swapaxes(x, 1, 2), x)[:, :3] / 4.0,
   lambda x: (x.transpose(1, 2) @ x)[:, :3] / 4.0)  # fmt: skip
op("all pairs", 2, lambda a, b: ops.reshape(_pairs(ops, a, b), (-1, 3, 4)),
   lambda a, b: _pairs(T, a, b).reshape(-1, 3, 4))  # fmt: skip
RNG = np.random.default_rng(1)
KERNEL, SMALL = RNG.normal(size=(4, 4)) / 2.0, RNG.normal(size=(3, 3)) / 2.0
op("weights", 1, lambda x: x @ KERNEL, lambda x: x @ T.from_numpy(KERNEL))
op("weights of rows", 1, lambda x: ops.einsum("bij,ki->bkj", x, SMALL),
   lambda x: T.einsum("bij,ki->bkj", x, T.from_numpy(SMALL)))  # fmt: skip
op("one for all", 2, lambda a, b: a @ (ops.swapaxes(b[0], 0, 1) @ b[1]) / 4.0,
   lambda a, b: a @ (b[0].transpose(0, 1) @ b[1]) / 4.0)  # fmt: skip
same("einsum", 2, lambda f, a, b: f.einsum("bij,bkj->bik", a, b)[:, :, :1] * b)
same("einsum over rows", 2, lambda f, a, b: f.einsum("bij,cij->bc", a, b)[:, :1, None] * a / 8.0)
same("einsum of columns", 2, lambda f, a, b: a * f.einsum("bij,bij->j", a, b) / 8.0)
op("tensordot", 2, lambda a, b: a + ops.einsum("bij,cjk->ik", a, ops.swapaxes(b, 1, 2))[:, :1] / 8.0,
   lambda a, b: a + T.einsum("bij,cjk->ik", a, b.transpose(1, 2))[:, :1] / 8.0)  # fmt: skip

op("reshape", 1, lambda x: ops.swapaxes(ops.reshape(ops.sin(x), (-1, 4, 3)), 1, 2),
   lambda x: T.sin(x).reshape(-1, 4, 3).transpose(1, 2))  # fmt: skip
op("transpose", 1, lambda x: ops.transpose(ops.sin(ops.transpose(x, (2, 0, 1))), (1, 2, 0)),
   lambda x: T.sin(x.permute(2, 0, 1)).permute(1, 2, 0))  # fmt: skip
op("concatenate", 2, lambda a, b: ops.concatenate([a[:, :, 1:3], b[:, :, ::2] * 2.0], -1),
   lambda a, b: T.cat([a[:, :, 1:3], b[:, :, ::2] * 2.0], -1))  # fmt: skip
op("concatenate rows", 2, lambda a, b: ops.concatenate([a[1:], b[:1]], 0), lambda a, b: T.cat([a[1:], b[:1]], 0))
op("stack", 2, lambda a, b: ops.sum(ops.stack([a, a * b], 1), 1), lambda a, b: T.stack([a, a * b], 1).sum(1))
op("split", 1, lambda x: ops.concatenate(list(ops.split(x, 2, -1))[::-1], -1),
   lambda x: T.cat(T.split(x, 2, -1)[::-1], -1))  # fmt: skip
op("backwards", 1, lambda x: x[:, ::-1] * x, lambda x: T.flip(x, (1,)) * x)
op("pad", 1, lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=0.3)[:, :3],
   lambda x: F.pad(x, (0, 0, 1, 1), value=0.3)[:, :3])  # fmt: skip
op("tile", 1, lambda x: ops.tile(x, (1, 1, 2))[:, :, 2:6] * x, lambda x: x.tile(1, 1, 2)[:, :, 2:6] * x)
op("repeat", 1, lambda x: ops.repeat(x, 2, 1)[:, 1:4], lambda x: x.repeat_interleave(2, 1)[:, 1:4])
op("broadcast", 1, lambda x: ops.broadcast_to(x[:, :1], (None, 3, 4)) + x, lambda x: x[:, :1].expand(-1, 3, 4) + x)
op("take", 1, lambda x: ops.take(x, [2, 0, 2], 1), lambda x: x[:, [2, 0, 2]])
op("take_along_axis", 1,
   lambda x: x * ops.take_along_axis(x, ops.expand_dims(ops.argmax(x, -1), -1), -1),
   lambda x: x * T.take_along_dim(x, x.argmax(-1, keepdim=True), -1))  # fmt: skip
op("stop_gradient", 1, lambda x: x * ops.stop_gradient(ops.sin(x)), lambda x: x * T.sin(x).detach())
op("layer norm", 1, lambda x: fnn.LayerNormalization(epsilon=0.1)(x), lambda x: F.layer_norm(x, (4,), eps=0.1))
op("rms norm", 1, lambda x: fnn.RMSNormalization(epsilon=0.1)(x), lambda x: F.rms_norm(x, (4,), eps=0.1))


def _pairs(f: Any, a: Any, b: Any) -> Any:
    """Weigh the rows of one batch by their likeness to those of another."""
    x, y = (z.reshape(-1, 12) if f is T else ops.reshape(z, (-1, 12)) for z in (a, b))
    return f.tanh(x @ y.T / 12.0) @ y


def graph(rng: np.random.Generator, length: int, unused: list[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Choose ops and the values that they take: the last one, and any earlier one; ops that were never chosen first."""
    steps, values = [], 2
    for _ in range(length):
        name = unused.pop() if unused else str(rng.choice(list(TABLE)))
        operands = [values - 1, *(int(rng.integers(values)) for _ in range(TABLE[name][0] - 1))]
        steps.append((name, tuple(operands)))
        values += 1
    return steps


def apply(steps: list[tuple[str, tuple[int, ...]]], inputs: list[Any], library: int) -> Any:
    """Compute a graph's result; every value is squashed, so that sizes stay alike."""
    values, squash = list(inputs), (ops.tanh, T.tanh)[library - 1]
    table: dict[str, Any] = TABLE
    for name, operands in steps:
        values.append(table[name][library](*(values[each] for each in operands)))
        values[-1] = values[-1] + 0.1 * squash(values[0] * values[1])
    return values[-1]


def ours(steps: Any, arrays: list[Any], weights: Any) -> list[Any]:
    """Return the value, its gradients, and the gradients of these."""
    inputs = [fnn.Input(SHAPE) for _ in arrays]
    y = apply(steps, inputs, 1)
    first = ops.gradients(ops.sum(y * weights), inputs)
    total: Any = sum(ops.sum(ops.log1p(ops.square(g))) for g in first)
    second = ops.gradients(total, inputs)
    return list(fnn.Model(inputs, [y, *first, *second], dtype="float64").predict(arrays))


def theirs(steps: Any, arrays: list[Any], weights: Any) -> list[Any]:
    """Return the same of PyTorch."""
    inputs = [T.from_numpy(array).requires_grad_() for array in arrays]
    y = apply(steps, inputs, 2)
    first = T.autograd.grad((y * T.from_numpy(weights)).sum(), inputs, create_graph=True)
    second = T.autograd.grad(sum(T.log1p(g.square()).sum() for g in first), inputs)
    return [x.detach().numpy() for x in (y, *first, *second)]


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--graphs", type=int, default=60)
    parser.add_argument("--ops", type=int, default=10, help="ops of a graph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    T.set_default_dtype(T.float64)
    rng = np.random.default_rng(arguments.seed)
    unused = [str(name) for name in rng.permutation(list(TABLE))]
    worst, used, bad = np.zeros(3), Counter[str](), 0
    for number in range(arguments.graphs):
        steps = graph(rng, arguments.ops, unused)
        used.update(name for name, _ in steps)
        arrays = [rng.normal(size=(BATCH, *SHAPE)) for _ in range(2)]
        weights = rng.uniform(0.5, 1.5, SHAPE)
        try:
            found = ours(steps, arrays, weights)
        except Exception as error:
            bad += 1
            print(f"graph {number}: {steps}: {type(error).__name__}: {error}")
            if arguments.verbose:
                traceback.print_exc()
            continue
        expected = theirs(steps, arrays, weights)
        errors = [
            float(np.abs(got - right).max() / max(1.0, np.abs(right).max()))
            for got, right in zip(found, expected, strict=True)
        ]
        by_order = np.array([errors[0], max(errors[1:3]), max(errors[3:])])
        wrong = not (by_order <= BOUND).all()
        bad += wrong
        if wrong or arguments.verbose:
            print(f"graph {number}: errors {by_order}: {steps}")
        worst = np.fmax(worst, by_order)
    print(
        f"{arguments.graphs} graphs of {arguments.ops} ops, {len(used)} of {len(TABLE)} ops used; largest errors: "
        f"values {worst[0]:.1e}, first derivatives {worst[1]:.1e}, second {worst[2]:.1e}; {bad} above {BOUND:.0e}"
    )
    return int(bool(bad) or math.isnan(worst.sum()))


if __name__ == "__main__":
    sys.exit(main())
