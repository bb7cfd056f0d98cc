"""The hyper row of a learner's next step, with the bits of `Optimizer.hyper_rows`."""

from __future__ import annotations

import math

from fastnn.backend.cpu.codegen.intrinsics import float64_pointer, int64_pointer
from fastnn.backend.cpu.codegen.options import exact
from fastnn.backend.cpu.layouts.code import CORRECTIONS, CodeWord, Progress
from fastnn.formulas import corrections
from fastnn.formulas.corrections import NADAM_DECAY
from fastnn.formulas.optimizers import FORMULAS, HYPER_COLUMNS

(
    _OPTIMIZER_STEP, _CONSTANT, _RATE, _BETA_1, _BETA_2, _POWER_1, _POWER_2, _POWER, _PRODUCT, _UNIT_ROW, _ROW,
    _RATES_AT,
) = (
    int(Progress[name])
    for name in (
        "OPTIMIZER_STEP", "CONSTANT", "RATE", "BETA_1", "BETA_2", "POWER_1", "POWER_2", "POWER", "PRODUCT", "UNIT_ROW",
        "ROW", "RATES_AT",
    )
)  # fmt: skip
_RATES, _CORRECTION, _ACCUMULATED = int(CodeWord.RATES), int(CodeWord.CORRECTION), int(CodeWord.ACCUMULATED)
_ADAM, _NADAM, _COUNT = (CORRECTIONS.index(name) for name in ("adam", "nadam", "count"))
_STEP_COLUMN = FORMULAS["nadam"].scalars.index("step")
_STEP_G_COLUMN, _V_COLUMN = (FORMULAS["nadam"].scalars.index(name) for name in ("step_g", "v_correction"))

_corrections = corrections.define(exact, math.sqrt)
_adam, _nadam, _momentum, _unbiased = (
    _corrections.adam, _corrections.nadam, _corrections.momentum, _corrections.unbiased,
)  # fmt: skip


@exact
def next_row(code: int, progress: int) -> None:
    """Write the hyper row of the next step."""
    words, counters, p = int64_pointer(code), int64_pointer(progress), float64_pointer(progress)
    kind, steps = words[_CORRECTION], words[_ACCUMULATED]
    if steps > 1 and (counters[_OPTIMIZER_STEP] + 1) % steps != 0:
        return  # no weight is updated
    if kind == _ADAM:
        p[_POWER_1] *= p[_BETA_1]
        p[_POWER_2] *= p[_BETA_2]
        p[_UNIT_ROW + _STEP_COLUMN] = _adam(p[_POWER_1], p[_POWER_2])
    elif kind == _NADAM:
        p[_POWER] *= NADAM_DECAY
        p[_POWER_2] *= p[_BETA_2]
        now, following = _momentum(p[_BETA_1], p[_POWER]), _momentum(p[_BETA_1], p[_POWER] * NADAM_DECAY)
        p[_PRODUCT] *= now
        p[_UNIT_ROW + _STEP_COLUMN], p[_UNIT_ROW + _STEP_G_COLUMN] = _nadam(now, following, p[_PRODUCT])
        p[_UNIT_ROW + _V_COLUMN] = _unbiased(p[_POWER_2])
    elif kind == _COUNT:  # the first column after the rates
        p[_UNIT_ROW + words[_RATES]] = counters[_OPTIMIZER_STEP] // steps + 1.0
    rate = p[_RATE] if counters[_CONSTANT] != 0 else p[_RATES_AT + counters[_OPTIMIZER_STEP]]
    for column in range(HYPER_COLUMNS):
        p[_ROW + column] = p[_UNIT_ROW + column] * (rate if column < words[_RATES] else 1.0)
