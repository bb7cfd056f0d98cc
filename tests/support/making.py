"""Cases of record ops, and makers of operands that avoid kinks or have a meaning."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fastnn.program.layout import Flag
from fastnn.program.opcodes import OPS

Make = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Bound:
    """An error bound in units of the dtype's eps: `relative` times the value plus `absolute`.

    In float64 `mean` is added: the size of means, which are rounded to that dtype whatever the program's is.
    """

    relative: float = 4.0
    absolute: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True)
class Case:
    """One record: `special` makes operands that are not standard normal, `optional` names those that it has."""

    op: str
    dims: Mapping[str, int]
    params: Mapping[str, float] = field(default_factory=dict)
    flags: Flag = field(default=Flag(0))
    variant: str = ""
    formula: str = ""
    optional: frozenset[str] = frozenset()
    special: Mapping[str, Make] = field(default_factory=dict)
    bound: Bound = field(default_factory=Bound)
    counters: Mapping[str, int] = field(default_factory=dict)
    steps: int = 1
    index: np.ndarray | None = None
    make_arrays: Callable[[str], dict[int, np.ndarray]] = lambda dtype: {}
    note: str = ""
    #: whether outputs lie over inputs where they may
    in_place: bool = False

    @cached_property
    def id(self) -> str:
        """A readable name."""
        sizes = "x".join(str(size) for size in self.dims.values())
        flags = "+".join(flag.name.lower() for flag in Flag if flag in self.flags)
        parts = (self.op, self.variant, self.formula, sizes, flags, "+".join(sorted(self.optional)), self.note)
        return "-".join(part for part in parts if part)

    @property
    def map_kind(self) -> str:
        """The kind of elementwise function that the record applies."""
        if self.op == "pointwise":
            return "pointwise_map"
        return "map_grad" if self.op == "activation_grad" or Flag.MAP_GRADIENT in self.flags else "map"

    @cached_property
    def operands(self) -> frozenset[str]:
        """The operands that the record has."""
        return frozenset(s.name for s in OPS[self.op].operands if not s.optional) | self.optional

    def kind(self, name: str) -> str:
        """The kind of an operand."""
        return next(spec.kind for spec in OPS[self.op].operands if spec.name == name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an operand."""
        spec = next(spec for spec in OPS[self.op].operands if spec.name == name)
        return spec.extents(self.dims)

    def values(self, salt: int = 0) -> dict[str, np.ndarray]:
        """The operands that must exist before the record runs, always the same for a salt."""
        rng = np.random.default_rng((salt << 32) + zlib.crc32(self.id.encode()))
        found = {}
        for spec in OPS[self.op].operands:
            if spec.name not in self.operands or spec.kind == "any":
                continue
            if spec.access != "write" or Flag.ACCUMULATE in self.flags:
                make = self.special.get(spec.name, lambda rng, shape: rng.standard_normal(shape))
                found[spec.name] = make(rng, self.shape(spec.name))
        return found

    def arrays(self, dtype: str) -> dict[int, np.ndarray]:
        """The arrays of the data slots."""
        return self.make_arrays(dtype)


def uniform(low: float, high: float) -> Make:
    """Make numbers between two."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def away(*kinks: float, spread: float = 2.0) -> Make:
    """Make normal numbers that keep 0.05 from the kinks of a function."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        x = spread * rng.standard_normal(shape)
        for kink in kinks:
            x = np.where(np.abs(x - kink) < 0.05, x + 0.125, x)
        assert all((np.abs(x - kink) >= 0.05).all() for kink in kinks)
        return x

    return make


def softmax(x: np.ndarray) -> np.ndarray:
    """Make rows of probabilities."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make rows that sum to 1, of numbers that do not differ by more than e^2."""
    return softmax(rng.uniform(-1.0, 1.0, shape))


def one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make rows with a single 1."""
    return np.eye(shape[1])[rng.integers(0, shape[1], shape[0])]


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make -1 and 1."""
    return rng.choice([-1.0, 1.0], shape)
