"""Training and prediction in plain float64 NumPy: the reference for every contestant."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads import Workload

Array = NDArray[Any]


def train_epoch(
    work: Workload, X: Array, y: Array, weights: list[Array], epsilon_last: bool = False
) -> tuple[float, list[Array]]:
    """Train on consecutive batches with Adam, learning rate 1e-3, as Keras 3 or as PyTorch computes it.

    Parameters
    ----------
    work : Workload
        The network and the batch size.
    X, y : array
        Data of the workload.
    weights : list of array
        Initial weights: kernel (n_in, n_out), bias (n_out,), layer by layer.
    epsilon_last : bool
        Whether epsilon is added to the bias-corrected sqrt(v), as in PyTorch and the algorithm of Kingma and
        Ba (2015), rather than before the correction, as in Keras and the end of their section 2.

    Returns
    -------
    tuple
        Mean loss of the batches, and the trained weights.
    """
    weights = [w.astype(np.float64) for w in weights]
    moments = [np.zeros((2, *w.shape)) for w in weights]
    losses = []
    for t in range(1, work.steps_per_epoch + 1):
        rows = slice((t - 1) * work.batch_size, t * work.batch_size)
        loss, gradients = loss_and_gradients(work, X[rows].astype(np.float64), y[rows], weights)
        losses.append(loss)
        root = np.sqrt(1.0 - 0.999**t)
        epsilon = 1e-7 * (root if epsilon_last else 1.0)
        for w, (m, v), g in zip(weights, moments, gradients, strict=True):
            m += (g - m) * 0.1
            v += (g * g - v) * 0.001
            w -= 1e-3 * root / (1.0 - 0.9**t) * m / (np.sqrt(v) + epsilon)
    return float(np.mean(losses)), weights


def forward(work: Workload, X: Array, weights: list[Array]) -> list[Array]:
    """Return the input of each layer, and last the output of the network before a softmax."""
    kernels, biases = weights[::2], weights[1::2]
    inputs = [X]
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        z = inputs[-1] @ kernel + bias
        inputs.append(np.tanh(z) if work.activation == "tanh" else np.maximum(z, 0.0))
    return [*inputs, inputs[-1] @ kernels[-1] + biases[-1]]


def log_softmax(z: Array) -> Array:
    """Return the logarithms of the probabilities of classes."""
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def predict(work: Workload, X: Array, weights: list[Array]) -> Array:
    """Return the outputs (rows, sizes[-1]): probabilities for cross-entropy or values."""
    z = forward(work, X.astype(np.float64), [w.astype(np.float64) for w in weights])[-1]
    return z if work.loss == "mse" else np.exp(log_softmax(z))


def loss_and_gradients(work: Workload, X: Array, y: Array, weights: list[Array]) -> tuple[float, list[Array]]:
    """Return the mean loss of a batch and its gradients with respect to the weights, by backpropagation."""
    *inputs, z = forward(work, X, weights)
    if work.loss == "mse":
        loss, dz = np.mean((z - y) ** 2), 2.0 * (z - y) / z.size
    else:
        logarithms = log_softmax(z)
        loss = -np.mean(logarithms[np.arange(len(y)), y])
        dz = (np.exp(logarithms) - np.eye(z.shape[1])[y]) / len(y)
    gradients: list[Array] = []
    for kernel, h in zip(weights[-2::-2], inputs[::-1], strict=True):
        gradients = [h.T @ dz, dz.sum(axis=0), *gradients]
        dz = (dz @ kernel.T) * (1.0 - h * h if work.activation == "tanh" else h > 0.0)
    return float(loss), gradients
