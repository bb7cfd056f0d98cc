"""Attention: layers against naive NumPy in float64, gradients against differences, in every way of running."""

import pickle

import numpy as np
import pytest
from numba import njit

import fastnn as fnn
import fastnn.nopython as fnp

RNG = np.random.default_rng(0)


def naive(weights, query, value, key, mask=None, *, causal=False):
    """Compute attention of kernels (features, heads, size) and biases, sample by sample."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = (weights[i : i + 2] for i in range(0, 8, 2))
    heads, group = wq.shape[1], wq.shape[1] // wk.shape[1]
    results = np.zeros((len(query), query.shape[1], wo.shape[-1]))
    for n in range(len(query)):
        for head in range(heads):
            q = query[n] @ wq[:, head] + bq[head]
            k = key[n] @ wk[:, head // group] + bk[head // group]
            v = value[n] @ wv[:, head // group] + bv[head // group]
            scores = np.exp(q @ k.T / np.sqrt(wq.shape[2]))
            if causal:
                scores = np.tril(scores)
            if mask is not None:
                of_head = mask[n] if mask[n].ndim < 3 else mask[n][head % len(mask[n])]
                scores = scores * of_head
            total = scores.sum(axis=1, keepdims=True)
            results[n] += np.where(total == 0.0, 0.0, scores / np.where(total == 0.0, 1.0, total)) @ v @ wo[head]
    return results + bo


def random_weights(model):
    model.set_weights([RNG.normal(0.0, 0.5, w.shape) for w in model.get_weights()])
    return model


def make(layer, shapes, dtype="float64"):
    inputs = [fnn.Input(shape) for shape in shapes]
    model = fnn.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]), seed=3, dtype=dtype)
    return random_weights(model)


def data(shapes, rows=3):
    found = [RNG.normal(size=(rows, *shape)) for shape in shapes]
    if len(found) == 4:
        found[3] = (RNG.random(found[3].shape) < 0.6).astype(float)
        found[3][0] = 0.0  # queries without keys
    return found


LAYERS = {
    "self": (lambda **more: fnn.MultiHeadAttention(2, 4, **more), [(7, 5)]),
    "cross": (lambda **more: fnn.MultiHeadAttention(3, 20, **more), [(7, 5), (33, 6)]),
    "keys": (lambda **more: fnn.MultiHeadAttention(1, 8, output_dim=3, **more), [(31, 5), (7, 6), (7, 2)]),
    "small values": (lambda **more: fnn.MultiHeadAttention(2, 8, 3, **more), [(7, 5), (9, 5)]),
    "large values": (lambda **more: fnn.MultiHeadAttention(2, 3, 8, **more), [(7, 5), (9, 5)]),
    "grouped": (lambda **more: fnn.GroupedQueryAttention(4, 6, 2, **more), [(9, 5)]),
    "padded": (lambda **more: fnn.MultiHeadAttention(2, 4, **more), [(7, 5), (9, 5), (9, 5), (9,)]),
    "masked": (lambda **more: fnn.MultiHeadAttention(2, 4, **more), [(7, 5), (9, 5), (9, 5), (7, 9)]),
    "masked heads": (lambda **more: fnn.MultiHeadAttention(2, 4, **more), [(7, 5), (9, 5), (9, 5), (2, 7, 9)]),
    "long": (lambda **more: fnn.MultiHeadAttention(2, 64, **more), [(300, 5)]),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_as_naive_attention(name, causal):
    layer, shapes = LAYERS[name]
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        model = make(layer(causal=causal), shapes, dtype)
        x = data(shapes)
        query, value, key, mask = [*x, *(x[-1:] * (3 - len(x)) if len(x) < 3 else ()), None][:4]
        expected = naive([w.astype(float) for w in model.get_weights()], query, value, key, mask, causal=causal)
        got = model.predict(x if len(x) > 1 else x[0])
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"long"}))
def test_gradients_by_differences(name):
    layer, shapes = LAYERS[name]
    model = make(layer(causal=name in ("self", "grouped")), shapes)
    model.compile("sgd", "mse")
    x = data(shapes, 2)
    given = x if len(x) > 1 else x[0]
    y = RNG.normal(size=model.predict(given).shape)
    found = [np.array(w, float) for w in model.get_weights()]
    gradients = model.gradients(given, y)
    for number, gradient in enumerate(gradients):
        for _ in range(3):
            place = tuple(RNG.integers(0, size) for size in gradient.shape)
            values = []
            for step in (1e-4, -1e-4):
                moved = [w.copy() for w in found]
                moved[number][place] += step
                model.set_weights(moved)
                values.append(model.evaluate(given, y)["loss"])
            model.set_weights(found)
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-5, abs=1e-8)


def test_weights_are_keras():
    layer = fnn.MultiHeadAttention(3, 4, 5, output_dim=7)
    layer([fnn.Input((2, 6)), fnn.Input((8, 9)), fnn.Input((8, 10))])
    names = [f"{of}_{what}" for of in ("query", "key", "value", "output") for what in ("kernel", "bias")]
    shapes = [(6, 3, 4), (3, 4), (10, 3, 4), (3, 4), (9, 3, 5), (3, 5), (3, 5, 7), (7,)]
    assert layer.weight_shapes == shapes
    assert [spec.name for spec in layer.parameters((2, 6), (8, 9), (8, 10))] == names
    plain = fnn.GroupedQueryAttention(4, 6, 3, use_bias=False)
    assert plain(fnn.Input((2, 6))).shape == (2, 6)
    assert plain.weight_shapes == [(6, 6, 4), (6, 3, 4), (6, 3, 4), (6, 4, 6)]


def test_masks_of_integers_are_factors():
    inputs = [fnn.Input((5, 4)), fnn.Input(5, dtype="int64")]
    layer = fnn.MultiHeadAttention(2, 4)
    model = random_weights(fnn.Model(inputs, layer([inputs[0]] * 3 + [inputs[1]]), seed=0, dtype="float64"))
    x, mask = RNG.normal(size=(3, 5, 4)), np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]])
    np.testing.assert_allclose(
        model.predict([x, mask]), naive(model.get_weights(), x, x, x, mask[:, None]), rtol=0, atol=1e-12
    )


def trained(dtype="float32", dropout=0.0, causal=True):
    x = fnn.Input((6, 5))
    y = fnn.MultiHeadAttention(2, 4, dropout=dropout, causal=causal, name="heads")(x)
    y = fnn.GroupedQueryAttention(4, 4, 2, name="groups")(fnn.LayerNorm()(fnn.Add()([x, y])))
    model = fnn.Model(x, fnn.Dense(2)(fnn.Flatten()(y)), seed=1, dtype=dtype)
    model.compile("adam", "mse")
    return model


X, Y = RNG.normal(size=(40, 6, 5)), RNG.normal(size=(40, 2))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_it_trains_and_is_saved(tmp_path, dropout):
    model = trained(dropout=dropout)
    history = model.fit(X, Y, batch_size=8, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    model.save(tmp_path / "m.safetensors")
    models = [model, fnn.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))]
    assert len({m.predict(X).tobytes() for m in models}) == 1
    assert len({m.fit(X, Y, batch_size=8, epochs=1, verbose=0).history["loss"][0] for m in models}) == 1


def test_threads_do_not_change_a_bit():
    found, before = [], fnn.get_num_threads()
    for threads in (1, 2):
        fnn.set_num_threads(threads)
        model = trained(dropout=0.2)
        model.fit(X, Y, batch_size=20, epochs=2, verbose=0)
        found.append([w.tobytes() for w in model.get_weights()])
    fnn.set_num_threads(before)
    assert found[0] == found[1]


@njit
def predict(net, x, out):
    fnp.predict(net, x, out)


@njit
def step(learner, x, y):
    return fnp.train_step(learner, x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_compiled_code(dtype):
    model = trained(dtype, dropout=0.3)
    model.fit(X, Y, verbose=0)
    net = model.freeze()
    for rows in (1, 7):
        out = np.empty((rows, 2), dtype)
        predict(net, X[:rows].astype(dtype), out)
        np.testing.assert_array_equal(out, model.predict(X[:rows]))
    learner = model.learner()
    losses = [step(learner, X[:8].astype(dtype), Y[:8].astype(dtype)) for _ in range(3)]
    assert losses == pytest.approx([model.train_on_batch(X[:8], Y[:8])["loss"] for _ in range(3)])


def test_dropout_keeps_the_mean_and_drops_weights():
    x = fnn.Input((1, 4))
    values = fnn.Input((500, 4))
    layer = fnn.MultiHeadAttention(1, 4, dropout=0.4, use_bias=False)
    f = fnn.function([x, values], layer([x, values]), training=True, seed=2)
    y = np.asarray(f(np.zeros((200, 1, 4)), np.ones((200, 500, 4))))
    g = fnn.function([x, values], layer([x, values]), seed=2)
    expected = np.asarray(g(np.zeros((1, 1, 4)), np.ones((1, 500, 4))))
    ratio = y / expected
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    # kept or not: of 500 equal weights the sum has this deviation
    assert ratio[:, 0, 0].std() == pytest.approx(np.sqrt(0.4 / 0.6 / 500), rel=0.2)


@pytest.mark.parametrize(
    ("make_layer", "error", "said"),
    [
        (lambda: fnn.MultiHeadAttention(0, 4), ValueError, "num_heads"),
        (lambda: fnn.MultiHeadAttention(2, 4.5), TypeError, "key_dim"),
        (lambda: fnn.MultiHeadAttention(2, 4, dropout=1.0), ValueError, "dropout"),
        (lambda: fnn.MultiHeadAttention(2, 4, output_shape=3), TypeError, "output_dim"),
        (lambda: fnn.GroupedQueryAttention(4, 6, 4), ValueError, "divisor of num_query_heads, which is 6, got 4"),
        (lambda: fnn.MultiHeadAttention(2, 4)(fnn.Input(4)), ValueError, r"query of samples of shape \(steps, feat"),
        (lambda: fnn.MultiHeadAttention(2, 4)([fnn.Input((3, 4)), fnn.Input((5, 4)), fnn.Input((6, 4))]), ValueError,
         "as many keys as values"),
        (lambda: fnn.MultiHeadAttention(2, 4)([fnn.Input((3, 4))] * 3 + [fnn.Input(4)]), ValueError, "takes a mask"),
        (lambda: fnn.MultiHeadAttention(2, 4)([fnn.Input((3, 4))] * 5), ValueError, "1 to 4 input"),
    ],
)  # fmt: skip
def test_what_is_wrong(make_layer, error, said):
    with pytest.raises(error, match=said):
        make_layer()
