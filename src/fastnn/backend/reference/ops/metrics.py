"""Records of metrics: each passes its batch to the accumulator that defines it."""

from __future__ import annotations

from typing import Any

from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.metrics.accumulators import ACCUMULATORS


def _accumulate(i: Instruction, *parameters: float) -> None:
    targets: Any = i["labels"] if "labels" in i.operands else i["target"]
    ACCUMULATORS[i.op](i["total"], targets, i["x"], i.row_weights(), *parameters)


@executes("count_correct", "confusion", "label_confusion")
def by_threshold(i: Instruction, counters: Counters) -> None:
    """Add to counts that depend on a threshold, for some only if there is one column."""
    _accumulate(i, i.params["threshold"])


@executes("top_k")
def top_k(i: Instruction, counters: Counters) -> None:
    """Add to [weight of rows whose label is among the k highest scores, weight of rows]."""
    _accumulate(i, i.dims["k"])


@executes("auc_histogram")
def auc_histogram(i: Instruction, counters: Counters) -> None:
    """Add to the histograms of positive and negative scores."""
    _accumulate(i, i.dims["bins"])


@executes("regression_sums")
def regression_sums(i: Instruction, counters: Counters) -> None:
    """Add to the sums and products of predictions and targets."""
    _accumulate(i)
