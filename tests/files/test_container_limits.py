"""Reading a model file takes memory in proportion to its size, and trusts nothing in it."""

import os
import tracemalloc

import numpy as np
import pytest

from containers import DOCUMENT, SMALL, assert_same, metadata, raw_file
from fastnn.errors import ModelFileError
from fastnn.saving import container


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 6_000_000,
        b"[" + b"[]," * 2_000_000 + b"[]]",
        b"{" + b'"a":{},' * 1_000_000 + b'"a":{}}',
        b'{"__metadata__":{' + b'"a":"",' * 1_000_000 + b'"a":""}}',
        b'{"a":{"dtype":[' + b"[]," * 2_000_000 + b"[]]}}",
    ],
    ids=["deep", "lists", "objects", "metadata", "dtype"],
)
def test_headers_take_little_more_memory_than_their_size(path, body):
    raw_file(path, body)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="does not describe tensors"):
            container.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(body)


def test_long_headers_are_read(path):
    arrays = {f'layer {index}/"ä\\': np.full((2, index % 3), index, "f8") for index in range(13_000)}
    arrays |= {"empty": np.zeros((0, 3), "f4"), "number": np.array(3.0)}
    container.write(path, arrays, DOCUMENT)
    assert int.from_bytes(path.read_bytes()[:8], "little") > container.SMALL_HEADER
    tensors, document = container.read(path)
    assert_same(tensors, arrays)
    assert document == DOCUMENT


@pytest.mark.parametrize(
    ("limit", "document"), [("MOST_CONTAINERS", {"a": [[], {}, []]}), ("MOST_VALUES", {"a": [1, 2, 3, 4, 5]})]
)
def test_documents_of_more_values_than_memory_holds_are_refused(path, monkeypatch, limit, document):
    container.write(path, {}, document)
    monkeypatch.setattr(container, limit, 3)
    with pytest.raises(ValueError, match="the limit is 3"):
        container.write(path, {}, document)
    with pytest.raises(ModelFileError, match="the limit is 3"):
        container.read(path)


def test_reading_takes_the_memory_of_the_tensors_alone(path):
    arrays = {f"x{index}": np.full(500_000, index, "f4") for index in range(8)}
    size = sum(array.nbytes for array in arrays.values())
    tracemalloc.start()
    try:
        container.write(path, arrays, {})
        _, written = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        tensors, _ = container.read(path)
        _, read = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written < 0.2 * size and size <= read < 1.2 * size
    assert_same(tensors, arrays)


@pytest.mark.parametrize("offsets", [[0, 3], [1, 5], [4, 8], [0], [0, 4, 4], [0, True], [-4, 0], [0, 2**70]])
def test_tensors_that_do_not_fill_the_file_are_refused(path, offsets):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": offsets}
    raw_file(path, {"__metadata__": metadata(parts=[("x", "F32", (1,), b"1234")]), "x": entry}, b"1234")
    with pytest.raises(ModelFileError, match="damaged"):
        container.read(path)


def test_tensors_that_share_bytes_are_refused(path):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    raw_file(path, {"__metadata__": metadata(), "x": entry, "y": entry}, b"1234")
    with pytest.raises(ModelFileError, match="does not follow"):
        container.read(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(path):
    container.write(path, SMALL, {})
    with pytest.raises(ModelFileError, match="changed while it was read"), container.opened(path) as (tensors, _):
        os.truncate(path, path.stat().st_size - 8)
        tensors["k"].array()
