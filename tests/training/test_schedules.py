"""Learning-rate schedules against the published formulas, evaluated step by step with Python floats."""

import math
import re

import numpy as np
import pytest

from fastnn import config, schedules
from fastnn.registry import REGISTRY
from fastnn.schedules import (
    ConstantSchedule,
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
    StepDecay,
    UserSchedule,
    WarmUp,
)


def cosine(step, initial, decay_steps, alpha, target=None, warmup_steps=0):
    if target is not None:
        if step < warmup_steps:
            return initial + (target - initial) * step / warmup_steps
        step, initial = step - warmup_steps, target
    step = min(step, decay_steps)
    return initial * ((1 - alpha) * 0.5 * (1 + math.cos(math.pi * step / decay_steps)) + alpha)


def polynomial(step, initial, decay_steps, end, power, cycle):
    if cycle:
        decay_steps = decay_steps * (1 if step == 0 else math.ceil(step / decay_steps))
    else:
        step = min(step, decay_steps)
    return (initial - end) * (1 - step / decay_steps) ** power + end


def one_cycle(step, highest, total, share=0.3, div=25.0, final_div=1e4):
    def anneal(start, end, done):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * done))

    first = highest / div
    last = first / final_div
    peak = share * total - 1
    step = min(step, total - 1)
    if step <= peak:
        return anneal(first, highest, step / peak)
    return anneal(highest, last, (step - peak) / (total - 1 - peak))


def piecewise(step):
    return 0.5 if step <= 3 else 0.25 if step <= 7 else 0.125


CASES = [
    (ConstantSchedule(0.25), lambda s: 0.25),
    (ExponentialDecay(0.1, 10, 0.5), lambda s: 0.1 * 0.5 ** (s / 10)),
    (ExponentialDecay(0.1, 10, 0.5, staircase=True), lambda s: 0.1 * 0.5 ** math.floor(s / 10)),
    (StepDecay(0.1, 7, 0.3), lambda s: 0.1 * 0.3 ** (s // 7)),
    (PiecewiseConstantDecay([3, 7], [0.5, 0.25, 0.125]), piecewise),
    (PiecewiseConstantDecay([], [0.5]), lambda s: 0.5),
    (PolynomialDecay(0.1, 20), lambda s: polynomial(s, 0.1, 20, 0.0001, 1.0, False)),
    (PolynomialDecay(0.1, 20, 0.01, 0.5), lambda s: polynomial(s, 0.1, 20, 0.01, 0.5, False)),
    (PolynomialDecay(0.1, 20, 0.01, 2.0, True), lambda s: polynomial(s, 0.1, 20, 0.01, 2.0, True)),
    (CosineDecay(0.1, 20), lambda s: cosine(s, 0.1, 20, 0.0)),
    (CosineDecay(0.1, 20, alpha=0.2), lambda s: cosine(s, 0.1, 20, 0.2)),
    (CosineDecay(0.01, 20, 0.1, 0.5, 6), lambda s: cosine(s, 0.01, 20, 0.1, 0.5, 6)),
    (CosineDecay(0.01, 20, 0.1, 0.5, 0), lambda s: cosine(s, 0.01, 20, 0.1, 0.5, 0)),
    (WarmUp(0.3, 5), lambda s: 0.3 * min(1, (s + 1) / 5)),
    (WarmUp(StepDecay(0.3, 4, 0.5), 5), lambda s: 0.3 * ((s + 1) / 5 if s < 5 else 0.5 ** ((s - 5) // 4))),
    (WarmUp(lambda s: 1 / (1 + s), 0), lambda s: 1 / (1 + s)),
    (OneCycle(0.8, 40), lambda s: one_cycle(s, 0.8, 40)),
    (OneCycle(0.8, 40, 0.55, 10, 100), lambda s: one_cycle(s, 0.8, 40, 0.55, 10, 100)),
    (OneCycle(0.8, 40, 0.0), lambda s: one_cycle(s, 0.8, 40, 0.0)),
    (OneCycle(0.8, 40, 1.0), lambda s: one_cycle(s, 0.8, 40, 1.0)),
    (UserSchedule(lambda s: 0.1 / (1 + s)), lambda s: 0.1 / (1 + s)),
]
STEPS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 19, 20, 21, 25, 26, 27, 38, 39, 40, 41, 60, 61, 1000]


def shown(value):
    """Name a case without addresses, which would differ between processes that share the tests."""
    return re.sub(r"<function (\S+) at 0x\w+>", r"\1", str(value))[:60]


@pytest.mark.parametrize(("schedule", "naive"), CASES, ids=shown)
def test_values(schedule, naive):
    expected = np.array([naive(step) for step in STEPS])
    values = schedule(np.array(STEPS))
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-17)
    single = [schedule(step) for step in STEPS]
    assert all(type(value) is float for value in single)
    np.testing.assert_allclose(single, values, rtol=1e-15)


def test_every_schedule_has_a_case():
    assert {type(schedule) for schedule, _ in CASES} == set(REGISTRY["schedule"].values())


def test_boundaries_are_exact():
    assert PiecewiseConstantDecay([3], [1.0, 0.5])(np.array([3, 4])).tolist() == [1.0, 0.5]
    assert StepDecay(1.0, 10, 0.5)(np.array([0, 9, 10, 19, 20])).tolist() == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert CosineDecay(0.5, 10)(np.array([0, 10, 11])).tolist() == [0.5, 0.0, 0.0]
    assert PolynomialDecay(0.5, 10, 0.1)(np.array([0, 10, 999])).tolist() == [0.5, 0.1, 0.1]
    assert WarmUp(1.0, 4)(np.arange(6)).tolist() == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert OneCycle(1.0, 10)(2) == 1.0  # 0.3 * 10 - 1
    assert OneCycle(1.0, 10)(np.array([9, 10, 99])).tolist() == [1 / 25 / 1e4] * 3
    assert OneCycle(1.0, 1)(0) == 1 / 25 / 1e4
    assert OneCycle(1.0, 2, 0.5)(np.array([0, 1])).tolist() == [1.0, 1 / 25 / 1e4]  # the rise has no length


def test_shapes_and_integer_types():
    schedule = ExponentialDecay(1.0, 1, 0.5)
    for dtype in (np.int8, np.uint16, np.int32, np.uint64):
        assert schedule(np.array([[0, 1, 2]], dtype)).tolist() == [[1.0, 0.5, 0.25]]
    assert schedule(np.int64(3)) == 0.125
    assert schedule(np.empty((0, 2), np.int64)).shape == (0, 2)


@pytest.mark.parametrize("schedule", [case[0] for case in CASES], ids=shown)
def test_frozen_and_equal_by_value(schedule):
    with pytest.raises(AttributeError):
        schedule.learning_rate = 1.0
    if schedule.is_pure:
        assert config.from_config(config.to_config(schedule), REGISTRY["schedule"], "schedule") == schedule


def test_get():
    schedule = CosineDecay(0.1, 10)
    assert schedules.get(schedule) is schedule
    assert schedules.get(3) == ConstantSchedule(3.0)
    assert schedules.get(np.float32(0.5)) == ConstantSchedule(0.5)
    seen = []
    assert schedules.get(lambda step: seen.append(step) or 0.5)(np.arange(3)).tolist() == [0.5] * 3
    assert seen == [0, 1, 2]
    assert all(type(step) is int for step in seen)


@pytest.mark.parametrize("value", [None, "adam", True, [0.1], CosineDecay, np.array([0.1])])
def test_get_refuses(value):
    with pytest.raises(TypeError, match=r"number|learning rate"):
        schedules.get(value)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_get_refuses_numbers(value):
    with pytest.raises(ValueError, match=r"learning_rate: expected a .*number.*got"):
        schedules.get(value)


@pytest.mark.parametrize("returned", [-1e-9, math.nan, math.inf, np.float32("nan"), np.array(math.nan)])
def test_user_function_names_the_step_of_a_bad_value(returned):
    schedule = UserSchedule(lambda step: returned if step == 7 else 0.1)
    with pytest.raises(ValueError, match=r"returned .* at step 7; expected a finite number >= 0"):
        schedule(np.arange(10))


@pytest.mark.parametrize("returned", [None, "0.1", True, 1j, np.zeros(2)])
def test_user_function_names_the_step_of_a_wrong_type(returned):
    schedule = UserSchedule(lambda step: returned if step == 7 else 0.1)
    with pytest.raises(TypeError, match=r"returned .* at step 7; expected a finite number"):
        schedule(np.arange(10))


def test_user_function_may_return_any_real_number():
    for value in (1, np.float32(0.5), np.int8(2), np.array(0.25)):
        assert UserSchedule(lambda step, value=value: value)(0) == float(value)


def test_overflow_names_the_step():
    with pytest.raises(ValueError, match=r"ExponentialDecay.* gives the learning rate inf at step 1024"):
        ExponentialDecay(1.0, 1, 2.0)(np.array([1023, 1024]))


@pytest.mark.parametrize("step", [1.0, "1", None, np.array([1.0]), True])
def test_step_type(step):
    with pytest.raises(TypeError, match="step: expected an integer"):
        ConstantSchedule(0.1)(step)


def test_negative_step():
    with pytest.raises(ValueError, match="step: expected >= 0, got -2"):
        ConstantSchedule(0.1)(np.array([3, -2]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConstantSchedule(-1), ValueError, "ConstantSchedule.learning_rate: expected .*>= 0, got -1"),
        (lambda: ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps: expected a whole number >= 1"),
        (lambda: ExponentialDecay(0.1, 1.5, 0.5), ValueError, "decay_steps: expected a whole number >= 1"),
        (lambda: ExponentialDecay(0.1, 10, 0.0), ValueError, "decay_rate: expected a number > 0, got 0"),
        (lambda: ExponentialDecay(0.1, 10, 0.5, 1), TypeError, "staircase: expected True or False"),
        (lambda: ExponentialDecay("0.1", 10, 0.5), TypeError, "initial_learning_rate: expected a number"),
        (lambda: StepDecay(0.1, 10, math.nan), ValueError, "decay_rate: expected a finite number"),
        (lambda: StepDecay(0.1, True, 0.5), TypeError, "decay_steps: expected a number"),
        (lambda: PiecewiseConstantDecay([1], [0.1]), ValueError, "values: expected 2"),
        (lambda: PiecewiseConstantDecay([2, 2], [1, 1, 1]), ValueError, "strictly increasing"),
        (lambda: PiecewiseConstantDecay([2], [1, -1]), ValueError, "values: expected a number >= 0"),
        (lambda: PiecewiseConstantDecay(2, [1, 1]), TypeError, "boundaries: expected a sequence"),
        (lambda: PolynomialDecay(0.1, 10, -1.0), ValueError, "end_learning_rate: expected a number >= 0"),
        (lambda: PolynomialDecay(0.1, 10, power=-1), ValueError, "power: expected a number >= 0"),
        (lambda: CosineDecay(0.1, 10, 1.5), ValueError, "alpha: expected a number >= 0 and <= 1"),
        (
            lambda: CosineDecay(0.1, 10, warmup_steps=5),
            ValueError,
            "warmup_target: expected the learning rate",
        ),
        (lambda: CosineDecay(0.1, 10, 0.0, -1.0, 5), ValueError, "warmup_target: expected a number >= 0"),
        (lambda: WarmUp(0.1, -1), ValueError, "warmup_steps: expected a whole number >= 0"),
        (lambda: WarmUp("x", 1), TypeError, "expected a learning rate"),
        (lambda: OneCycle(0.1, 0), ValueError, "total_steps: expected a whole number >= 1"),
        (lambda: OneCycle(0.1, 10, 1.1), ValueError, "pct_start: expected a number >= 0 and <= 1"),
        (lambda: OneCycle(0.1, 10, div_factor=0), ValueError, "div_factor: expected a number > 0"),
        (
            lambda: OneCycle(0.1, 10, final_div_factor=-1),
            ValueError,
            "final_div_factor: expected a number > 0",
        ),
        (lambda: UserSchedule(0.1), TypeError, "function: expected a function of the step"),
    ],
)
def test_hyperparameters_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_whole_floats_count_as_steps():
    assert StepDecay(0.1, 1e4, 0.5) == StepDecay(0.1, 10_000, 0.5)
