"""Models that are made of models: the same weights, in every way of running, in files, pickles and compiled code."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nopython as fnp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.normal(size=(24, 1)).astype(np.float32)


def encoder(name="encoder", **more):
    layers = [fnn.Input(6), fnn.Dense(5, "tanh", name="first"), fnn.BatchNorm(), fnn.Dense(3, "tanh", name="code")]
    return fnn.Sequential(layers, seed=1, name=name, **more)


def decoder(name="decoder", **more):
    return fnn.Sequential([fnn.Input(3), fnn.Dense(5, "relu"), fnn.Dense(6)], seed=2, name=name, **more)


def autoencoder(dtype="float32"):
    a, b = encoder(dtype=dtype), decoder(dtype=dtype)
    x = fnn.Input(6, name="x")
    return a, b, fnn.Model(x, b(a(x)), seed=3, dtype=dtype, name="both")


def flat(dtype="float32"):
    """Return the autoencoder as one model of layers."""
    x = fnn.Input(6)
    h = fnn.Dense(3, "tanh")(fnn.BatchNorm()(fnn.Dense(5, "tanh")(x)))
    return fnn.Model(x, fnn.Dense(6)(fnn.Dense(5, "relu")(h)), seed=3, dtype=dtype)


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", fnn.AdamW(0.01, clipnorm=0.1), fnn.Adam(0.01, use_ema=True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_trains_the_weights_of_its_models_as_one_model_does(dtype, optimizer):
    a, b, both = autoencoder(dtype)
    one = flat(dtype)
    one.set_weights(both.get_weights())
    same(both.get_weights(), [*a.get_weights(), *b.get_weights()])
    for model in (both, one):
        model.compile(copy.deepcopy(optimizer), "mse", metrics=["mae"])
    options = dict(epochs=2, batch_size=7, verbose=0, validation_split=0.25)
    model_history, flat_history = (model.fit(X, X, **options).history for model in (both, one))
    assert model_history == flat_history
    for _ in range(3):
        assert both.train_on_batch(X[:8], X[:8]) == one.train_on_batch(X[:8], X[:8])
        np.testing.assert_array_equal(both.predict(X), one.predict(X))
    assert both.evaluate(X, X) == one.evaluate(X, X)
    same(both.gradients(X, X), one.gradients(X, X))
    np.testing.assert_array_equal(both.input_gradients(X, X), one.input_gradients(X, X))
    both.finalize_variable_values()
    one.finalize_variable_values()
    same(both.get_weights(), one.get_weights())
    same(both.get_weights(), [*a.get_weights(), *b.get_weights()])
    np.testing.assert_array_equal(b.predict(a.predict(X)), both.predict(X))


def test_gradients_in_training_mode_leave_the_averages_of_its_models():
    a, _, both = autoencoder()
    both.compile("sgd", "mse")
    before = both.get_weights()
    both.gradients(X, X, training=True)
    same(before, both.get_weights())
    both.train_on_batch(X, X)
    assert (a.get_weights("batch_norm")[2] != before[4]).any()


def test_what_one_model_learns_all_have_at_once():
    a, b, both = autoencoder()
    x = fnn.Input(6)
    classifier = fnn.Model(x, fnn.Dense(1, name="head")(a(x)), seed=4)
    for model in (a, both, classifier):
        model.compile("adam", "mse")
    for _ in range(4):  # also the calls that are prepared
        for model, x, y in ((a, X, X[:, :3]), (both, X, X), (classifier, X, Y)):
            before, others = a.get_weights(), b.get_weights()
            model.train_on_batch(x, y)
            assert (a.get_weights("code")[0] != before[-2]).any()
            changed = any((one != two).any() for one, two in zip(others, b.get_weights(), strict=True))
            assert changed == (model is both)
            same(both.get_weights()[:8], a.get_weights())
            same(classifier.get_weights("encoder"), a.get_weights())
            kernel, bias = classifier.get_weights("head")
            np.testing.assert_allclose(classifier.predict(X), a.predict(X) @ kernel + bias, atol=1e-6)
            np.testing.assert_array_equal(both.predict(X), b.predict(a.predict(X)))
    a.set_weights([np.ones_like(weight) for weight in a.get_weights()])
    assert all((weight == 1).all() for weight in both.get_weights()[:8])
    both.set_weights([np.zeros_like(weight) for weight in both.get_weights()])
    assert not any(weight.any() for weight in [*a.get_weights(), *b.get_weights()])


def test_each_model_has_a_state_of_its_optimizer():
    a, _, both = autoencoder()
    alone = encoder()
    alone.set_weights(a.get_weights())
    for model in (a, both, alone):
        model.compile("adam", "mse")
    both.train_on_batch(X, X)
    alone.set_weights(a.get_weights())
    a.train_on_batch(X, X[:, :3])
    alone.train_on_batch(X, X[:, :3])
    same(a.get_weights(), alone.get_weights())
    assert (a.step, both.step) == (1, 1)


def test_a_model_may_be_called_twice():
    """Siamese networks: the gradient of both calls, against finite differences."""
    a = encoder(dtype="float64")
    one, two = fnn.Input(6, name="one"), fnn.Input(6, name="two")
    model = fnn.Model([one, two], fnn.Dense(1)(fnn.Multiply()([a(one), a(two)])), seed=5, dtype="float64")
    model.compile("sgd", "mse")
    assert model.count_params() == a.count_params() + 4
    other = X[::-1].copy()
    found = model.gradients([X, other], Y)
    weights = model.get_weights()
    rng = np.random.default_rng(1)
    trained = [0, 1, 2, 3, 6, 7, 8, 9]
    for number, gradient in zip(trained, found, strict=True):
        direction, losses = rng.normal(size=gradient.shape), []
        for sign in (1, -1):
            moved = [value + sign * 1e-5 * direction * (index == number) if index == number else value
                     for index, value in enumerate(weights)]  # fmt: skip
            model.set_weights(moved)
            losses.append(model.evaluate([X, other], Y)["loss"])
        assert (gradient * direction).sum() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-5, abs=1e-9)
    model.set_weights(weights)
    expected = (a.predict(X) * a.predict(other)) @ weights[8] + weights[9]
    np.testing.assert_allclose(model.predict([X, other]), expected, rtol=1e-12)


def test_freezing_belongs_to_a_model():
    """The networks of a GAN: the discriminator learns alone, and stays as it is in the whole."""
    z = fnn.Input(3)
    generator, critic = decoder("generator"), fnn.Sequential([fnn.Input(6), fnn.Dense(1)], seed=3, name="critic")
    critic.trainable = False
    whole = fnn.Model(z, critic(generator(z)), seed=4)
    critic.trainable = True
    for model in (whole, critic):
        model.compile("adam", "mse")
    noise = X[:, :3]
    for _ in range(3):
        before = critic.get_weights(), generator.get_weights()
        whole.train_on_batch(noise, Y)
        same(before[0], critic.get_weights())
        assert (before[1][0] != generator.get_weights()[0]).any()
        before = critic.get_weights(), generator.get_weights()
        critic.train_on_batch(X, Y)
        assert (before[0][0] != critic.get_weights()[0]).any()
        same(before[1], generator.get_weights())
    np.testing.assert_array_equal(whole.predict(noise), critic.predict(generator.predict(noise)))


def test_models_of_models_of_models():
    a, b, both = autoencoder()
    x = fnn.Input(6)
    deep = fnn.Model(x, fnn.Dense(1)(both(x)), seed=6, name="deep")
    deep.compile("sgd", "mse")
    deep.fit(X, Y, epochs=1, verbose=0)
    same(deep.get_weights()[:12], [*a.get_weights(), *b.get_weights()])
    assert deep.get_layer("both") is both and deep._architecture.labels[1] == "both/encoder/first"
    twice = fnn.Model(x, fnn.Add()([both(x), b(a(x))]), seed=7)
    np.testing.assert_array_equal(twice.predict(X), 2 * both.predict(X))
    assert twice.count_params() == both.count_params()


def test_several_inputs_and_outputs():
    p, q = fnn.Input(2, name="p"), fnn.Input(3, name="q")
    joined = fnn.Concatenate()([p, q])
    inner = fnn.Model([p, q], [fnn.Dense(2, name="mean")(joined), fnn.Dense(1, name="spread")(joined)], name="inner")
    r, s = fnn.Input(2), fnn.Input(3)
    mean, spread = inner([r, s])
    model = fnn.Model([r, s], [spread, fnn.Dense(1, name="last")(mean)])
    assert model.output_names == ("inner", "last")
    data = [X[:, :2], X[:, 2:5]]
    found, expected = model.predict(data), inner.predict(data)
    np.testing.assert_array_equal(found[0], expected[1])
    one = fnn.Model([r, s], spread)
    assert one.count_params() == 6  # layers that nothing needs are left out
    np.testing.assert_array_equal(one.predict(data), expected[1])


def test_names():
    x = fnn.Input(6, name="x")
    first, second = (fnn.Sequential([fnn.Input(6), fnn.Dense(6)]) for _ in range(2))
    model = fnn.Model(x, fnn.Dense(1)(second(first(x))))
    assert [entry.name for entry in model._runtime.table][::2] == [
        "sequential/dense/kernel",
        "sequential_1/dense/kernel",
        "dense/kernel",
    ]
    assert model.get_layer("sequential_1") is second
    same(model.get_weights("sequential"), first.get_weights())
    same(model.get_weights(second), second.get_weights())
    assert first.layers[0].name == "dense"
    with pytest.raises(ValueError, match="there is no layer 'encoder'"):
        model.get_layer("encoder")
    with pytest.raises(ValueError, match="expected a layer of this model"):
        model.get_weights(None)


def test_summary_and_program_show_it(capsys):
    _, _, both = autoencoder()
    both.compile("sgd", "mse")
    both.summary()
    text = capsys.readouterr().out
    assert "encoder/first" in text and "decoder/dense_1" in text
    assert "shared0+0x0" in str(both.program) and "shared1+" in str(both.program)


def test_files_rebuild_the_models(tmp_path):
    a, _, both = autoencoder()
    both.compile("adam", "mse")
    both.fit(X, X, epochs=2, batch_size=8, verbose=0)
    both.save(tmp_path / "both.safetensors")
    loaded = fnn.load(tmp_path / "both.safetensors")
    same(loaded.get_weights(), both.get_weights())
    inner = loaded.get_layer("encoder")
    assert isinstance(inner, fnn.Sequential) and inner.name == "encoder" and inner is not a
    for model in (both, loaded):
        model.fit(X, X, epochs=1, batch_size=8, verbose=0)
    same(loaded.get_weights(), both.get_weights())
    np.testing.assert_array_equal(loaded.get_layer("decoder").predict(inner.predict(X)), loaded.predict(X))
    np.testing.assert_array_equal(inner.predict(X), a.predict(X))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_apart_from_the_models(copied):
    a, _, both = autoencoder()
    both.compile("adam", "mse")
    both.train_on_batch(X, X)
    other = copied(both)
    before = a.get_weights()
    other.train_on_batch(X, X)
    same(before, a.get_weights())
    same(other.get_layer("encoder").get_weights(), other.get_weights()[:8])
    both.train_on_batch(X, X)
    same(other.get_weights(), both.get_weights())


def test_files_of_deep_models_keep_weights_once_and_what_is_trained(tmp_path):
    from safetensors import safe_open

    a, _, both = autoencoder()
    x = fnn.Input(6)
    both.trainable = False
    deep = fnn.Model(x, fnn.Dense(1)(both(x)), seed=6, name="deep")
    both.trainable = True
    deep.save(tmp_path / "deep.safetensors")
    with safe_open(tmp_path / "deep.safetensors", "numpy") as file:
        names = [name for name in list(file.keys()) if name.startswith("weights/")]
    assert len(names) == len(set(names)) == len(deep.get_weights())
    loaded = fnn.load(tmp_path / "deep.safetensors")
    same(loaded.get_weights(), deep.get_weights())
    assert loaded._runtime.table.trained() == deep._runtime.table.trained() != (True,) * 14
    assert loaded.get_layer("both")._runtime.table.trained() == both._runtime.table.trained()
    np.testing.assert_array_equal(loaded.get_layer("both").get_layer("encoder").predict(X), a.predict(X))


def test_layers_of_a_model_that_are_not_used_are_kept_in_files(tmp_path):
    x = fnn.Input(6, name="x")
    inner = fnn.Model(x, [fnn.Dense(2, name="used")(x), fnn.Dense(1, name="other")(x)], seed=1, name="inner")
    y = fnn.Input(6)
    model = fnn.Model(y, inner(y)[0], seed=2)
    model.save(tmp_path / "model.safetensors")
    same(fnn.load(tmp_path / "model.safetensors").get_layer("inner").get_weights(), inner.get_weights())


@pytest.mark.parametrize("way", ["file", "pickle"])
def test_models_that_share_a_model_do_so_when_they_are_read(tmp_path, way):
    a, b, both = autoencoder()
    x = fnn.Input(6)
    model = fnn.Model(x, [fnn.Dense(1)(a(x)), both(x)], seed=6)
    assert list(model._architecture.models) == ["encoder", "both"]
    model.save(tmp_path / "model.safetensors")
    read = fnn.load(tmp_path / "model.safetensors") if way == "file" else pickle.loads(pickle.dumps(model))
    same(read.get_weights(), model.get_weights())
    read_a, read_both = read.get_layer("encoder"), read.get_layer("both")
    assert read_both.get_layer("encoder") is read_a
    read_a.set_weights([np.ones_like(weight) for weight in a.get_weights()])
    assert all((weight == 1).all() for weight in read_both.get_weights()[:8])
    np.testing.assert_array_equal(read.predict(X)[1], read_both.predict(X))
    same(read_both.get_weights()[8:], b.get_weights())


class Named(fnn.Sequential):
    """A subclass, which copies keep."""


def test_copies_keep_the_classes_of_models():
    inner = Named([fnn.Input(6), fnn.Dense(2)], name="inner")
    x = fnn.Input(6)
    other = copy.deepcopy(fnn.Model(x, inner(x)))
    assert type(other.get_layer("inner")) is Named and type(other) is fnn.Model


# the layers of the encoder that are the calls of the whole model, in the wrong order
SWAPPED = [[1, "code"], [2, "batch_norm"], [3, "first"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda models: models[0].update(same="decoder/"), "it lacks 'decoder/'"),
        (lambda models: models[0].update(model="Other"), "unknown kind of model 'Other'"),
        (lambda models: models[0].update(dtype="float64"), "tensor 'weights/encoder/first/kernel' is float32"),
        (lambda models: models[0].update(layers=[[1, "none"]]), "it lacks 'none'"),
        (lambda models: models[0].update(layers=SWAPPED), "encoder/code: expected weights of the shapes of"),
        (lambda models: models[0].update(layers=[[1, []]]), "unhashable"),
        (lambda models: models[0].pop("as"), "it lacks 'as'"),
        (lambda models: models.append(1), "does not describe a model"),
    ],
)
def test_files_that_are_wrong_are_refused(tmp_path, change, message):
    from fastnn.saving import container
    from fastnn.saving.model_file import describe
    from fastnn.training.state import state_of

    _, _, both = autoencoder()
    tensors, document = describe(state_of(both), "Model", "both")
    container.write(tmp_path / "good", tensors, document)
    same(fnn.load(tmp_path / "good").get_weights(), both.get_weights())
    change(document["models"])
    container.write(tmp_path / "wrong", tensors, document)
    with pytest.raises(fnn.errors.ModelFileError, match=message):
        fnn.load(tmp_path / "wrong")


def test_compiled_code_has_copies():
    _, _, both = autoencoder()
    both.compile("adam", "mse")
    both.fit(X, X, epochs=1, verbose=0)
    net = both.freeze(gradients=True)
    out = np.empty((24, 6), np.float32)
    fnp.predict(net, X, out)
    np.testing.assert_array_equal(out, both.predict(X))
    learner = both.learner()
    other = copy.deepcopy(both)
    loss = fnp.train_step(learner, X, X)
    assert loss == other.train_on_batch(X, X)["loss"]
    both.update_from(learner)
    same(both.get_weights(), other.get_weights())
    same(both.get_layer("encoder").get_weights(), both.get_weights()[:8])


def test_threads_wait_for_each_other():
    """Steps of models that share weights never mix: a sum of steps does not depend on who takes them."""
    shared = fnn.Sequential([fnn.Input(6), fnn.Dense(1, use_bias=False, kernel_initializer="zeros")], name="shared")
    models = [shared]
    for _ in range(3):
        x = fnn.Input(6)
        models.append(fnn.Model(x, shared(x)))
    for model in models:
        model.compile(fnn.SGD(2.0**-10), fnn.losses.Custom(lambda t, p: t * p))  # the gradient is the same in each step
    target = np.ones((8, 1), np.float32)
    rows = np.ones((8, 6), np.float32)

    def work(model):
        for _ in range(200):
            model.train_on_batch(rows, target)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(shared.get_weights()[0], np.full((6, 1), -800 * 2.0**-10, np.float32))


def test_errors():
    a, b, _ = autoencoder()
    x = fnn.Input(6)
    with pytest.raises(ValueError, match=r"model 'decoder': input 'input' expects samples of shape \(3,\), got \(6,\)"):
        b(x)
    with pytest.raises(ValueError, match=r"model 'encoder': takes 1 input\(s\), got 2"):
        a([x, x])
    with pytest.raises(ValueError, match=r"expects samples of shape \(6,\), got \(6,\) of int64"):
        a(fnn.Input(6, dtype="int64"))
    with pytest.raises(TypeError, match="expected symbols or arrays, got ndarray among symbols"):
        a([x, X])
    with pytest.raises(ValueError, match="model 'encoder' has the dtype float32, expected float64"):
        fnn.Model(x, a(x), dtype="float64")
    with pytest.raises(RuntimeError, match="not built"):
        fnn.Sequential([fnn.Dense(2)])([x, x])
    layer = fnn.Dense(6, name="layer")
    one, two = (fnn.Model(s, layer(s), name=n) for s, n in ((fnn.Input(6), "one"), (fnn.Input(6), "two")))
    with pytest.raises(ValueError, match="layer 'layer' has other weights in the model 'one' than in 'two'"):
        fnn.Model(x, two(one(x)))
    with pytest.raises(ValueError, match="two layers have the name 'encoder'"):
        fnn.Model(x, fnn.Dense(1, name="encoder")(a(x)))
    with pytest.raises(ValueError, match="the name 'encoder/code_1' begins like those of the layers of the model"):
        fnn.Model(x, fnn.Dense(1, name="encoder/code_1")(a(x)))
    with pytest.raises(ValueError, match="the name 'encoder/b' begins like"):
        fnn.Model(x, decoder("encoder/b")(a(x)))
    grown = fnn.Sequential([fnn.Input(6), fnn.Dense(3)], name="grown")
    fnn.Model(x, grown(x))
    with pytest.raises(RuntimeError, match="other models are made of this one"):
        grown.add(fnn.Dense(2))
    assert len(grown.layers) == 1


def test_a_sequential_without_an_input_is_built_by_the_symbol():
    inner = fnn.Sequential([fnn.Dense(3)], name="inner")
    x = fnn.Input(6)
    model = fnn.Model(x, inner(x), seed=0)
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))


def test_arrays_are_predicted():
    a = encoder()
    np.testing.assert_array_equal(a(X), a.predict(X))
    np.testing.assert_array_equal(a(X.tolist()), a.predict(X.tolist()))


def test_random_numbers_depend_on_the_call_alone():
    inner = fnn.Sequential([fnn.Input(6), fnn.Dropout(0.5)], name="noise")
    x = fnn.Input(6)
    model = fnn.Model(x, fnn.Concatenate()([inner(x), inner(x)]), seed=1)
    model.compile("sgd", "mse")
    plain = fnn.Model(x, fnn.Concatenate()([fnn.Dropout(0.5)(x), fnn.Dropout(0.5)(x)]), seed=1)
    plain.compile("sgd", "mse")
    y = np.zeros((24, 12))
    one, other = (m.gradients(X, y, training=True) or m.input_gradients(X, y, training=True) for m in (model, plain))
    np.testing.assert_array_equal(one, other)
