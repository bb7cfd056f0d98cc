"""Matrix products, through the public `fastnn.matmul` and from compiled code; attention."""

import os
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

import attention
import fastnn as fnn
from batched_products import KINDS, Heads
from comparing.matmul import Array, Product, fastnn_call, numpy_call
from comparing.small import fastnn_run, numpy_run
from fastnn.program.opcodes import OPS
from kernel_numpy import NUMPY
from titles import titled

LIBRARIES = {"fastnn": fastnn_call, "numpy": numpy_call}
ATTENTION = {each.label: each for each in attention.SHAPES if each.label.startswith(("32 x 64", "2 x 512 x 8 x 64"))}
SHAPES = ("4 x 4 x 4", "1 x 784 x 256", "32 x 64 x 128", "128 x 784 x 256", "512 x 512 x 512")


def made(library: str, shape: str, transposed: str, dtype: str, threads: int = 1) -> Callable[[], object]:
    """Return a product into an existing output, after a first call."""
    m, k, n = (int(size) for size in shape.split(" x "))
    product = Product("", m, k, n, transposed, dtype)
    a, b = product.operands()
    call = LIBRARIES[library](product, a, b, np.empty((product.m, product.n), dtype), threads)
    call()
    return call


ACTIVATIONS = ["linear", "relu", "tanh", "silu", "gelu_tanh", "sigmoid", "gelu", "elu", "softplus"]


@titled("Matrix product")
class Matmul:
    """(m, k) @ (k, n) into a given output, one thread; shapes are m x k x n, T marks a transposed operand."""

    params = (list(LIBRARIES), SHAPES, ["NN", "TN", "NT"], ["float32", "float64"])
    param_names = ("library", "shape", "transposed", "dtype")

    def setup(self, library: str, shape: str, transposed: str, dtype: str) -> None:
        """Make the call."""
        self.call = made(library, shape, transposed, dtype)

    def time_matmul(self, library: str, shape: str, transposed: str, dtype: str) -> None:
        """Multiply."""
        self.call()


@titled("Matrix product on several threads")
class MatmulThreads:
    """Square float32 products on several threads, at most one per core."""

    params = (list(LIBRARIES), ["256 x 256 x 256", "1024 x 1024 x 1024"], [1, 2, 4, 8])
    param_names = ("library", "shape", "threads")

    def setup(self, library: str, shape: str, threads: int) -> None:
        """Make the call."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if threads > cores:
            raise NotImplementedError(f"{threads} threads need as many cores, this process may use {cores}")
        threadpool_limits(threads)
        self.call = made(library, shape, "NN", "float32", threads)

    def time_matmul(self, library: str, shape: str, threads: int) -> None:
        """Multiply."""
        self.call()


@titled("1000 small matrix products from compiled code")
class SmallMatmul:
    """1000 products of small square matrices: by a compiled loop over one record; NumPy by a Python loop."""

    params = (["fastnn", "numpy"], [4, 8, 16, 32, 48], ["float32", "float64"])
    param_names = ("library", "size", "dtype")

    def setup(self, library: str, size: int, dtype: str) -> None:
        """Allocate operands and result, and call once."""
        product = Product("", size, size, size, "NN", dtype)
        self.arrays: tuple[Array, ...] = (*product.operands(), np.empty((size, size), dtype))
        self.run = (fastnn_run if library == "fastnn" else numpy_run)(product, *self.arrays)
        self.run(1)

    def time_1000_products(self, library: str, size: int, dtype: str) -> None:
        """Multiply 1000 times."""
        self.run(1000)


@titled("Products of many matrices")
class BatchedMatmul:
    """Heads of attention: scores (T x T), results (T x size) and a gradient, for many matrices; one thread."""

    params = (["fastnn", "numpy"], list(KINDS), ["16 x 16", "64 x 32", "128 x 64", "512 x 64"], ["float32", "float64"])
    param_names = ("library", "kind", "shape", "dtype")

    def setup(self, library: str, kind: str, shape: str, dtype: str) -> None:
        """Allocate operands, compile, and call once."""
        if "batched_matmul" not in OPS:
            raise NotImplementedError("this version has no products of many matrices")
        steps, size = (int(number) for number in shape.split(" x "))
        ours, theirs = Heads(kind, steps, size, dtype).calls()
        self.call = ours if library == "fastnn" else theirs

    def time_products(self, library: str, kind: str, shape: str, dtype: str) -> None:
        """Multiply."""
        self.call()


@titled("Attention")
class Attention:
    """Attention and its gradients; one thread."""

    params = (["forward", "backward"], list(ATTENTION))
    param_names = ("direction", "shape")

    def setup(self, direction: str, shape: str) -> None:
        """Allocate operands, compile, and call once."""
        if "attention" not in OPS:
            raise NotImplementedError("this version has no attention")
        self.call = attention.contestants(ATTENTION[shape], "float32")[direction]["fastnn"]
        self.call()

    def time_attention(self, direction: str, shape: str) -> None:
        """Run the records."""
        self.call()


@titled("Dense layer with activation")
class DenseLayer:
    """A layer's forward pass, (128, 64) @ (64, 256) + bias, then an activation; fastnn does it in one call."""

    params = (
        ["fastnn", "numpy"],
        ["linear", "relu", "tanh", "silu", "gelu_tanh", "sigmoid", "gelu", "elu", "softplus"],
    )
    param_names = ("library", "activation")

    def setup(self, library: str, activation: str) -> None:
        """Allocate operands and result, and call once."""
        if library == "numpy" and activation != "linear" and activation not in NUMPY:
            raise NotImplementedError(f"no NumPy version of {activation}")
        rng = np.random.default_rng(0)
        self.a = rng.standard_normal((128, 64), dtype=np.float32)
        self.b = rng.standard_normal((64, 256), dtype=np.float32)
        self.bias = rng.standard_normal(256, dtype=np.float32)
        self.out = np.empty((128, 256), np.float32)
        self.call = self._fastnn if library == "fastnn" else self._numpy
        self.call(activation)

    def _fastnn(self, activation: str) -> None:
        fnn.matmul(self.a, self.b, out=self.out, bias=self.bias, activation=activation)

    def _numpy(self, activation: str) -> None:
        np.matmul(self.a, self.b, out=self.out)
        np.add(self.out, self.bias, out=self.out)
        if activation != "linear":
            NUMPY[activation]({"x": self.out, "y": self.out})

    def time_layer(self, library: str, activation: str) -> None:
        """Multiply, add the bias, apply the activation."""
        self.call(activation)
