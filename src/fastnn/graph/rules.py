"""Rules of an op for differentiation and for the meaning of outputs, registered beside its constructor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from fastnn.graph.graph import Graph, Node, Tensor
from fastnn.modules import import_all

#: A gradient for each input, None where none is needed; or for each output, None where nothing depends on it.
Gradients = Sequence[Tensor | None]
#: Adds the gradients of a node: the graph, the node, the gradients of its outputs, which inputs need one.
Rule = Callable[[Graph, Node, Gradients, Sequence[bool]], Gradients]
#: The same for an op whose first output alone has a gradient, which it takes.
FirstRule = Callable[[Graph, Node, Tensor, Sequence[bool]], Gradients]
#: Says whether an op that only moves values keeps groups of this many neighbours along the last axis together.
Keeps = Callable[[Node, int], bool]


class _Rules(dict[str, Rule]):
    """Rules by op. Looking for an unknown one imports all modules of ops, which register theirs."""

    def of(self, op: str) -> Rule | None:
        """Return the rule of an op, or None if it has none."""
        if op not in self:
            package = import_module("fastnn.graph.ops")
            import_all(package.__name__, package.__path__)
        return self.get(op)


RULES = _Rules()
#: Ops that only move the values of their inputs.
MOVES: dict[str, Keeps] = {}
#: Ops whose outputs may be any numbers, and what users know them as.
UNBOUNDED: dict[str, str] = {}


class NoGradientError(ValueError):
    """A trainable parameter is before an op that has no gradient."""


def gradient(*ops: str, keeps: Keeps | None = None, unbounded: str = "") -> Callable[[FirstRule], FirstRule]:
    """Register the gradient rule of some ops, as a function of the gradient of their first output.

    Nothing may depend on their other outputs, but what the rule itself adds.

    Parameters
    ----------
    *ops : str
    keeps, unbounded
        As for `gradient_of_outputs`.
    """

    def register(rule: FirstRule) -> FirstRule:
        @gradient_of_outputs(*ops, keeps=keeps, unbounded=unbounded)
        def of_first(graph: Graph, node: Node, dys: Gradients, needs: Sequence[bool]) -> Gradients:
            dy, *others = dys
            for y, other in zip(node.outputs[1:], others, strict=True):
                if other is not None:
                    raise NoGradientError(f"layer {node.label!r}: {y.name!r} of {node.op!r} has no gradient")
            assert dy is not None
            return rule(graph, node, dy, needs)

        return rule

    return register


def gradient_of_outputs(*ops: str, keeps: Keeps | None = None, unbounded: str = "") -> Callable[[Rule], Rule]:
    """Register the gradient rule of some ops, as a function of the gradients of all their outputs.

    Parameters
    ----------
    *ops : str
    keeps : callable, optional
        For ops that only move the values of their inputs: takes a node and a number, and returns whether groups of that
        many neighbours along the last axis stay together.
    unbounded : str, optional
        For ops whose outputs may be any numbers: their name in messages.
    """

    def register(rule: Rule) -> Rule:
        for op in ops:
            RULES[op] = rule
            if keeps is not None:
                MOVES[op] = keeps
            if unbounded:
                UNBOUNDED[op] = unbounded
        return rule

    return register
