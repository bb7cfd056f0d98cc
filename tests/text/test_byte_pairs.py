"""Byte pairs by the package tokenizers."""

import json
import pickle
import sys

import numpy as np
import pytest

import fastnn as fnn

TEXTS = ["the cat sat on the mat, and the dog sat there", "naïve 中文 😀\n\tthe end", "a", ""] * 20


def test_without_tokenizers(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for make in (lambda: fnn.text.BytePairs("a", 300), lambda: fnn.text.BytePairs.load(tmp_path / "missing")):
        with pytest.raises(ImportError, match="BytePairs needs tokenizers: python -m pip install tokenizers"):
            make()


@pytest.fixture(scope="module")
def vocabulary():
    pytest.importorskip("tokenizers", reason="needs the package tokenizers, the extra 'text'")
    return fnn.text.BytePairs(TEXTS, 280, special=["[PAD]", "[MASK]"])


def test_round_trips(vocabulary):
    assert 258 < len(vocabulary) <= 280 and vocabulary.dtype == np.uint16
    for text in (*TEXTS[:4], "Other wörds \x00\x7f\u2028 \U0001f600 ' \\ \"", " leading", "trailing \n"):
        tokens = vocabulary.encode(text)
        assert tokens.dtype == np.uint16 and tokens.ndim == 1
        assert vocabulary.decode(tokens) == text
    assert len(vocabulary.encode("the the the")) < 5 and vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


def test_encode_many(vocabulary):
    found = vocabulary.encode_many(iter(TEXTS))
    assert len(found) == len(TEXTS)
    for text, tokens in zip(TEXTS, found, strict=True):
        assert np.array_equal(tokens, vocabulary.encode(text)) and tokens.dtype == np.uint16
    assert vocabulary.encode_many([]) == []


def test_special_tokens(vocabulary):
    assert vocabulary.number("[PAD]") == 0 and vocabulary.number("[MASK]") == 1
    tokens = vocabulary.encode("a[MASK]b")
    assert tokens.tolist() == [vocabulary.number("a"), 1, vocabulary.number("b")]
    assert vocabulary.decode(tokens) == "ab" and vocabulary.decode(tokens, special=True) == "a[MASK]b"
    assert vocabulary.decode([0, 0, *tokens]) == "ab"
    assert vocabulary.decode(vocabulary.encode("語")[:1]) == "\ufffd"


def test_files_pickles_and_training_again(vocabulary, tmp_path):
    path = tmp_path / "tokenizer.json"
    vocabulary.save(path)
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8", newline="\n")
    lines = fnn.text.BytePairs("\n".join(TEXTS).splitlines(keepends=True), 280)
    of_files = fnn.text.BytePairs.of_files([texts], 280)
    assert of_files.tokenizer.to_str() == lines.tokenizer.to_str()
    assert fnn.text.BytePairs.of_files(str(texts), 280).tokenizer.to_str() == lines.tokenizer.to_str()
    again = fnn.text.BytePairs(iter(TEXTS), 280, special=("[PAD]", "[MASK]"))
    for other in (fnn.text.BytePairs.load(path), pickle.loads(pickle.dumps(vocabulary)), again):
        assert other.tokenizer.to_str() == vocabulary.tokenizer.to_str() and len(other) == len(vocabulary)
        assert other.encode(TEXTS[0]).tolist() == vocabulary.encode(TEXTS[0]).tolist()
        assert other.dtype == np.uint16 and repr(other) == f"BytePairs(of {len(vocabulary)} numbers)"
    assert json.loads(path.read_text("utf-8"))["model"]["type"] == "BPE"


def test_numbers_with_gaps(vocabulary, tmp_path):
    document = json.loads(vocabulary.tokenizer.to_str())
    vocab = document["model"]["vocab"]
    last = max(vocab, key=vocab.get)
    vocab[last] = 70000
    (tmp_path / "gaps.json").write_text(json.dumps(document))
    gaps = fnn.text.BytePairs.load(tmp_path / "gaps.json")
    assert len(gaps) == 70001 and gaps.dtype == np.uint32
    assert all(gaps.decode(gaps.encode(text)) == text for text in TEXTS[:4]) and gaps.number(last) == 70000


def test_least_and_sizes(vocabulary):
    assert len(fnn.text.BytePairs("ab ab cd", 300, special=())) == 257
    assert len(fnn.text.BytePairs("ab ab cd", 300, special=(), least=1)) > 257
    assert len(fnn.text.BytePairs("", 257)) == 257 and fnn.text.BytePairs("", 256, special=()).dtype == np.uint8


def test_errors(vocabulary, tmp_path):
    make = fnn.text.BytePairs
    for call, error, match in (
        (lambda: make(TEXTS, 257, special=["[A]", "[B]"]), ValueError, "size: expected an integer >= 258, got 257"),
        (lambda: make(TEXTS, 3.5), TypeError, "size: expected an integer"),
        (lambda: make(TEXTS, 300, least=0), ValueError, "least: expected an integer >= 1"),
        (lambda: make(TEXTS, 300, special="[A]"), TypeError, "special: expected an iterable of names, got the str"),
        (lambda: make(TEXTS, 300, special=["[A]", "[A]"]), ValueError, "special: expected different names"),
        (lambda: make(TEXTS, 300, special=[3]), TypeError, "special: expected a str, got 3"),
        (lambda: make(3, 300), TypeError, "texts: expected a str or an iterable of str, got 3"),
        (lambda: make(["a", 3], 300), TypeError, r"texts\[1\]: expected a str, got 3"),
        (lambda: make.of_files([tmp_path / "missing"], 300), FileNotFoundError, "missing"),
        (lambda: make.load(tmp_path / "missing"), FileNotFoundError, "missing"),
        (lambda: vocabulary.number("zzz"), ValueError, "token: 'zzz' is not in the vocabulary"),
        (lambda: vocabulary.encode(3), TypeError, "text: expected a str, got 3"),
        (lambda: vocabulary.encode("a\ud800"), ValueError, r"letter '\\ud800' at 1 has no UTF-8"),
        (lambda: vocabulary.encode_many("ab"), TypeError, "texts: expected an iterable of str, got the str 'ab'"),
        (lambda: vocabulary.decode([len(vocabulary)]), ValueError, "numbers: expected numbers from 0 to"),
        (lambda: vocabulary.decode([-1]), ValueError, "got -1 at 0"),
        (lambda: vocabulary.decode([0.5]), TypeError, "numbers: expected whole numbers"),
    ):
        with pytest.raises(error, match=match):
            call()
    for content in (b"", b"{}", b"\xff", b"[1]"):
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(ValueError, match="holds no tokenizer"):
            make.load(tmp_path / "damaged")
