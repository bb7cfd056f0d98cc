"""The table of cases of all record ops: operands and error bounds."""

from collections.abc import Mapping

import numpy as np

from attention_cases import attention_cases, step_cases
from fastnn.formulas import custom
from fastnn.formulas.activations import SAVES
from fastnn.formulas.optimizers import FORMULAS
from fastnn.program.layout import Flag
from making import Bound, Case, Make, away, one_hot, probabilities, signs, uniform
from move_cases import AXES, move_cases
from norm_cases import LONG, norm_cases
from pointwise_cases import number_cases, pointwise_cases
from recurrent_cases import recurrent_cases
from update_cases import update_cases
from window_cases import BY_CHANNEL, FEW, GEOMETRIES, POOLS, convolution_cases, pooling_cases, sum_cases

VECTORS = (1, 7, 31, 33, 333)
# (150, 10): several blocks of short rows, the last one incomplete, and more than one part where parts are 64 rows
TABLES = ((1, 1), (7, 31), (33, 7), (3, 130), (31, 33), (150, 10))
CLASSES = ((1, 2), (7, 31), (33, 7), (3, 130), (150, 10))

CASES: list[Case] = []


def case(op: str, dims: Mapping[str, int], **rest: object) -> None:
    """Add a case to the table."""
    rest["optional"] = frozenset(rest.get("optional", ()))
    CASES.append(Case(op, dims, **rest))


# --- data -------------------------------------------------------------------------------------------------------
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SOURCE_ROWS = 70
LAYOUTS = {
    "rows": lambda make: make((SOURCE_ROWS, 7)),
    "packs": lambda make: make((SOURCE_ROWS, 8)),  # of 16 bytes, which CUDA kernels copy at once
    "columns": lambda make: make((SOURCE_ROWS, 20))[:, 3:17:2],
    "reversed": lambda make: make((SOURCE_ROWS, 7))[::-1],
    "transposed": lambda make: make((33, SOURCE_ROWS)).T,
    "images": lambda make: make((SOURCE_ROWS, 3, 4, 5)).transpose(0, 2, 3, 1),
    "repeated": lambda make: np.broadcast_to(make((1, 6)), (SOURCE_ROWS, 6)),
}


def source(dtype: str, layout: str, top: int) -> np.ndarray:
    """Make an array to gather from; integers over their whole range, but at most up to `top`."""
    rng = np.random.default_rng(3)

    def make(shape: tuple[int, ...]) -> np.ndarray:
        if dtype in INTEGERS:
            info = np.iinfo(dtype)
            return rng.integers(max(info.min, -top), min(info.max, top), shape, dtype, endpoint=True)
        return np.round(100.0 * rng.standard_normal(shape)).astype(dtype) / (1 if top < 2**40 else 3)

    return LAYOUTS[layout](make)


def gather_case(op: str, dtype: str, layout: str, rows: int, indexed: bool, **more: object) -> None:
    """Add a case that gathers twice `rows` rows from an array."""
    array = source(dtype, layout, 2**31 - 1 if op == "gather_labels" else 2**64 - 1)
    inner = list(zip(array.shape[1:], array.strides[1:], strict=True))
    if len(inner) == 1 and inner[0][1] == array.itemsize:
        inner = [(0, 0)]
    inner += [(0 if inner[0][0] == 0 else 1, 0)] * (3 - len(inner))
    dims = {"rows": rows, "size": array[0].size, "row_stride": array.strides[0]}
    for axis, (size, stride) in enumerate(inner):
        dims |= {f"size{axis}": size, f"stride{axis}": stride}
    index = np.random.default_rng(4).permutation(SOURCE_ROWS) if indexed else None
    case(op, dims, variant=dtype, steps=2, index=index, optional={"index"} if indexed else (), bound=Bound(1),
         counters={"cursor": 3}, make_arrays=lambda dtype: {0: array}, note=layout, **more)  # fmt: skip


for dtype in ("float32", "float64", *INTEGERS):
    for op in ("gather", "gather_labels"):
        for layout in LAYOUTS if dtype in ("float32", "uint8") else ("rows", "images"):
            for indexed in (False, True):
                gather_case(op, dtype, layout, 31, indexed)
for rows in (1, 7, 33):
    gather_case("gather", "float64", "rows", rows, True, flags=Flag.CHECK_FINITE)
    gather_case("gather", "float64", "packs", rows, True)
for rows, size in TABLES:
    case("store", {"rows": rows, "size": size}, steps=3, counters={"cursor": 2}, bound=Bound(0),
         make_arrays=lambda dtype, rows=rows, size=size: {0: np.full((2 + 3 * rows, size), np.nan, dtype)})  # fmt: skip
    case("one_hot", {"rows": rows, "cols": size}, bound=Bound(0),  # some integers are no columns
         special={"index": lambda rng, shape, cols=size: rng.integers(-1, cols + 1, shape)})  # fmt: skip
for flags in (Flag(0), Flag.TRAINING):
    case("tick", {"rows": 5}, flags=flags, counters={"step": 2**40, "cursor": 10, "chunk_step": 1})

# --- matmul -------------------------------------------------------------------------------------------------
SHAPES = ((1, 1, 1), (7, 31, 33), (33, 7, 31), (1, 33, 300), (31, 130, 7), (40, 66, 600), (13, 64, 257))
TRANSPOSES = (Flag(0), Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, Flag.TRANSPOSE_A | Flag.TRANSPOSE_B)
for m, n, k in SHAPES:
    dims, bound = {"m": m, "n": n, "k": k}, Bound(2, 4 + 2 * k)
    for flags in TRANSPOSES:
        # an accumulating matmul has no bias: the lowering emits none, and the kernel starts from what c holds
        case("matmul", dims, flags=flags | Flag.ACCUMULATE, bound=bound)
        case("matmul", dims, flags=flags, bound=bound)
        case("matmul", dims, flags=flags, optional={"bias"}, bound=bound)
    for formula in ("relu", "gelu", "tanh"):
        for optional in ({"bias"}, {"bias", "pre"}, {"pre"}):
            case("matmul", dims, flags=Flag.MAP_FORWARD, formula=formula, optional=optional, bound=bound)
        case("matmul", dims, flags=Flag.MAP_GRADIENT | Flag.TRANSPOSE_B, formula=formula, optional={"saved"},
             special={"saved": uniform(-0.9, 0.9)}, bound=bound)  # fmt: skip


def batched_case(sizes: tuple[int, ...], flags: Flag, note: str = "", **more: int) -> None:
    """Add a case by samples, count, m, n, k; `more` are other places than those of dense operands."""
    samples, count, m, n, k = sizes
    dims = {"samples": samples, "count": count, "inner": count, "m": m, "n": n, "k": k}
    for name, (rows, cols), flag in (("a", (m, k), Flag.TRANSPOSE_A), ("b", (k, n), Flag.TRANSPOSE_B)):
        dims |= {f"{name}_size": count * rows * cols, f"{name}_first": 0, f"{name}_between": rows * cols}
        dims[f"{name}_row"] = rows if flag in flags else cols
    dims |= {"c_between": m * n, "c_row": n}
    scale = 0.37 if note or flags == Flag.TRANSPOSE_B else 1.0
    case("batched_matmul", {**dims, **more}, flags=flags, params={"scale": scale}, bound=Bound(4, 4 + 2 * k), note=note)


for flags in TRANSPOSES:
    for sizes in ((1, 1, 1, 1, 1), (7, 1, 1, 1, 33), (3, 2, 7, 31, 33), (2, 3, 1, 33, 7), (2, 3, 33, 1, 31),
                  (1, 2, 40, 66, 130), (31, 1, 3, 7, 5)):  # fmt: skip
        batched_case(sizes, flags)
batched_case((3, 2, 7, 7, 7), Flag(0), "square")
# heads of attention within packed queries, keys and values, and their results side by side
for sizes in ((2, 3, 5, 7, 6), (3, 2, 33, 31, 16)):
    samples, count, m, n, k = sizes
    width = 3 * count * k
    batched_case(sizes, Flag.TRANSPOSE_B, "views", a_size=m * width, a_between=k, a_row=width, b_size=n * width,
                 b_first=count * k, b_between=k, b_row=width)  # fmt: skip
    batched_case(sizes, Flag(0), "views", b_size=k * 2 * count * n, b_first=count * n, b_between=n, b_row=2 * count * n,
                 c_between=n, c_row=count * n)  # fmt: skip
    batched_case(sizes, Flag.TRANSPOSE_A, "views", a_size=k * 2 * count * m, a_between=m, a_row=2 * count * m,
                 c_between=n, c_row=count * n)  # fmt: skip
# vectors, and matrices with gaps
for sizes in ((1, 1, 1, 40, 7), (1, 1, 9, 1, 7), (2, 1, 2, 33, 5), (1, 1, 40, 66, 70)):
    samples, _, m, n, k = sizes
    batched_case(sizes, Flag(0), "gaps", a_size=m * (k + 3), a_first=2, a_row=k + 3)
    batched_case(sizes, Flag.TRANSPOSE_A | Flag.TRANSPOSE_B, "gaps", b_size=n * (k + 5), b_first=5, b_row=k + 5)
    if n > 1:
        batched_case(sizes, Flag(0), "column gaps", b_size=k * (n + 2), b_first=1, b_row=n + 2)
# groups of 3 results that share matrices of an operand, or whose matrices come again in the next group
SHARED = ((Flag.REPEAT_A, Flag.CYCLE_A), (Flag.REPEAT_B, Flag.CYCLE_B))
for sizes in ((1, 6, 5, 7, 4), (3, 6, 33, 31, 16), (2, 6, 1, 9, 3), (2, 6, 9, 1, 3), (2, 3, 40, 66, 33)):
    for number, flags in enumerate((Flag.REPEAT_A, Flag.REPEAT_B | Flag.TRANSPOSE_B, Flag.CYCLE_A | Flag.TRANSPOSE_A,
                                    Flag.CYCLE_B, Flag.REPEAT_A | Flag.CYCLE_B,
                                    Flag.CYCLE_A | Flag.REPEAT_B)):  # fmt: skip
        _, count, m, n, k = sizes
        a, b = (count // 3 if repeat in flags else 3 if cycle in flags else count for repeat, cycle in SHARED)
        batched_case(sizes, flags, f"groups{number}", inner=3, a_size=a * m * k, b_size=b * k * n)
for rows, cols in TABLES:
    case("bias_add", {"rows": rows, "cols": cols}, bound=Bound(1))
    for flags in (Flag(0), Flag.ACCUMULATE):
        case("sum_rows", {"rows": rows, "cols": cols}, flags=flags, bound=Bound(1, rows))

# --- windows over maps ----------------------------------------------------------------------------------------
CASES.extend(each for geometry in (*GEOMETRIES, *BY_CHANNEL, *FEW) for each in convolution_cases(geometry))
CASES.extend(each for geometry in POOLS for each in pooling_cases(geometry))
CASES.extend(sum_cases(VECTORS))

# --- elementwise ----------------------------------------------------------------------------------------------
# kinks of the function, and a parameter
ACTIVATIONS = {
    "step": ((0.5,), 0.5), "hard_sigmoid": ((-3.0, 3.0), 0.0), "relu": ((0.0,), 0.0), "relu6": ((0.0, 6.0), 0.0),
    "leaky_relu": ((0.0,), 0.25), "elu": ((0.0,), 0.75), "selu": ((0.0,), 0.0),
}  # fmt: skip


def saved_output(formula: str) -> Make:
    """Make possible values of `saved` for an activation's gradient."""
    if formula == "sigmoid":
        return uniform(0.0, 1.0)
    if formula == "hard_sigmoid":
        return away(0.0, 1.0, spread=1.0)
    if formula == "tanh":
        return uniform(-1.0, 1.0)
    if formula in ("elu", "selu"):
        return lambda rng, shape: np.maximum(away(0.0)(rng, shape), -0.7)
    if formula == "softplus":
        return uniform(0.01, 8.0)
    return away(*ACTIVATIONS.get(formula, ((), 0.0))[0], spread=3.0)


for formula in SAVES:
    kinks, parameter = ACTIVATIONS.get(formula, ((), 0.0))
    for n in VECTORS:
        more = {"formula": formula, "params": {"p0": parameter}, "bound": Bound(8, 1)}
        case("activation", {"n": n}, special={"x": away(*kinks)}, **more)
        if formula != "step":
            case("activation_grad", {"n": n}, special={"saved": saved_output(formula)}, **more)
for n in VECTORS:
    case("add", {"n": n}, bound=Bound(1))
    case("multiply", {"n": n}, bound=Bound(1))
    for number, (rate, step, seed) in enumerate(((0.0, 0, 0), (0.3, 5, 17), (0.9, 2**40 + 3, -(2**62) + 9))):
        counters = {"step": step, "seed": seed}
        case("dropout", {"n": n, "node": number}, params={"rate": rate}, counters=counters, bound=Bound(2))
        case("gaussian_noise", {"n": n, "node": 2**31 + number}, params={"stddev": 0.5}, counters=counters,
             bound=Bound(2, 32))  # fmt: skip
for outer, repeat, inner in AXES:
    dims = {"outer": outer, "repeat": repeat, "inner": inner}
    case("broadcast_add", dims, bound=Bound(1))
    case("broadcast_multiply", dims, bound=Bound(1))
CASES.extend([*move_cases(TABLES, VECTORS), *pointwise_cases(VECTORS), *number_cases(VECTORS)])

# --- rows -------------------------------------------------------------------------------------------------------
for rows, cols in TABLES:
    dims = {"rows": rows, "cols": cols}
    logits = {"x": lambda rng, shape: 3.0 * rng.standard_normal(shape)}
    case("softmax", dims, special=logits, bound=Bound(16))
    case("log_softmax", dims, special=logits, bound=Bound(8, 8))
    case("softmax_grad", dims, special={"y": probabilities}, bound=Bound(4, 4))
    case("log_softmax_grad", dims, bound=Bound(8, 8 + cols),
         special={"y": lambda rng, shape: np.log(probabilities(rng, shape))})  # fmt: skip
CASES.extend(norm_cases(TABLES))
CASES.extend(recurrent_cases())
CASES.extend(attention_cases())
CASES.extend(step_cases())
for rows, cols in LONG:
    case("sum_rows", {"rows": rows, "cols": cols}, special={"x": uniform(1.0, 1.2)}, bound=Bound(16), note="long")

# --- functions of users -------------------------------------------------------------------------------------------


def _squares(x, w, y):
    for unit in range(len(y)):
        total = x[0] * 0
        for i in range(len(x)):
            total += w[unit, i] * x[i] * x[i]
        y[unit] = total


def _squares_gradient(x, w, dy, dx, dw):
    for unit in range(len(dy)):
        for i in range(len(x)):
            dx[i] += 2 * w[unit, i] * x[i] * dy[unit]
            dw[unit, i] += x[i] * x[i] * dy[unit]


def _pairs(x, y):
    for unit in range(len(y)):
        y[unit] = x[unit] * x[unit + 1]


def _pairs_gradient(x, dy, dx):
    for unit in range(len(dy)):
        dx[unit] += x[unit + 1] * dy[unit]
        dx[unit + 1] += x[unit] * dy[unit]


for rows, cols, units in ((1, 2, 1), (7, 31, 5), (33, 7, 3)):
    for gradient in (True, False):
        weighted = custom.make("squares", _squares, _squares_gradient if gradient else None, shape=(units, cols)).key
        plain = custom.make("pairs", _pairs, _pairs_gradient if gradient else None).key
        for key, optional, size, of in ((weighted, ("w",), units * cols, units), (plain, (), 1, cols - 1)):
            dims = {"rows": rows, "cols": cols, "units": of, "size": size}
            note = "differences" if not gradient else ""
            # differences in float64, extrapolated, are right to nine digits; they are given to float32 as they are
            bound = Bound(8 + cols, 4e7 if not gradient else 16 + cols * units)
            case("row_function", dims, variant=key, optional=optional, bound=Bound(8 + cols, 16 + cols), note=note)
            for flags in (Flag(0), Flag.ACCUMULATE) if optional else (Flag(0),):
                case("row_function_grad", dims, variant=key, optional={*optional, *(("dw",) if optional else ())},
                     flags=flags, bound=bound, note=note)  # fmt: skip

# --- losses -----------------------------------------------------------------------------------------------------
# prediction and target, parameter; predictions keep away from kinks for these targets


def _around(kinks: tuple[float, ...], targets: Make) -> tuple[Make, Make]:
    """Make predictions whose distance from the target keeps away from kinks."""

    def target(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return targets(np.random.default_rng(7), shape)

    return lambda rng, shape: target(rng, shape) + away(*kinks)(rng, shape), target


def _margins(kink: float) -> tuple[Make, Make]:
    """Make predictions for targets of -1 and 1 whose product with the target keeps away from a kink."""

    def target(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return signs(np.random.default_rng(7), shape)

    return lambda rng, shape: target(rng, shape) * (kink + away(0.0)(rng, shape)), target


LOSSES: dict[str, tuple[tuple[Make, Make], float]] = {
    "value": (_around((), uniform(-1, 1)), 0.0),
    "mean_squared_error": (_around((), uniform(-1, 1)), 0.0),
    "mean_absolute_error": (_around((0.0,), uniform(-1, 1)), 0.0),
    "huber": (_around((-0.75, 0.75), uniform(-1, 1)), 0.75),
    "log_cosh": (_around((), uniform(-1, 1)), 0.0),
    "binary_cross_entropy": ((uniform(0.05, 0.95), uniform(0, 1)), 0.1),
    "binary_cross_entropy_logits": ((away(spread=4.0), uniform(0, 1)), 0.1),
    "hinge": (_margins(1.0), 0.0),
    "perceptron": (_margins(0.0), 0.0),
    "poisson": ((uniform(0.1, 3), uniform(0, 3)), 0.0),
    "poisson_logits": ((away(spread=3.0), uniform(0, 3)), 0.0),
    "kl_divergence": ((uniform(0.05, 0.95), probabilities), 0.0),
}
# all kinds of sample weights and gradients: (rows of a sample, optional operands)
MODES = ((1, ("dx",)), (1, ("dx", "weight")), (1, ("weight",)), (1, ()), (None, ("dx", "weight")))
weights = {"weight": lambda rng, shape: rng.integers(0, 4, shape) / 2.0}


def _loss_cases(op: str, tables: tuple, x: Make, target: Make, bound: Bound, **more: object) -> None:
    for rows, cols in tables:
        for per_sample, optional in MODES[: 4 if rows == 1 else 5]:
            per_sample = per_sample or (11 if rows == 33 else rows)
            dims = {"rows": rows, "cols": cols, "per_sample": per_sample, "samples": rows // per_sample}
            dims |= {"divisor": 2} if op == "loss" else {}
            case(op, dims, optional=optional, special={"x": x, "target": target, **weights},
                 bound=Bound(bound.relative, bound.absolute + cols / 4), **more)  # fmt: skip


for variant, ((x, target), parameter) in LOSSES.items():
    params = {"scale": 0.37, "a": parameter}
    _loss_cases("loss", TABLES, x, target, Bound(32, 4), variant=variant, params=params)


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make labels of two classes, which every table of classes has."""
    return rng.integers(0, 2, shape)


def logits_without(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make logits whose last one is -inf: an impossible class."""
    return np.where(np.arange(shape[1]) == shape[1] - 1, -np.inf, rng.standard_normal(shape))


def certain(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make probabilities of 0 for the first class and 1 for the second."""
    return np.where(np.arange(shape[1]) == 1, 1.0, np.zeros(shape))


def first_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make one-hot rows of the first class."""
    return np.where(np.arange(shape[1]) == 0, 1.0, np.zeros(shape))


for smoothing in (0.0, 0.2):
    params, note = {"scale": 0.37, "label_smoothing": smoothing}, f"smoothing{smoothing:g}"
    _loss_cases("cross_entropy", CLASSES, probabilities, one_hot, Bound(16, 4), params=params, note=note)
    _loss_cases("cross_entropy", CLASSES, probabilities, probabilities, Bound(16, 4), params=params,
                note=f"soft-{note}")  # fmt: skip
    _loss_cases("cross_entropy_labels", CLASSES, probabilities, labels, Bound(16, 4), params=params, note=note)
    _loss_cases("cross_entropy_logits", CLASSES, away(spread=3.0), one_hot, Bound(16, 8), params=params, note=note)
    _loss_cases("cross_entropy_logits", CLASSES, away(spread=3.0), probabilities, Bound(16, 8), params=params,
                note=f"soft-{note}")  # fmt: skip
    _loss_cases("cross_entropy_logits_labels", CLASSES, away(spread=3.0), labels, Bound(16, 8), params=params,
                note=note)  # fmt: skip
params = {"scale": 0.37, "label_smoothing": 0.0}
_loss_cases("cross_entropy", ((7, 31),), certain, first_hot, Bound(16, 4), params=params, note="clipped")
_loss_cases("cross_entropy_logits", ((7, 31),), logits_without, first_hot, Bound(16, 8), params=params, note="-inf")
for rows in (1, 7, 33, 333):
    for per_sample, optional in sorted({(1, ()), (1, ("weight",)), (rows, ("weight",))}):
        dims = {"rows": rows, "per_sample": per_sample, "samples": rows // per_sample}
        for op in ("sum_loss", "sum_loss_by_weight")[: 1 + len(optional)]:
            for most in (0.0, 0.2):
                case(op, dims, optional=optional, special=weights, params={"most": most},
                     bound=Bound(4, 4 * rows if most else rows),
                     note=f"most{most:g}")  # fmt: skip
    for per_sample in sorted({1, rows}):
        dims = {"rows": rows, "per_sample": per_sample, "samples": rows // per_sample}
        for note, made in (*weights.items(), ("zeros", lambda rng, shape: np.zeros(shape))):
            case("normalize_weights", dims, special={"weight": made}, bound=Bound(2), note=note)
            for normalized in (0, 1):
                for optional in ((), ("weight",)):
                    more = {**dims, "normalized": normalized}
                    special = {"mask": lambda rng, shape: (rng.uniform(size=shape) < 0.7).astype(float), "weight": made}
                    case("mask_weights", more, optional=optional, special=special, bound=Bound(4), note=note)
for n in VECTORS:
    for l1, l2 in ((0.0, 0.01), (0.02, 0.0), (0.02, 0.01)):
        for optional in ((), ("dw",), ("dw", "hyper")):
            case("penalty", {"n": n, "batch": 32}, params={"l1": l1, "l2": l2}, optional=optional,
                 special={"w": away(0.0)}, bound=Bound(4, n), note=f"l1={l1:g}-l2={l2:g}")  # fmt: skip

# --- metrics ----------------------------------------------------------------------------------------------------


def rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make scores with ties."""
    return np.round(2.0 * rng.standard_normal(shape)) / 4.0


def shifts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make regression sums in which half of the shifts are not set yet."""
    total = rng.standard_normal(shape).reshape(10, -1)
    total[8:, ::2] = np.nan
    return total.reshape(-1)


def counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make totals of earlier batches."""
    return rng.integers(0, 100, shape).astype(np.float64)


TWO_CLASSES = ((33, 1), (7, 2), (33, 7), (3, 130), (333, 5))
for rows, cols in TWO_CLASSES:
    for per_sample, weighted in ((1, False), (1, True), *([(3, True)] if rows % 3 == 0 else [])):
        dims = {"rows": rows, "cols": cols, "per_sample": per_sample, "samples": rows // per_sample}
        for kind in ("target", "labels"):
            if cols == 1 and kind == "labels":
                continue
            optional = (kind, "weight") if weighted else (kind,)
            special = {"x": rounded, "target": uniform(0, 1), "labels": labels, "total": counts, **weights}
            more = {"optional": optional, "special": special, "bound": Bound(8, 8)}
            case("count_correct", {**dims, "size": 2}, params={"threshold": 0.25}, **more)
            classes = max(cols, 2)
            case("confusion", {**dims, "size": classes * (classes + 1)}, params={"threshold": 0.25}, **more)
            case("label_confusion", {**dims, "size": 6 * cols}, params={"threshold": 0.25}, **more)
            case("auc_histogram", {**dims, "size": 2 * 355, "bins": 355}, **more)
            if cols > 1:
                case("top_k", {**dims, "size": 2, "k": min(3, cols)}, **more)
        optional = ("target", "weight") if weighted else ("target",)
        case("regression_sums", {**dims, "size": 10 * cols}, optional=optional, bound=Bound(8 + rows, 4 * rows),
             special={"total": shifts, **weights})  # fmt: skip

# --- optimizer --------------------------------------------------------------------------------------------------
HYPER = {
    "step": 0.01, "decay": 0.001, "step_g": 0.002, "epsilon": 1e-5, "rho": 0.9, "one_minus_rho": 0.1,
    "momentum": 0.8, "one_minus_beta_1": 0.1, "one_minus_beta_2": 0.01, "beta_1": 0.9, "beta_2": 0.99,
    "v_correction": 1.25,
}  # fmt: skip
# slots that hold squares; next to a mean, `v` is far above the mean's square
SQUARES = ("accumulator", "v", "accumulated_g", "accumulated_delta", "v_max")
for variant, entry in FORMULAS.items():
    row = [HYPER[name] for name in entry.scalars] + [0.0] * (8 - len(entry.scalars))
    special = {"hyper": lambda rng, shape, row=row: np.array([row, [1.1 * number for number in row]])}
    for index, slot in enumerate(entry.slots):
        special[f"s{index}"] = uniform(1.0, 4.0) if slot in SQUARES else uniform(-0.7, 0.7)
    slots = [f"s{index}" for index in range(len(entry.slots))]
    for n in VECTORS:
        for multiplier in (1.0, 0.3)[: 1 + (n == 33)]:
            case("optimizer", {"n": n}, params={"multiplier": multiplier}, variant=variant, optional=slots,
                 special=special, bound=Bound(12, 2), counters={"chunk_step": n % 2},
                 note="" if multiplier == 1.0 else f"times{multiplier}")  # fmt: skip
CASES.extend(update_cases(VECTORS))
for n in VECTORS:
    case("clip_by_value", {"n": n}, params={"limit": 0.5})
    for flags in (Flag(0), Flag.ACCUMULATE):
        case("sum_squares", {"n": n}, flags=flags, bound=Bound(4 + n))
    for limit in (0.5, 1e9):
        case("clip_by_norm", {"n": n}, params={"limit": limit}, special={"total": uniform(1.0, 2.0)},
             note=f"limit{limit:g}")  # fmt: skip
for outer, size, inner in ((1, 1, 1), (1, 31, 7), (7, 33, 1), (3, 5, 7), (1, 130, 33)):
    case("max_norm", {"outer": outer, "size": size, "inner": inner}, params={"limit": 0.9 * size**0.5},
         bound=Bound(8 + size))  # fmt: skip
