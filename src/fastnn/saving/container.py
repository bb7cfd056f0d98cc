"""The model file: named tensors and one JSON document in a checked safetensors file.

A file holds, in the safetensors metadata, the keys ``format`` (always ``"fastnn"``), ``version`` (of this
layout), ``fastnn`` (the JSON document) and ``checksum`` (SHA-256 over all of the above and over every
tensor's name, dtype, shape and bytes). Any safetensors reader can open it; nothing in it is ever executed.
The same contents give the same bytes.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from fastnn.errors import ModelFileError
from fastnn.saving.atomic import replace_file

__all__ = ["read", "write"]

FORMAT = "fastnn"
VERSION = 1
# The safetensors format refuses longer headers, so a longer one could be written but never read.
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

Array = npt.NDArray[Any]


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], document: Mapping[str, Any]) -> None:
    """Write tensors and a document to one file, wholly or not at all.

    The file under `path` is replaced in one step after the new bytes are on the disk: whoever reads it, and
    whatever stops the program, there is either the old file or the new one.

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
    text = _encode(document)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "fastnn": text,
        "checksum": _checksum(text, arrays),
    }
    payload = safetensors.numpy.save(arrays, metadata)
    header, body = _sorted_metadata(payload)
    if len(header) - LENGTH_BYTES > HEADER_LIMIT:
        raise ValueError(f"names and document take {len(header)} bytes in the header, the limit is {HEADER_LIMIT}")
    replace_file(os.fsdecode(path), header, body)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a file written by `write`, after checking all of it.

    Parameters
    ----------
    path : str or os.PathLike
        The model file.

    Returns
    -------
    tensors : dict of str to ndarray
        Writeable arrays in native byte order that own no part of the file, in no particular order.
    document : dict
        The JSON document.

    Raises
    ------
    ModelFileError
        If the file is missing, not a file, unreadable, damaged in any bit, not written by fastnn, or written
        by a newer version of it.
    """
    name = os.fsdecode(path)
    try:
        return _read(name)
    except FileNotFoundError as error:
        raise ModelFileError(name, "does not exist") from error
    except OSError as error:
        raise ModelFileError(name, f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ModelFileError(name, "does not fit into memory") from error


def _read(name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    payload, metadata = _load(name)
    text = metadata["fastnn"]
    tensors = _tensors(name, payload)
    if metadata.get("checksum") != _checksum(text, tensors):
        raise ModelFileError(name, "is damaged: its contents do not match its checksum")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(name, f"holds a document that is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelFileError(name, f"holds a document that is a JSON {type(document).__name__}, not an object")
    native = {key: array.astype(array.dtype.newbyteorder("="), copy=False) for key, array in tensors.items()}
    return native, document


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
    """Return the array in C order and little-endian, which is what the file stores."""
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
        return json.dumps(_plain(document, "document"), separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("the document is nested too deeply, or contains itself") from error


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


def _sorted_metadata(payload: bytes) -> tuple[bytes, memoryview]:
    """Split into header and body, with sorted metadata: the library writes its keys in random order."""
    body_start = LENGTH_BYTES + int.from_bytes(payload[:LENGTH_BYTES], "little")
    header = json.loads(payload[LENGTH_BYTES:body_start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, memoryview(payload)[body_start:]


def _checksum(text: str, tensors: Mapping[str, Array]) -> str:
    """Hash all that the file means; each part's length goes first, so that parts cannot merge."""
    digest = hashlib.sha256()

    def add(part: bytes | memoryview) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    add(f"{FORMAT} {VERSION}".encode())
    add(text.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        array = tensors[name]
        add(name.encode())
        add(DTYPE_NAMES[array.dtype].encode())
        add(str(array.shape).encode())
        add(array.reshape(-1).view(np.uint8).data)
    return f"sha256:{digest.hexdigest()}"


def _load(name: str) -> tuple[bytes, dict[str, str]]:
    """Return the whole file and its metadata; only a file that fits its own header is read whole."""
    try:
        mode = os.stat(name).st_mode
    except ValueError as error:
        raise ModelFileError(name, f"cannot exist: {error}") from error
    if not stat.S_ISREG(mode):
        raise ModelFileError(name, "is a directory" if stat.S_ISDIR(mode) else "is not a regular file")
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _header(name, file, size)
        metadata = _metadata(name, header)
        _check_size(name, header, size - file.tell())
        file.seek(0)
        payload = file.read(size)
    if len(payload) != size:
        raise ModelFileError(name, "changed while it was read")
    return payload, metadata


def _header(name: str, file: BinaryIO, size: int) -> dict[str, Any]:
    if size == 0:
        raise ModelFileError(name, "is empty")
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > HEADER_LIMIT:
        raise ModelFileError(name, "is not a safetensors file")
    if length > size - LENGTH_BYTES:
        raise ModelFileError(
            name, f"is truncated or not a safetensors file: {length} bytes of header expected in {size} bytes"
        )
    try:
        header = json.loads(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(name, f"is damaged or not a safetensors file: header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise ModelFileError(name, "is not a safetensors file: its header is not a JSON object")
    return header


def _metadata(name: str, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("fastnn"), str):
        raise ModelFileError(name, "is a safetensors file, but not of fastnn: it has no 'fastnn' metadata")
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
    """Compare what the header claims with what is there, before anything is read or allocated for it."""
    try:
        claimed = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        same = claimed == available
    except (TypeError, KeyError, IndexError) as error:
        raise ModelFileError(name, "is damaged: its header does not describe tensors") from error
    if not same:
        raise ModelFileError(name, f"is truncated or damaged: {claimed} bytes of tensors expected, {available} found")


def _tensors(name: str, payload: bytes) -> dict[str, Array]:
    """Let the safetensors library validate the layout, and wrap the buffers that it copied out."""
    deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    try:
        entries = deserialize(payload)
    except safetensors.SafetensorError as error:
        raise ModelFileError(name, f"is damaged: {error}") from error
    tensors = {}
    for key, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise ModelFileError(
                name, f"holds the tensor {key!r} of dtype {entry['dtype']}, which fastnn does not read"
            )
        try:
            tensors[key] = np.ndarray(entry["shape"], DTYPES[entry["dtype"]], buffer=entry["data"])
        except (ValueError, OverflowError) as error:
            raise ModelFileError(name, f"holds the tensor {key!r} of an impossible shape {entry['shape']}") from error
    return tensors
