"""Records that normalise rows and columns.

Layer norm: Ba et al. 2016; RMS norm: Zhang & Sennrich 2019; batch norm: Ioffe & Szegedy 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.reference.instruction import Counters, Instruction, executes
from fastnn.program.layout import Flag

Array = NDArray[np.float64]


def _affine(i: Instruction, normal: Array) -> Array:
    """Return gamma normal + beta, as far as the record has them."""
    gamma, beta = i.get("gamma"), i.get("beta")
    y = normal if gamma is None else normal * gamma
    return y if beta is None else y + beta


def _moments(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return the mean, the biased variance, and x minus the mean, which is more precise than the mean itself."""
    rough = x.mean(axis=axis, keepdims=True)
    distances = x - rough
    lack = distances.mean(axis=axis, keepdims=True)
    # an infinite mean minus itself is NaN
    lack = np.where(np.isnan(lack), 0.0, lack)
    distances = distances - lack
    return (rough + lack).squeeze(axis), (distances**2).mean(axis=axis), distances


@executes("layer_norm")
def layer_norm(i: Instruction, counters: Counters) -> None:
    """Make y = (x - mean) / sqrt(variance + epsilon) gamma + beta by each row's biased variance."""
    mean, variance, distances = _moments(i["x"], 1)
    rstd = 1.0 / np.sqrt(variance + i.params["epsilon"])
    i.write("y", _affine(i, distances * rstd[:, None]))
    i.write("mean", mean)
    i.write("rstd", rstd)


@executes("layer_norm_grad")
def layer_norm_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma, in every row."""
    rstd, gamma = i["rstd"][:, None], i.get("gamma")
    normal = (i["x"] - i["mean"][:, None]) * rstd
    g = i["dy"] if gamma is None else i["dy"] * gamma
    shared = g.mean(axis=1, keepdims=True) + normal * (g * normal).mean(axis=1, keepdims=True)
    i.write("dx", rstd * (g - shared))


@executes("layer_norm_param_grad")
def layer_norm_param_grad(i: Instruction, counters: Counters) -> None:
    """Make dgamma (+)= sum(dy xhat) and dbeta (+)= sum(dy) over the rows."""
    normal = (i["x"] - i["mean"][:, None]) * i["rstd"][:, None]
    i.add("dgamma", (i["dy"] * normal).sum(axis=0))
    i.add("dbeta", i["dy"].sum(axis=0))


@executes("rms_norm")
def rms_norm(i: Instruction, counters: Counters) -> None:
    """Make y = x / sqrt(mean(x^2) + epsilon) gamma in every row."""
    rstd = 1.0 / np.sqrt((i["x"] ** 2).mean(axis=1) + i.params["epsilon"])
    i.write("y", _affine(i, i["x"] * rstd[:, None]))
    i.write("rstd", rstd)


@executes("rms_norm_grad")
def rms_norm_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = rstd (g - xhat mean(g xhat)) with g = dy gamma and xhat = x rstd, in every row."""
    rstd, gamma = i["rstd"][:, None], i.get("gamma")
    normal = i["x"] * rstd
    g = i["dy"] if gamma is None else i["dy"] * gamma
    i.write("dx", rstd * (g - normal * (g * normal).mean(axis=1, keepdims=True)))


@executes("rms_norm_param_grad")
def rms_norm_param_grad(i: Instruction, counters: Counters) -> None:
    """Make dgamma (+)= sum(dy xhat) over the rows."""
    i.add("dgamma", (i["dy"] * i["x"] * i["rstd"][:, None]).sum(axis=0))


def _chunks(i: Instruction) -> list[slice]:
    rows, chunks = i.dims["rows"], i.dims["chunks"]
    return [slice(rows * chunk // chunks, rows * (chunk + 1) // chunks) for chunk in range(chunks)]


def _keep_statistics(i: Instruction, mean: Array, variance: Array) -> Array:
    """Write a batch's statistics, move the moving ones towards them, and return 1 / std."""
    momentum, rstd = i.params["momentum"], 1.0 / np.sqrt(variance + i.params["epsilon"])
    i.write("mean", mean)
    i.write("rstd", rstd)
    i.write("moving_mean", i["moving_mean"] * momentum + mean * (1.0 - momentum))
    i.write("moving_variance", i["moving_variance"] * momentum + variance * (1.0 - momentum))
    return rstd


def _write_columns(i: Instruction, normal: Array) -> None:
    y, added = _affine(i, normal), i.get("added")
    y = y if added is None else y + added
    if Flag.RECTIFY in i.flags:
        y = np.clip(y, 0.0, i.params["high"] or None)
    i.write("y", y)


@executes("batch_norm")
def batch_norm(i: Instruction, counters: Counters) -> None:
    """Normalise columns by the batch's mean and biased variance, and move the moving ones towards them."""
    mean, variance, distances = _moments(i["x"], 0)
    _write_columns(i, distances * _keep_statistics(i, mean, variance))


@executes("batch_norm_inference")
def batch_norm_inference(i: Instruction, counters: Counters) -> None:
    """Normalise columns by the moving mean and variance."""
    mean, rstd = i["moving_mean"], 1.0 / np.sqrt(i["moving_variance"] + i.params["epsilon"])
    _write_columns(i, (i["x"] - mean) * rstd)
    i.write("mean", mean)
    i.write("rstd", rstd)


@executes("batch_norm_grad", "batch_norm_inference_grad")
def batch_norm_grad(i: Instruction, counters: Counters) -> None:
    """Make dgamma (+)= sum(dy xhat), dbeta (+)= sum(dy), and dx.

    The latter is gamma rstd (dy - mean(dy) - xhat mean(dy xhat)) where the batch's statistics depend on x, and
    gamma rstd dy where the moving ones were used.
    """
    dy, rstd, gamma = i["dy"], i["rstd"], i.get("gamma")
    normal = (i["x"] - i["mean"]) * rstd
    dx = dy
    if i.op == "batch_norm_grad":
        dx = dy - dy.mean(axis=0) - normal * (dy * normal).mean(axis=0)
    dx = dx * rstd
    i.add("dgamma", (dy * normal).sum(axis=0))
    i.add("dbeta", dy.sum(axis=0))
    i.write("dx", dx if gamma is None else dx * gamma)


@executes("column_moments")
def column_moments(i: Instruction, counters: Counters) -> None:
    """Set the means of columns in each chunk of rows, and the sums of the squared distances from them."""
    found = [_moments(i["x"][chunk], 0) for chunk in _chunks(i)]
    i.write("moments", np.array([(mean, (distances**2).sum(axis=0)) for mean, _, distances in found]))


@executes("batch_statistics")
def batch_statistics(i: Instruction, counters: Counters) -> None:
    """Put the moments of chunks together, and move the moving statistics towards the batch's."""
    rows = np.array([chunk.stop - chunk.start for chunk in _chunks(i)])[:, None]
    means, squares = i["moments"][:, 0], i["moments"][:, 1]
    mean = (means * rows).sum(axis=0) / rows.sum()
    variance = (squares + rows * (means - mean) ** 2).sum(axis=0) / rows.sum()
    _keep_statistics(i, mean, variance)


@executes("normalize_columns")
def normalize_columns(i: Instruction, counters: Counters) -> None:
    """Normalise columns by given statistics."""
    _write_columns(i, (i["x"] - i["mean"]) * i["rstd"])


@executes("column_products")
def column_products(i: Instruction, counters: Counters) -> None:
    """Set the sums over each chunk of rows of dy xhat, and of dy."""
    dy, normal = i["dy"], (i["x"] - i["mean"]) * i["rstd"]
    sums = [((dy[chunk] * normal[chunk]).sum(axis=0), dy[chunk].sum(axis=0)) for chunk in _chunks(i)]
    i.write("products", np.array(sums))


@executes("add_products")
def add_products(i: Instruction, counters: Counters) -> None:
    """Make dgamma (+)= sum(dy xhat), dbeta (+)= sum(dy), and their means over the rows."""
    sums = i["products"].sum(axis=0)
    i.add("dgamma", sums[0])
    i.add("dbeta", sums[1])
    i.write("means", sums / i.dims["rows"])


@executes("normalize_columns_grad")
def normalize_columns_grad(i: Instruction, counters: Counters) -> None:
    """Make dx = gamma rstd (dy - mean(dy) - xhat mean(dy xhat)) by given means, or gamma rstd dy without them."""
    dx, means, gamma = i["dy"], i.get("means"), i.get("gamma")
    if means is not None:
        dx = dx - means[1] - (i["x"] - i["mean"]) * i["rstd"] * means[0]
    dx = dx * i["rstd"]
    i.write("dx", dx if gamma is None else dx * gamma)
