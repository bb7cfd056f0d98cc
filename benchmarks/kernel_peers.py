"""PyTorch's fused kernels for the cases of `kernel_cases`, on the same arrays.

Results are written to preallocated outputs, as in fastnn, if the operator supports it. Imported only if PyTorch is
installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

torch: Any = importlib.import_module("torch")
aten: Any = torch.ops.aten
Arrays = Mapping[str, NDArray[Any]]
Call = Callable[[], Any]


def set_num_threads(count: int) -> None:
    """Limit PyTorch's threads."""
    torch.set_num_threads(count)


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def activation(name: str, arrays: Arrays) -> Call:
    """Return the forward pass of an elementwise function."""
    t = _tensors(arrays)
    x, y = t["x"], t["y"]
    if name == "gelu_tanh":
        return lambda: aten.gelu.out(x, approximate="tanh", out=y)
    function = getattr(aten, name).out
    return lambda: function(x, out=y)


def activation_grad(name: str, arrays: Arrays) -> Call:
    """Return the gradient of an elementwise function."""
    t = _tensors(arrays)
    dy, saved, dx = t["dy"], t["saved"], t["dx"]
    if name == "relu":
        return lambda: aten.threshold_backward.grad_input(dy, saved, 0.0, grad_input=dx)
    if name == "gelu_tanh":
        return lambda: aten.gelu_backward.grad_input(dy, saved, approximate="tanh", grad_input=dx)
    function = getattr(aten, f"{name}_backward").grad_input
    return lambda: function(dy, saved, grad_input=dx)


def rows(op: str, arrays: Arrays) -> Call | None:
    """Return an operator on rows or on columns."""
    t = _tensors(arrays)
    x, y, dy, dx = (t.get(name) for name in ("x", "y", "dy", "dx"))
    calls: dict[str, Call] = {
        "softmax": lambda: torch.softmax(x, 1, out=y),
        "log_softmax": lambda: aten._log_softmax.out(x, 1, False, out=y),
        "softmax_grad": lambda: aten._softmax_backward_data.out(dy, y, 1, torch.float32, grad_input=dx),
        "log_softmax_grad": lambda: aten._log_softmax_backward_data.out(dy, y, 1, torch.float32, out=dx),
        "sum_rows": lambda: torch.sum(x, 0, out=y),
        "bias_add": lambda: torch.add(x, t["bias"], out=y),
        "add": lambda: torch.add(t["a"], t["b"], out=y),
        # allocates: fastnn has no memory for the mask, since it generates the random numbers again
        "dropout": lambda: aten.native_dropout(x, 0.5, True),
        "gather": lambda: torch.index_select(t["source"], 0, t["index"], out=t["batch"]),
        "sum_squares": lambda: torch.linalg.vector_norm(x),
    }
    return calls.get(op)


def layer_norm(arrays: Arrays) -> Call:
    """Return the forward pass of layer norm."""
    t = _tensors(arrays)
    mean, rstd = t["mean"].reshape(-1, 1), t["rstd"].reshape(-1, 1)
    shape = (t["x"].shape[1],)
    return lambda: aten.native_layer_norm.out(
        t["x"], shape, t["gamma"], t["beta"], 1e-3, out0=t["y"], out1=mean, out2=rstd
    )


def layer_norm_grad(arrays: Arrays, wanted: tuple[bool, bool, bool]) -> Call:
    """Return the gradient of layer norm for (x, gamma, beta); it allocates its results."""
    t = _tensors(arrays)
    mean, rstd = t["mean"].reshape(-1, 1), t["rstd"].reshape(-1, 1)
    shape, gamma = (t["x"].shape[1],), t["gamma"]
    beta = torch.zeros_like(gamma)
    names = ("dx", "dgamma", "dbeta")
    return lambda: dict(
        zip(
            names, aten.native_layer_norm_backward(t["dy"], t["x"], shape, mean, rstd, gamma, beta, wanted), strict=True
        )
    )


def batch_norm(arrays: Arrays) -> Call:
    """Return the forward pass of batch norm on the statistics of the batch."""
    t = _tensors(arrays)
    return lambda: aten.native_batch_norm.out(
        t["x"], t["gamma"], t["beta"], t["moving_mean"], t["moving_variance"], True, 0.1, 1e-3,
        out=t["y"], save_mean=t["mean"], save_invstd=t["rstd"],
    )  # fmt: skip


def batch_norm_grad(arrays: Arrays) -> Call:
    """Return the gradient of batch norm; it allocates its results."""
    t = _tensors(arrays)
    more, names = (t["mean"], t["rstd"], True, 1e-3, (True, True, True)), ("dx", "dgamma", "dbeta")
    return lambda: dict(
        zip(names, aten.native_batch_norm_backward(t["dy"], t["x"], t["gamma"], None, None, *more), strict=True)
    )


def cross_entropy(arrays: Arrays) -> Call:
    """Return the loss of labels and its gradient, from logits, each by one operator."""
    t = _tensors(arrays)
    x, target, ones = t["x"], t["target"], torch.full((len(t["x"]),), 1.0 / len(t["x"]))

    def run() -> None:
        y = aten._log_softmax(x, 1, False)
        loss, weight = aten.nll_loss_forward(y, target, None, 0, -100)
        t["row_loss"].copy_(loss)
        dy = aten.nll_loss_backward(ones, y, target, None, 0, -100, weight)
        aten._log_softmax_backward_data.out(dy, y, 1, torch.float32, out=t["dx"])

    return run


def optimizer(variant: str, arrays: Arrays) -> Call:
    """Return the step of a fused optimizer; Adam's state is that of a step far from the start."""
    p = torch.from_numpy(arrays["p"])
    p.grad = torch.from_numpy(arrays["g"])
    made: torch.optim.Optimizer
    if variant == "adam":
        made = torch.optim.Adam([p], lr=1e-3, eps=1e-7, fused=True)
    elif variant == "sgd":
        made = torch.optim.SGD([p], lr=1e-3, fused=True)
    elif variant == "sgd_momentum":
        made = torch.optim.SGD([p], lr=1e-3, momentum=0.9, fused=True)
    elif variant == "adagrad":
        made = torch.optim.Adagrad([p], lr=1e-3, eps=1e-7, fused=True)
    elif variant == "rmsprop":
        made = torch.optim.RMSprop([p], lr=1e-3, alpha=0.9, foreach=False)
    else:
        raise KeyError(variant)
    step: Call = made.step
    return step


def find(peer: str, arrays: Arrays) -> Call | None:
    """Return PyTorch's function for a case's `peer`, or None."""
    if peer in ("sgd", "sgd_momentum", "adagrad", "rmsprop", "adam"):
        return optimizer(peer, arrays)
    if peer in ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"):
        return activation(peer, arrays)
    if peer.endswith("_grad") and peer[:-5] in ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"):
        return activation_grad(peer[:-5], arrays)
    special: dict[str, Callable[[], Call]] = {
        "layer_norm": lambda: layer_norm(arrays),
        "layer_norm_grad": lambda: layer_norm_grad(arrays, (True, False, False)),
        "layer_norm_param_grad": lambda: layer_norm_grad({"gamma": arrays["dgamma"], **arrays}, (False, True, True)),
        "batch_norm": lambda: batch_norm(arrays),
        "batch_norm_grad": lambda: batch_norm_grad(arrays),
        "cross_entropy_logits_labels": lambda: cross_entropy(arrays),
    }
    if peer in special:
        return special[peer]()
    return rows(peer, arrays)
