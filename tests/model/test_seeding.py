"""Seeds and the random streams derived from them."""

import numpy as np
import pytest

from fastnn.seeding import as_seed, derive


def test_seeds() -> None:
    assert as_seed(5) == as_seed(np.uint8(5)) == 5
    assert type(as_seed(np.int64(5))) is int
    assert as_seed(2**64 - 1) == 2**64 - 1
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    assert as_seed(rng) == as_seed(same) != as_seed(rng)
    drawn = {as_seed(None) for _ in range(8)}
    assert len(drawn) == 8 and all(0 <= seed < 2**64 for seed in drawn)
    for bad in (True, 1.0, "1", [1], np.random.RandomState(1)):
        with pytest.raises(TypeError, match="seed: expected an int"):
            as_seed(bad)  # type: ignore[arg-type]
    for worse in (-1, 2**64, -(10**5000)):
        with pytest.raises(ValueError, match=r"seed: expected an int in \[0, 2\*\*64\)"):
            as_seed(worse)


def test_streams() -> None:
    streams: list[tuple[int | str, ...]] = [
        (), (0,), ("0",), (0, 0), ("",), ("a", "b"), ("ab",), ("as1:b",), (1, 2), (12,), (-1,), ("i1",)
    ]  # fmt: skip
    first = {derive(seed, *stream).bit_generator.random_raw() for seed in (0, 1, 10) for stream in streams}
    assert len(first) == 3 * len(streams)
    assert derive(3, "a", np.int8(1)).bit_generator.random_raw() == derive(3, "a", 1).bit_generator.random_raw()
    stored = 8530149205946973953
    assert derive(42, "initializer", 3).bit_generator.random_raw() == stored, "stored models would change"
    for bad in (True, 1.5, None):
        with pytest.raises(TypeError, match="expected int or str as the stream"):
            derive(0, bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="use as_seed first"):
        derive(None)  # type: ignore[arg-type]


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    derive(as_seed(None), "x").random()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002
