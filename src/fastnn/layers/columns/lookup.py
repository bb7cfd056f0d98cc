"""IntegerLookup and StringLookup: integers and text as the numbers of words of a vocabulary."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import casts
from fastnn.checks import flag, integer, shorten
from fastnn.config import register
from fastnn.graph.graph import Graph, Tensor
from fastnn.graph.ops.indexing import take
from fastnn.graph.ops.pointwise import cast, pointwise
from fastnn.layers.base import ParameterSpec, Scope, Shape
from fastnn.layers.columns.arrays import ArrayLayer, batches, integers, known
from fastnn.layers.columns.encoding import ROWS, output_mode, rows, rows_of_array, rows_shape

__all__ = ["IntegerLookup", "StringLookup"]

# In a model words are numbers of its dtype, and float32 has all integers up to this one.
_EXACT = 2**24
# how many entries the table of an IntegerLookup in a model may have, which is a weight
_LONGEST = 2**20
_NONE = -1


class _Lookup(ArrayLayer):
    """What both lookups share: a vocabulary after special entries, and the numbers of all of them."""

    max_tokens: int | None
    num_oov_indices: int
    mask_token: Any
    oov_token: Any
    vocabulary: Any
    invert: bool
    output_mode: str

    def prepare(self) -> None:
        flag("invert", self.invert)
        if self.max_tokens is not None:
            self.max_tokens = integer("max_tokens", self.max_tokens, at_least=2)
        self.num_oov_indices = integer("num_oov_indices", self.num_oov_indices, at_least=0)
        self.output_mode = output_mode(self.output_mode, ("int", *ROWS))
        if self.invert and self.output_mode != "int":
            raise ValueError(f"with invert=True output_mode is 'int', got {self.output_mode!r}")
        self.mask_token = None if self.mask_token is None else self.word_of("mask_token", self.mask_token)
        self.oov_token = self.word_of("oov_token", self.oov_token)
        self._adapted = False
        if self.vocabulary is not None:
            self.vocabulary = self._checked(self.vocabulary)

    def word_of(self, what: str, given: Any) -> Any:
        """Return a word of a vocabulary, checked."""
        raise NotImplementedError

    def _checked(self, given: Any) -> tuple[Any, ...]:
        """Return a vocabulary without special entries at its beginning."""
        if isinstance(given, str) or not isinstance(given, (Sequence, np.ndarray)):
            hint = "; for a file of a word per line: open(path, encoding='utf-8').read().splitlines()"
            raise TypeError(
                f"vocabulary: expected a list of words, got {shorten(given)}{hint * isinstance(given, str)}"
            )
        plain = given.tolist() if isinstance(given, np.ndarray) else given
        words = [self.word_of(f"vocabulary[{number}]", each) for number, each in enumerate(plain)]
        special = self._special()
        if words[: len(special)] == special:
            words = words[len(special) :]
        if not words:
            raise ValueError("vocabulary: expected at least one word")
        twice = [word for word, count in Counter(words).items() if count > 1]
        if twice:
            raise ValueError(f"vocabulary: {twice[0]!r} occurs more than once")
        for what in ("mask_token", "oov_token")[: 1 + self.invert]:
            if getattr(self, what) in words:
                raise ValueError(
                    f"vocabulary: holds the {what} {getattr(self, what)!r}, which may only be among the first entries: "
                    f"{special}"
                )
        if self.max_tokens is not None and len(words) + len(special) > self.max_tokens:
            raise ValueError(f"vocabulary: {len(words) + len(special)} entries, more than max_tokens={self.max_tokens}")
        return tuple(words)

    def _special(self) -> list[Any]:
        """Return the entries before the vocabulary: the mask, and those for words that are not in it."""
        return [self.mask_token] * self._masks + [self.oov_token] * self.num_oov_indices

    @property
    def _masks(self) -> int:
        return int(self.mask_token is not None and self.output_mode == "int")

    def _words(self) -> tuple[Any, ...]:
        if self.vocabulary is None:
            raise self.fail("has no vocabulary: call adapt(data) first, or give one")
        words: tuple[Any, ...] = self.vocabulary
        return words

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """Return the words by their numbers.

        Parameters
        ----------
        include_special_tokens : bool
            Whether with those for the mask and for unknown words, which come first.
        """
        return [*(self._special() if flag("include_special_tokens", include_special_tokens) else ()), *self._words()]

    def vocabulary_size(self) -> int:
        """Return the number of words, with those for the mask and for unknown words."""
        return len(self._special()) + len(self._words())

    def set_vocabulary(self, vocabulary: Sequence[Any] | NDArray[Any]) -> None:
        """Give the layer a vocabulary; raises as the constructor does, and RuntimeError if a model has the layer."""
        self.learnt(vocabulary=self._checked(vocabulary), _adapted=False)

    def adapt(self, data: Any) -> None:
        """Make the vocabulary of the words of data, the most frequent first, and forget that of an earlier call.

        Parameters
        ----------
        data : array, or iterator of arrays
            Of words that occur equally often, the greatest is first, as in Keras. With `max_tokens`, only the most
            frequent are taken.

        Raises
        ------
        TypeError, ValueError
            When the data hold anything else than words.
        RuntimeError
            When the layer was made with a vocabulary, or a model has it already.
        """
        if self.vocabulary is not None and not self._adapted:
            raise RuntimeError(f"layer {self.label!r}: was given a vocabulary, and does not adapt")
        self.check_uncalled()
        counts: Counter[Any] = Counter()
        for each in batches(f"{self.label}.adapt", data, self.read):
            counts.update(each.ravel().tolist())
        for special in (self.mask_token, self.oov_token):
            counts.pop(special, None)
        if not counts:
            raise self.fail("adapt: the data hold no words but special ones")
        words = sorted(counts, reverse=True)
        words.sort(key=counts.__getitem__, reverse=True)
        most = None if self.max_tokens is None else max(0, self.max_tokens - len(self._special()))
        self.learnt(vocabulary=tuple(words[:most]), _adapted=True)

    def read(self, what: str, given: Any) -> NDArray[Any]:
        """Return data as an array of words."""
        raise NotImplementedError

    def bucket(self, word: Any) -> int:
        """Return which of the entries for unknown words is that of a word."""
        raise NotImplementedError

    def number_of(self, words: Iterable[Any]) -> list[int]:
        """Return the numbers of words, `_NONE` for those that have none."""
        first, masked = len(self._special()), 0 if self._masks else _NONE
        table = {word: first + number for number, word in enumerate(self._words())}
        if self.mask_token is not None:
            table[self.mask_token] = masked
        found = []
        for word in words:
            number = table.get(word)
            if number is None:
                if not self.num_oov_indices:
                    raise self.fail(f"{word!r} is not in the vocabulary, and num_oov_indices is 0")
                number = self._masks + (self.bucket(word) if self.num_oov_indices > 1 else 0)
            found.append(number)
        return found

    def on_array(self, inputs: Any) -> NDArray[Any]:
        """Look up an array: int64, or rows of float32; words with ``invert=True``."""
        if self.invert:
            return self._inverse(integers(self.label, inputs))
        words = self.read(self.label, inputs)
        flat = words.ravel().tolist()
        unique = list(dict.fromkeys(flat))
        table = dict(zip(unique, self.number_of(unique), strict=True))
        index = np.fromiter(map(table.__getitem__, flat), np.int64, len(flat)).reshape(words.shape)
        return index if self.output_mode == "int" else rows_of_array(index, self.vocabulary_size(), self.output_mode)

    def _inverse(self, index: NDArray[np.int64]) -> NDArray[Any]:
        words = np.array([*self.get_vocabulary(), self.oov_token])
        found: NDArray[Any] = words[np.where((index >= 0) & (index < len(words) - 1), index, len(words) - 1)]
        return found


@register("layer")
@dataclass(eq=False, repr=False)
class IntegerLookup(_Lookup):
    """Give the number of an integer in a vocabulary.

    ::

        codes = fnn.IntegerLookup(vocabulary=[2011, 2015, 4700], output_mode="one_hot")
        x = fnn.Input((), dtype="int64")
        model = fnn.Model(x, fnn.Dense(1)(codes(x)))

    Parameters
    ----------
    max_tokens : int, optional
        The largest size of the vocabulary, with special entries.
    num_oov_indices : int
        How many entries there are for integers that are not in the vocabulary; of several, x modulo their number is
        taken. With 0 such integers are an error.
    mask_token : int, optional
        An integer that stands for nothing: number 0, or with other output modes a row of zeros.
    oov_token : int
        What `invert` gives for numbers of no integer of the vocabulary.
    vocabulary : sequence of int, optional
        Or `adapt` makes it.
    invert : bool
        Whether numbers become integers of the vocabulary.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        "int": numbers, for `Embedding`; otherwise rows, as for `CategoryEncoding`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or the layer is called and has no vocabulary yet.

    Notes
    -----
    Numbers are those of Keras 3: first the mask's (for "int"), then those of unknown integers, then the vocabulary's.
    In a model the layer takes from a table that spans the vocabulary: a weight, "table", which is not trained. There
    the vocabulary lies in a range of at most 2^20 - 2 integers below 2^24, and `num_oov_indices` is 1, or 0 if no
    integer of the range is missing. On arrays the layer takes any integers.
    """

    max_tokens: int | None = None
    num_oov_indices: int = 1
    mask_token: int | None = None
    oov_token: int = -1
    vocabulary: tuple[int, ...] | None = None
    _: KW_ONLY
    invert: bool = False
    output_mode: str = "int"

    def word_of(self, what: str, given: Any) -> int:
        return integer(what, given, at_least=-(2**63))

    def read(self, what: str, given: Any) -> NDArray[np.int64]:
        return integers(what, given)

    def bucket(self, word: Any) -> int:
        return int(word) % self.num_oov_indices

    def accepts(self, kind: str, position: int) -> bool:
        return kind == "int64"

    def _bounds(self) -> tuple[int, int]:
        """Return the least and the greatest integer that the table has."""
        if self.invert:
            return 0, self.vocabulary_size() - 1
        words = [*self._words(), *([] if self.mask_token is None else [self.mask_token])]
        return min(words), max(words)

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int] | None:
        return self._bounds() if self.num_oov_indices == 0 and not self.invert else None

    def output_kind(self, *kinds: str) -> str:
        return "int64" if self.output_mode == "int" else "real"

    def output_range(self, *shapes: Shape) -> tuple[int, int]:
        if self.invert:
            words = self._entries()
            return min(words), max(words)
        return 0, self.vocabulary_size() - 1

    def output_shape(self, *shapes: Shape) -> Shape:
        low, high = self._bounds()
        far = max(abs(each) for each in (low, high, *(self._words() if self.invert else ())))
        if high - low + 3 > _LONGEST or far >= _EXACT:
            raise self.fail(
                f"has integers from {low} to {high}, more than a model's table can have: call it on arrays, and give "
                "the model the result"
            )
        if not self.invert:
            gaps = high - low + 1 > len({*self._words(), self.mask_token} - {None})
            if self.num_oov_indices > 1 or (self.num_oov_indices == 0 and gaps):
                raise self.fail(
                    "in a model it has num_oov_indices=1, or 0 with a vocabulary of all integers of a range: call it "
                    "on arrays, and give the model the result"
                )
        return (
            shapes[0] if self.output_mode == "int" else rows_shape(shapes[0], self.vocabulary_size(), self.output_mode)
        )

    def _entries(self) -> list[int]:
        """Return the results by place: from one below the least integer to one above the greatest."""
        if self.invert:
            return [self.oov_token, *self.get_vocabulary(), self.oov_token]
        low, high = self._bounds()
        if self.num_oov_indices:
            return self.number_of(range(low - 1, high + 2))
        return [_NONE, *self.number_of(range(low, high + 1)), _NONE]

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        return (known("table", self._entries()),)

    def apply(self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope) -> Tensor:
        label, (low, high) = scope.label, self._bounds()
        place = cast(graph, inputs[0], "real", label)
        place = pointwise(graph, "maximum", (place, float(low - 1)), label)
        place = pointwise(graph, "minimum", (place, float(high + 1)), label)
        place = cast(graph, pointwise(graph, "subtract", (place, float(low - 1)), label), "int64", label)
        index = cast(graph, take(graph, weights[0], place, 0, label), "int64", label)
        if self.output_mode == "int":
            return index
        return rows(graph, index, self.vocabulary_size(), self.output_mode, label)


@register("layer")
@dataclass(eq=False, repr=False)
class StringLookup(_Lookup):
    """Give the number of a text in a vocabulary, for arrays of text: not in a model, which computes with numbers.

    ::

        cities = fnn.StringLookup()
        cities.adapt(["Rome", "Oslo", "Rome"])
        model.fit(cities(column), y)                 # integers from 0 to cities.vocabulary_size() - 1

    Parameters
    ----------
    max_tokens : int, optional
        The largest size of the vocabulary, with special entries.
    num_oov_indices : int
        How many entries there are for texts that are not in the vocabulary; of several, a hash of the text decides.
        With 0 such texts are an error.
    mask_token : str, optional
        A text that stands for nothing: number 0, or with other output modes a row of zeros.
    oov_token : str
        What `invert` gives for numbers of no text of the vocabulary.
    vocabulary : sequence of str, optional
        Or `adapt` makes it.
    invert : bool
        Whether numbers become texts, such as labels the names of classes.
    output_mode : {"int", "one_hot", "multi_hot", "count"}
        "int": numbers, for `Embedding`; otherwise rows, as for `CategoryEncoding`.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid, or the layer is called and has no vocabulary yet.

    Notes
    -----
    Numbers are those of Keras 3: first the mask's (for "int"), then those of unknown texts, then the vocabulary's. For
    several entries of unknown texts, the hash is the CRC-32 of their UTF-8 bytes, which is not Keras'.
    `fastnn.data.frame` prepares whole tables, and model files hold what it does.
    """

    max_tokens: int | None = None
    num_oov_indices: int = 1
    mask_token: str | None = None
    oov_token: str = "[UNK]"
    vocabulary: tuple[str, ...] | None = None
    _: KW_ONLY
    invert: bool = False
    output_mode: str = "int"

    def word_of(self, what: str, given: Any) -> str:
        if not isinstance(given, str):
            raise TypeError(f"{what}: expected text, got {shorten(given)} of type {type(given).__name__}")
        return str(given)

    def read(self, what: str, given: Any) -> NDArray[Any]:
        array = casts.plain(given, what).astype(object)
        for each in array.ravel():
            if not isinstance(each, str):
                raise TypeError(f"{what}: expected text, got {shorten(each)} of type {type(each).__name__}")
        return array

    def bucket(self, word: Any) -> int:
        return zlib.crc32(str(word).encode("utf-8", "surrogatepass")) % self.num_oov_indices

    def accepts(self, kind: str, position: int) -> bool:
        raise self.fail(
            "cannot be part of a model, which computes with numbers: call it on arrays of text, and give the model the "
            "result; fastnn.data.frame prepares whole tables, and its settings are saved with a model"
        )

    def output_shape(self, *shapes: Shape) -> Shape:
        self.accepts("real", 0)  # raises
        return ()
