"""Files in the IDX format, in which MNIST and data sets like it are distributed.

The format is that of Yann LeCun's page "The MNIST database of handwritten digits": two zero bytes, the code of the
dtype, the number of dimensions, the sizes as big-endian 32-bit integers, and the elements in C order, big-endian.
"""

from __future__ import annotations

import gzip
import math
import os
import sys
import zlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastnn.checks import shorten

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_MOST_DIMENSIONS = 8
_GZIP = b"\x1f\x8b"
_RATIO = 1032  # deflate makes at most this many bytes out of one: two bits stand for 258 bytes
_CHUNK = 2**20


def load_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read an array from a file in the IDX format, the format of MNIST's files; no download.

    Parameters
    ----------
    path : str or os.PathLike
        The file. It may be compressed with gzip, whatever its name is.

    Returns
    -------
    ndarray of uint8, int8, int16, int32, float32 or float64
        Of the file's shape, in native byte order, writeable. It does not map the file.

    Raises
    ------
    TypeError
        If the path is of another type.
    ValueError
        If the file is not in the IDX format, or damaged. Memory is only used in proportion to what the file holds,
        whatever its header says.
    OSError
        If the file is missing, or cannot be read.

    Examples
    --------
    >>> images = fnn.datasets.load_idx("train-images-idx3-ubyte.gz")
    >>> images.shape, images.dtype
    ((60000, 28, 28), dtype('uint8'))
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"load_idx: path: expected a str or an os.PathLike, got {shorten(path)} of type {type(path).__name__}"
        )
    where = f"load_idx: the file {os.fsdecode(path)!r}"
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        if file.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
            return _read(where, file, length, compressed=False)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read(where, stream, length, compressed=True)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{where}: expected whole gzip data, got damaged data ({error})") from error


def _read(where: str, stream: BinaryIO | gzip.GzipFile, length: int, *, compressed: bool) -> npt.NDArray[Any]:
    """Return the array; `length` is that of the file, compressed or not."""
    dtype, shape = _header(where, stream)
    nbytes = math.prod(shape) * dtype.itemsize
    said = f"the sizes {shape} of {dtype.name} in its header"
    # NumPy refuses such shapes even if one of the sizes is 0
    if math.prod(max(extent, 1) for extent in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"{where}: expected at most {sys.maxsize} bytes, got {said}")
    total = 4 + 4 * len(shape) + nbytes
    if compressed and total > _RATIO * length:
        raise ValueError(f"{where}: expected {total} bytes by {said}, got {length} compressed bytes, which hold fewer")
    if not compressed and total != length:
        raise ValueError(f"{where}: expected {total} bytes by {said}, got {length}")
    # one byte more than needed shows that there is more, and otherwise makes gzip check its checksum
    content = _at_most(stream, nbytes + 1)
    if len(content) != nbytes:
        got = f"{total - nbytes + len(content)}" if len(content) < nbytes else "more"
        raise ValueError(f"{where}: expected {total}{' decompressed' * compressed} bytes by {said}, got {got}")
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=content)
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _header(where: str, stream: BinaryIO | gzip.GzipFile) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{where}: expected the 4 bytes with which IDX files begin, got {len(magic)}")
    if magic[:2] != b"\0\0":
        raise ValueError(f"{where}: expected two zero bytes, with which IDX files begin, got {magic[:2].hex(' ')}")
    if magic[2] not in _DTYPES:
        codes = ", ".join(f"{code:02x} ({dtype.name})" for code, dtype in _DTYPES.items())
        raise ValueError(f"{where}: expected the code of a dtype, one of {codes}, got {magic[2]:02x}")
    if not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise ValueError(f"{where}: expected 1 to {_MOST_DIMENSIONS} dimensions, got {magic[3]}")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{where}: expected {4 * magic[3]} bytes with the sizes of axes, got {len(sizes)}")
    return _DTYPES[magic[2]], tuple([int(extent) for extent in np.frombuffer(sizes, ">u4")])


def _at_most(stream: BinaryIO | gzip.GzipFile, nbytes: int) -> bytearray:
    """Read up to `nbytes` bytes, chunk by chunk, so that no memory is taken for what is not there."""
    content = bytearray()
    while len(content) < nbytes:
        chunk = stream.read(min(_CHUNK, nbytes - len(content)))
        if not chunk:
            break
        content += chunk
    return content
