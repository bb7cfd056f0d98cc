"""fastnn: neural networks whose every kernel is compiled by Numba, under a thin Python model API.

Importing the package compiles nothing and does not import Numba. Kernels are compiled when a program first needs
them, once per machine.
"""

# ruff: noqa: F403

import importlib
from typing import TYPE_CHECKING

from fastnn import (
    activations,
    cache,
    callbacks,
    constraints,
    cuda,
    data,
    datasets,
    hints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from fastnn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from fastnn.constraints import MaxNorm
from fastnn.errors import DeviceError, DeviceMemoryError, ModelFileError
from fastnn.formulas.custom import check_with
from fastnn.layers.checking import check_of_symbols
from fastnn.layers.columns.encoding import *
from fastnn.layers.columns.intervals import *
from fastnn.layers.columns.lookup import *
from fastnn.layers.columns.scaling import *
from fastnn.layers.core import *
from fastnn.layers.integers import *
from fastnn.layers.lora import *
from fastnn.layers.maps.augmentation import *
from fastnn.layers.maps.convolution import *
from fastnn.layers.maps.geometry import *
from fastnn.layers.maps.images import *
from fastnn.layers.maps.pooling import *
from fastnn.layers.maps.preprocessing import *
from fastnn.layers.merge import *
from fastnn.layers.normalization import *
from fastnn.layers.random import *
from fastnn.layers.recurrent.cells import *
from fastnn.layers.recurrent.masking import *
from fastnn.layers.recurrent.own import *
from fastnn.layers.recurrent.wrappers import *
from fastnn.layers.transformers.attention import *
from fastnn.layers.transformers.blocks import *
from fastnn.layers.transformers.gated import *
from fastnn.layers.transformers.positions import *
from fastnn.linalg import matmul
from fastnn.losses import (
    BinaryCrossEntropy,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CrossEntropy,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    Perceptron,
    Poisson,
    SparseCategoricalCrossentropy,
)
from fastnn.losses.function import trace_with
from fastnn.model import Model, Sequential
from fastnn.model.function import function
from fastnn.model.loading import load
from fastnn.model.train_function import train_function
from fastnn.optimizers import SGD, Adadelta, AdaGrad, Adagrad, Adam, AdamW, Lion, Nadam, RMSprop
from fastnn.regularizers import L1, L1L2, L2
from fastnn.threads import get_num_threads, set_num_threads
from fastnn.training.history import History
from fastnn.training.range_test import lr_range_test
from fastnn.training.train_many.api import train_many
from fastnn.version import __version__

if TYPE_CHECKING:  # what `_LATER` imports on first use
    from fastnn import applications as applications
    from fastnn import inspect as inspect
    from fastnn import integrations as integrations
    from fastnn import lora as lora
    from fastnn import nopython as nopython
    from fastnn import ops as ops
    from fastnn import plot as plot
    from fastnn import testing as testing
    from fastnn import text as text

check_with(
    lambda functions, kind: importlib.import_module("fastnn.backend.cpu.codegen.custom_types").check(functions, kind)
)
trace_with(check_of_symbols)

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "SGD",
    "AdaGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "BinaryCrossentropy",
    "CSVLogger",
    "Callback",
    "CategoricalCrossentropy",
    "CrossEntropy",
    "DeviceError",
    "DeviceMemoryError",
    "EarlyStopping",
    "Hinge",
    "History",
    "Huber",
    "KLDivergence",
    "LambdaCallback",
    "LearningRateScheduler",
    "Lion",
    "LogCosh",
    "MaxNorm",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "ModelCheckpoint",
    "ModelFileError",
    "Nadam",
    "Perceptron",
    "Poisson",
    "RMSprop",
    "ReduceLROnPlateau",
    "Sequential",
    "SparseCategoricalCrossentropy",
    "TerminateOnNaN",
    "__version__",
    "activations",
    "cache",
    "callbacks",
    "constraints",
    "cuda",
    "data",
    "datasets",
    "function",
    "get_num_threads",
    "initializers",
    "layers",
    "load",
    "losses",
    "lr_range_test",
    "matmul",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
    "set_num_threads",
    "train_function",
    "train_many",
]
__all__ += layers.attention.__all__
__all__ += layers.encoding.__all__
__all__ += layers.intervals.__all__
__all__ += layers.lookup.__all__
__all__ += layers.scaling.__all__
__all__ += layers.core.__all__
__all__ += layers.integers.__all__
__all__ += layers.lora.__all__
__all__ += layers.maps.augmentation.__all__
__all__ += layers.maps.convolution.__all__
__all__ += layers.maps.geometry.__all__
__all__ += layers.maps.images.__all__
__all__ += layers.maps.pooling.__all__
__all__ += layers.maps.preprocessing.__all__
__all__ += layers.merge.__all__
__all__ += layers.normalization.__all__
__all__ += layers.random.__all__
__all__ += layers.recurrent.cells.__all__
__all__ += layers.recurrent.masking.__all__
__all__ += layers.recurrent.own.__all__
__all__ += layers.recurrent.wrappers.__all__
__all__ += layers.transformers.blocks.__all__
__all__ += layers.transformers.gated.__all__
__all__ += layers.transformers.positions.__all__

# imported on first use: importing Numba takes longer than importing fastnn, and the ops take a tenth of that
_LATER = ("applications", "inspect", "integrations", "lora", "nopython", "ops", "plot", "testing", "text")


def _later(name: str) -> object:
    if name not in _LATER:
        raise ValueError(name)
    return importlib.import_module(f"fastnn.{name}")


hints.install(__name__, _later, _LATER)
