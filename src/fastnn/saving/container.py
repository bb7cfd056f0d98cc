"""The model file: named tensors and one JSON document in a checked safetensors file.

A file holds, in the safetensors metadata, the keys ``format`` (always ``"fastnn"``), ``version`` (of this
layout), ``fastnn`` (the JSON document) and ``checksum`` (SHA-256 over all of the above and over every
tensor's name, dtype, shape and bytes). Any safetensors reader can open it; nothing in it is ever executed.
The same contents give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import shorten
from fastnn.errors import ModelFileError
from fastnn.saving.atomic import replace_file
from fastnn.saving.stored import HEADER, StoredTensor, fill

__all__ = ["StoredTensor", "opened", "read", "write"]

FORMAT = "fastnn"
VERSION = 1
# The safetensors format refuses longer headers: they could be written but never read.
HEADER_LIMIT = 100_000_000
LENGTH_BYTES = 8
DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# In which the safetensors library counts them.
_ORDER = ("BOOL", "U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "F64", "I64", "U64")

# NumPy's limits: axes, and bytes of an array
MAX_RANK = 32
LARGEST = 2**63
# bytes that are read and hashed at a time
PIECE = 2**20
# Longer headers have to match a pattern before they are parsed.
SMALL_HEADER = 2**20
# Limits of lists and objects, and of other values, in a document: in memory they take up to 64 times their text, and
# 500 MB at these limits. 20,000 dense layers have 160,000 and 300,000.
MOST_CONTAINERS = 2_000_000
MOST_VALUES = 8_000_000

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], document: Mapping[str, Any]) -> None:
    """Write tensors and a document to one file, atomically.

    The file under `path` is replaced in one step after the new bytes are on the disk. So a reader sees either the
    old file or the new one, even if the program is stopped.

    Parameters
    ----------
    path : str or os.PathLike
        Target; its folder must exist.
    tensors : mapping of str to ndarray
        Arrays of any shape (also zero-size, 0-d, not contiguous) of dtype bool, float16/32/64 or an integer.
    document : mapping
        JSON values: str keys; dict, list, str, int, float, bool and None as values. Tuples come back as
        lists; NaN and infinities are kept.

    Raises
    ------
    TypeError
        If something is neither a tensor of those dtypes nor a JSON value; the message names it.
    ValueError
        If a name cannot be used, or names and document together exceed 100 MB.
    ModelFileError
        If `path` exists and is not a regular file.
    OSError
        If the file cannot be written (no such folder, disk full, ...).
    """
    arrays = {_checked_name(name): _checked_array(name, array) for name, array in tensors.items()}
    described = _encode(document)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "fastnn": described,
        "checksum": _checksum(described, arrays),
    }
    # the order of the safetensors library: the largest alignment first
    order = sorted(arrays, key=lambda name: (-_ORDER.index(DTYPE_NAMES[arrays[name].dtype]), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        array = arrays[name]
        offsets = [end, end + array.nbytes]
        header[name] = {"dtype": DTYPE_NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > HEADER_LIMIT:
        raise ValueError(f"names and document take {len(text)} bytes in the header, the limit is {HEADER_LIMIT}")
    beginning = len(text).to_bytes(LENGTH_BYTES, "little") + text
    replace_file(os.fsdecode(path), beginning, *(_bytes_of(arrays[name]) for name in order))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a file written by `write`, after checking all of it.

    Parameters
    ----------
    path : str or os.PathLike
        The model file.

    Returns
    -------
    tensors : dict of str to ndarray
        Writeable arrays in native byte order that do not map the file, in no particular order.
    document : dict
        The JSON document.

    Raises
    ------
    ModelFileError
        If the file is missing, not a file, unreadable, damaged in any bit, not written by fastnn, or written
        by a newer version.
    """
    with opened(path) as (tensors, document):
        return {name: tensor.array() for name, tensor in tensors.items()}, document


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, StoredTensor], dict[str, Any]]]:
    """Check a file written by `write`, and keep it open to read tensors directly into their destinations.

    Parameters
    ----------
    path : str or os.PathLike
        The model file.

    Yields
    ------
    tensors : dict of str to StoredTensor
        None of their elements are in memory yet.
    document : dict
        The JSON document.

    Raises
    ------
    ModelFileError
        As `read` does.
    """
    name = os.fsdecode(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open(name))
            yield _checked(name, file)
        except FileNotFoundError as error:
            raise ModelFileError(name, "does not exist") from error
        except OSError as error:
            raise ModelFileError(name, f"cannot be read: {error.strerror or error}") from error
        except MemoryError as error:
            raise ModelFileError(name, "does not fit into memory") from error


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"tensor names are str, got {name!r} of type {type(name).__name__}")
    if name == "__metadata__":
        raise ValueError("the tensor name '__metadata__' is reserved by the safetensors format")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the tensor name {name!r} cannot be written as UTF-8") from error
    return name


def _checked_array(name: str, array: object) -> Array:
    """Return the array in C order and little-endian, as the file stores it."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"tensor {name!r}: expected a numpy array, got {type(array).__name__}")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in DTYPE_NAMES:
        raise TypeError(f"tensor {name!r}: expected bool, integers or float16/32/64, got {array.dtype}")
    return np.asarray(array, dtype=dtype, order="C")


def _encode(document: object) -> str:
    if not isinstance(document, Mapping):
        raise TypeError(f"document: expected a dict, got {type(document).__name__}")
    try:
        text = json.dumps(_plain(document, "document"), separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("the document is nested too deeply, or contains itself") from error
    _check_values(text)
    return text


def _check_values(text: str) -> None:
    """Refuse a document whose values would take much more memory than its text."""
    for least, most, what in (
        (text.count("[") + text.count("{"), MOST_CONTAINERS, "lists and objects"),
        (text.count(","), MOST_VALUES, "values"),
    ):
        if least > most:
            raise ValueError(f"the document has about {least:,} {what}, the limit is {most:,}")


def _plain(value: object, where: str) -> object:
    """Return the value as plain dicts and lists; json itself would turn other keys into str silently."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: keys are str, got {key!r} of type {type(key).__name__}")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{where}: {value!r} of type {type(value).__name__} is not a JSON value")


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _checksum(text: str, tensors: Mapping[str, Array] | Mapping[str, StoredTensor]) -> str:
    """Hash the file's whole content; each part is preceded by its length, so that parts cannot merge."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(PIECE))

    def add(part: bytes | memoryview) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    add(f"{FORMAT} {VERSION}".encode())
    add(text.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        add(name.encode())
        add(DTYPE_NAMES[tensor.dtype].encode())
        add(str(tensor.shape).encode())
        if isinstance(tensor, np.ndarray):
            add(_bytes_of(tensor))
        else:
            digest.update(tensor.nbytes.to_bytes(8, "little"))
            for piece in tensor.pieces(buffer):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _open(name: str) -> io.FileIO:
    try:
        mode = os.stat(name).st_mode
    except ValueError as error:
        raise ModelFileError(name, f"cannot exist: {error}") from error
    if not stat.S_ISREG(mode):
        raise ModelFileError(name, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    return io.FileIO(name)


def _checked(name: str, file: io.FileIO) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    """Return a file's contents, after comparing all of its bytes with its checksum."""
    size = os.fstat(file.fileno()).st_size
    header = _header(name, file, size)
    metadata = _metadata(name, header)
    start = file.tell()
    _check_size(name, header, size - start)
    tensors = _tensors(name, file, header, start)
    text = metadata["fastnn"]
    if metadata.get("checksum") != _checksum(text, tensors):
        raise ModelFileError(name, "is damaged: its contents do not match its checksum")
    try:
        _check_values(text)
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(name, f"holds a document that is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelFileError(name, f"holds a document that is a JSON {type(document).__name__}, not an object")
    return tensors, document


def _header(name: str, file: io.FileIO, size: int) -> dict[str, Any]:
    if size == 0:
        raise ModelFileError(name, "is empty")
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > HEADER_LIMIT:
        raise ModelFileError(name, "is not a safetensors file")
    if length > size - LENGTH_BYTES:
        raise ModelFileError(
            name, f"is truncated or not a safetensors file: {length} bytes of header expected in {size} bytes"
        )
    data = bytearray(length)
    fill(file, LENGTH_BYTES, memoryview(data))
    if length > SMALL_HEADER and not HEADER.fullmatch(data):
        # other JSON takes up to thirty times its size in memory
        raise ModelFileError(name, "is damaged or not a safetensors file: its header does not describe tensors")
    try:
        header = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(name, f"is damaged or not a safetensors file: header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise ModelFileError(name, "is not a safetensors file: its header is not a JSON object")
    return header


def _metadata(name: str, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("fastnn"), str):
        raise ModelFileError(name, "is a safetensors file, but not from fastnn: it has no 'fastnn' metadata")
    if metadata.get("format") != FORMAT:
        raise ModelFileError(name, f"has the format {metadata.get('format')!r}, expected {FORMAT!r}")
    version = metadata.get("version")
    if not (isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 10):
        raise ModelFileError(name, f"has the format version {version!r}, which is not a number")
    if int(version) > VERSION:
        raise ModelFileError(
            name,
            f"has format version {version}; this fastnn reads up to version {VERSION}, please update fastnn",
        )
    if int(version) < 1 or version != str(int(version)):
        raise ModelFileError(name, f"has the format version {version!r}, which no fastnn has written")
    return metadata


def _check_size(name: str, header: dict[str, Any], available: int) -> None:
    """Compare the size that the header claims with the file's, before anything is read or allocated for it."""
    try:
        claimed = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        same = claimed == available
    except (TypeError, KeyError, IndexError) as error:
        raise ModelFileError(name, "is damaged: its header does not describe tensors") from error
    if not same:
        raise ModelFileError(name, f"is truncated or damaged: {claimed} bytes of tensors expected, {available} found")


def _tensors(name: str, file: io.FileIO, header: dict[str, Any], start: int) -> dict[str, StoredTensor]:
    """Return the tensors of a header, which have to fill the file without gaps, as the format requires."""
    described = []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        dtype, shape, offsets = (entry.get(what) for what in ("dtype", "shape", "data_offsets"))
        if not (isinstance(shape, list) and isinstance(offsets, list) and all(map(_is_size, [*shape, *offsets]))):
            raise ModelFileError(name, f"is damaged: its header does not describe the tensor {shorten(key)}")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ModelFileError(name, f"holds the tensor {key!r} of dtype {dtype}, which fastnn does not read")
        if len(shape) > MAX_RANK or max(shape, default=0) * DTYPES[dtype].itemsize >= LARGEST:
            raise ModelFileError(name, f"holds the tensor {key!r} of an impossible shape {shorten(shape)}")
        described.append((offsets, key, DTYPES[dtype], tuple(shape)))
    tensors, end = {}, 0
    for offsets, key, kind, extents in sorted(described, key=lambda one: one[0]):
        if offsets != [end, end + math.prod(extents) * kind.itemsize]:
            raise ModelFileError(name, f"is damaged: the tensor {shorten(key)} does not follow on the one before it")
        tensors[key] = StoredTensor(file, start + end, kind, extents)
        end = offsets[1]
    return tensors


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST
