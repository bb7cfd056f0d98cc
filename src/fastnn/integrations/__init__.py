"""Other libraries that follow a training or search for hyperparameters; each is imported on first use.

`Log` writes to any object with a method such as ``log`` or ``add_scalar``. `TensorBoard` and `MLflow` are callbacks,
`optuna` a module.
"""

from __future__ import annotations

from fastnn.hints import explain_arguments, install
from fastnn.integrations import optuna as optuna
from fastnn.integrations.log import Log
from fastnn.integrations.mlflow import MLflow
from fastnn.integrations.tensorboard import TensorBoard

__all__ = ["Log", "MLflow", "TensorBoard", "optuna"]

install(__name__)
explain_arguments(Log, MLflow, TensorBoard)
