"""Model files made by hand, only from the description of the format."""

import hashlib
import json

import numpy as np

SMALL = {"k": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}
DOCUMENT = {"name": "é", "n": [1, 2.5, None]}


def assert_same(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype.newbyteorder("=")
        assert tensors[name].shape == array.shape
        np.testing.assert_array_equal(tensors[name], array)


def plain_checksum(text, parts):
    """Compute the checksum only from its description; parts are (name, dtype, shape, bytes)."""
    pieces = [b"fastnn 1", text.encode()]
    for name, dtype, shape, data in sorted(parts):
        pieces += [name.encode(), dtype.encode(), str(shape).encode(), data]
    joined = b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces)
    return "sha256:" + hashlib.sha256(joined).hexdigest()


def raw_file(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def metadata(text="{}", parts=(), **changes):
    valid = {"format": "fastnn", "version": "1", "fastnn": text, "checksum": plain_checksum(text, parts)}
    return {key: value for key, value in (valid | changes).items() if value is not None}
