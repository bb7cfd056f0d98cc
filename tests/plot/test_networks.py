"""Weights, histograms and graphs of networks: what is drawn, against plain NumPy and what the models say."""

import sys
from itertools import pairwise

import numpy as np
import pytest

import fastnn as fnn
from fastnn.plot.layering import layout

plot = fnn.plot


def patches(axes, name):
    return [one for one in axes.patches if type(one).__name__ == name]


def images_of(figure):
    figure.canvas.draw()
    return [np.asarray(one.get_array()) for axes in figure.axes for one in axes.get_images()]


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.axison]


# --- weights ----------------------------------------------------------------------------------------------


def test_weights_of_pixels_are_images():
    model = fnn.Sequential([fnn.Input((4, 3, 1)), fnn.Flatten(), fnn.Dense(5), fnn.Dense(2)], seed=0)
    kernel = model.get_weights()[0]
    figure = plot.weights(model)
    drawn = images_of(figure)
    assert titles(figure) == [f"unit {n}" for n in range(5)]
    for unit, image in enumerate(drawn):
        column = kernel[:, unit]
        np.testing.assert_allclose(image, 0.5 + 0.5 * column.reshape(4, 3) / abs(column).max(), rtol=1e-6)
    flat = fnn.Sequential([fnn.Input(12), fnn.Dense(5)], seed=0)
    flat.set_weights(model.get_weights()[:2])
    np.testing.assert_array_equal(images_of(plot.weights(flat, image_shape=(4, 3))), drawn)
    assert len(images_of(plot.weights(flat, image_shape=(2, 6, 1), most=2))) == 2


def test_weights_of_a_convolution_are_its_filters():
    model = fnn.Sequential([fnn.Input((6, 6, 1)), fnn.Conv2D(4, 3), fnn.Flatten(), fnn.Dense(2)], seed=0)
    np.testing.assert_array_equal(images_of(plot.weights(model)), images_of(fnn.inspect.plot_filters(model, "conv2d")))


def test_other_weights_are_a_table():
    model = fnn.Sequential(
        [fnn.Input(7), fnn.BatchNorm(), fnn.Dense(3, name="first"), fnn.Dense(2, name="last")], seed=0
    )
    figure = plot.weights(model)
    np.testing.assert_array_equal(images_of(figure)[0], model.get_weights("first")[0])
    image = figure.axes[0].images[0]
    assert image.norm.vmin == -image.norm.vmax
    assert titles(figure)[0] == "Weights of first" and figure.axes[0].get_xlabel() == "unit"
    assert figure.axes[1].get_ylabel() == "weight"
    np.testing.assert_array_equal(images_of(plot.weights(model, "last"))[0], model.get_weights("last")[0])
    model.set_weights([np.full((7, 3), np.nan), np.zeros(3)], "first")
    assert titles(plot.weights(model))[0] == "Weights of first, 21 not finite (black)"
    model.set_weights([np.zeros((7, 3)), np.zeros(3)], "first")
    plot.weights(model).canvas.draw()


# --- histograms -------------------------------------------------------------------------------------------


def trained():
    layers = [
        fnn.Dense(8, "relu", name="hidden"),
        fnn.Dropout(0.5),
        fnn.Dense(3, name="scores"),
        fnn.Activation("softmax"),
    ]
    model = fnn.Sequential([fnn.Input(4), *layers], seed=0)
    kernel, bias, *more = model.get_weights()
    # units that are off for all small inputs
    bias[:2] = -100.0
    model.set_weights([kernel, bias, *more])
    model.compile("sgd", "cross_entropy")
    return model, np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 3


def bars(axes):
    return np.array([bar.get_height() for bar in axes.patches])


def test_histograms_of_activations():
    model, x, _ = trained()
    kernel, bias, *_ = model.get_weights()
    hidden = np.maximum(x @ kernel + bias, 0.0)
    figure = plot.activations(model, x, bins=20)
    zeros = (hidden == 0.0).mean()
    assert titles(figure) == [f"hidden\ndead units 25%; zeros {zeros:.0%}", "scores", "activation"]
    counts, _ = np.histogram(hidden, 20)
    np.testing.assert_allclose(bars(figure.axes[0]), counts / hidden.size, atol=3.0 / hidden.size)
    assert all(bars(axes).sum() == pytest.approx(1.0) for axes in figure.axes[:3])
    figure.canvas.draw()
    assert titles(plot.activations(model, x, ["scores"])) == ["scores"]


def test_histograms_of_gradients():
    model, x, y = trained()
    found = fnn.inspect.weight_gradients(model, x, y)
    assert list(found) == ["hidden/kernel", "hidden/bias", "scores/kernel", "scores/bias"]
    for one, other in zip(found.values(), model.gradients(x, y, training=True), strict=True):
        np.testing.assert_array_equal(one, other)
    figure = plot.gradients(model, x, y)
    sizes = abs(found["hidden/kernel"][found["hidden/kernel"] != 0.0])
    zeros = 1.0 - sizes.size / found["hidden/kernel"].size
    assert titles(figure)[0] == f"hidden/kernel\nmedian {np.median(sizes):.1e}; zeros {zeros:.0%}"
    assert {axes.get_xscale() for axes in figure.axes[:4]} == {"log"}
    assert len({axes.get_xlim() for axes in figure.axes[:4]}) == 1
    figure.canvas.draw()


def test_histograms_of_nan_and_of_one_number():
    model, x, y = trained()
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    assert titles(plot.activations(model, x))[1] == "scores\nnot finite 100%"
    figure = plot.gradients(model, x, y)
    assert "scores/bias\nnot finite 100%" in titles(figure)
    figure.canvas.draw()
    one = fnn.Sequential([fnn.Input(1), fnn.Dense(1)], seed=0)
    one.compile("sgd", "mse")
    for figure in (plot.activations(one, [[1.0]]), plot.gradients(one, [[1.0]], [[0.0]])):
        assert bars(figure.axes[0]).sum() == pytest.approx(1.0)
        figure.canvas.draw()


def test_layers_of_a_deep_network_have_a_panel_each():
    layers = [fnn.Dense(3, "tanh", name=f"layer{n}") for n in range(40)]
    model = fnn.Sequential([fnn.Input(3), *layers], seed=0)
    x = np.random.default_rng(0).normal(size=(5, 3))
    found = fnn.inspect.activations(model, x)
    assert list(found) == [f"layer{n}" for n in range(40)]
    value = x
    for (kernel, bias), layer in zip([model.get_weights(layer) for layer in layers], found.values(), strict=True):
        value = np.tanh(value @ kernel + bias)
        np.testing.assert_allclose(layer, value, rtol=1e-4, atol=1e-6)
    assert len(titles(plot.activations(model, x, bins=5))) == 40


def test_dead_units_of_maps_are_channels():
    values = np.zeros((2, 3, 3, 4))
    values[0, 1, 1, 0] = values[1, 0, 0, 3] = 1.0
    assert fnn.inspect.dead_units(values) == 0.5
    with pytest.raises(ValueError, match=r"expected an array of shape \(n, ..., units\), got \(3,\)"):
        fnn.inspect.dead_units(np.zeros(3))


# --- graphs -----------------------------------------------------------------------------------------------


def boxes(axes):
    return patches(axes, "FancyBboxPatch")


def labels(axes):
    texts = [text.get_text() for text in axes.texts]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def test_the_graph_of_a_chain():
    model = fnn.Sequential([fnn.Input(64), fnn.Dense(16, name="first"), fnn.Dropout(0.2), fnn.Dense(10, name="last")])
    model.get_layer("first").trainable = False
    axes = plot.network(model)
    assert labels(axes) == {
        "input": "Input  (64)", "first": "Dense  (16)  1,040", "dropout": "Dropout  (16)", "last": "Dense  (10)  170"
    }  # fmt: skip
    assert axes.get_title() == "sequential: 1,210 parameters"
    heights = [text.get_position()[1] for text in axes.texts[::2]]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 4
    assert [box.get_linestyle() in ("--", "dashed") for box in boxes(axes)] == [False, True, False, False]
    assert boxes(axes)[3].get_linewidth() > boxes(axes)[0].get_linewidth()
    axes.figure.canvas.draw()


def test_the_graph_of_branches_and_shared_layers(pyplot):
    left, right = fnn.Input(8, name="left"), fnn.Input(8, name="right")
    shared = fnn.Dense(16, name="shared")
    both = fnn.Concatenate(name="both")([shared(left), shared(right)])
    model = fnn.Model([left, right], [fnn.Dense(1, name="out")(both), fnn.Add(name="sum")([both, both])])
    _, ax = pyplot.subplots()
    axes = plot.network(model, ax=ax)
    assert axes is ax
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("shared") == 2 and "Dense  (16)  144" in texts and "Dense  (16)  shared" in texts
    arrows = patches(axes, "FancyArrowPatch")
    # the sum takes the same result twice: one arrow
    assert len(boxes(axes)) == 7 and len(arrows) == 6
    coloured = [box for box, name in zip(boxes(axes), texts[::2], strict=True) if name == "shared"]
    assert len({box.get_edgecolor() for box in coloured}) == 1
    assert coloured[0].get_edgecolor() != boxes(axes)[0].get_edgecolor()


def test_the_graph_of_open_sizes_several_outputs_weights_and_models():
    x = fnn.Input((None, 3), name="steps")
    sequence, state = fnn.GRU(4, return_sequences=True, return_state=True, name="gru")(x)
    inner = fnn.Sequential([fnn.Input(4), fnn.Dense(2, name="last")], name="head")
    axes = plot.network(fnn.Model(x, [sequence, inner(state)]))
    assert labels(axes)["gru"] == "GRU  (any, 4), (4)  108" and labels(axes)["head/last"] == "Dense  (2)  10"
    y, dense = fnn.Input(3), fnn.Dense(2, name="dense")
    result = dense(y)
    model = fnn.Model(y, fnn.ops.matmul(result, fnn.ops.transpose(dense.kernel)))
    assert "weight  (3, 2)" in [text.get_text() for text in plot.network(model).texts]


def test_long_networks_stay_legible_and_names_short():
    layers = [fnn.Dense(3, name=f"a layer with a name that nobody can read {n}") for n in range(45)]
    axes = plot.network(fnn.Sequential([fnn.Input(3), *layers]))
    axes.figure.canvas.draw()
    extents = [text.get_window_extent() for text in axes.texts]
    frames = [box.get_window_extent() for box in boxes(axes)]
    for frame, name, text in zip(frames, extents[::2], extents[1::2], strict=True):
        assert frame.x0 <= min(name.x0, text.x0) and frame.x1 >= max(name.x1, text.x1)
        assert frame.y0 <= text.y0 and frame.y1 >= name.y1 and name.y0 > text.y0
    for above, below in pairwise(frames):
        assert above.y0 > below.y1


def test_places_do_not_overlap_and_edges_go_down():
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = int(rng.integers(2, 25))
        edges = [(int(rng.integers(0, end)), end) for end in range(1, count) for _ in range(int(rng.integers(0, 4)))]
        widths = rng.uniform(0.5, 3.0, count)
        found = layout(widths, edges, 0.25)
        assert all(found.rank[start] < found.rank[end] for start, end in edges)
        for one in range(count):
            for other in range(one):
                if found.rank[one] == found.rank[other]:
                    assert abs(found.x[one] - found.x[other]) >= (widths[one] + widths[other]) / 2.0 + 0.25 - 1e-9
        assert set(found.paths) == set(edges)
        for (start, end), path in found.paths.items():
            assert [rank for _, rank in path] == list(range(found.rank[start], found.rank[end] + 1))
            assert path[0][0] == found.x[start] and path[-1][0] == found.x[end]


def test_a_pair_of_branches_does_not_cross():
    """Two chains from one node to another, given in an order in which drawing them as they come would cross."""
    found = layout([1.0] * 6, [(0, 1), (0, 2), (2, 3), (1, 4), (3, 5), (4, 5)], 0.2)
    assert (found.x[1] < found.x[2]) == (found.x[4] < found.x[3])


# --- all --------------------------------------------------------------------------------------------------


def test_figures_belong_to_pyplot_and_axes_that_are_given_do_not(pyplot):
    from matplotlib.figure import Figure

    model, x, y = trained()
    for figure in (plot.activations(model, x), plot.gradients(model, x, y), plot.weights(model)):
        assert figure.number in pyplot.get_fignums()
    assert plot.network(model).figure.number in pyplot.get_fignums()
    before = pyplot.get_fignums()
    plot.network(model, ax=Figure().subplots())
    plot.confusion_matrix([0, 1], [0, 1], ax=Figure().subplots())
    assert pyplot.get_fignums() == before


def test_notebooks_show_a_figure_once(pyplot, monkeypatch):
    """A result is shown where it is, and no more at the end of the cell, where figures of pyplot are."""
    figure = plot.weights(trained()[0])
    for backend, left in (("agg", True), ("module://matplotlib_inline.backend_inline", False)):
        monkeypatch.setattr(pyplot, "get_backend", lambda backend=backend: backend)
        with pytest.raises(NotImplementedError):
            figure._ipython_display_()
        assert (figure.number in pyplot.get_fignums()) == left


@pytest.mark.parametrize("name", ["confusion_matrix", "reliability"])
def test_without_matplotlib(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf'{name} needs matplotlib: python -m pip install "fastnn-numba\[plot\]"'):
        getattr(plot, name)([0, 1], [0, 1])
    assert plot.calibration([0, 1], [0.0, 1.0]).error == 0.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m, x, y: plot.weights("m"), r"weights: model: expected a fastnn\.Model, got str"),
        (lambda m, x, y: plot.weights(m, "none"), "weights: layer: there is no layer 'none'"),
        (lambda m, x, y: plot.weights(m, "activation"), "'activation' has no weights of two axes"),
        (lambda m, x, y: plot.weights(m, image_shape=(3, 3)), r"of 4 numbers, got \(3, 3\)"),
        (lambda m, x, y: plot.weights(m, most=0), "weights: most"),
        (lambda m, x, y: plot.weights(fnn.Sequential([fnn.Input(3), fnn.Flatten()])), "no layer of 'sequential' has"),
        (lambda m, x, y: plot.activations(m, x, "hidden"), "layers: expected a list, got 'hidden'"),
        (lambda m, x, y: plot.activations(m, x, []), "layers: expected at least one"),
        (lambda m, x, y: plot.activations(m, x, ["none"]), "there is no layer 'none'"),
        (lambda m, x, y: plot.activations(m, x[:, :3]), "expects shape"),
        (lambda m, x, y: plot.activations(m, x, bins=0), "activations: bins"),
        (lambda m, x, y: plot.gradients(m, x, y[:3]), "50"),
        (lambda m, x, y: plot.gradients(m, x, y, bins=0), "gradients: bins"),
        (lambda m, x, y: plot.network(fnn.Sequential([fnn.Dense(2)])), "has no shapes and weights yet"),
        (lambda m, x, y: plot.network(3), "network: model: expected a fastnn"),
        (lambda m, x, y: plot.netwrk(m), "did you mean 'network'"),
    ],
)
def test_wrong_arguments(call, match):
    with pytest.raises((TypeError, ValueError, AttributeError), match=match):
        call(*trained())


def test_nothing_to_train_has_no_gradients():
    model, x, y = trained()
    model.trainable = False
    with pytest.raises(ValueError, match="no weight of 'sequential' is trained"):
        plot.gradients(model, x, y)
