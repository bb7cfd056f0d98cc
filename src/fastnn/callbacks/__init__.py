"""Callbacks, called at fixed points of training: stopping, saving, logging, changing the learning rate."""

from fastnn.callbacks.base import Callback as Callback
from fastnn.callbacks.base import CallbackList as CallbackList
from fastnn.callbacks.checkpoint import ModelCheckpoint as ModelCheckpoint
from fastnn.callbacks.loggers import CSVLogger as CSVLogger
from fastnn.callbacks.loggers import LambdaCallback as LambdaCallback
from fastnn.callbacks.rates import LearningRateScheduler as LearningRateScheduler
from fastnn.callbacks.rates import ReduceLROnPlateau as ReduceLROnPlateau
from fastnn.callbacks.stopping import EarlyStopping as EarlyStopping
from fastnn.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
from fastnn.hints import explain_arguments, install

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]

install(__name__)
explain_arguments(CSVLogger, EarlyStopping, LambdaCallback, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau)
