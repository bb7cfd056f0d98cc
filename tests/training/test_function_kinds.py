"""Which functions are of symbols, and errors of those that are neither these nor of numbers."""

import math
from functools import partial

import numpy as np
import pytest

import fastnn as fnn
from fastnn import losses, metrics, ops
from symbol_losses import X, Y, build, squares


def helper(a, b):
    return ops.maximum(a, b)


def through_a_helper(y_true, y_pred):
    return helper(y_true - y_pred, 0.0)


def by_import(y_true, y_pred):
    from fastnn import ops as functions

    return functions.square(y_true - y_pred)


def by_attribute(y_true, y_pred):
    return fnn.ops.square(y_true - y_pred)


def with_margin(margin):
    square = ops.square
    return lambda y_true, y_pred: square(y_true - y_pred - margin)


def by_operators(y_true, y_pred):
    return (y_true - y_pred) ** 2


def by_getitem(y_true, y_pred):
    return y_true[:, 0] - y_pred[:, 0]


class Margins:
    def loss(self, y_true, y_pred):
        return y_true - y_pred


def test_kinds():
    symbols = [squares, through_a_helper, by_import, by_attribute, with_margin(0.5), by_getitem, Margins().loss,
               partial(squares)]  # fmt: skip
    for function in symbols:
        assert isinstance(losses.get(function), losses.Function), function
        assert isinstance(metrics.get(function), metrics.Function), function
    for function in (by_operators, lambda t, p: math.exp(t - p)):
        assert isinstance(losses.get(function), losses.Custom)
        assert type(metrics.get(function)) is metrics.MeanLoss
    assert losses.get(partial(squares)).name == "squares"


def test_neither_kind():
    def mixed(y_true, y_pred):
        return y_true.sum() - y_pred

    with pytest.raises(ValueError, match=r"Numba cannot compile the function 'mixed'.*no function of symbols either"):
        losses.get(mixed)
    with pytest.raises(TypeError, match=r"missing a required argument.*|y_true and y_pred"):
        losses.get(lambda y_true, y_pred, weights: ops.square(y_true - y_pred))
    with pytest.raises(TypeError, match="y_true and y_pred"):
        losses.Function(3)
    with pytest.raises(TypeError, match="name"):
        losses.Function(squares, name=3)
    with pytest.raises(TypeError, match="function of symbols"):
        losses.Function(squares)(Y, Y)
    with pytest.raises(TypeError, match="function of symbols"):
        metrics.Function(squares)(Y, Y)


def test_errors_say_where():
    def wrong(y_true, y_pred):
        return ops.add(y_true[:, :2], y_pred)

    model = build(wrong)
    with pytest.raises(ValueError, match=r"add.*\(B, 2\).*\(B, 3\)") as found:
        model.fit(X, Y, verbose=0)
    notes = "\n".join(found.value.__notes__)
    assert "test_function_kinds.py" in notes and "return ops.add(y_true[:, :2], y_pred)" in notes
    assert "'wrong', with y_true of shape (B, 3) and y_pred of shape (B, 3)" in notes
    for function, error, match in (
        (lambda t, p: (ops.sum(t), ops.sum(p)), TypeError, "returned 2 results"),
        (lambda t, p: ops.sum(p, axis=0), ValueError, r"shape \(3,\), expected a single number"),
        (lambda t, p: ops.sum(p) and None, TypeError, "neither true nor false"),
        (lambda t, p: math.exp(ops.sum(p)), TypeError, "no number now"),
        (lambda t, p: np.exp(ops.sum(p)), TypeError, "ufunc|__array_ufunc__|exp"),
        (lambda t, p: ops.sum(p) if t[0, 0] > 0 else 0.0, TypeError, "use fastnn.ops.where"),
    ):
        with pytest.raises(error, match=match):
            build(losses.Function(function)).evaluate(X, Y)
