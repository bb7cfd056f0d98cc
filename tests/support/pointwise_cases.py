"""Cases of elementwise functions: values without kinks, layouts of operands, special numbers."""

from collections.abc import Iterable

import numpy as np

from fastnn.formulas.pointwise import ARITY, FLAT
from making import Bound, Case, Make, away, uniform

#: makers of the arguments, if they are not normal numbers away from 0
ARGUMENTS: dict[str, tuple[Make, ...]] = {
    "sqrt": (uniform(0.05, 9.0),), "rsqrt": (uniform(0.05, 9.0),), "log": (uniform(0.05, 9.0),),
    "log1p": (uniform(-0.9, 9.0),), "tan": (uniform(-1.4, 1.4),), "reciprocal": (away(0.0),),
    "sin": (uniform(-40.0, 40.0),), "cos": (uniform(-40.0, 40.0),),
    "divide": (away(), away(0.0)), "power": (uniform(0.1, 4.0), uniform(-3.0, 3.0)),
    "mod": (uniform(0.1, 0.9), uniform(1.0, 2.0)),
    **dict.fromkeys(("floor", "ceil"), (away(-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, spread=1.0),)),
    "round": (away(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, spread=0.9),),
    "where": (lambda rng, shape: rng.integers(-1, 2, shape) * 1.0, away(), away()),
}  # fmt: skip


def _whole(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-2, 3, shape) / 2.0


for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "above", "logical_and",
              "logical_or"):  # fmt: skip
    ARGUMENTS[_name] = (_whole, _whole)
ARGUMENTS["logical_not"] = (_whole,)

# what is rounded once, or not at all; a sum of two roundings; the rest
BOUND = {
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "square", "sqrt", "mod", "reciprocal"), Bound(1)),
    **dict.fromkeys(FLAT | {"identity", "negative", "absolute", "maximum", "minimum", "where"}, Bound(0)),
}


def laid_out(sizes: tuple[int, ...], **strides: tuple[int, ...]) -> dict[str, int]:
    """Return the dimensions of a record by the sizes of its axes, and the strides of operands along them."""
    found = {f"n{axis or ''}": size for axis, size in enumerate((1,) * (4 - len(sizes)) + sizes)}
    found["n"] = int(np.prod(sizes))
    for name in "abc":
        given = strides.get(name, (0,) * len(sizes))
        found |= {f"{name}{axis}": stride for axis, stride in enumerate((0,) * (4 - len(given)) + given)}
    return found


def pointwise_case(
    function: str, dims: dict[str, int], numbers: dict[str, float] | None = None, note: str = ""
) -> Case:
    """Make a case; arguments among `numbers` are parameters instead of operands."""
    numbers, names = numbers or {}, "abc"[: ARITY[function]]
    made = dict(zip(names, ARGUMENTS.get(function, ()), strict=False))
    params = {f"p{'abc'.index(name)}": number for name, number in numbers.items()}
    return Case("pointwise", dims, params, formula=function, optional=frozenset(set(names) - numbers.keys()),
                special={"a": away(0.0), "b": away(0.0), **made}, bound=BOUND.get(function, Bound(4, 0.25)),
                note=note)  # fmt: skip


def pointwise_cases(vectors: Iterable[int]) -> list[Case]:
    """Make cases of every function on dense operands, and of some functions on others."""
    found = []
    for function, arity in ARITY.items():
        for n in vectors:
            found.append(pointwise_case(function, laid_out((n,), **{name: (1,) for name in "abc"[:arity]})))
    for function in ("add", "power", "subtract", "less"):
        for n in (1, 333):
            for name, other in ("ab", "ba"):
                dims = laid_out((n,), **{other: (1,)})
                found.append(pointwise_case(function, dims, {name: 1.25}, note=f"number-{name}"))
                found.append(pointwise_case(function, dims, note=f"one-{name}"))
    for function in ("subtract", "mod"):
        for rows, cols in ((3, 7), (7, 31), (33, 40), (2, 1100), (150, 10)):
            row, column, dense, turned = (0, 1), (1, 0), (cols, 1), (1, rows)
            for note, a, b in (("row", dense, row), ("column", dense, column), ("outer", column, row),
                               ("turned", turned, dense)):  # fmt: skip
                found.append(pointwise_case(function, laid_out((rows, cols), a=a, b=b), note=note))
    sizes = (3, 5, 2, 7)
    layouts = {"a": (70, 14, 7, 1), "b": (14, 0, 7, 1), "c": (0, 2, 1, 0)}
    found.append(pointwise_case("where", laid_out(sizes, **layouts), note="four axes"))
    found.append(pointwise_case("where", laid_out((5, 33), a=(1, 0), b=(33, 1)), {"c": -0.5}, note="number-c"))
    found.append(pointwise_case("where", laid_out((5, 33), a=(33, 1)), {"b": 0.75, "c": -0.5}, note="numbers"))
    found.append(pointwise_case("identity", laid_out((5, 33), a=(0, 1)), note="repeated"))
    found += [pointwise_case("identity", laid_out((n,)), {"a": 2.5}, note="constant") for n in vectors]
    return found


def number_cases(vectors: Iterable[int]) -> list[Case]:
    """Make cases of conversions and of random numbers."""
    found = []
    for n in vectors:
        dims = {"n": n}
        integers = {"x": lambda rng, shape: rng.integers(-(2**62), 2**62, shape)}
        found.append(Case("to_real", dims, special=integers, bound=Bound(1)))
        found.append(Case("to_integer", dims, special={"x": _mixed}, bound=Bound(0)))
        for number, (step, seed) in enumerate(((0, 0), (2**40 + 3, -(2**62) + 9))):
            more = {"counters": {"step": step, "seed": seed}, "bound": Bound(4, 32)}
            for variant, p0, p1 in (("normal", 1.0, 0.5), ("uniform", -1.0, 0.5), ("bernoulli", 0.3, 0.0)):
                keyed = {"n": n, "node": 2**31 + number}
                found.append(Case("random", keyed, {"p0": p0, "p1": p1}, variant=variant, **more))
        for p in (0.0, 1.0):
            sure = {"n": n, "node": 3}
            found.append(Case("random", sure, {"p0": p}, variant="bernoulli", bound=Bound(0), note=f"p{p:g}"))
    return found


def _mixed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make small numbers, and some that no integer is as large as."""
    return rng.choice((-1.0, 1.0), shape) * 2.0 ** rng.uniform(-3.0, 66.0, shape)
