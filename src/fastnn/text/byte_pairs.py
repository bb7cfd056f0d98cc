"""A vocabulary of byte pairs, by the package tokenizers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.checks import integer, shorten
from fastnn.files import write_whole
from fastnn.text.tokens import Tokens, as_text, as_tokens, check_range, smallest, texts_of

# every byte is a token
_BYTES = 256


class BytePairs:
    """A vocabulary of frequent pieces of words: byte-pair encoding on bytes, as GPT-2 has it.

    Each of the 256 bytes is a token, and so are pairs of tokens that occur often (Sennrich et al., 2016, "Neural
    Machine Translation of Rare Words with Subword Units"; Radford et al., 2019, "Language Models are Unsupervised
    Multitask Learners"). So any text has tokens, and ``decode(encode(text))`` is the same text, except for names of
    special tokens in it. The package ``tokenizers`` (the extra "text") does the work, and its files
    (``tokenizer.json``) are those of Hugging Face's libraries.

    Parameters
    ----------
    texts : str or iterable of str
        What the pairs are learnt from, such as an open file of lines.
    size : int
        How many numbers there are at most: special tokens, bytes, pairs.
    special : iterable of str
        Names of tokens that are no text, with the numbers from 0 on, such as ``["[PAD]", "[SEP]", "[MASK]"]``. Where a
        text that is encoded contains such a name, it is that token.
    least : int
        How often a pair has to occur, >= 1.

    Attributes
    ----------
    tokenizer : tokenizers.Tokenizer
        Not to be changed.
    dtype : dtype
        Of the arrays that `encode` returns: the smallest unsigned one that holds all numbers.

    Raises
    ------
    ImportError
        If tokenizers is not installed.
    TypeError
        Texts or names that are no str, sizes that are no integers.
    ValueError
        A size that leaves no room for bytes and special tokens, or names that are empty or occur twice.

    Examples
    --------
    >>> vocabulary = fnn.text.BytePairs(open("book.txt"), 4096)
    >>> tokens = vocabulary.encode(text)
    """

    def __init__(
        self, texts: str | Iterable[str], size: int, *, special: Iterable[str] = ("[PAD]",), least: int = 2
    ) -> None:
        tokenizer, trainer = _untrained(size, special, least)
        tokenizer.train_from_iterator(texts_of(texts, "texts"), trainer)
        self._take(tokenizer)

    @classmethod
    def of_files(
        cls,
        paths: Sequence[str | os.PathLike[str]],
        size: int,
        *,
        special: Iterable[str] = ("[PAD]",),
        least: int = 2,
    ) -> BytePairs:
        """Learn the pairs from text files in UTF-8, which are read piece by piece.

        Arguments and errors are those of the class.

        Raises
        ------
        OSError
            If a file cannot be read.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        for path in paths:
            # of tokenizers' errors, none names the file
            with open(path, "rb"):
                pass
        tokenizer, trainer = _untrained(size, special, least)
        tokenizer.train([os.fspath(path) for path in paths], trainer)
        return cls._of(tokenizer)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BytePairs:
        """Read a vocabulary from a file of `save`, or another ``tokenizer.json``.

        Raises
        ------
        ImportError
            If tokenizers is not installed.
        ValueError
            If the file holds something else.
        OSError
            If it cannot be read.
        """
        package = _package()
        with open(path, "rb") as file:
            content = file.read()
        try:
            tokenizer = package.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # tokenizers raises no class of its own
            raise ValueError(f"{os.fspath(path)!r} holds no tokenizer: {error}") from None
        return cls._of(tokenizer)

    @classmethod
    def _of(cls, tokenizer: Any) -> BytePairs:
        made = cls.__new__(cls)
        cls._take(made, tokenizer)
        return made

    def _take(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        # numbers of a file may have gaps
        self._size = 1 + max(tokenizer.get_vocab().values(), default=-1)
        self.dtype = smallest(len(self))

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"BytePairs(of {len(self)} numbers)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the vocabulary as ``tokenizer.json``; raises OSError if it cannot be written."""
        write_whole(os.fspath(path), self.tokenizer.to_str(pretty=True).encode("utf-8"))

    def number(self, token: str) -> int:
        """Return the number of a token, such as a special one.

        Raises
        ------
        ValueError
            If there is no such token.
        """
        found = self.tokenizer.token_to_id(as_text(token, "token"))
        if found is None:
            raise ValueError(f"token: {shorten(token)} is not in the vocabulary")
        return int(found)

    def encode(self, text: str) -> Tokens:
        """Return the numbers of a text's tokens.

        Parameters
        ----------
        text : str

        Returns
        -------
        ndarray of `dtype`, shape (tokens,)

        Raises
        ------
        TypeError
            Not a str.
        ValueError
            A text that has no UTF-8, because of a single surrogate.
        """
        return self.encode_many([as_text(text, "text")])[0]

    def encode_many(self, texts: Iterable[str]) -> list[Tokens]:
        """Return the numbers of the tokens of each text, on all processors; see `encode`."""
        if isinstance(texts, str):
            raise TypeError(f"texts: expected an iterable of str, got the str {shorten(texts)}")
        listed = list(texts_of(texts, "texts"))
        for index, one in enumerate(listed):
            try:
                one.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(f"texts[{index}]: letter {one[error.start]!r} at {error.start} has no UTF-8") from None
        found = self.tokenizer.encode_batch_fast(listed)
        return [np.array(one.ids, self.dtype) for one in found]

    def decode(self, numbers: npt.ArrayLike, *, special: bool = False) -> str:
        """Return the text of some numbers.

        Bytes that are no whole letter, where tokens were cut, become "\ufffd".

        Parameters
        ----------
        numbers : integers, shape (n,)
        special : bool
            Whether the names of special tokens appear in the text; otherwise they are left out.

        Raises
        ------
        TypeError
            Not integers.
        ValueError
            Another shape, or a number that the vocabulary does not have; names it and its place.
        """
        array = as_tokens(numbers, "numbers")
        check_range(array, len(self), "numbers")
        return str(self.tokenizer.decode(array.tolist(), skip_special_tokens=not special))


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "BytePairs needs tokenizers: python -m pip install tokenizers, the extra 'text' of fastnn-numba"
        ) from error
    return tokenizers


def _untrained(size: int, special: Iterable[str], least: int) -> tuple[Any, Any]:
    """Return a tokenizer and what trains it."""
    if isinstance(special, str):
        raise TypeError(f"special: expected an iterable of names, got the str {shorten(special)}")
    names = [as_text(one, "special") for one in special]
    if len(set(names)) < len(names) or "" in names:
        raise ValueError(f"special: expected different names, got {shorten(names)}")
    most = integer("size", size, at_least=_BYTES + len(names), at_most=2**32)
    fewest = integer("least", least)
    package = _package()
    tokenizer = package.Tokenizer(package.models.BPE())
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=fewest,
        special_tokens=names,
        initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return tokenizer, trainer
