"""Rough estimates of the time of records, and so of the number of parts into which they are cut.

The rates are those of one fast core, on data in its caches. A record that is slower than estimated is cut into fewer
parts than possible, which costs little; one that is faster would be cut although that does not pay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cpu.processor import target
from fastnn.backend.cpu.processor.blocking import Blocking
from fastnn.program.layout import FLAGS_WORD, PARTS_SHIFT
from fastnn.program.program import dims_of, op_of

#: Bytes per nanosecond that a product of one row, which streams its matrix, reads.
STREAMED_BYTES = 40.0

#: The minimum work of a part. Records of twice as much ran 1.5 to 2 times as fast on two cores (128 x 64 x 32: 6.6 us
#: alone, 3.9 us together); a phase costs 0.3 us and the time to fetch data from the other core's cache.
PART_NANOSECONDS = 2500.0
MOST_PARTS = 1024

#: Elements of float32 per nanosecond: the fastest variant in common use, measured on 256 x 256 elements with
#: AVX2 at 3.5 GHz, rounded up.
_ELEMENTS = {
    "gather": 6.0, "gather_labels": 4.0, "store": 10.0, "bias_add": 10.0, "sum_rows": 20.0, "activation": 6.0,
    "activation_grad": 6.0, "add": 6.0, "multiply": 6.0, "dropout": 1.2, "gaussian_noise": 0.4, "copy_columns": 10.0,
    "softmax": 1.5, "softmax_grad": 6.0, "log_softmax": 1.5, "log_softmax_grad": 1.5, "layer_norm": 5.0,
    "layer_norm_grad": 5.0, "layer_norm_param_grad": 8.0, "batch_norm": 4.0, "batch_norm_grad": 4.0,
    "batch_norm_inference": 8.0, "batch_norm_inference_grad": 4.0, "loss": 6.0, "cross_entropy": 1.2,
    "cross_entropy_labels": 1.2, "cross_entropy_logits": 1.0, "cross_entropy_logits_labels": 1.0, "penalty": 6.0,
    "clip_by_value": 12.0, "clip_by_norm": 12.0, "accumulate": 6.0, "optimizer": 3.5, "moving_average": 6.0,
    "max_norm": 2.0, "one_hot": 10.0,
}  # fmt: skip

#: Ops that run as one part, and so are never published.
ONE_PART = {
    "row_function", "row_function_grad", "tick", "sum_loss", "sum_loss_by_weight", "normalize_weights", "sum_squares",
    "count_correct", "top_k", "confusion", "label_confusion", "auc_histogram", "regression_sums",
}  # fmt: skip

#: Ops that are cut by columns although they have rows.
_BY_COLUMNS = {"sum_rows", "layer_norm_param_grad", "batch_norm", "batch_norm_grad", "batch_norm_inference",
               "batch_norm_inference_grad"}  # fmt: skip


def flops(itemsize: int) -> int:
    """Return the floating-point operations of one core per nanosecond.

    They are two multiply-adds of a whole vector per cycle, at 3 GHz.
    """
    return 12 * target.vector_bytes() // itemsize


def nanoseconds(record: NDArray[np.int64], dtype: str) -> float:
    """Estimate the time of a record on one core."""
    name, dims = op_of(record).name, dims_of(record)
    itemsize = np.dtype(dtype).itemsize
    if name == "matmul":
        m, n, k = dims["m"], dims["n"], dims["k"]
        return max(2.0 * m * n * k / flops(itemsize), itemsize * (m * k + k * n + m * n) / STREAMED_BYTES)
    rate = _ELEMENTS.get(name)
    if rate is None:
        return 0.0
    count = dims["n"] if "n" in dims else _rows(dims) * _columns(dims)
    return count * itemsize / 4.0 / rate


def parts(record: NDArray[np.int64], dtype: str) -> int:
    """Return the maximum number of parts that pays for a record."""
    name, dims = op_of(record).name, dims_of(record)
    if name in ONE_PART:
        return 1
    if name == "matmul":
        shape = Blocking.of(dtype)
        units = max(-(-dims["m"] // shape.unit_m), -(-dims["n"] // shape.unit_n))
    elif "n" in dims:
        units = -(-dims["n"] // 64)
    elif name in _BY_COLUMNS:
        units = -(-dims["cols"] // 64)
    else:
        units = _rows(dims)
    return max(1, min(int(nanoseconds(record, dtype) / PART_NANOSECONDS), units, MOST_PARTS))


def cut(records: NDArray[np.int64], dtype: str) -> float:
    """Write the number of parts into a program's records; returns the nanoseconds of a step that can be shared."""
    shared = 0.0
    for record in records:
        count = parts(record, dtype)
        if count > 1:
            record[FLAGS_WORD] |= count << PARTS_SHIFT
            shared += nanoseconds(record, dtype)
    return shared


def _rows(dims: dict[str, int]) -> int:
    return dims["rows"] if "rows" in dims else dims["outer"] * dims["inner"]


def _columns(dims: dict[str, int]) -> int:
    return dims["cols"] if "cols" in dims else dims["size"]
