"""Matrix multiplication by fastnn's own kernel, on NumPy arrays."""

from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import activations, casts
from fastnn.addresses import address
from fastnn.backend.cpu.calls.matmul_call import Direct, direct_matmul, never
from fastnn.backend.cpu.executor.engine import BoundProgram, Runner
from fastnn.backend.cpu.layouts.array_object import READABLE, WRITEABLE
from fastnn.formulas.custom import is_custom
from fastnn.locks import ForkSafeLock
from fastnn.program.layout import CONTEXT_WORDS, Buffer, Flag, encode
from fastnn.program.program import RecordDraft, make_program
from fastnn.program.record import KernelKey
from fastnn.threads import checked, get_num_threads

_A, _B, _C, _BIAS = range(4)
_ARRAY, _DATA = np.ndarray, int(Buffer.DATA)
_KEPT_PLANS = 32
_plans: dict[Any, list[_Plan]] = {}
_empty = np.empty
_direct: Direct = never
#: two threads must not make the builtin's scratch memory at once: one would free memory that the other hands out
_guard = ForkSafeLock()


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    out: NDArray[Any] | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: ArrayLike | None = None,
    activation: Any = None,
    n_threads: int | None = None,
) -> NDArray[Any]:
    """Multiply two matrices, add a bias and apply an activation: activation(op(a) @ op(b) + bias).

    Subnormal numbers (below 1.2e-38 in float32) count as zeros, as in all of fastnn's kernels.

    Parameters
    ----------
    a : array_like, shape (m, k), or (k, m) with `transpose_a`
    b : array_like, shape (k, n), or (n, k) with `transpose_b`
        Both float32 or both float64, of any strides. Non-contiguous arrays are copied, but the transpose of a
        contiguous array is read in place.
    out : ndarray, shape (m, n), optional
        C-contiguous, of the inputs' dtype; must not overlap the inputs.
    transpose_a, transpose_b : bool
        Whether to use the transpose.
    bias : array_like, shape (n,), optional
    activation : str or activation object, optional
        An elementwise one; softmax and log_softmax are only for layers.
    n_threads : int, optional
        Maximum number of threads, used if the product is large enough; `fastnn.get_num_threads()` by default. Does
        not change the result.

    Returns
    -------
    ndarray, shape (m, n)
        `out` if it is given.

    Raises
    ------
    TypeError
        When dtypes differ or are neither float32 nor float64, or the bias is not numeric.
    ValueError
        When shapes do not fit, `out` overlaps an input, elements are masked, or a number of the bias is too large for
        the inputs' dtype.
    """
    x: Any = a
    y: Any = b
    plain = (
        type(x) is type(y) is _ARRAY
        and type(transpose_a) is type(transpose_b) is bool
        and bias is activation is n_threads is None
        and x.ndim == y.ndim == 2
    )
    key = None
    if plain:
        product = _empty((x.shape[transpose_a], y.shape[not transpose_b]), x.dtype) if out is None else out
        if _direct(x, y, product, transpose_a, transpose_b):
            return product
        key = (x.shape, y.shape, x.dtype, y.dtype, transpose_a, transpose_b)
        stack = _plans.get(key)
        plan = _taken(stack) if stack else None
        if stack is not None and plan is not None:
            done = plan.run(x, y, product)
            stack.append(plan)
            if done:
                return product
    left, transpose_a = _operand(a, bool(transpose_a), "a")
    right, transpose_b = _operand(b, bool(transpose_b), "b")
    if left.dtype != right.dtype:
        raise TypeError(f"a and b have different dtypes, {left.dtype} and {right.dtype}")
    m, k = left.shape[::-1] if transpose_a else left.shape
    k_right, n = right.shape[::-1] if transpose_b else right.shape
    if k != k_right:
        raise ValueError(f"op(a) has shape {(m, k)} and op(b) {(k_right, n)}: the inner dimensions differ")
    function = activations.get(activation)
    casts.check_hyperparameters(function, left.dtype.name, "activation")
    if function.rowwise:
        raise ValueError(f"activation: {function.name!r} works on rows; expected an elementwise activation")
    result = _output(out, (m, n), left, right)
    shift = None
    if bias is not None:
        given = casts.plain(bias, "bias")
        if given.dtype.kind not in "biuf":
            raise TypeError(f"bias: expected numbers, got an array of dtype {given.dtype}")
        if given.shape != (n,):
            raise ValueError(f"bias: expected shape ({n},), got {given.shape}")
        shift = np.ascontiguousarray(casts.cast(given, left.dtype.name, "bias"))
        if out is not None and np.may_share_memory(out, shift):
            raise ValueError("out: may not share memory with bias")
    threads = get_num_threads() if n_threads is None else checked("n_threads", n_threads)
    if m == 0 or n == 0:
        return result
    if k == 0:
        result[...] = function(np.zeros((m, n), left.dtype) + (0 if shift is None else shift))
        return result
    bind = _bound_users if is_custom(function.formula) else _bound
    bound = bind(left.dtype.name, m, n, k, transpose_a, transpose_b, shift is not None, function)
    context = np.zeros(CONTEXT_WORDS, np.int64)
    for slot, array in ((_A, left), (_B, right), (_C, result), (_BIAS, shift)):
        context[Buffer.DATA + slot] = 0 if array is None else address(array)
    bound.run(context, 1, threads)
    if plain and left is x and right is y:
        _keep(key, bound, result)
    return result


def _taken(stack: list[_Plan]) -> _Plan | None:
    """Pop a plan from a stack, or return None if another thread has just taken the last one."""
    try:
        return stack.pop()
    except IndexError:
        return None


def _keep(key: Any, bound: BoundProgram, result: NDArray[Any]) -> None:
    """Prepare for later products like this one, which skip the checks: see `fastnn.backend.cpu.calls.matmul_call`."""
    global _direct
    with _guard:
        made = direct_matmul()
        made.admit(bound)
        _direct = made.call
    if not made.takes(*key[2:4]) and not _plans.get(key):
        if len(_plans) >= _KEPT_PLANS:
            _plans.clear()
        # threads that multiply at the same time each take a plan from the stack
        _plans.setdefault(key, []).append(_Plan(bound, key[2], key[0], key[1], result.shape))


class _Plan:
    """The product of C-contiguous matrices of one shape and dtype, ready to run; for one caller at a time."""

    def __init__(self, bound: BoundProgram, dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> None:
        self._shape, self._dtype = shapes[2], dtype
        self._sizes = [prod(shape) * dtype.itemsize for shape in shapes]
        context = np.zeros(CONTEXT_WORDS, np.int64)
        self._words, self._runner, self._bound = memoryview(context.data), Runner(context), bound

    def run(self, a: NDArray[Any], b: NDArray[Any], out: Any) -> bool:
        """Multiply; returns False if the arrays, which have the plan's shapes and dtype, cannot be used in place."""
        if (
            a.flags.num & b.flags.num & READABLE != READABLE
            or type(out) is not _ARRAY
            or out.shape != self._shape
            or out.dtype != self._dtype
            or out.flags.num & WRITEABLE != WRITEABLE
        ):
            return False
        words, left, right, product = self._words, address(a), address(b), address(out)
        size_a, size_b, size = self._sizes
        if (left < product + size and product < left + size_a) or (right < product + size and product < right + size_b):
            return False
        words[_DATA], words[_DATA + 1], words[_DATA + 2] = left, right, product
        self._runner.run(self._bound, 1, get_num_threads())
        return True


def _operand(value: ArrayLike, transposed: bool, what: str) -> tuple[NDArray[Any], bool]:
    """Return a C-contiguous matrix, and whether to use its transpose."""
    array = casts.plain(value, what)
    if array.dtype not in (np.float32, np.float64) or not array.dtype.isnative:
        raise TypeError(f"{what}: expected float32 or float64, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{what}: expected a matrix, got shape {array.shape}")
    if array.flags.c_contiguous and array.flags.aligned:
        return array, transposed
    if array.flags.f_contiguous and array.flags.aligned:
        return array.T, not transposed
    return np.array(array, order="C"), transposed


def _output(out: Any, shape: tuple[int, int], left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, left.dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != left.dtype:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"out: expected a {left.dtype} array of shape {shape}, got {got}")
    if not out.flags.c_contiguous or not out.flags.writeable or not out.flags.aligned:
        raise ValueError("out: expected a writeable C-contiguous array")
    if np.may_share_memory(out, left) or np.may_share_memory(out, right):
        raise ValueError("out: may not share memory with a or b")
    return out


def _make(
    dtype: str, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, has_bias: bool, function: Any
) -> Any:
    flags = Flag.TRANSPOSE_A * transpose_a | Flag.TRANSPOSE_B * transpose_b
    operands = {name: encode(Buffer.DATA + slot, 0) for name, slot in (("a", _A), ("b", _B), ("c", _C))}
    if has_bias:
        operands["bias"] = encode(Buffer.DATA + _BIAS, 0)
    mapped, params = None, {}
    if function.formula != "linear":
        flags |= Flag.MAP_FORWARD
        mapped = KernelKey("map", dtype, function.formula)
        params = {f"p{index}": number for index, number in enumerate(function.parameters)}
    draft = RecordDraft(
        "matmul", operands, {"m": m, "n": n, "k": k}, params, Flag(flags), mapped=mapped, label="matmul"
    )
    return BoundProgram(make_program("matmul", m, dtype, [draft], [], {}))


_bound = functools.lru_cache(maxsize=256)(_make)
# a kernel of a user-defined function takes 4 MB
_bound_users = functools.lru_cache(maxsize=16)(_make)
