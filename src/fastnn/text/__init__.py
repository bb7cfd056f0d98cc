"""Text as numbers: vocabularies of letters, words and byte pairs, and token arrays for networks of sequences.

A vocabulary turns text into arrays of whole numbers, *tokens*, and back; its `len` is the number of classes for
`Embedding` and the last `Dense`. `windows`, `pack` and `mask_words` make of tokens what `fit` takes.
"""

from __future__ import annotations

from fastnn.hints import install
from fastnn.text.byte_pairs import BytePairs
from fastnn.text.characters import Characters
from fastnn.text.masking import mask_words
from fastnn.text.rows import pack, windows
from fastnn.text.words import Words

__all__ = ["BytePairs", "Characters", "Words", "mask_words", "pack", "windows"]

install(__name__)
