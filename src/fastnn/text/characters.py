"""A vocabulary of letters."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import integer, shorten
from fastnn.text import files
from fastnn.text.tokens import Tokens, as_text, as_tokens, check_range, smallest, texts_of

_CHUNK_LETTERS = 1 << 20


class Characters:
    """A vocabulary of letters: the code points of a text, spaces and line breaks included.

    Letters are numbered in the order of their code points, from `reserved` on.

    Parameters
    ----------
    text : str or iterable of str
        A text, several, or the letters themselves.
    reserved : int
        How many first numbers stand for no letter, such as 1 to keep 0 for padding. `decode` leaves them out.
    unknown : str, optional
        The letter that stands for those that are not in the vocabulary, which it becomes a part of. Without it they
        are an error.

    Attributes
    ----------
    letters : str
        In the order of their numbers.
    reserved : int
    unknown : str or None
    dtype : dtype
        Of the arrays that `encode` returns: the smallest unsigned one that holds all numbers.

    Raises
    ------
    TypeError
        A text that is no str, `reserved` that is no integer.
    ValueError
        No letters, `reserved` < 0, or `unknown` of several letters.

    Examples
    --------
    >>> vocabulary = fnn.text.Characters("hello")
    >>> vocabulary.letters, vocabulary.encode("hole")
    ('ehlo', array([1, 3, 2, 0], dtype=uint8))
    """

    def __init__(self, text: str | Iterable[str], *, reserved: int = 0, unknown: str | None = None) -> None:
        found: set[str] = set()
        for one in texts_of(text, "text"):
            found.update(one)
        self.reserved = integer("reserved", reserved, at_least=0)
        if unknown is not None and len(as_text(unknown, "unknown")) != 1:
            raise ValueError(f"unknown: expected one letter, got {shorten(unknown)}")
        self.unknown = unknown
        self.letters = "".join(sorted(found | set(unknown or "")))
        if not self.letters:
            raise ValueError("text: expected at least one letter, got none")
        self.dtype = smallest(len(self))
        self._codes = _codes(self.letters)

    def __len__(self) -> int:
        return self.reserved + len(self.letters)

    def __repr__(self) -> str:
        return f"Characters({shorten(self.letters)}, reserved={self.reserved}, unknown={self.unknown!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Characters):
            return NotImplemented
        mine, others = ((one.letters, one.reserved, one.unknown) for one in (self, other))
        return mine == others

    def __hash__(self) -> int:
        return hash((self.letters, self.reserved, self.unknown))

    def encode(self, text: str) -> Tokens:
        """Return the numbers of a text's letters.

        Parameters
        ----------
        text : str

        Returns
        -------
        ndarray of `dtype`, shape (letters,)

        Raises
        ------
        TypeError
            Not a str.
        ValueError
            A letter that is not in the vocabulary, if there is no `unknown`; names it and its place.
        """
        as_text(text, "text")
        result = np.empty(len(text), self.dtype)
        other = None if self.unknown is None else self.letters.index(self.unknown)
        for first in range(0, len(text), _CHUNK_LETTERS):
            codes = _codes(text[first : first + _CHUNK_LETTERS])
            places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
            wrong = self._codes[places] != codes
            if wrong.any():
                if other is None:
                    place = first + int(np.argmax(wrong))
                    raise ValueError(
                        f"text: letter {text[place]!r} at {place} is not in the vocabulary; "
                        "Characters(..., unknown='?') gives such letters a number"
                    )
                places[wrong] = other
            result[first : first + len(codes)] = places + self.reserved
        return result

    def decode(self, numbers: npt.ArrayLike) -> str:
        """Return the text of some numbers; reserved ones are left out.

        Parameters
        ----------
        numbers : integers, shape (n,)

        Raises
        ------
        TypeError
            Not integers.
        ValueError
            Another shape, or a number that the vocabulary does not have; names it and its place.
        """
        array = as_tokens(numbers, "numbers")
        check_range(array, len(self), "numbers")
        places = array[array >= self.reserved].astype(np.int64) - self.reserved
        return self._codes[places].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a JSON file; raises OSError if it cannot be written."""
        files.write(path, "Characters", {name: getattr(self, name) for name in ("letters", "reserved", "unknown")})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Characters:
        """Read a vocabulary from a file of `save`.

        Raises
        ------
        ValueError
            If the file holds something else.
        OSError
            If it cannot be read.
        """
        found = files.read(path, "Characters", {"letters": str, "reserved": int, "unknown": (str, type(None))})
        return cls(found["letters"], reserved=found["reserved"], unknown=found["unknown"])


def _codes(text: str) -> npt.NDArray[Any]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
