"""Matrix products with and without bias and activation, through the public `fastnn.matmul`."""

import numpy as np

import fastnn as fnn


class Matmul:
    """Product of two float32 matrices of a layer's sizes: (rows, n_in) @ (n_in, n_out)."""

    params = (["fastnn", "numpy"], [(1, 784, 256), (32, 64, 128), (128, 784, 256), (512, 512, 512)])
    param_names = ("library", "rows, n_in, n_out")

    def setup(self, library: str, shape: tuple[int, int, int]) -> None:
        """Allocate operands and result, and call once."""
        rows, n_in, n_out = shape
        rng = np.random.default_rng(0)
        self.a = rng.standard_normal((rows, n_in), dtype=np.float32)
        self.b = rng.standard_normal((n_in, n_out), dtype=np.float32)
        self.out = np.empty((rows, n_out), np.float32)
        self.matmul = fnn.matmul if library == "fastnn" else np.matmul
        self.time_matmul(library, shape)

    def time_matmul(self, library: str, shape: tuple[int, int, int]) -> None:
        """Multiply."""
        self.matmul(self.a, self.b, out=self.out)


class Activations:
    """A layer's forward pass, (128, 64) @ (64, 256) + bias, with each activation in the epilogue."""

    params = ("linear", "relu", "sigmoid", "tanh", "gelu", "silu", "elu", "softplus")
    param_names = ("activation",)

    def setup(self, activation: str) -> None:
        """Allocate operands and result, and call once."""
        rng = np.random.default_rng(0)
        self.a = rng.standard_normal((128, 64), dtype=np.float32)
        self.b = rng.standard_normal((64, 256), dtype=np.float32)
        self.bias = rng.standard_normal(256, dtype=np.float32)
        self.out = np.empty((128, 256), np.float32)
        self.time_layer(activation)

    def time_layer(self, activation: str) -> None:
        """Multiply, add the bias, apply the activation."""
        fnn.matmul(self.a, self.b, out=self.out, bias=self.bias, activation=activation)
