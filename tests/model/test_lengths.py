"""The steps that count (`lengths`): which layers, inputs, outputs and class weights take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from open_sequences import ROWS, compiled, sequences, unequal


class Halved(fnn.layers.Layer):
    """A layer of one's own, of which nobody knows what it does."""

    def call(self, x: Any) -> Any:
        return x * 0.5


class Stepwise(Halved):
    """The same, which says that it does so in each step by itself."""

    passes_mask = True


class Shortened(Stepwise):
    """One that says so, but leaves out a step."""

    def call(self, x: Any) -> Any:
        return x[:, 1:]


@pytest.mark.parametrize("layer", [Stepwise(), fnn.Rescaling(2.0, offset=1.0)])
def test_layers_that_compute_each_step_by_itself(layer: fnn.layers.Layer) -> None:
    x, lengths = unequal()
    model = fnn.Sequential([fnn.Input((None, 3)), layer, fnn.GRU(4)], seed=0)
    found = model.predict(x, lengths=lengths)
    for row in np.flatnonzero(lengths):
        assert np.array_equal(found[row : row + 1], model.predict(x[row : row + 1, : lengths[row]]))


def test_fixed_queries_attend_to_the_steps_that_count() -> None:
    queries, start = fnn.Input((2, 3)), fnn.Input((None, 3))
    model = fnn.Model([queries, start], fnn.MultiHeadAttention(2, 4)([queries, start]), seed=0)
    (x, lengths), q = unequal(), sequences(2, ROWS, 5)
    found = model.predict([q, x], lengths=lengths)
    assert found.shape == (ROWS, 2, 3)
    for row in np.flatnonzero(lengths):
        alone = model.predict([q[row : row + 1], x[row : row + 1, : lengths[row]]])[0]
        np.testing.assert_allclose(found[row], alone, rtol=2e-5, atol=1e-6)


def test_several_inputs_have_the_same_lengths() -> None:
    starts = [fnn.Input((None, 3)), fnn.Input((None, 3))]
    model = fnn.Model(starts, fnn.Add()([fnn.GRU(2)(one) for one in starts]), seed=0)
    x, lengths = unequal()
    found = model.predict([x, 2.0 * x], lengths=lengths)
    one = x[3:4, : lengths[3]]
    np.testing.assert_allclose(found[3:4], model.predict([one, 2.0 * one]), rtol=1e-5, atol=1e-6)
    hint = (
        r"sequences with lengths of their own, such as a translator's, .* Embedding\(..., mask_zero=True\) or Masking"
    )
    for second, given, error, message in (
        (x[:, :4], lengths, ValueError, r"one number of steps, got \[4, 19\]"),
        (x, [lengths, lengths], ValueError, r"expected shape \(24,\), .* got \(2, 24\)"),
        (x, {"input": lengths}, TypeError, "expected one array, of integers for each row of x, got a dict"),
    ):
        with pytest.raises(error, match=f"lengths: .*{message}.*{hint}"):
            model.predict([x, second], lengths=given)


def test_steps_in_the_reverse_order() -> None:
    """Layers after them know which count, but an output has to have those that count first."""
    back: dict[str, Any] = {"go_backwards": True, "return_sequences": True}
    x, lengths = unequal()
    for after in ([], [fnn.Dense(2)]):
        model = compiled(fnn.Sequential([fnn.Input((None, 3)), fnn.GRU(4, **back), *after], seed=0))
        for call, given in ((model.predict, [x]), (model.fit, [x, x])):
            with pytest.raises(ValueError, match="output 0 has its steps in the reverse order"):
                call(*given, lengths=lengths)
    for last in (fnn.GRU(3), fnn.GRU(3, **back), fnn.GlobalAveragePooling1D()):
        model = fnn.Sequential([fnn.Input((None, 3)), fnn.GRU(4, bias_initializer="ones", **back), last], seed=0)
        found = model.predict(x, lengths=lengths)
        for row in np.flatnonzero(lengths):
            alone = model.predict(x[row : row + 1, : lengths[row]])[0]
            np.testing.assert_allclose(found[row, : len(alone)], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("one_hot", [False, True])
def test_balanced_classes_are_those_of_the_steps_that_count(one_hot: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 9, 2)), np.zeros((40, 9), int)
    y[:, :3] = rng.integers(0, 2, (40, 3))
    y[30:] = 0
    losses = []
    for given, labels, options in ((x, y, {"lengths": np.full(40, 3)}), (x[:, :3], y[:, :3], {})):
        for share in (0.0, 0.25):
            layers = [fnn.Input((None, 2)), fnn.Dense(2, "softmax", kernel_initializer="zeros")]
            model = fnn.Sequential(layers, seed=0)
            model.compile(fnn.SGD(1e-30), "cross_entropy")
            targets = np.eye(2)[labels] if one_hot else labels
            more: dict[str, Any] = {"class_weight": "balanced", "validation_split": share, **options}
            losses.append(model.fit(given, targets, verbose=0, **more).history["loss"])
    np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-6)
    np.testing.assert_allclose(losses[0], np.log(2.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Halved(), "set Halved.passes_mask = True if it computes each step by itself"),
        (Shortened(), "its results have another number of steps"),
    ],
)
def test_layers_of_ones_own_that_leave_masks_out(layer: fnn.layers.Layer, message: str) -> None:
    x, lengths = unequal()
    model = fnn.Sequential([fnn.Input((None, 3)), layer, fnn.LSTM(2)], seed=0)
    with pytest.raises(ValueError, match=message):
        model.predict(x, lengths=lengths)
