"""Biases and normalisation."""

# The functions are compiled for the GPU, where their arguments are typed; annotations would add nothing.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.backend.cuda.device_function.encoder import Encoder, Record, Spot, bits, encodes
from fastnn.backend.cuda.device_function.instruction import COLS, CONSTANTS, ROWS, A, Tools, X, Y, instruction
from fastnn.backend.cuda.device_function.layout import Place
from fastnn.formulas.activations import CLIPS
from fastnn.program.layout import Flag


def _encode_affine(encoder: Encoder, y: Spot, record: Record, *vectors: NDArray[Any]) -> None:
    constants, rows, cols = encoder.constant(*vectors), record.dims["rows"], record.dims["cols"]
    encoder.draft("affine", y, record.spot("x"), constants=constants, rows=rows, cols=cols)


@encodes("bias_add")
def _bias_add(encoder: Encoder, record: Record) -> None:
    bias = record.weights("bias")
    _encode_affine(encoder, record.spot("y"), record, np.zeros_like(bias), np.ones_like(bias), bias)


@encodes("batch_norm_inference")
def _batch_norm(encoder: Encoder, record: Record) -> None:
    rstd = 1.0 / np.sqrt(record.weights("moving_variance") + record.params["epsilon"])
    scale = record.weights("gamma", 1.0) * rstd
    y, count = record.spot("y"), record.dims["rows"] * record.dims["cols"]
    clips = Flag.RECTIFY in record.flags
    # only the last instruction may write the output
    to = encoder.temporary(count) if clips and y.place is Place.OUTPUT else y
    _encode_affine(encoder, to, record, record.weights("moving_mean"), scale, record.weights("beta"))
    if clips:
        formula = next(name for name, high in CLIPS.items() if high == record.params["high"])
        encoder.activate(y, to, count, formula, {})


@encodes("layer_norm")
def _encode_layer_norm(encoder: Encoder, record: Record) -> None:
    constants = encoder.constant(record.weights("gamma", 1.0), record.weights("beta"))
    encoder.draft(
        "layer_norm", record.spot("y"), record.spot("x"), constants=constants, rows=record.dims["rows"],
        cols=record.dims["cols"], a=bits(record.params["epsilon"]),
    )  # fmt: skip


@instruction("affine", constants=lambda words: 3 * words[COLS])
def _affine(tools: Tools) -> Any:
    """Make y = (x - mean) scale + shift by columns."""
    formula, word, operand = tools.formula, tools.word, tools.operand
    load, store, constant = tools.load, tools.store, tools.constant

    @formula
    def affine(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, mean = word(code, at + COLS), word(code, at + CONSTANTS)
        scale = mean + cols
        shift = scale + cols
        for _ in range(word(code, at + ROWS)):
            j = np.int64(0)
            while j < cols:
                centred = load(source, x_at + j) - constant(constants, mean + j)
                store(to, y_at + j, centred * constant(constants, scale + j) + constant(constants, shift + j))
                j += 1
            x_at += cols
            y_at += cols

    return affine


@instruction("layer_norm", constants=lambda words: 2 * words[COLS])
def _layer_norm(tools: Tools) -> Any:
    """Make y = (x - mean) rstd gamma + beta in every row, without float64, which many GPUs compute 64 times as slowly.

    The second pass sums distances from the rough mean of the first, and their squares, so an offset costs no digits;
    where squares would overflow, distances are divided by the largest element.
    """
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    real, sqrt = tools.real, tools.math.sqrt
    load, store, constant = tools.load, tools.store, tools.constant
    zero, one, safe = real(0.0), real(1.0), real(np.sqrt(np.finfo(real).max)) * real(2.0**-20)

    @formula
    def layer_norm(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, gamma = word(code, at + COLS), word(code, at + CONSTANTS)
        beta, epsilon = gamma + cols, real(as_double(word(code, at + A)))
        share = one / real(cols)
        for _ in range(word(code, at + ROWS)):
            mean, largest = zero, zero
            j = np.int64(0)
            while j < cols:
                value = load(source, x_at + j)
                mean += value * share
                size = abs(value)
                largest = size if size > largest else largest
                j += 1
            scale = one if largest < safe else one / largest
            lack, variance = zero, zero
            j = np.int64(0)
            while j < cols:
                distance = (load(source, x_at + j) - mean) * scale
                lack += distance
                variance += distance * distance
                j += 1
            lack *= share
            variance = variance * share - lack * lack
            # rounding may give a negative variance of a constant row
            variance = zero if variance < zero else variance
            rstd = scale / sqrt(variance + epsilon * scale * scale)
            lack /= scale
            j = np.int64(0)
            while j < cols:
                value = (load(source, x_at + j) - mean - lack) * rstd
                store(to, y_at + j, value * constant(constants, gamma + j) + constant(constants, beta + j))
                j += 1
            x_at += cols
            y_at += cols

    return layer_norm


@encodes("rms_norm")
def _encode_rms_norm(encoder: Encoder, record: Record) -> None:
    encoder.draft(
        "rms_norm", record.spot("y"), record.spot("x"), constants=encoder.constant(record.weights("gamma", 1.0)),
        rows=record.dims["rows"], cols=record.dims["cols"], a=bits(record.params["epsilon"]),
    )  # fmt: skip


@instruction("rms_norm", constants=lambda words: words[COLS])
def _rms_norm(tools: Tools) -> Any:
    """Make y = x rstd gamma in every row; where squares would overflow, elements are divided by the largest."""
    formula, word, operand, as_double = tools.formula, tools.word, tools.operand, tools.as_double
    real, sqrt = tools.real, tools.math.sqrt
    load, store, constant = tools.load, tools.store, tools.constant
    zero, one, safe = real(0.0), real(1.0), real(np.sqrt(np.finfo(real).max)) * real(2.0**-20)

    @formula
    def rms_norm(number, code, at, constants, x, out, work):
        to, y_at = operand(word(code, at + Y), x, out, work)
        source, x_at = operand(word(code, at + X), x, out, work)
        cols, gamma = word(code, at + COLS), word(code, at + CONSTANTS)
        epsilon, share = real(as_double(word(code, at + A))), one / real(cols)
        for _ in range(word(code, at + ROWS)):
            largest = zero
            j = np.int64(0)
            while j < cols:
                size = abs(load(source, x_at + j))
                largest = size if size > largest else largest
                j += 1
            scale, square = one if largest < safe else one / largest, zero
            j = np.int64(0)
            while j < cols:
                part = load(source, x_at + j) * scale
                square += part * part
                j += 1
            rstd = scale / sqrt(square * share + epsilon * scale * scale)
            j = np.int64(0)
            while j < cols:
                store(to, y_at + j, load(source, x_at + j) * rstd * constant(constants, gamma + j))
                j += 1
            x_at += cols
            y_at += cols

    return rms_norm
