"""How a tile reads its left matrix: each element of a, in one step of k after the other, in all lanes of a vector.

`Broadcasts` load an element into all lanes, which costs x86 processors no more than a load. On ARM64 this
instruction (`ld1r`) also occupies a unit that multiplies. But a multiply-add takes one lane of a vector there, so a
load serves several elements: those of `Columns` (several rows, where they are contiguous) or of `Pairs` (two steps of
k). docs/performance.md has the figures.
"""

from __future__ import annotations

from typing import Any, Protocol

from fastnn.backend.cpu.codegen.vectors import Lanes, constant


class Left(Protocol):
    """The elements of a, read in a loop over k.

    Attributes
    ----------
    depth : int
        Steps of k in each turn of the loop.
    initial : list
        What the loop carries, before its first turn.
    """

    depth: int
    initial: list[Any]

    def factors(self, carried: list[Any], i: int) -> list[Any]:
        """Return the elements of row i in all lanes, one for each step of a turn; rows are asked for in order."""

    def following(self, carried: list[Any]) -> list[Any]:
        """Return what the loop carries into the next turn."""


class Broadcasts:
    """Any strides; an element a load. Pointers may be `apart`: LLVM does not see that they belong together."""

    depth = 1

    def __init__(self, v: Lanes, rows: int, a: Any, a_row: Any, a_k: Any, *, apart: bool = False) -> None:
        self.v, self.a_row, self.a_k = v, a_row, a_k
        b = v.builder
        # one pointer for three rows: x86 addresses then need no further registers (p, p + s, p + 2 s)
        pointers = [b.add(a, b.mul(a_row, constant(i))) for i in range(0, rows, 3)]
        self.initial = [v.hidden(pointer) for pointer in pointers] if apart else pointers

    def factors(self, carried: list[Any], i: int) -> list[Any]:
        b = self.v.builder
        return [self.v.broadcast(b.add(carried[i // 3], b.mul(self.a_row, constant(i % 3))))]

    def following(self, carried: list[Any]) -> list[Any]:
        return [self.v.builder.add(pointer, self.a_k) for pointer in carried]


class Neighbours:
    """Rows of a that are contiguous, an element a load: one pointer serves all of them."""

    depth = 1

    def __init__(self, v: Lanes, a: Any, a_k: Any) -> None:
        self.v, self.a_k = v, a_k
        self.initial = [a]

    def factors(self, carried: list[Any], i: int) -> list[Any]:
        return [self.v.broadcast(self.v.builder.add(carried[0], constant(i * self.v.size)))]

    def following(self, carried: list[Any]) -> list[Any]:
        return [self.v.builder.add(carried[0], self.a_k)]


class Columns:
    """Rows of a that are contiguous, `a_row` being the size of an element; a vector of rows a load."""

    depth = 1

    def __init__(self, v: Lanes, rows: int, a: Any, a_k: Any) -> None:
        self.v, self.rows, self.a_k = v, rows, a_k
        self.initial = [a]

    def factors(self, carried: list[Any], i: int) -> list[Any]:
        if i == 0:
            self._loaded: list[Any] = []
        if i == len(self._loaded):
            count = self.v.lanes
            while count > self.rows - i:
                count //= 2
            self._loaded += self.v.load_lanes(self.v.builder.add(carried[0], constant(i * self.v.size)), count)
        return [self._loaded[i]]

    def following(self, carried: list[Any]) -> list[Any]:
        return [self.v.builder.add(carried[0], self.a_k)]


class Pairs:
    """Steps of k that are contiguous, `a_k` being the size of an element; two of them a load.

    With four of float32 the sums, a's rows and b's vectors would need more than 32 registers.
    """

    depth = 2

    def __init__(self, v: Lanes, rows: int, a: Any, a_row: Any) -> None:
        self.v = v
        b = v.builder
        self.initial = [b.add(a, b.mul(a_row, constant(i))) for i in range(rows)]

    def factors(self, carried: list[Any], i: int) -> list[Any]:
        return self.v.load_lanes(carried[i], 2)

    def following(self, carried: list[Any]) -> list[Any]:
        return [self.v.builder.add(pointer, constant(2 * self.v.size)) for pointer in carried]
