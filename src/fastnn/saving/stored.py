"""Tensors in an open file: the pattern of their descriptions, and reading them into arrays."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["HEADER", "StoredTensor", "fill"]

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SIZES = rb"\[[\s\d,]*+\]"
_FIELD = rb'(?:"dtype"\s*+:\s*+"\w*+"|"(?:shape|data_offsets)"\s*+:\s*+%b)' % _SIZES
_TENSOR = rb"%b\s*+:\s*+\{\s*+%b\s*+(?:,\s*+%b\s*+){2}\}" % (_STRING, _FIELD, _FIELD)
_PAIR = rb"%b\s*+:\s*+%b" % (_STRING, _STRING)
_METADATA = rb'"__metadata__"\s*+:\s*+\{\s*+%b\s*+(?:,\s*+%b\s*+){0,99}+\}' % (_PAIR, _PAIR)
_ENTRY = rb"(?:%b|%b)" % (_METADATA, _TENSOR)
#: the required form of a safetensors header: nothing in it takes much more memory than its text
HEADER = re.compile(rb"\s*+\{\s*+%b\s*+(?:,\s*+%b\s*+)*+\}\s*+" % (_ENTRY, _ENTRY), re.DOTALL)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in an open file, none of whose elements are in memory.

    Attributes
    ----------
    dtype : dtype
        Little-endian.
    shape : tuple of int
    """

    file: io.FileIO
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> npt.NDArray[Any]:
        """Return an array of the elements, in native byte order."""
        result = np.empty(self.shape, self.dtype.newbyteorder("="))
        self.read_into(result)
        return result

    def read_into(self, array: npt.NDArray[Any]) -> None:
        """Fill a contiguous array of this shape and dtype.

        Raises
        ------
        OSError
            When the file cannot be read, or has become shorter.
        """
        if array.size:
            fill(self.file, self.start, memoryview(array.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
        if array.dtype != self.dtype:
            array.byteswap(inplace=True)

    def pieces(self, buffer: memoryview) -> Iterator[memoryview]:
        """Read the bytes into a buffer, piece by piece."""
        for first in range(0, self.nbytes, len(buffer)):
            piece = buffer[: min(len(buffer), self.nbytes - first)]
            fill(self.file, self.start + first, piece)
            yield piece


def fill(file: io.FileIO, start: int, memory: memoryview) -> None:
    """Fill a memory view with bytes of a file, from `start` on."""
    file.seek(start)
    while len(memory):
        count = file.readinto(memory)
        if not count:
            raise OSError("changed while it was read")
        memory = memory[count:]
