"""Cases of recurrent layers and their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from making import Bound, Case, uniform

# batch, steps, units; one of more samples than go through the steps together, and more units than a panel has
SIZES = ((1, 1, 1), (3, 4, 7), (5, 3, 33), (26, 2, 16), (100, 2, 5), (2, 5, 70))
GATES = {"simple_rnn": 1, "gru": 3, "lstm": 4}
STATES = {"simple_rnn": 1, "gru": 1, "lstm": 2}


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make samples of different lengths, one of them with nothing, and some steps missing or anew in between."""
    lengths = np.arange(shape[0]) % (shape[1] + 1)
    there = (np.arange(shape[1]) < lengths[:, None]) * (rng.uniform(size=shape) < 0.8)
    return there * np.where(rng.uniform(size=shape) < 0.25, -1.0, 1.0)


def recurrent_cases() -> Iterator[Case]:
    """Iterate over the cases."""
    for op in GATES:
        for number, (batch, steps, units) in enumerate(SIZES):
            sizes = {"batch": batch, "steps": steps, "units": units}
            for place, given in enumerate(_forms(op, number), number // 2):
                yield from _of(sizes, op, *given, in_place=place % 2 == 1)


def _forms(op: str, number: int) -> Iterator[tuple[str, bool, frozenset[str], bool, bool, bool]]:
    """Iterate over activations, direction, optional operands, initial states, dropout, and the form of a GRU."""
    tanh = "tanh" if op == "simple_rnn" else "tanh,sigmoid"
    other = "relu" if op == "simple_rnn" else "softplus,hard_sigmoid"
    for after in (True, False) if op == "gru" else (True,):
        bias = {"bias"} if op == "gru" else set()
        yield tanh, False, frozenset({"y", "kept", *bias}), False, False, after
        if number % 2:
            yield tanh, True, frozenset({"last", "kept", "mask"}), False, False, after
            yield tanh, False, frozenset({"y", "last", "kept", "start", "mask"}), True, False, after
        else:
            yield other, False, frozenset({"y"}), False, False, after
            yield tanh, False, frozenset({"y", "kept", "start", *bias}), True, True, after
            yield tanh, True, frozenset({"y", "kept", "start", "mask"}), False, True, after


def _of(
    sizes: Mapping[str, int], op: str, variant: str, backwards: bool, optional: frozenset[str], given: bool,
    noisy: bool, after: bool, in_place: bool,
) -> Iterator[Case]:  # fmt: skip
    states = STATES[op] if given else 0
    dims = {**sizes, "wide": GATES[op] * sizes["units"], "starts": max(1, states + noisy), "states": states}
    dims |= {
        "reverse": int(backwards),
        **({"after": int(after), "biases": 1 + after, "slots": 2 + noisy} if op == "gru" else {}),
    }
    params = {"a": 0.0, "ra": 0.0} if op != "simple_rnn" else {"a": 0.0}
    if op == "lstm" and "last" in optional:
        optional |= {"cell"}
    if "kept" in optional:
        optional |= {"gates"}
    special = {"mask": _mask, "w": uniform(-0.4, 0.4), "start": uniform(0.2, 1.2)}
    note = "-".join(name for name, told in (("dropout", noisy), ("before", not after), ("in place", in_place)) if told)
    bound = Bound(64, 16 + 8 * sizes["steps"] * sizes["units"] ** 0.5)
    yield Case(op, {**dims}, params, variant=variant, optional=optional, special=special, bound=bound, note=note,
               in_place=in_place)  # fmt: skip
    if "kept" not in optional:
        return
    wanted = {"dstart"} if states else set()
    dims.pop("biases", None)
    for ends in (0, STATES[op]):
        seeds = {"dlast"} if ends else {"dy"}
        seeds |= {"dy"} if ends and "y" in optional else set()
        more = {"gates": uniform(0.1, 0.9), "kept": uniform(0.1, 0.9)}
        yield Case(
            f"{op}_grad", {**dims, "ends": max(ends, 1)}, params, variant=variant,
            optional=frozenset({*wanted, *seeds, *(optional & {"start", "mask"})}), special={**special, **more},
            bound=bound, note=note, in_place=in_place,
        )  # fmt: skip
