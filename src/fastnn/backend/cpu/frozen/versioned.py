"""Names of classes that contain the version of the layout of codes.

Numba keeps users' functions on disk, in files with an index by the types of their arguments. The type of a named tuple
is its class, which the index names. So a class whose name changes with the layout makes Numba miss functions that were
compiled for another one, and compile them again; what they do with a network of this layout would be undefined.
"""

from __future__ import annotations

import re
import sys
from typing import Any, TypeVar

from fastnn.backend.cpu.layouts.code import LAYOUT_VERSION

Kind = TypeVar("Kind", bound=type)


class EarlierClass(tuple[Any, ...]):
    """A class of another layout, of which there are no objects: Numba unpickles a whole index to look for one type."""


def versioned(kind: Kind) -> Kind:
    """Put the version of the layout into the name by which pickles refer to a class of a module."""
    kind.__qualname__ = f"{kind.__name__}_{LAYOUT_VERSION & (1 << 64) - 1:x}"
    setattr(sys.modules[kind.__module__], kind.__qualname__, kind)
    return kind


def earlier(module: str, name: str) -> type[EarlierClass]:
    """Return what stands for a versioned class of a module in pickles of another version.

    Raises
    ------
    AttributeError
        When the name is not that of a versioned class.
    """
    found = re.fullmatch(r"([A-Za-z]+)_[0-9a-f]{1,16}", name)
    if found is None or found[1] not in vars(sys.modules[module]):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return EarlierClass
