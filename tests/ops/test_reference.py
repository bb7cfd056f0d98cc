"""The reference backend: its random numbers against published vectors, its buffers, and a program of many records."""

import numpy as np
import pytest

from fastnn.backend.reference.executor import ReferenceBackend
from fastnn.backend.reference.instruction import Counters
from fastnn.backend.reference.philox import philox4x32, random_words
from fastnn.program.layout import Buffer, Flag, Status, encode
from fastnn.program.program import RecordDraft, Value, make_program
from fastnn.program.verify import verify

# Counter, key and result of Philox4x32-10: the known answers that come with Random123.
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, answer):
    low, high = words(key)
    assert philox4x32(np.array([words(counter)], np.uint64), (low, high)).tolist() == [words(answer)]


def test_random_words():
    start = random_words(100, 3, 7, 11)
    np.testing.assert_array_equal(random_words(1000, 3, 7, 11)[:100], start)
    for other in ((4, 7, 11), (3, 8, 11), (3, 7 + 2**32, 11), (3, 7, 12), (3, 7, 11 + 2**32), (3, 7, 11 - 2**63)):
        assert not np.isin(start, random_words(100, *other)).any()
    # block 0 of node 0x85a308d3 in the step and with the key of the third known answer
    first = random_words(64, 0x85A308D3, 0x13198A2E | 0x03707344 << 32, 0xA4093822 | 0x299F31D0 << 32)
    expected = philox4x32(np.array([[0, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint64), (0xA4093822, 0x299F31D0))
    assert first[::16].tolist() == expected[0].tolist()


def gauss(n: int, dtype: str) -> np.ndarray:
    x, y = encode(Buffer.GRADIENTS, 0), encode(Buffer.ARENA, 0)
    nbytes = n * np.dtype(dtype).itemsize
    draft = RecordDraft("gaussian_noise", {"y": y, "x": x}, {"n": n, "node": 5}, {"stddev": 2.0})
    sizes = {Buffer.GRADIENTS: nbytes, Buffer.ARENA: nbytes}
    program = make_program("noise", 1, dtype, [draft], [Value("y", 0, nbytes, 0, 0)], sizes)
    backend = ReferenceBackend(program, counters=Counters(seed=3))
    assert backend.run() == 1
    return backend.buffer(Buffer.ARENA).copy()


def test_gaussian_noise_is_normal():
    noise = gauss(200_000, "float64") / 2.0
    # four standard errors of the mean, variance and kurtosis, and of the share beyond two standard deviations
    assert abs(noise.mean()) < 4 / 200_000**0.5
    assert abs(noise.var() - 1.0) < 4 * (2 / 200_000) ** 0.5
    assert abs((noise**4).mean() - 3.0) < 4 * (96 / 200_000) ** 0.5
    assert abs((np.abs(noise) > 2.0).mean() - 0.0455) < 4 * (0.0455 / 200_000) ** 0.5
    assert abs(np.corrcoef(noise[:-16], noise[16:])[0, 1]) < 4 / 200_000**0.5
    np.testing.assert_array_equal(gauss(1000, "float32"), noise[:1000] * 2.0)


def linear_regression(dtype: str, steps: int) -> ReferenceBackend:
    """Train y = x w + b by gradient descent on a mean squared error, four rows per step, in eight records."""
    item = np.dtype(dtype).itemsize
    drafts = []
    values = []

    def arena(name: str, nbytes: int, first: int, last: int) -> int:
        offset = 64 * len(values) * 4
        values.append(Value(name, offset, nbytes, first, last))
        return encode(Buffer.ARENA, offset)

    def record(op: str, operands: dict, dims: dict, params: dict | None = None, **more: object) -> None:
        drafts.append(RecordDraft(op, operands, dims, params or {}, label=op, **more))

    x, t = arena("x", 12 * item, 0, 5), arena("t", 4 * item, 1, 3)
    p, row_loss, dp = arena("p", 4 * item, 2, 3), arena("row_loss", 4 * item, 3, 4), arena("dp", 4 * item, 3, 6)
    w, b = encode(Buffer.PARAMETERS, 0), encode(Buffer.PARAMETERS, 64)
    dw, db = encode(Buffer.GRADIENTS, 0), encode(Buffer.GRADIENTS, 64)
    for slot, (batch, size) in enumerate(((x, 3), (t, 1))):
        source, index = encode(Buffer.DATA + slot, 0), encode(Buffer.INDEX, 0)
        dims = {"rows": 4, "size": size, "row_stride": 8 * size}
        dims |= {f"{word}{axis}": 0 for word in ("size", "stride") for axis in range(3)}
        record("gather", {"batch": batch, "source": source, "index": index}, dims, variant="float64")
    record("matmul", {"c": p, "a": x, "b": w, "bias": b}, {"m": 4, "n": 1, "k": 3})
    record("loss", {"row_loss": row_loss, "dx": dp, "x": p, "target": t},
           {"rows": 4, "cols": 1, "per_sample": 1, "samples": 4, "divisor": 1}, {"scale": 0.25},
           variant="mean_squared_error")  # fmt: skip
    record("sum_loss", {"total": encode(Buffer.ACCUMULATORS, 0), "row_loss": row_loss},
           {"rows": 4, "per_sample": 1, "samples": 4}, {"most": 0.0})  # fmt: skip
    record("matmul", {"c": dw, "a": x, "b": dp}, {"m": 3, "n": 1, "k": 4}, flags=Flag.TRANSPOSE_A)
    record("sum_rows", {"y": db, "x": dp}, {"rows": 4, "cols": 1})
    record("optimizer", {"p": w, "g": dw, "hyper": encode(Buffer.HYPER, 0)}, {"n": 64 // item + 1}, {"multiplier": 1.0},
           variant="sgd")  # fmt: skip
    record("tick", {}, {"rows": 4}, flags=Flag.TRAINING)
    sizes = {Buffer.PARAMETERS: 128, Buffer.GRADIENTS: 128, Buffer.ARENA: 64 * 4 * 5, Buffer.ACCUMULATORS: 16}
    program = make_program("regression", 4, dtype, drafts, values, {**sizes, Buffer.HYPER: 64})
    verify(program)
    rng = np.random.default_rng(0)
    data = rng.standard_normal((4 * steps, 3))
    targets = data @ [[1.0], [-2.0], [3.0]] + 0.5
    rates = np.zeros((steps, 8))
    rates[:, 0] = 0.1 / (1.0 + 0.01 * np.arange(steps))
    index = rng.permutation(4 * steps)
    backend = ReferenceBackend(program, data={0: data, 1: targets}, index=index, hyper=rates)
    assert backend.run(steps) == steps
    weights, bias, total = np.zeros((3, 1)), 0.0, 0.0
    for step in range(steps):
        rows = index[4 * step : 4 * step + 4]
        error = data[rows] @ weights + bias - targets[rows]
        total += (error**2).sum()
        weights = weights - rates[step, 0] * data[rows].T @ error * 0.5
        bias = bias - rates[step, 0] * error.sum() * 0.5
    np.testing.assert_allclose(backend.buffer(Buffer.PARAMETERS)[:3], weights[:, 0], rtol=1e-12)
    assert backend.buffer(Buffer.PARAMETERS)[64 // item] == pytest.approx(bias, rel=1e-12)
    np.testing.assert_allclose(backend.buffer(Buffer.ACCUMULATORS), [total, 4 * steps], rtol=1e-12)
    return backend


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_program_in_float64_whatever_its_dtype(dtype):
    backend = linear_regression(dtype, 200)
    parameters = backend.buffer(Buffer.PARAMETERS)
    assert len(parameters) == 128 // np.dtype(dtype).itemsize
    np.testing.assert_allclose(parameters[:3], [1.0, -2.0, 3.0], rtol=1e-3)
    assert backend.counters == Counters(step=200, chunk_step=200, cursor=800)


def gather_program(rows: int) -> ReferenceBackend:
    dims = {"rows": rows, "size": 2, "row_stride": 16}
    dims |= {f"{word}{axis}": 0 for word in ("size", "stride") for axis in range(3)}
    operands = {"batch": encode(Buffer.ARENA, 0), "source": encode(Buffer.DATA, 0), "index": encode(Buffer.INDEX, 0)}
    draft = RecordDraft("gather", operands, dims, flags=Flag.CHECK_FINITE, variant="float64")
    values = [Value("batch", 0, 16 * rows, 0, 0)]
    program = make_program("gather", rows, "float64", [draft], values, {Buffer.ARENA: 16 * rows})
    return ReferenceBackend(program)


def test_gather_checks_what_kernels_do_not():
    backend = gather_program(2)
    assert np.isnan(backend.buffer(Buffer.ARENA)).all()
    backend.data[0] = np.arange(6.0).reshape(3, 2)
    with pytest.raises(ValueError, match="index"):
        backend.run()
    backend.index = np.array([2, 0])
    assert backend.run() == 1
    assert backend.buffer(Buffer.ARENA).tolist() == [4.0, 5.0, 0.0, 1.0]
    for bad in ([3, 0], [0, -1]):
        backend.index = np.array(bad)
        with pytest.raises(IndexError, match=r"\(3, 2\)"):
            backend.run()
    backend.data[0] = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"float64.*float32"):
        backend.run()
    backend.index = np.array([2, 0])
    backend.data[0] = np.array([[np.inf, 0.0], [0.0, 0.0], [0.0, np.nan]])
    assert backend.run(5) == 0
    assert (backend.counters.status, backend.counters.status_detail) == (Status.NOT_FINITE_INPUT, 2)
