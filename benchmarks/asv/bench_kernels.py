"""Single kernels, as records of a program, on the cases of `kernel_cases`, and the same work in NumPy.

The small cases are repeated 1000 times in one call, because a call from Python costs more than the kernel; NumPy has
to be called from Python each time. The large cases stream from memory.
"""

from collections.abc import Callable

from kernel_cases import CASES
from titles import titled

LIBRARIES = ["fastnn", "numpy"]
TIMES = 1000
BY_NAME = {case.name: case for case in CASES}
ELEMENTWISE = ("activation", "activation_grad", "add", "dropout")
LOSSES = ("cross_entropy_logits_labels", "loss", "sum_loss")
OPTIMIZERS = ("optimizer", "sum_squares")
ROWS = tuple({case.op for case in CASES} - {*ELEMENTWISE, *LOSSES, *OPTIMIZERS, "tick"})


# Only one large case of each kind: filling their arrays takes most of the time (`kernels.py` has them all).
LEFT_OUT = ("gelu_tanh", "sigmoid", "silu_grad", "relu_grad", "log_softmax", "layer_norm_param", "batch_norm_grad")


def names(ops: tuple[str, ...], large: bool) -> list[str]:
    """Return the names of the cases of some ops."""
    found = [case.name for case in CASES if case.op in ops and case.large is large]
    return [name for name in found if not (large and name.startswith(LEFT_OUT))]


class _Kernel:
    """A kernel of the table of cases."""

    param_names = ("library", "kernel")

    def setup(self, library: str, kernel: str) -> None:
        """Allocate operands, compile, and call once."""
        if kernel not in BY_NAME:
            raise NotImplementedError(f"this version has no case {kernel}")
        self.work = BY_NAME[kernel].make()
        self.call: Callable[[], object] = self.work.fastnn
        if library == "numpy":
            if self.work.numpy is None:
                raise NotImplementedError(f"no NumPy version of {kernel}")
            self.call = self.work.numpy
        self.call()


class _Small(_Kernel):
    """A kernel whose operands stay in the caches."""

    def time_1000_times(self, library: str, kernel: str) -> None:
        """Run it 1000 times: in one call of fastnn, or in 1000 calls of NumPy."""
        if library == "fastnn":
            self.work.fastnn(TIMES)
            return
        for _ in range(TIMES):
            self.call()


class _Large(_Kernel):
    """A kernel whose operands are larger than the caches."""

    number = 1
    repeat = (3, 7, 3.0)
    timeout = 120

    def time_kernel(self, library: str, kernel: str) -> None:
        """Run it once."""
        self.call()


@titled("Activations, 2048 numbers, 1000 times")
class ElementwiseSmall(_Small):
    """Activations and their gradients on 2048 numbers."""

    params = (LIBRARIES, names(ELEMENTWISE, False))


@titled("Activations, 4096 x 4096")
class Elementwise(_Large):
    """Activations, their gradients, addition, dropout on 4096 x 4096 numbers."""

    params = (LIBRARIES, names(ELEMENTWISE, True))


@titled("Row kernels, small tables, 1000 times")
class RowsSmall(_Small):
    """Softmax, normalisation, sums over rows, gathering of a batch: tables of a small network."""

    params = (LIBRARIES, names(ROWS, False))


@titled("Row kernels, 4096 x 4096")
class Rows(_Large):
    """Softmax, normalisation and sums over rows of tables of 4096 x 4096."""

    params = (LIBRARIES, names(ROWS, True))


@titled("Losses, small tables, 1000 times")
class LossesSmall(_Small):
    """Losses and their gradients on the outputs of a small network."""

    params = (LIBRARIES, names(LOSSES, False))


@titled("Losses, 4096 x 4096")
class Losses(_Large):
    """Losses and their gradients on tables of 4096 x 4096."""

    params = (LIBRARIES, names(LOSSES, True))


@titled("Optimizers, 1000 parameters, 1000 times")
class OptimizersSmall(_Small):
    """The step of an optimizer on 1000 parameters."""

    params = (LIBRARIES, names(OPTIMIZERS, False))


@titled("Optimizers and norm, 10 million parameters")
class Optimizers(_Large):
    """The step of an optimizer, and the norm for clipping, on 10 million parameters."""

    params = (LIBRARIES, names(OPTIMIZERS, True))
