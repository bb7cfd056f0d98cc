"""Files in the IDX format: arrays written by `struct`, and damage of every kind."""

import gzip
import math
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.datasets import load_idx

# code of the dtype, and its letter for `struct`
CODES = {"uint8": (8, "B"), "int8": (9, "b"), "int16": (11, "h"), "int32": (12, "i"), "float32": (13, "f"),
         "float64": (14, "d")}  # fmt: skip
EXTREMES = {"uint8": [0, 1, 255], "int8": [-128, 1, 127], "int16": [-(2**15), 258, 32767],
            "int32": [-(2**31), 16909060, 2**31 - 1], "float32": [-0.5, math.inf, 2.0**-149],
            "float64": [-0.1, -math.inf, 5e-324]}  # fmt: skip


def header(*sizes: int, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes)


def plain(content: bytes) -> bytes:
    return content


KINDS = pytest.mark.parametrize("packed", [plain, gzip.compress])
GOOD = header(2, 3) + bytes(range(6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images"


@KINDS
@pytest.mark.parametrize("name", CODES)
def test_values_of_every_dtype(path: Path, name: str, packed: Callable[[bytes], bytes]) -> None:
    code, letter = CODES[name]
    values = EXTREMES[name] * 4
    path.write_bytes(packed(header(2, 1, 6, code=code) + struct.pack(f">12{letter}", *values)))
    array = load_idx(path)
    assert array.dtype == np.dtype(name) and array.dtype.isnative
    assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned
    assert array.tolist() == [[values[:6]], [values[6:]]]


@KINDS
def test_shapes(path: Path, packed: Callable[[bytes], bytes]) -> None:
    for sizes in [(5,), (0,), (0, 28, 28), (3, 0, 2), (1, 2, 1, 2, 1, 2, 1, 2)]:
        path.write_bytes(packed(header(*sizes) + bytes(range(math.prod(sizes)))))
        np.testing.assert_array_equal(load_idx(path), np.arange(math.prod(sizes)).reshape(sizes))


def test_paths_and_names(path: Path) -> None:
    # whether a file is compressed is in its content, not in its name
    for content, name in [(GOOD, "a.gz"), (gzip.compress(GOOD), "a-idx2-ubyte"), (gzip.compress(GOOD), "ä.gz")]:
        (path.parent / name).write_bytes(content)
        for given in (path.parent / name, str(path.parent / name)):
            assert load_idx(given).tolist() == [[0, 1, 2], [3, 4, 5]]
    for wrong in (3, b"images", None):
        with pytest.raises(TypeError, match=r"load_idx: path: expected a str or an os.PathLike, got"):
            load_idx(wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        load_idx(path)
    path.write_bytes(gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:]))  # gzip joins members
    assert load_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@KINDS
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected the 4 bytes with which IDX files begin, got 0"),
        (GOOD[:3], "expected the 4 bytes with which IDX files begin, got 3"),
        (b"\x89PNG", "expected two zero bytes, with which IDX files begin, got 89 50"),
        (b"\0\1" + GOOD[2:], "expected two zero bytes, with which IDX files begin, got 00 01"),
        (header(2, code=10) + b"ab", r"expected the code of a dtype, one of 08 \(uint8\), .*float64\), got 0a"),
        (header() + b"a", "expected 1 to 8 dimensions, got 0"),
        (header(*[1] * 9) + b"a", "expected 1 to 8 dimensions, got 9"),
        (GOOD[:11], "expected 8 bytes with the sizes of axes, got 7"),
        (GOOD[:-1], r"expected 18( decompressed)? bytes by the sizes \(2, 3\) of uint8 in its header, got 17"),
        (GOOD + b"a", r"expected 18 (bytes .* got 19|decompressed bytes .* got more)$"),
        (header(0) + b"a", "expected 8 (bytes .* got 9|decompressed bytes .* got more)$"),
        (header(2**31, 2**31, 9), r"expected 41505174165846491152 bytes by|expected at most"),
        (header(*[2**32 - 1] * 8, code=14), "expected at most"),
        (header(0, *[2**32 - 1] * 7), "expected at most"),
    ],
)
def test_what_is_not_an_idx_file(path: Path, packed: Callable[[bytes], bytes], content: bytes, said: str) -> None:
    path.write_bytes(packed(content))
    with pytest.raises(ValueError, match=rf"^load_idx: the file '.*images': {said}"):
        load_idx(path)


def test_damaged_gzip(path: Path) -> None:
    content = gzip.compress(header(1000) + bytes(np.random.default_rng(0).integers(0, 256, 1000, np.uint8)))
    # the method, the kind of the first block, the data, the checksum, the length
    for place in (2, 10, 600, len(content) - 8, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 0x16
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^load_idx: the file '.*images': expected whole gzip data, got damaged"):
            load_idx(path)
    for end in (2, 9, 500, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="got damaged data"):
            load_idx(path)
    path.write_bytes(content + b"garbage")
    with pytest.raises(ValueError, match="got damaged data"):
        load_idx(path)


def peak_of(path: Path) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        try:
            result: Any = load_idx(path).nbytes
        except ValueError as error:
            result = str(error)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_follows_the_content_and_not_the_header(path: Path) -> None:
    zeros, million = bytes(8_000_000), np.random.default_rng(0).bytes(1_000_000)
    for content, said in [
        (header(2**32 - 1) + b"a", "expected 4294967303 bytes"),
        (gzip.compress(header(2**32 - 1) + b"a"), "compressed bytes, which hold fewer"),
        (gzip.compress(header(500_000_000) + million), "expected 500000008 decompressed bytes .* got 1000008"),
        (gzip.compress(header(6) + zeros), "expected 14 decompressed bytes .* got more"),
    ]:
        path.write_bytes(content)
        message, peak = peak_of(path)
        assert re.search(said, message)
        assert peak < 4_000_000
    # zeros are compressed as far as gzip can
    path.write_bytes(gzip.compress(header(2_000_000, code=12) + zeros, 9))
    nbytes, peak = peak_of(path)
    assert nbytes == 8_000_000 and peak < 2.5 * nbytes
