"""Fused layers: which records are fused, and that results are those of the records."""

from itertools import pairwise

import numpy as np
import pytest

import fastnn as fnn
from fastnn.backend.cuda.codegen.sizes import DEVICE_FUSED, FUSED
from fastnn.backend.cuda.kernels.fused import plan as plan
from fastnn.backend.cuda.launch import fusion
from fastnn.backend.cuda.launch.launches import keys_of, make
from fastnn.program.layout import ABSENT, Buffer, decode
from fastnn.program.record import operands_of
from fastnn.program.verify import verify


@pytest.fixture
def seen(monkeypatch):
    """Collects (program, program with moved values, works) of all programs that are made ready for a GPU."""
    found, usual = [], fusion.arrange

    def arrange(program, keys, precision):
        arranged, works = usual(program, keys, precision)
        found.append((program, arranged, works))
        return arranged, works

    monkeypatch.setattr(fusion, "arrange", arrange)
    return found


def data(rows, width, outputs, dtype="float32"):
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, width)).astype(dtype), rng.standard_normal((rows, outputs)).astype(dtype)


def chain(width, *layers):
    return lambda: fnn.Sequential([fnn.Input((width,)), *(make_layer() for make_layer in layers)], seed=2)


def dense(units, activation=None, **more):
    return lambda: fnn.Dense(units, activation, **more)


def residual():
    x = fnn.Input((6,))
    first = fnn.Dense(6, "tanh")(x)
    second = fnn.Dense(6)(fnn.Dense(9, "silu")(first))
    return fnn.Model(x, fnn.Dense(2)(fnn.Add()([first, second])), seed=2)


def shared():
    x, layer = fnn.Input((6,)), fnn.Dense(6, "tanh")
    return fnn.Model(x, fnn.Dense(2)(layer(layer(layer(x)))), seed=2)


def two_heads():
    x = fnn.Input((5,))
    hidden = fnn.Dense(7, "gelu")(fnn.Dense(8, "relu")(x))
    return fnn.Model(x, fnn.Concatenate()([fnn.Dense(2)(hidden), fnn.Dense(3, "tanh")(hidden)]), seed=2)


def frozen():
    middle = fnn.Dense(6, "tanh")
    middle.trainable = False
    return fnn.Sequential([fnn.Input((5,)), fnn.Dense(7, "relu"), middle, fnn.Dense(3)], seed=2)


#: (model, batch sizes, fused kernels of a training step)
MODELS = {
    "two": (chain(5, dense(7, "relu"), dense(3)), (1, 33), "FB"),
    "odd": (chain(5, dense(7, "tanh"), dense(3, "sigmoid"), dense(2)), (5,), "FB"),
    "gelu": (chain(16, dense(13, "gelu"), dense(16, "mish"), dense(4)), (33,), "FB"),
    "no biases": (
        chain(3, dense(8, "elu", use_bias=False), dense(9, "selu", use_bias=False), dense(1, use_bias=False)),
        (5,),
        "FB",
    ),
    "parameters": (
        chain(4, dense(12, fnn.activations.LeakyReLU(0.3)), dense(5, fnn.activations.ELU(0.7)), dense(2)), (9,), "FB",
    ),
    "five": (chain(5, *(dense(units, "softsign") for units in (7, 4, 6, 3, 2))), (5, 12), "FB"),
    "exponential": (chain(5, dense(7, "tanh"), dense(3, "exponential"), dense(2)), (5,), "FB"),
    "eight": (chain(3, *(dense(4 + number % 3, "relu6") for number in range(8))), (5,), "FFBB"),
    "dropout": (
        chain(5, dense(6, "relu"), dense(7, "gelu"), lambda: fnn.Dropout(0.3), dense(4, "tanh"), dense(2)),
        (9,),
        "FFBB",
    ),
    "too wide": (chain(5, dense(6, "relu"), dense(17, "relu"), dense(4, "tanh"), dense(3), dense(2)), (9,), "FB"),
    "residual": (residual, (5,), "FB"),
    "shared": (shared, (5,), "FBB"),
    # the linear head's gradient is a slice, which its products take as it is: they are copied and not fused
    "two heads": (two_heads, (5,), "FBB"),
    "frozen": (frozen, (5,), "FB"),
}  # fmt: skip


def names(works):
    return "".join(work.key.op[6].upper() for work in works if work.key.op.startswith("fused"))


def close(one, other, tolerance=2e-6):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_fused_layers_agree_with_the_cpu_and_with_records_one_by_one(name, seen, monkeypatch):
    build, batches, expected = MODELS[name]
    there, here = build(), build()
    there.to("cuda")
    for model in (there, here):
        model.compile(fnn.SGD(0.1), "mse")
    width = len(here.get_weights()[0])
    outputs = here.predict(np.zeros((1, width), np.float32)).shape[1]
    for rows in batches:
        x, y = data(rows, width, outputs)
        close([there.predict(x)], [here.predict(x)])
        assert "F" in names(seen[-1][2])
        fused = there.gradients(x, y)
        close(fused, here.gradients(x, y))
        # bit for bit the same in each run
        for a, b in zip(fused, there.gradients(x, y), strict=True):
            np.testing.assert_array_equal(a, b)
        if name != "dropout":
            close([there.input_gradients(x, y)], [here.input_gradients(x, y)])
            assert "F" in names(seen[-1][2])
        losses = [model.train_on_batch(x, y)["loss"] for model in (there, here)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert names(seen[-1][2]) == expected
        close(there.get_weights(), here.get_weights())
    for _, program, _ in seen:
        verify(program)
    monkeypatch.setattr(fusion, "ENABLED", False)
    alone = build()
    alone.to("cuda")
    # another optimizer, or the models would share programs
    alone.compile("adam", "mse")
    alone.set_weights(there.get_weights())
    one_by_one = alone.gradients(x, y)
    assert names(seen[-1][2]) == ""
    close(one_by_one, there.gradients(x, y))


def test_float64_and_weights_in_several_pieces(seen):
    models = []
    for device in ("cuda", "cpu"):
        layers = [fnn.Input((16,)), fnn.Dense(16, "tanh"), fnn.Dense(15, "gelu"), fnn.Dense(16, "relu"), fnn.Dense(3)]
        model = fnn.Sequential(layers, seed=2, dtype="float64", device=device)
        model.compile(fnn.Adam(0.01), "mse")
        models.append(model)
    there, here = models
    x, y = data(19, 16, 3, "float64")
    close([there.predict(x)], [here.predict(x)], 1e-13)
    close(there.gradients(x, y), here.gradients(x, y), 1e-13)
    for model in models:
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    close(there.get_weights(), here.get_weights(), 1e-11)
    tile = plan.tile_of(str(FUSED.forward[0][0]), 8)
    assert plan.pieces(tile, 16, 16, 8, turned=False)[0] < 16
    assert names(seen[-1][2]) == "FB"


def mlp(*widths, activation="relu", optimizer="adam", **more):
    model = fnn.Sequential(
        [fnn.Input((widths[0],)), *(fnn.Dense(n, activation) for n in widths[1:-1]), fnn.Dense(widths[-1], "softmax")],
        **more,
    )
    model.compile(optimizer, "cross_entropy", metrics=["accuracy"])
    return model


def launched(program, works, context=1 << 40):
    addresses = {buffer: (buffer + 1) << 30 for buffer in range(20)}
    made = make([work.key for work in works])
    return [launch for work in works for launch in work.launches(made[work.key], addresses, context)]


def test_launches_of_a_training_step():
    program = mlp(8, 16, 12, 5).program
    keys = keys_of(program)
    arranged, works = fusion.arrange(program, keys, "float32")
    launches = launched(arranged, works)
    assert [launch.key.op for launch in launches] == [
        "gather", "gather_labels", "fused_forward", "softmax", "cross_entropy_logits_labels", "sum_loss",
        "count_correct", "fused_backward", "fused_backward", "optimizer", "tick",
    ]  # fmt: skip
    assert len(launches) == len(program) - 8
    forward, *backward = (launch for launch in launches if launch.table)
    # 32 rows are four tiles of eight, but three blocks have slabs; six gradients, of which the largest has 4 x 16 packs
    assert (forward.key.variant, forward.key.algorithm, forward.grid) == ("linear+relu", "8", (4, 1))
    assert [(launch.key.variant, launch.key.algorithm, launch.grid) for launch in backward] == [
        ("relu", "8", (3, 1)),
        ("relu", "8", (12, 6)),
    ]
    # backward reads the activations, but only the loss reads the last layer's result
    rows = [forward.table[at : at + plan.ROW] for at in range(0, len(forward.table), plan.ROW)]
    assert [row[plan.C] != 0 for row in rows] == [True, True, True]
    rows = [backward[0].table[at : at + plan.ROW] for at in range(0, len(backward[0].table), plan.ROW)]
    assert [row[plan.C] for row in rows[:3]] == [0, 0, 0], "nobody else reads the gradients between layers"
    groups_found = fusion.find(program)
    assert [(group.first, group.count) for group in groups_found] == [(2, 3), (9, 8)]


def test_what_nobody_reads_is_not_written(seen):
    model = mlp(8, 16, 12, 5, device="cuda")
    model.predict(np.zeros((3, 8), np.float32))
    (_, _, works) = seen[-1]
    (fused,) = (work for work in works if work.table)
    assert [row[plan.C] != ABSENT for row in fused.table] == [False, False, True]


def test_a_result_moves_away_from_what_other_blocks_still_read(seen):
    model = mlp(8, 16, 5, device="cuda")
    x = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    found = model.predict(x)
    program, arranged, _ = seen[-1]
    ((group,), (before,)) = fusion.find(arranged), fusion.find(program)
    (word, nbytes, record), ((read, size),) = before.writes[0], before.reads
    assert decode(word)[1] < decode(read)[1] + size and decode(read)[1] < decode(word)[1] + nbytes
    assert decode(group.writes[0][0]) == (Buffer.ARENA, program.arena_bytes)
    assert arranged.arena_bytes == program.arena_bytes + 832 and record == 2
    verify(arranged)
    np.testing.assert_allclose(found, model.to("cpu").predict(x), rtol=1e-5, atol=1e-6)


def test_a_gradient_that_another_record_reads_is_written(seen):
    model = residual()
    model.to("cuda")
    model.compile("sgd", "mse")
    model.gradients(*data(5, 6, 2))
    _, program, works = seen[-1]
    written = {row[plan.C] for work in works if work.key.op == "fused_backward" for row in work.table}
    added = [
        {view.offset for view in operands_of(record, program.dtype) if view.spec.access == "read"}
        for record, kernel in zip(program.records, program.kernels, strict=True)
        if kernel.op == "add"
    ]
    # both of what the sum's gradient is made of come from fused layers
    assert added[-1] <= {decode(word)[1] for word in written - {ABSENT}}


@pytest.mark.parametrize(
    "widths, precision, batch, expected",
    [
        ((16, 16, 16, 4), "float32", 32, 2),
        ((16, 16, 16, 4), "tf32", 32, 2),
        ((16, 16, 16, 4), "bf16", 32, 2),
        ((17, 17, 4), "float32", 32, 0),
    ],
)
def test_precision_and_width(widths, precision, batch, expected):
    program = mlp(*widths).program
    assert len(fusion.find(program, precision)) == expected


def test_where_fusing_pays():
    def pays(rows, widths, precision="float32", training=True):
        products = sum(a * b for a, b in pairwise(widths))
        kept = 4 * sum(widths[1:-1]) * (1 if training else 2)
        return plan.worthwhile(rows, products, kept, len(widths) - 2, max(widths), precision)

    assert pays(128, (64, 128, 64, 10)) and pays(256, (128, 128, 128, 128))
    assert not pays(2**20, (128, 128, 128, 128)), "larger tiles multiply faster, and launches do not matter"
    assert pays(2**12, (32, 32, 32, 32)) and not pays(2**20, (32, 32, 32, 32))
    assert not pays(128, (64, 128, 64, 10), "tf32") and pays(128, (32, 32, 32), "bf16")


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("turned", [False, True])
def test_pieces_of_weights_fit(monkeypatch, itemsize, turned):
    monkeypatch.setattr(plan, "FUSED", DEVICE_FUSED)
    monkeypatch.setattr(plan, "PITCH", 132)
    threads = DEVICE_FUSED.threads
    for rows, tall, _ in DEVICE_FUSED.forward:
        tile = plan.tile_of(str(rows), itemsize)
        assert tile.tall == tall and tile.groups * 32 <= threads
        # with a table of eight layers, what every GPU has
        assert plan.shared_bytes(tile, 1 if rows > 32 else 2, itemsize) + 8 * 256 <= 64 * 1024
        for k in range(1, 129):
            for n in range(1, 129):
                depth, splits = plan.pieces(tile, k, n, itemsize, turned)
                pitch, units, pair = plan.padded(n) | 4, tile.units * threads, tile.pair
                assert 0 < depth <= plan.padded(k) and depth % 4 == 0 and depth * pitch <= tile.chunk
                fetched = -(-depth // (4 * pair)) * pair * n if turned else depth * plan.padded(n) // 4
                assert fetched <= units
                assert splits * tile.groups * plan.padded(n) // 4 <= threads
                assert splits == 1 or splits * rows * 4 // itemsize * pitch <= 2 * tile.chunk
    assert plan.choose_algorithm(128, 4, DEVICE_FUSED.forward) == "8"
    assert plan.choose_algorithm(65536, 4, DEVICE_FUSED.forward) == "64"
