"""A multi-layer perceptron trained with plain NumPy: the baseline that fastnn is measured against.

It is written to be as fast as NumPy allows, so that a comparison with it means something:

- every buffer is allocated once, and every call in a training step writes into one (``out=``);
- activations are stored as (units, batch), so that all elementwise work is contiguous and the softmax reduces
  along the slow axis (a maximum over ten classes of 128 rows: 1.1 us instead of 6.6 us);
- a row of ones below each activation makes the bias the last row of its kernel: forward and gradient are one
  matrix product per layer, without an addition and a sum for the bias (1.4 us less per layer);
- all parameters are one flat buffer, so that Adam is ten calls for the whole network;
- small batches are gathered several at a time, and losses are summed several batches at a time;
- ``np.dot`` instead of ``np.matmul`` (0.4 us less per call); 0-d arrays instead of Python numbers (0.3 us
  less), but full arrays of zeros in ``np.maximum``, whose loop is four times as fast with them.

Only NumPy is needed. The formulas are those of Keras 3 (``Dense``, ``Dropout``, ``MeanSquaredError``,
``SparseCategoricalCrossentropy``, ``Adam``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]

# Batches are gathered together up to this number of values, so that they stay in the second-level cache.
GATHER_VALUES = 32768


class NumpyMLP:
    """Train a fully connected network with Adam, in NumPy alone.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of each hidden layer and of the output.
    activation : {"relu", "tanh"}
        Activation of the hidden layers.
    loss : {"cross_entropy", "mse"}
        ``"cross_entropy"``: softmax output, integer labels (n,); ``"mse"``: linear output, targets
        (n, sizes[-1]).
    batch_size : int
        Rows of a full batch.
    seed : int
        Seed of the initial weights (Glorot uniform, biases zero) and of dropout.
    dtype : {np.float32, np.float64}
        Type of weights, activations and data; other data are converted.
    dropout : float
        Rate of (inverted) dropout after each hidden activation, in [0, 1).
    learning_rate, beta_1, beta_2, epsilon : float
        Hyperparameters of Adam, with the defaults of Keras 3.

    Attributes
    ----------
    parameters, gradients : array, shape (number of parameters,)
        All weights, and their gradients as of the last step: kernel and bias layer by layer.

    Raises
    ------
    ValueError
        If a name is unknown, or a number is out of its range.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        loss: str = "cross_entropy",
        batch_size: int = 32,
        seed: int = 0,
        dtype: DTypeLike = np.float32,
        dropout: float = 0.0,
        *,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        self.sizes, self.batch_size = tuple(int(size) for size in sizes), int(batch_size)
        if len(self.sizes) < 2 or min(self.sizes) < 1 or self.batch_size < 1:
            raise ValueError(f"expected sizes and batch_size >= 1, two or more sizes, got {sizes}, {batch_size}")
        if activation not in ("relu", "tanh") or loss not in ("cross_entropy", "mse"):
            raise ValueError(f"expected relu or tanh, cross_entropy or mse, got {activation!r}, {loss!r}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"expected a dropout rate in [0, 1), got {dropout}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"expected float32 or float64, got {self.dtype}")
        self.activation, self.loss, self.dropout = activation, loss, float(dropout)
        self.learning_rate, self.beta_1, self.beta_2, self.epsilon = learning_rate, beta_1, beta_2, epsilon
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.steps = 0

        shapes = [(n_in + 1, n_out) for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True)]
        ends = np.cumsum([rows * columns for rows, columns in shapes])
        self.parameters, self.gradients, self._m, self._v, self._scratch = np.zeros((5, ends[-1]), self.dtype)
        # One array (n_in + 1, n_out) per layer: the kernel (n_in, n_out) and, last, the bias (n_out,).
        self.layers, self.layer_gradients = (
            [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
            for flat in (self.parameters, self.gradients)
        )
        for layer in self.layers:
            limit = np.sqrt(6.0 / (len(layer) - 1 + layer.shape[1]))
            layer[:-1] = self.rng.uniform(-limit, limit, layer[:-1].shape)
        self._beta_1, self._beta_2 = np.array(beta_1, self.dtype), np.array(beta_2, self.dtype)
        self._epsilon = np.array(epsilon / np.sqrt(1.0 - beta_2), self.dtype)
        self._alpha = np.zeros((), self.dtype)
        self._workspaces: dict[int, _Workspace] = {}

    def train_epoch(self, X: ArrayLike, y: ArrayLike, permutation: ArrayLike) -> float:
        """Train on the rows of X in the order of the permutation, in batches; the last may be smaller.

        Parameters
        ----------
        X : array, shape (n, sizes[0])
            Inputs.
        y : array, shape (n,) of integers, or (n, sizes[-1]) (for one output also (n,))
            Labels or targets.
        permutation : array of integers, shape (m,)
            Row numbers.

        Returns
        -------
        float
            Mean loss of the rows, each at the time of its batch.

        Raises
        ------
        ValueError
            If a shape does not fit, or a row number or label is out of range.
        """
        inputs, targets = self._checked(X, y)
        order = np.asarray(permutation, np.intp)
        if order.ndim != 1 or not order.size or order.min() < 0 or order.max() >= len(inputs):
            raise ValueError(f"expected row numbers (m,) from 0 to {len(inputs) - 1}, got {order}")
        full, total = order.size - order.size % self.batch_size, 0.0
        for rows in (order[:full], order[full:]):
            if rows.size:
                work = self._workspace(min(self.batch_size, rows.size))
                for start in range(0, rows.size, work.block_rows):
                    block = rows[start : start + work.block_rows]
                    work.gather(inputs, targets, block)
                    total += self._train(work, block.size)
        return total / order.size

    def train_step(self, x_batch: ArrayLike, y_batch: ArrayLike) -> float:
        """Make one step of Adam on the mean loss of the batch, and return that loss (before the step)."""
        inputs, targets = self._checked(x_batch, y_batch)
        work = self._workspace(len(inputs))
        work.load(inputs, targets)
        return self._train(work, len(inputs)) / len(inputs)

    def predict(self, X: ArrayLike) -> Array:
        """Return the outputs (n, sizes[-1]), without dropout: probabilities for cross-entropy or values."""
        h = np.asarray(X, self.dtype)
        if h.ndim != 2 or h.shape[1] != self.sizes[0]:
            raise ValueError(f"expected X of shape (n, {self.sizes[0]}), got {h.shape}")
        for layer in self.layers:
            h = np.dot(h, layer[:-1])
            h += layer[-1]
            if layer is self.layers[-1]:
                break
            if self.activation == "relu":
                np.maximum(h, 0, out=h)
            else:
                np.tanh(h, out=h)
        if self.loss == "cross_entropy":
            h -= np.maximum.reduce(h, 1, keepdims=True)
            np.exp(h, out=h)
            h /= np.add.reduce(h, 1, keepdims=True)
        return h

    def get_weights(self) -> list[Array]:
        """Return copies of the weights in Keras order: kernel (n_in, n_out), bias (n_out,) of each layer."""
        return [part.copy() for layer in self.layers for part in (layer[:-1], layer[-1])]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Copy weights in the order and the shapes of `get_weights`; raises ValueError if they differ."""
        own = [part for layer in self.layers for part in (layer[:-1], layer[-1])]
        shapes = [np.shape(weight) for weight in weights]
        if shapes != [part.shape for part in own]:
            raise ValueError(f"expected weights of shapes {[part.shape for part in own]}, got {shapes}")
        for part, weight in zip(own, weights, strict=True):
            part[...] = weight

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        inputs, targets, n_out = np.asarray(X, self.dtype), np.asarray(y), self.sizes[-1]
        if inputs.ndim != 2 or inputs.shape[1] != self.sizes[0] or not len(inputs):
            raise ValueError(f"expected X of shape (n, {self.sizes[0]}) with n > 0, got {inputs.shape}")
        n = len(inputs)
        if self.loss == "mse":
            if targets.shape != (n, n_out) and not (n_out == 1 and targets.shape == (n,)):
                raise ValueError(f"expected y of shape ({n}, {n_out}), got {targets.shape}")
            return inputs, targets.astype(self.dtype, copy=False).reshape(n, n_out)
        if targets.shape != (n,) or targets.dtype.kind not in "iu":
            raise ValueError(f"expected integer labels of shape ({n},), got {targets.dtype} {targets.shape}")
        if targets.min() < 0 or targets.max() >= n_out:
            raise ValueError(f"expected labels from 0 to {n_out - 1}, got {targets.min()} to {targets.max()}")
        return inputs, targets.astype(np.intp, copy=False)

    def _workspace(self, batch: int) -> "_Workspace":
        if batch not in self._workspaces:
            self._workspaces[batch] = _Workspace(self, batch)
        return self._workspaces[batch]

    def _train(self, work: "_Workspace", rows: int) -> float:
        for batch, x in enumerate(work.x[: rows // work.batch]):
            work.forward(x)
            work.backward(x, batch)
            self._adam()
        return work.loss.total()

    def _adam(self) -> None:
        # The buffers hold m / (1 - beta_1) and v / (1 - beta_2), which saves two multiplications; the
        # constants of p -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon) are scaled.
        self.steps += 1
        b1, b2, t = self.beta_1, self.beta_2, self.steps
        self._alpha[()] = self.learning_rate * ((1 - b2**t) / (1 - b2)) ** 0.5 * (1 - b1) / (1 - b1**t)
        multiply, add, g, m, v, s = np.multiply, np.add, self.gradients, self._m, self._v, self._scratch
        multiply(m, self._beta_1, m)
        add(m, g, m)
        multiply(v, self._beta_2, v)
        multiply(g, g, s)
        add(v, s, v)
        np.sqrt(v, s)
        add(s, self._epsilon, s)
        np.divide(m, s, s)
        multiply(s, self._alpha, s)
        np.subtract(self.parameters, s, self.parameters)


@dataclass(slots=True)
class _Hidden:
    """The views that a step needs of one hidden layer (u units, b rows) and of the layer after it."""

    kernel_T: Array  # (u, n_in + 1), the bias last
    a: Array  # (u, b)
    zeros: Array  # (u, b)
    derivative: Array  # (u, b): of the activation
    mask: Array  # (u, b): of dropout
    h: Array  # (u, b): a after dropout
    h_and_one: Array  # (u + 1, b)
    dz: Array  # (u, b)
    next_kernel: Array  # (u, n_next)
    next_gradient: Array  # (u + 1, n_next)
    next_dz: Array  # (n_next, b)
    next_dz_T: Array  # (b, n_next)


class _Workspace:
    """The buffers for one batch size, and the passes over them."""

    def __init__(self, net: NumpyMLP, batch: int) -> None:
        n_in, n_out, dtype, hidden = net.sizes[0], net.sizes[-1], net.dtype, net.sizes[1:-1]
        self.relu, self.rate, self.rng, self.batch = net.activation == "relu", net.dropout, net.rng, batch
        blocks = max(1, GATHER_VALUES // (batch * n_in))
        self.block_rows = blocks * batch
        self.rows = np.empty((self.block_rows, n_in), dtype)
        self.rows_and_one = np.ones((self.block_rows, n_in + 1), dtype)
        self.x = [part.T for part in self.rows_and_one.reshape(blocks, batch, n_in + 1)]

        # Every buffer holds all hidden layers, each with its row of ones, so that one call serves them all.
        ends = [int(end) for end in np.cumsum([0, *(units + 1 for units in hidden)])]
        shape = (ends[-1], batch)
        self.a, dz, zeros = np.ones(shape, dtype), np.empty(shape, dtype), np.zeros(shape, dtype)
        # float for relu as well: the conversion in bool * float costs 0.7 us more (194 units, 32 rows).
        self.derivatives = np.empty(shape, dtype)
        self.masks, self.kept = np.ones(shape, dtype), np.ones(shape, np.bool_)
        h = np.ones(shape, dtype) if self.rate else self.a
        self.zero, self.one = np.zeros((), dtype), np.ones((), dtype)
        self.z = next_dz = np.empty((n_out, batch), dtype)
        self.hidden: list[_Hidden] = []
        for number in reversed(range(len(hidden))):
            start, end = ends[number], ends[number + 1]
            u = slice(start, end - 1)
            views = (self.a[u], zeros[u], self.derivatives[u], self.masks[u], h[u], h[start:end], dz[u])
            after = (net.layers[number + 1][:-1], net.layer_gradients[number + 1], next_dz, next_dz.T)
            self.hidden.insert(0, _Hidden(net.layers[number].T, *views, *after))
            next_dz = dz[u]
        self.output_kernel_T = net.layers[-1].T
        self.first_gradient, self.first_dz_T = net.layer_gradients[0], next_dz.T
        self.loss = (_SquaredError if net.loss == "mse" else _CrossEntropy)(self.z, blocks)

    def gather(self, X: Array, y: Array, rows: Array) -> None:
        # Without mode="clip" np.take gathers into a temporary first; the row numbers have been checked.
        np.take(X, rows, 0, self.rows[: rows.size], "clip")
        self.load(self.rows[: rows.size], y[rows])

    def load(self, x: Array, y: Array) -> None:
        self.rows_and_one[: len(x), :-1] = x
        self.loss.load(y)

    def forward(self, x: Array) -> None:
        dot, h, relu, dropout = np.dot, x, self.relu, self.rate > 0.0
        if dropout:
            self.rng.random(dtype=self.masks.dtype.type, out=self.masks)
            np.greater_equal(self.masks, self.rate, self.kept)
            np.multiply(self.kept, 1.0 / (1.0 - self.rate), self.masks)
        for layer in self.hidden:
            a = layer.a
            dot(layer.kernel_T, h, a)
            if relu:
                np.maximum(a, layer.zeros, out=a)
            else:
                np.tanh(a, a)
            if dropout:
                np.multiply(a, layer.mask, layer.h)
            h = layer.h_and_one
        dot(self.output_kernel_T, h, self.z)

    def backward(self, x: Array, batch: int) -> None:
        dot, multiply, dropout = np.dot, np.multiply, self.rate > 0.0
        self.loss.gradient(batch)
        if self.relu:
            np.greater(self.a, self.zero, self.derivatives)
        else:
            multiply(self.a, self.a, self.derivatives)
            np.subtract(self.one, self.derivatives, self.derivatives)
        for layer in reversed(self.hidden):
            dot(layer.h_and_one, layer.next_dz_T, layer.next_gradient)
            dot(layer.next_kernel, layer.next_dz, layer.dz)
            multiply(layer.dz, layer.derivative, layer.dz)
            if dropout:
                multiply(layer.dz, layer.mask, layer.dz)
        dot(x, self.first_dz_T, self.first_gradient)


class _CrossEntropy:
    """Softmax and its cross-entropy with integer labels: turns z (classes, b) into its gradient."""

    def __init__(self, z: Array, blocks: int) -> None:
        (_, batch), dtype = z.shape, z.dtype
        self.z, self.z_flat, self.batch, self.columns = z, z.reshape(-1), batch, np.arange(batch)
        self.ones, self.rows = np.ones(len(z), dtype), np.array(batch, dtype)
        self.row_weight = dtype.type(1.0 / batch)
        self.maximum, self.divisor = np.empty((2, batch), dtype)
        self.labelled, self.sums = np.empty((2, blocks, batch), dtype)
        self.views: list[tuple[Array, Array, Array]] = []

    def load(self, labels: Array) -> None:
        flat = labels.reshape(-1, self.batch) * self.batch + self.columns
        self.views = list(zip(flat, self.labelled, self.sums, strict=False))

    def gradient(self, batch: int) -> None:
        (label, labelled, sums), z = self.views[batch], self.z
        np.maximum.reduce(z, axis=0, out=self.maximum)
        np.subtract(z, self.maximum, z)
        self.z_flat.take(label, None, labelled, "clip")
        np.exp(z, z)
        np.dot(self.ones, z, sums)
        np.multiply(sums, self.rows, self.divisor)
        np.divide(z, self.divisor, z)
        self.z_flat[label] -= self.row_weight

    def total(self) -> float:
        used = len(self.views)
        return float(np.sum(np.log(self.sums[:used]) - self.labelled[:used], dtype=np.float64))


class _SquaredError:
    """Mean squared error over the outputs: turns z (n_out, b) into its gradient."""

    def __init__(self, z: Array, blocks: int) -> None:
        self.z, self.scale = z, np.array(2.0 / z.size, z.dtype)
        self.targets, self.errors = np.empty((2, blocks, *z.shape), z.dtype)
        self.views: list[tuple[Array, Array]] = []

    def load(self, targets: Array) -> None:
        n_out, batch = self.z.shape
        used = len(targets) // batch
        self.targets[:used] = targets.reshape(used, batch, n_out).transpose(0, 2, 1)
        self.views = list(zip(self.targets[:used], self.errors, strict=False))

    def gradient(self, batch: int) -> None:
        target, error = self.views[batch]
        np.subtract(self.z, target, error)
        np.multiply(error, self.scale, self.z)

    def total(self) -> float:
        return float(np.sum(np.square(self.errors[: len(self.views)]), dtype=np.float64)) / len(self.z)
