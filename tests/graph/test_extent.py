"""Sizes that depend on the batch, against arithmetic with numbers."""

import itertools

import pytest

from fastnn.graph.extent import BATCH, Extent, at

SIZES = (1, 3, 6, BATCH, 2 * BATCH, BATCH + 1, 6 * BATCH + 3, BATCH * BATCH, BATCH * BATCH - BATCH)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_arithmetic_is_that_of_numbers(batch):
    for a, b in itertools.product(SIZES, repeat=2):
        x, y = at(a, batch), at(b, batch)
        for result, expected in ((a + b, x + y), (a - b, x - y), (a * b, x * y)):
            assert at(result, batch) == expected
        assert at((a * b) // b, batch) == x and (a * b) % b == 0


def test_what_does_not_divide_for_every_batch_is_refused():
    assert (6 * BATCH + 3) // 3 == 2 * BATCH + 1 and (BATCH * BATCH - BATCH) // (BATCH - 1) == BATCH
    for a, b in ((BATCH, 2), (6, BATCH), (BATCH * BATCH + 1, BATCH)):
        assert a % b != 0
        with pytest.raises(ValueError, match=r"not a multiple of .* for every batch size"):
            a // b


def test_what_does_not_depend_on_the_batch_is_a_number():
    assert BATCH - BATCH == 0 and type(BATCH - BATCH) is int and BATCH // BATCH == 1
    assert Extent((0, 1)) == BATCH and BATCH != 1 and len({BATCH, BATCH + 0, 1 * BATCH}) == 1


def test_extents_are_larger_than_numbers():
    assert BATCH > 10**9 and max(BATCH, 5) == BATCH and sorted((BATCH * BATCH, 7, BATCH)) == [7, BATCH, BATCH * BATCH]


def test_texts():
    assert [repr(size) for size in SIZES[3:]] == ["B", "2B", "B+1", "6B+3", "B²", "B²-B"]
