"""Cases of what gradient accumulation and moving averages do, in steps with an update of the weights and without."""

from collections.abc import Iterable, Iterator

import numpy as np

from making import Bound, Case, uniform


def update_cases(sizes: Iterable[int]) -> Iterator[Case]:
    """Give the cases for vectors of some sizes; `age` is how many steps the optimizer's state is old."""

    def made(op: str, n: int, age: int, bound: Bound, **more: object) -> Case:
        dims = {"n": n, **more.pop("dims")}
        note = more.pop("note", f"age{age}")
        return Case(op, dims, counters={"step": 40 + age, "first_step": 40}, bound=bound, note=note, **more)

    special = {"hyper": lambda rng, shape: np.full(shape, 0.1), "s1": uniform(1.0, 4.0)}
    for age in (1, 2, 6):
        yield made("optimizer", 33, age, Bound(12, 2), dims={"accumulated": 3}, params={"multiplier": 1.0},
                   variant="adam", special=special, optional=frozenset(("s0", "s1")))  # fmt: skip
    for n in sizes:
        for age, steps in ((0, 3), (4, 3), (5, 3), (1, 2)):
            yield made("accumulate", n, age, Bound(2, 1), dims={"steps": steps})
        for age, steps, overwrite in (
            (0, 1, 0), (3, 1, 0), (3, 1, 2), (4, 1, 2), (1, 2, 1), (2, 2, 2), (3, 2, 2), (4, 2, 2),
        ):  # fmt: skip
            yield made("moving_average", n, age, Bound(4, 1), dims={"steps": steps, "overwrite": overwrite},
                       params={"momentum": 0.9})  # fmt: skip
    absent = {"mean": lambda rng, shape: np.where(np.arange(33) % 2, np.nan, rng.normal(size=shape))}
    yield made("moving_average", 33, 1, Bound(4, 1), dims={"steps": 1, "overwrite": 1}, params={"momentum": 0.9},
               special=absent, note="without a mean")  # fmt: skip
