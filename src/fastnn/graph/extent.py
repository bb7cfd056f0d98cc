"""Sizes that depend on the batch: polynomials of its number of rows.

A graph is made once, and lowered for any batch size. The sizes of tensors in which the batch is an axis like others are
polynomials of it: all rows of two batches joined are 2B, the distances between all pairs of rows B² of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extent:
    """A polynomial of the batch size that is not constant.

    Extents are compared as for a very large batch: B is more than any number. Every one is at least 1, as sizes are.

    Attributes
    ----------
    coefficients : tuple of int
        Of B⁰, B¹, ...; the last is not zero.
    """

    coefficients: tuple[int, ...]

    def at(self, batch: int) -> int:
        """Return the size for a batch of this many rows."""
        total = 0
        for factor in reversed(self.coefficients):
            total = total * batch + factor
        return total

    def __add__(self, other: Size) -> Size:
        mine, its = self.coefficients, _coefficients(other)
        longest = max(len(mine), len(its))
        return _size(
            a + b for a, b in zip(mine + (0,) * (longest - len(mine)), its + (0,) * (longest - len(its)), strict=True)
        )

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _size(-a for a in self.coefficients)

    def __sub__(self, other: Size) -> Size:
        return self + -other

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __mul__(self, other: Size) -> Size:
        its = _coefficients(other)
        found = [0] * (len(self.coefficients) + len(its) - 1)
        for i, a in enumerate(self.coefficients):
            for j, b in enumerate(its):
                found[i + j] += a * b
        return _size(found)

    __rmul__ = __mul__

    def __divmod__(self, other: Size) -> tuple[Size, Size]:
        return _divided(self.coefficients, _coefficients(other))

    def __rdivmod__(self, other: Size) -> tuple[Size, Size]:
        return _divided(_coefficients(other), self.coefficients)

    def __floordiv__(self, other: Size) -> Size:
        return _exact(divmod(self, other), self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return _exact(self.__rdivmod__(other), other, self)

    def __mod__(self, other: Size) -> Size:
        return divmod(self, other)[1]

    def __rmod__(self, other: Size) -> Size:
        return self.__rdivmod__(other)[1]

    def __lt__(self, other: Size) -> bool:
        return _order(self - other) < 0

    def __le__(self, other: Size) -> bool:
        return _order(self - other) <= 0

    def __gt__(self, other: Size) -> bool:
        return _order(self - other) > 0

    def __ge__(self, other: Size) -> bool:
        return _order(self - other) >= 0

    def __repr__(self) -> str:
        terms: list[str] = []
        for power, factor in reversed(list(enumerate(self.coefficients))):
            if factor:
                number = str(abs(factor)) if abs(factor) != 1 or power == 0 else ""
                unknown = ("", "B", "B²", "B³")[power] if power < 4 else f"B^{power}"
                terms.append(("-" if factor < 0 else "+" if terms else "") + number + unknown)
        return "".join(terms)


#: the size of an axis
Size = int | Extent
#: the batch size itself
BATCH = Extent((0, 1))


def at(size: Size, batch: int) -> int:
    """Return a size for a batch of this many rows."""
    return size.at(batch) if isinstance(size, Extent) else size


def _coefficients(size: Any) -> tuple[int, ...]:
    return size.coefficients if isinstance(size, Extent) else (int(size),)


def _size(coefficients: Iterable[int]) -> Size:
    """Return the polynomial, or the number if it is constant."""
    found = list(coefficients)
    while len(found) > 1 and found[-1] == 0:
        found.pop()
    return Extent(tuple(found)) if len(found) > 1 else found[0]


def _divided(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Size, Size]:
    """Divide polynomials as far as whole numbers go: quotient and remainder."""
    left, found = list(a), [0] * max(len(a) - len(b) + 1, 1)
    for power in range(len(a) - len(b), -1, -1):
        if b[-1] == 0:
            raise ZeroDivisionError("division of a size by zero")
        found[power] = left[power + len(b) - 1] // b[-1]
        for index, factor in enumerate(b):
            left[power + index] -= found[power] * factor
    return _size(found), _size(left)


def _exact(parts: tuple[Size, Size], a: Size, b: Size) -> Size:
    if parts[1] != 0:
        raise ValueError(f"{a} is not a multiple of {b} for every batch size B")
    return parts[0]


def _order(difference: Size) -> int:
    """Return the sign of a difference for a very large batch."""
    return difference if isinstance(difference, int) else difference.coefficients[-1]
