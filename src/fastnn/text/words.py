"""A vocabulary of words and marks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fastnn.checks import flag, integer, shorten
from fastnn.text import files
from fastnn.text.tokens import Tokens, as_text, as_tokens, check_range, smallest, texts_of

# "don't" is one word
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_UNKNOWN = "[UNK]"
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%")


class Words:
    """A vocabulary of words and marks, by how often they occur.

    A word is a run of letters, digits and underscores, with apostrophes within ("don't"); every other mark that is no
    white space stands for itself ("." or "€"). The number 0 is padding, 1 is an unknown word; then come `special`
    ones and the words, most frequent ones first, equally frequent ones in the order of their code points.

    Parameters
    ----------
    texts : str or iterable of str
        The texts, such as an open file of lines.
    size : int, optional
        How many numbers there are at most, with those for padding, unknown and special words: rarer words are
        unknown. Default: all words have numbers.
    lower : bool
        Whether capital letters count as small ones.
    least : int
        How often a word has to occur, >= 1.
    special : iterable of str
        Names that get the numbers from 2 on, and that no text contains as words, such as ``["[MASK]"]``.

    Attributes
    ----------
    words : tuple of str
        By number: "" for 0, "[UNK]" for 1.
    lower : bool
    special : tuple of str
    dtype : dtype
        Of the arrays that `encode` returns: the smallest unsigned one that holds all numbers.

    Raises
    ------
    TypeError
        Texts that are no str, sizes that are no integers.
    ValueError
        A size that leaves no number for a word, special names that occur twice or are words.

    Examples
    --------
    >>> vocabulary = fnn.text.Words(["The cat.", "The dog."])
    >>> vocabulary.words
    ('', '[UNK]', '.', 'the', 'cat', 'dog')
    >>> vocabulary.encode("The cow.")
    array([3, 1, 2], dtype=uint8)
    """

    def __init__(
        self,
        texts: str | Iterable[str],
        size: int | None = None,
        *,
        lower: bool = True,
        least: int = 1,
        special: Iterable[str] = (),
    ) -> None:
        self.lower = flag("lower", lower)
        self.special = _special(special)
        first = 2 + len(self.special)
        most = None if size is None else integer("size", size, at_least=first + 1) - first
        fewest = integer("least", least)
        counts: Counter[str] = Counter()
        for one in texts_of(texts, "texts"):
            counts.update(self.split(one))
        known = sorted((word for word, count in counts.items() if count >= fewest), key=lambda w: (-counts[w], w))
        self._number(known[:most])

    def _number(self, known: Iterable[str]) -> None:
        self.words = ("", _UNKNOWN, *self.special, *known)
        self.dtype = smallest(len(self.words))
        # special names are no words of texts, but `number` finds them
        self._numbers = {word: index for index, word in enumerate(self.words) if index > 0}

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Words(of {len(self)} numbers: {shorten(self.words[2:])}, lower={self.lower})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Words):
            return NotImplemented
        return (self.words, self.special, self.lower) == (other.words, other.special, other.lower)

    def __hash__(self) -> int:
        return hash((self.words, self.special, self.lower))

    def split(self, text: str) -> list[str]:
        """Return the words and marks of a text, in their order; raises TypeError for what is no str."""
        whole = as_text(text, "text")
        return _WORD.findall(whole.lower() if self.lower else whole)

    def number(self, word: str) -> int:
        """Return the number of a word or a special name; that of unknown words, 1, if it has none."""
        return self._numbers.get(as_text(word, "word"), 1)

    def encode(self, text: str) -> Tokens:
        """Return the numbers of a text's words; unknown ones are 1.

        Parameters
        ----------
        text : str

        Returns
        -------
        ndarray of `dtype`, shape (words,)

        Raises
        ------
        TypeError
            Not a str.
        """
        found = self._numbers
        return np.array([found.get(word, 1) for word in self.split(text)], self.dtype)

    def decode(self, numbers: npt.ArrayLike) -> str:
        """Return words with spaces between them, none before the marks ``.,;:!?)]}%``; padding is left out.

        Capital letters, spaces and line breaks of the text that was encoded are lost.

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
        words = (self.words[number] for number in array.tolist() if number)
        return "".join(word if word in _NO_SPACE_BEFORE else f" {word}" for word in words).removeprefix(" ")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary to a JSON file; raises OSError if it cannot be written."""
        known = list(self.words[2 + len(self.special) :])
        files.write(path, "Words", {"words": known, "special": list(self.special), "lower": self.lower})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Words:
        """Read a vocabulary from a file of `save`.

        Raises
        ------
        ValueError
            If the file holds something else.
        OSError
            If it cannot be read.
        """
        found = files.read(path, "Words", {"words": list, "special": list, "lower": bool})
        everything = found["words"] + found["special"]
        if not all(isinstance(one, str) for one in everything) or len(set(everything)) < len(everything):
            raise ValueError(f"{os.fspath(path)!r} is damaged: its words are not different strings")
        made = cls("", lower=found["lower"], special=found["special"])
        cls._number(made, found["words"])
        return made


def _special(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"special: expected an iterable of names, got the str {shorten(names)}")
    found = tuple(as_text(one, "special") for one in names)
    if len({*found, _UNKNOWN}) <= len(found):
        raise ValueError(f"special: expected different names, none of them {_UNKNOWN!r}, got {shorten(found)}")
    for one in found:
        if not one or _WORD.fullmatch(one):
            raise ValueError(f"special: expected names that are no words, such as '[MASK]', got {one!r}")
    return found
