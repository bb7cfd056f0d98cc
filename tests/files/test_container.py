"""The model file is read completely or refused, whatever happens to it."""

import json
import os
import pickle
import random
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from containers import DOCUMENT, SMALL, assert_same, metadata, raw_file
from fastnn.errors import ModelFileError
from fastnn.saving import atomic, container

DTYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
SHAPES = [(), (0,), (1,), (7,), (0, 3), (3, 0, 2), (5, 1, 4), (31, 33)]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, links and kill -9 are POSIX ideas")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_of_every_dtype_and_shape(path, dtype, shape):
    size = int(np.prod(shape))
    array = np.random.default_rng(0).integers(0, 200, size).astype(dtype).reshape(shape)
    container.write(path, {"x": array}, {})
    tensors, document = container.read(path)
    assert_same(tensors, {"x": array})
    assert document == {}


def test_special_values_keep_their_bits(path):
    array = np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0xFF800000, 0x80000000, 1], "u4").view("f4")
    container.write(path, {"x": array}, {})
    tensors, _ = container.read(path)
    np.testing.assert_array_equal(tensors["x"].view("u4"), array.view("u4"))


def test_memory_layout_and_byte_order_do_not_matter(path):
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    arrays = {
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "broadcast": np.broadcast_to(np.float32(3), (2, 5)),
        "big_endian": base.astype(">f8"),
        "read_only": base.view(),
    }
    arrays["read_only"].flags.writeable = False
    container.write(path, arrays, {})
    assert_same(container.read(path)[0], arrays)


def test_result_is_writeable_and_independent_of_the_file(path):
    container.write(path, SMALL, DOCUMENT)
    before = path.read_bytes()
    first, _ = container.read(path)
    for array in first.values():
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned
        array[...] = 1
    assert path.read_bytes() == before
    container.write(path, {}, {})
    assert_same({"k": first["k"]}, {"k": np.ones((2, 3), "f4")})


def test_document_round_trip(path):
    document = {
        "": {"nested": [[], {}, [True, None, -1, 10**30, 0.1, "\x00\x1f\ud800é\U0001f600"]]},
        "infinite": [float("inf"), float("-inf")],
        "numpy float": np.float64(0.1),
    }
    container.write(path, {}, document)
    tensors, read = container.read(str(path))
    assert tensors == {}
    assert read == document
    container.write(path, {}, {"tuple": (1, (2,)), "nan": float("nan")})
    _, read = container.read(path)
    assert read["tuple"] == [1, [2]]
    assert np.isnan(read["nan"])


def test_names_round_trip(path):
    names = ["", "a b", "ä/ö", '"\\', "x" * 1000, "\x00"]
    arrays = {name: np.array([index]) for index, name in enumerate(names)}
    container.write(path, arrays, {})
    assert_same(container.read(path)[0], arrays)


def test_same_contents_give_the_same_bytes_and_plain_safetensors(path, tmp_path):
    container.write(path, SMALL, DOCUMENT)
    for _ in range(5):
        container.write(tmp_path / "again", dict(reversed(SMALL.items())), DOCUMENT)
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert_same(safetensors.numpy.load_file(path), SMALL)


def test_checksum_is_the_documented_one(path):
    container.write(path, SMALL, DOCUMENT)
    with safetensors.safe_open(path, framework="np") as file:
        stored = file.metadata()
    text = stored["fastnn"]
    parts = [
        ("k", "F32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
        ("b", "BOOL", (2,), b"\x01\x00"),
    ]
    assert stored == metadata(text, parts)
    assert json.loads(text) == DOCUMENT


def test_every_truncation_is_refused(path):
    container.write(path, SMALL, DOCUMENT)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            container.read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ModelFileError, match="damaged"):
        container.read(path)


def test_every_single_bit_flip_is_refused(path):
    container.write(path, SMALL, {"é": 1})
    whole = path.read_bytes()
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            container.read(path)


def test_random_damage_is_refused(path):
    container.write(path, SMALL, DOCUMENT)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(1000):
        damaged = bytearray(whole)
        start = rng.randrange(len(whole))
        stop = rng.randrange(start, len(whole) + 1)
        damaged[start:stop] = rng.choice([b"", rng.randbytes(rng.randrange(20)), whole[: stop - start]])
        if bytes(damaged) == whole:
            continue
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            container.read(path)


@pytest.mark.parametrize(
    ("header", "body", "reason"),
    [
        ({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234", "not from fastnn"),
        ({"__metadata__": {"format": "pt"}}, b"", "not from fastnn"),
        ({"__metadata__": metadata(format="np")}, b"", "format 'np'"),
        ({"__metadata__": metadata(version="2")}, b"", "format version 2; .* update fastnn"),
        ({"__metadata__": metadata(version="0")}, b"", "version '0'"),
        ({"__metadata__": metadata(version="01")}, b"", "version '01'"),
        ({"__metadata__": metadata(version="9" * 5000)}, b"", "not a number"),
        ({"__metadata__": metadata(version="²")}, b"", "not a number"),
        ({"__metadata__": metadata(version=None)}, b"", "not a number"),
        ({"__metadata__": metadata(checksum=None)}, b"", "checksum"),
        ({"__metadata__": metadata(checksum="sha256:")}, b"", "checksum"),
        ({"__metadata__": metadata(fastnn=3)}, b"", "not from fastnn"),
        ({"__metadata__": metadata(text="{")}, b"", "not JSON"),
        ({"__metadata__": metadata(text="[" * 100_000)}, b"", "not JSON"),
        ({"__metadata__": metadata(text="[]")}, b"", "JSON list"),
        ({"__metadata__": metadata(), "x": {}}, b"", "does not describe tensors"),
        ({"__metadata__": metadata(), "x": []}, b"", "does not describe tensors"),
        ({"__metadata__": metadata(), "x": {"data_offsets": ["a", "b"]}}, b"", "expected"),
        ({"__metadata__": metadata(), "x": {"data_offsets": [0, 0]}}, b"", "damaged"),
        (
            {"__metadata__": metadata(), "x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}},
            b"12",
            "BF16, which fastnn does not read",
        ),
        (
            {"__metadata__": metadata(), "x": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
            b"",
            "impossible shape",
        ),
        (b"", b"", "not JSON"),
        (b"[]", b"", "not a JSON object"),
        (b"{}", b"", "not from fastnn"),
        (b'{"a":' * 100_000, b"", "not JSON"),
        ("{}".encode("utf-16"), b"", "not JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", b"", "not JSON"),
    ],
)
def test_foreign_and_forged_headers_are_refused(path, header, body, reason):
    raw_file(path, header, body)
    with pytest.raises(ModelFileError, match=reason):
        container.read(path)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "is empty"),
        (b"1234567", "not a safetensors file"),
        (b"\xff" * 8, "not a safetensors file"),
        ((99_000_000).to_bytes(8, "little"), "truncated"),
        (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
        (b"a text file of some length", "not a safetensors file"),
    ],
)
def test_other_files_are_refused(path, contents, reason):
    path.write_bytes(contents)
    with pytest.raises(ModelFileError, match=reason) as caught:
        container.read(path)
    assert caught.value.path == str(path)
    assert repr(str(path)) in str(caught.value)


class Trap:
    """An object whose unpickling creates a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_is_unpickled(path, tmp_path):
    folder = str(tmp_path / "trapped")
    path.write_bytes(pickle.dumps(Trap(folder)))
    with pytest.raises(ModelFileError):
        container.read(path)
    assert not os.path.exists(folder)


def test_claimed_sizes_allocate_nothing(path):
    huge = 2**50
    claims = {"dtype": "U8", "shape": [huge], "data_offsets": [0, huge]}
    raw_file(path, {"__metadata__": metadata(), "x": claims})
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="bytes of tensors expected, 0 found"):
            container.read(path)
        # A sparse file: huge for its reader, and nothing on the disk.
        raw_file(path, {"__metadata__": metadata()})
        os.truncate(path, 2**36)
        with pytest.raises(ModelFileError, match="0 bytes of tensors expected"):
            container.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_missing_files_and_folders(tmp_path, path):
    with pytest.raises(ModelFileError, match="does not exist"):
        container.read(path)
    with pytest.raises(ModelFileError, match="is a directory"):
        container.read(tmp_path)
    with pytest.raises(ModelFileError, match="cannot exist"):
        container.read("a\0b")
    with pytest.raises(ModelFileError, match="is a directory"):
        container.write(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError):
        container.write(tmp_path / "no" / "folder", {}, {})


@posix
def test_devices_and_pipes_are_left_alone(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for name in (pipe, "/dev/null", "/dev/zero"):
        with pytest.raises(ModelFileError, match="not a regular file"):
            container.read(name)
        with pytest.raises(ModelFileError, match="not a regular file"):
            container.write(name, {}, {})
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ModelFileError("a.safetensors", "is empty")))
    assert (error.path, error.reason) == ("a.safetensors", "is empty")
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("tensors", "document", "error", "reason"),
    [
        ({"x": [1, 2]}, {}, TypeError, "tensor 'x': expected a numpy array, got list"),
        ({"x": np.zeros(2, "c8")}, {}, TypeError, "tensor 'x'.*complex64"),
        ({"x": np.zeros(2, "O")}, {}, TypeError, "tensor 'x'.*object"),
        ({"x": np.zeros(2, "U3")}, {}, TypeError, "tensor 'x'"),
        ({"x": np.zeros(2, "M8[s]")}, {}, TypeError, "tensor 'x'"),
        ({"x": np.zeros(2, [("a", "f4")])}, {}, TypeError, "tensor 'x'"),
        ({1: np.zeros(2)}, {}, TypeError, "got 1 of type int"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "reserved"),
        ({"\ud800": np.zeros(2)}, {}, ValueError, "UTF-8"),
        ({}, [], TypeError, "expected a dict, got list"),
        ({}, {"a": [{"b": np.int64(3)}]}, TypeError, r"document\['a'\]\[0\]\['b'\].*int64"),
        ({}, {"a": {3: 4}}, TypeError, r"document\['a'\]: keys are str, got 3"),
        ({}, {"a": {1, 2}}, TypeError, "set"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_the_file(path, tensors, document, error, reason):
    path.write_bytes(b"old")
    with pytest.raises(error, match=reason):
        container.write(path, tensors, document)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_endless_document_is_refused(path):
    document = {}
    document["self"] = document
    with pytest.raises(ValueError, match="contains itself"):
        container.write(path, {}, document)


def test_document_beyond_the_header_limit_is_refused(path, monkeypatch):
    monkeypatch.setattr(container, "HEADER_LIMIT", 1000)
    container.write(path, {}, {"a": "x" * 500})
    container.read(path)
    with pytest.raises(ValueError, match="limit is 1000"):
        container.write(path, {}, {"a": "x" * 1000})
    container.read(path)


@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "ctrl-c"])
def test_failing_write_keeps_the_old_file_and_no_other(path, monkeypatch, function, error):
    container.write(path, SMALL, DOCUMENT)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(atomic.os, function, fail)
    with pytest.raises(type(error)):
        container.write(path, {}, {})
    monkeypatch.undo()
    assert_same(container.read(path)[0], SMALL)
    assert os.listdir(path.parent) == [path.name]


@posix
def test_permissions_follow_the_umask_or_the_old_file(path):
    old = os.umask(0o027)
    try:
        container.write(path, SMALL, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        container.write(path, SMALL, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


@posix
def test_symbolic_link_stays_and_its_target_changes(path, tmp_path):
    target = tmp_path / "folder" / "target"
    target.parent.mkdir()
    path.symlink_to(target)
    container.write(path, SMALL, DOCUMENT)
    container.write(path, SMALL, {"second": 2})
    assert path.is_symlink()
    assert container.read(target)[1] == {"second": 2}


WRITER = """
import sys
import numpy as np
from fastnn.saving import container
count = 0
while True:
    array = np.full(300_000, count, np.int64)
    container.write(sys.argv[1], {"x": array}, {"count": count})
    if count == 0:
        print("ready", flush=True)
    count += 1
"""


@posix
def test_kill_leaves_the_old_or_the_new_file(path):
    source = str(Path(container.__file__).parents[2])
    rng = random.Random(0)
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.05))
            process.kill()
        tensors, document = container.read(path)
        np.testing.assert_array_equal(tensors["x"], np.full(300_000, document["count"], np.int64))
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert all(name.endswith(".fastnn.tmp") for name in left)
