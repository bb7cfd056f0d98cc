"""Vocabularies of letters and of words, against plain Python."""

import json
import pickle
import re
from collections import Counter

import numpy as np
import pytest

import fastnn as fnn

TEXT = "It's a test: naïve 中文 😀 text, it's a test.\n\tAnd \ud800 more; a_b 3.14!"


def test_letters_are_numbered_by_code_point():
    vocabulary = fnn.text.Characters(TEXT)
    letters = sorted(set(TEXT))
    assert vocabulary.letters == "".join(letters) and len(vocabulary) == len(letters)
    tokens = vocabulary.encode(TEXT)
    assert tokens.dtype == np.uint8 and tokens.tolist() == [letters.index(letter) for letter in TEXT]
    assert vocabulary.decode(tokens) == TEXT
    assert fnn.text.Characters(iter(letters)) == fnn.text.Characters([TEXT, "a"]) == vocabulary


def test_reserved_numbers_come_first():
    vocabulary = fnn.text.Characters("ba", reserved=2)
    assert len(vocabulary) == 4 and vocabulary.encode("abba").tolist() == [2, 3, 3, 2]
    assert vocabulary.decode([0, 2, 1, 3, 0]) == "ab"
    assert vocabulary.decode(np.array([], np.int64)) == vocabulary.decode([]) == ""


@pytest.mark.parametrize(("reserved", "dtype"), [(0, "uint8"), (254, "uint8"), (255, "uint16"), (2**16, "uint32")])
def test_the_smallest_dtype(reserved, dtype):
    vocabulary = fnn.text.Characters("ab", reserved=reserved)
    assert vocabulary.dtype == dtype == vocabulary.encode("").dtype
    assert vocabulary.decode(vocabulary.encode("ba")) == "ba"
    assert vocabulary.encode("b")[0] == reserved + 1 == len(vocabulary) - 1


def test_unknown_letters():
    plain = fnn.text.Characters("abc")
    for text, letter, place in (
        ("abXc", "X", 2),
        ("\x00a", "\\x00", 0),
        ("abc😀", "😀", 3),
        ("a" * 2**20 + "é", "é", 2**20),
    ):
        with pytest.raises(ValueError, match=re.escape(f"letter '{letter}' at {place} is not in the vocabulary")):
            plain.encode(text)
    tolerant = fnn.text.Characters("abc", unknown="?")
    assert tolerant.letters == "?abc" and tolerant.decode(tolerant.encode("aXc\x00😀")) == "a?c??"
    assert fnn.text.Characters("abc?", unknown="?") == tolerant != plain
    one = fnn.text.Characters("x")
    assert one.encode("xx").tolist() == [0, 0] and one.decode([0]) == "x"


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fnn.text.Characters(""), ValueError, "text: expected at least one letter, got none"),
        (lambda: fnn.text.Characters(3), TypeError, "text: expected a str or an iterable of str, got 3"),
        (lambda: fnn.text.Characters(b"ab"), TypeError, "text: expected a str or an iterable of str, got b'ab'"),
        (lambda: fnn.text.Characters(["a", 3]), TypeError, r"text\[1\]: expected a str, got 3 of type int"),
        (lambda: fnn.text.Characters("a", reserved=-1), ValueError, "reserved: expected an integer >= 0, got -1"),
        (lambda: fnn.text.Characters("a", reserved=1.5), TypeError, "reserved: expected an integer, got 1.5"),
        (lambda: fnn.text.Characters("a", unknown="??"), ValueError, "unknown: expected one letter, got '[?][?]'"),
        (lambda: fnn.text.Characters("a").encode(["a"]), TypeError, "text: expected a str, got"),
        (lambda: fnn.text.Characters("a").decode("a"), TypeError, "numbers: expected whole numbers, got 'a'; a voc"),
        (lambda: fnn.text.Characters("a").decode([0.0]), TypeError, "numbers: expected whole numbers, got .* float64"),
        (lambda: fnn.text.Characters("a").decode([[0]]), ValueError, r"numbers: expected 1 axis, got shape \(1, 1\)"),
        (lambda: fnn.text.Characters("a").decode([0, 1]), ValueError, "expected numbers from 0 to 0, got 1 at 1"),
        (lambda: fnn.text.Characters("a").decode([-1]), ValueError, "expected numbers from 0 to 0, got -1 at 0"),
        (lambda: fnn.text.Words(3), TypeError, "texts: expected a str or an iterable of str, got 3"),
        (lambda: fnn.text.Words("a", 2), ValueError, "size: expected an integer >= 3, got 2"),
        (lambda: fnn.text.Words("a", 3, special=["[M]"]), ValueError, "size: expected an integer >= 4, got 3"),
        (lambda: fnn.text.Words("a", lower=1), TypeError, "lower: expected True or False"),
        (lambda: fnn.text.Words("a", least=0), ValueError, "least: expected an integer >= 1"),
        (lambda: fnn.text.Words("a", special="[M]"), TypeError, "special: expected an iterable of names, got the str"),
        (lambda: fnn.text.Words("a", special=["[M]", "[M]"]), ValueError, "special: expected different names"),
        (lambda: fnn.text.Words("a", special=["[UNK]"]), ValueError, r"none of them '\[UNK\]'"),
        (lambda: fnn.text.Words("a", special=["mask"]), ValueError, r"names that are no words, .* got 'mask'"),
        (lambda: fnn.text.Words("a").decode([3]), ValueError, "expected numbers from 0 to 2, got 3 at 0"),
        (lambda: fnn.text.Words("a").encode(3), TypeError, "text: expected a str, got 3"),
    ],
)
def test_errors(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_words_by_frequency():
    texts = ["The cat; the dog!", "the CAT sat.", "A dog."]
    vocabulary = fnn.text.Words(texts)
    counts = Counter(re.findall(r"\w+|[.!;]", " ".join(texts).lower()))
    expected = sorted(counts, key=lambda word: (-counts[word], word))
    assert vocabulary.words == ("", "[UNK]", *expected) and len(vocabulary) == 2 + len(expected)
    assert vocabulary.encode("The cow, sat.").tolist() == [vocabulary.number("the"), 1, 1, vocabulary.number("sat"), 3]
    assert vocabulary.words[3] == "."
    assert vocabulary.decode(vocabulary.encode("THE cow sat ;  the\ndog!")) == "the [UNK] sat; the dog!"
    assert vocabulary.decode([0, 0, 2]) == "the" and vocabulary.decode([]) == "" == vocabulary.decode([0])
    assert vocabulary.encode("").shape == (0,) and vocabulary.encode("").dtype == np.uint8
    assert fnn.text.Words("").words == ("", "[UNK]")
    assert "Words(of 10 numbers" in repr(vocabulary)


def test_how_words_are_split():
    split = fnn.text.Words("", lower=False).split
    assert split("Don't (2) a_b, x-y\u2026") == ["Don't", "(", "2", ")", "a_b", ",", "x", "-", "y", "\u2026"]
    assert split("'twas 'so' l\u2019eau 3.14 😀😀") == [
        *["'", "twas", "'", "so", "'"],
        "l\u2019eau",
        "3",
        ".",
        "14",
        "😀",
        "😀",
    ]


def test_sizes_cases_and_special_names():
    text = "b b b a a c A"
    assert fnn.text.Words(text, 4).words[2:] == ("a", "b")
    assert fnn.text.Words(text, lower=False).words[2:] == ("b", "a", "A", "c")
    assert fnn.text.Words(text, least=3).words[2:] == ("a", "b")
    masked = fnn.text.Words(text, 5, special=("[MASK]", "[SEP]"))
    assert masked.words == ("", "[UNK]", "[MASK]", "[SEP]", "a") and masked.number("[SEP]") == 3
    # texts cannot contain them
    assert masked.encode("a [MASK]").tolist() == [4, 1, 1, 1] and masked.number("z") == 1


@pytest.mark.parametrize(
    "vocabulary",
    [
        fnn.text.Characters(TEXT, reserved=1, unknown="?"),
        fnn.text.Characters("a"),
        fnn.text.Words(TEXT, special=["[MASK]"]),
        fnn.text.Words("Ab ab", lower=False),
    ],
    ids=["letters", "one letter", "words", "capitals"],
)
def test_files_and_pickles(tmp_path, vocabulary):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    read = type(vocabulary).load(path)
    for other in (read, pickle.loads(pickle.dumps(vocabulary))):
        assert other == vocabulary and hash(other) == hash(vocabulary) and repr(other) == repr(vocabulary)
        assert np.array_equal(other.encode("a"), vocabulary.encode("a")) and len(other) == len(vocabulary)
    document = json.loads(path.read_text("ascii"))
    another = fnn.text.Words if isinstance(vocabulary, fnn.text.Characters) else fnn.text.Characters
    with pytest.raises(ValueError, match="holds no vocabulary of the format"):
        another.load(path)
    name = "letters" if "letters" in document else "words"
    for changed, match in (({name: 3}, f"damaged: its entry '{name}'"), ({"version": 2}, "expected version 1, got 2")):
        path.write_text(json.dumps(document | changed))
        with pytest.raises(ValueError, match=match):
            type(vocabulary).load(path)
    if name == "words":
        path.write_text(json.dumps(document | {"words": ["a", "a"]}))
        with pytest.raises(ValueError, match="its words are not different strings"):
            type(vocabulary).load(path)
    for content in (b"", b"\xff", b"[" * 100000, b"[]"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="holds no vocabulary"):
            type(vocabulary).load(path)
    with pytest.raises(FileNotFoundError):
        type(vocabulary).load(tmp_path / "missing.json")
