"""Learning-rate schedules: functions of the training step, counted from 0 across all epochs.

A schedule is called with one step (an int, which gives a float) or with an integer array of steps (which
gives a float64 array of the same shape). Names, defaults and formulas are Keras 3's where Keras has the
schedule.
"""

from fastnn.hints import install
from fastnn.schedules.base import ConstantSchedule as ConstantSchedule
from fastnn.schedules.base import LearningRate as LearningRate
from fastnn.schedules.base import Schedule as Schedule
from fastnn.schedules.base import UserSchedule as UserSchedule
from fastnn.schedules.base import check_rates as check_rates
from fastnn.schedules.base import get as get
from fastnn.schedules.decays import CosineDecay as CosineDecay
from fastnn.schedules.decays import ExponentialDecay as ExponentialDecay
from fastnn.schedules.decays import PiecewiseConstantDecay as PiecewiseConstantDecay
from fastnn.schedules.decays import PolynomialDecay as PolynomialDecay
from fastnn.schedules.decays import StepDecay as StepDecay
from fastnn.schedules.warmup import OneCycle as OneCycle
from fastnn.schedules.warmup import WarmUp as WarmUp

__all__ = [
    "ConstantSchedule",
    "CosineDecay",
    "ExponentialDecay",
    "LearningRate",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Schedule",
    "StepDecay",
    "UserSchedule",
    "WarmUp",
    "check_rates",
    "get",
]

install(__name__)
