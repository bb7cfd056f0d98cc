"""Cases of attention and its gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from making import Bound, Case, Make, uniform

# batch, queries, keys, heads, heads of keys, size of a head; the simulator's tests choose small ones
SIZES = (
    (1, 1, 1, 1, 1, 1), (1, 300, 290, 1, 1, 8), (2, 7, 5, 2, 2, 4), (1, 150, 300, 1, 1, 80), (1, 9, 11, 4, 2, 5),
    (1, 140, 150, 2, 1, 64), (2, 40, 70, 6, 2, 20), (3, 6, 9, 1, 1, 20), (3, 33, 31, 1, 1, 20), (1, 17, 20, 2, 1, 6),
    (2, 3, 1100, 2, 2, 33), (1, 2, 3, 2, 1, 7), (1, 1, 70, 4, 2, 16), (1, 31, 33, 2, 1, 8),
)  # fmt: skip
# of masks for every sample, for every sample and query, for heads and queries alike, and of their own
MASKS = {"keys": (1, 0, 0), "samples": (1, 0, 1), "shared": (0, 0, 1), "all": (1, 1, 1)}


def attention_cases() -> Iterator[Case]:
    """Iterate over the cases."""
    for number, (batch, queries, keys, heads, kv_heads, size) in enumerate(SIZES):
        plain = {"batch": batch, "queries": queries, "keys": keys, "heads": heads, "kv_heads": kv_heads, "size": size}
        params = {"scale": 0.7 * size**-0.5, "rate": 0.0}
        for causal in (0, 1):
            dims = {**plain, "causal": causal, "node": 0}
            note = "causal" if causal else ""
            yield from _both({**dims, **_mask("", plain)}, params, note)
            for name in MASKS:
                yield from _both({**dims, **_mask(name, plain)}, params, "-".join((name, *([note] if note else ()))))
        dropped = {**plain, "causal": number % 2, "node": 3, **_mask("keys" if number % 3 == 0 else "", plain)}
        yield from _both(dropped, {**params, "rate": 0.4}, "dropout", {"step": 2**33 + 5, "seed": -7})


# sequences, steps, heads, heads of keys, size of a head, room, where it begins, steps so far
STEPS = (
    (1, 1, 1, 1, 1, 1, 1, 0), (3, 1, 4, 2, 5, 9, 3, 4), (1, 1, 2, 2, 64, 300, 2, 299), (1, 7, 2, 1, 20, 33, 17, 11),
    (3, 1, 1, 1, 33, 2100, 1, 1500), (1, 4, 3, 3, 8, 130, 5, 126), (3, 3, 2, 2, 6, 5, 1, 2),
    (1, 1, 1, 1, 600, 20, 1, 9),
)  # fmt: skip


def step_cases() -> Iterator[Case]:
    """Iterate over steps of sequences, whose keys and values are those of some steps so far."""
    for sequences, steps, heads, kv_heads, size, most, first, position in STEPS:
        dims = {"sequences": sequences, "steps": steps, "heads": heads, "kv_heads": kv_heads, "size": size,
                "most": most, "row": first + kv_heads * size * most + 3, "first": first}  # fmt: skip
        yield Case("attention_step", dims, {"scale": 0.7 * size**-0.5}, special={"keys": _after(position)},
                   bound=Bound(16, 16), note=f"after-{position}")  # fmt: skip


def _after(position: int) -> Make:
    """Make rows of keys after a number of steps; that of other rows is smaller."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        rows = rng.standard_normal(shape)
        rows[:, 0] = np.maximum(position - np.arange(shape[0]), 0)
        return rows

    return make


def _mask(name: str, dims: Mapping[str, int]) -> dict[str, int]:
    """Return the dimensions of a mask."""
    found, size = {}, dims["keys"]
    for there, axis, count in zip(MASKS.get(name, (0, 0, 0))[::-1], ("query", "head", "sample"),
                                  (dims["queries"], dims["heads"], dims["batch"]), strict=True):  # fmt: skip
        found[f"mask_{axis}"] = size * there
        size *= count if there else 1
    return {**found, "mask_size": size if name else 0}


def _added(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make a mask: numbers, and a third of the keys left out; of some rows all."""
    hidden = rng.random(shape) < (1.0 if rng.random() < 0.1 else 0.3)
    return np.where(hidden, -np.inf, 0.5 * rng.standard_normal(shape))


def _rows(count: int) -> Make:
    """Make what the gradient knows of rows: lse, sums, the mask."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        lse = rng.uniform(3.0, 4.0, count)
        return np.concatenate([lse, rng.standard_normal(count), _added(rng, (shape[0] - 2 * count,))])

    return make


def _both(
    dims: Mapping[str, int], params: Mapping[str, float], note: str, counters: Mapping[str, int] | None = None
) -> Iterator[Case]:
    more = {"params": params, "note": note, "counters": counters or {}}
    masked = {"mask"} if dims["mask_size"] else set()
    for wanted in (set(), {"lse"}):
        yield Case("attention", dims, optional=frozenset(masked | wanted), special={"mask": _added},
                   bound=Bound(16, 16), **more)  # fmt: skip
    count = dims["batch"] * dims["heads"] * dims["queries"]
    grad = {**dims, "rows_size": 2 * count + dims["mask_size"]}
    terms = dims["queries"] * dims["heads"] // dims["kv_heads"] + dims["keys"]
    yield Case("attention_grad", grad, special={"rows": _rows(count)}, bound=Bound(16, 16 + terms), **more)
    if note in ("", "keys", "all"):
        names = ("batch", "queries", "heads", "size", "mask_size")
        yield Case("attention_rows", {**{name: dims[name] for name in names}, "rows_size": grad["rows_size"]},
                   optional=frozenset(masked), special={"mask": uniform(-1.0, 1.0)}, bound=Bound(4, 4 + dims["size"]),
                   note=note)  # fmt: skip
