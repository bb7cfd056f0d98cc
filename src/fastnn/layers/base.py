"""The base class of layers: constant hyperparameters, and how a layer adds its nodes to a graph."""

from __future__ import annotations

import copy
import itertools
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, ClassVar

from fastnn import checks
from fastnn.checks import LARGEST, flag
from fastnn.config import to_config
from fastnn.constraints import Constraint
from fastnn.graph.extent import Extent
from fastnn.graph.graph import Graph, Tensor
from fastnn.initializers import Initializer
from fastnn.layers.open_shapes import Described, Result, described, filled
from fastnn.layers.symbols import Part, Symbol, identity_of, results_of
from fastnn.layers.tracing import Place, Traced, takes, trace
from fastnn.registry import has_default, snake_case
from fastnn.regularizers import Regularizer

Shape = tuple[int, ...]
# NumPy's, with a batch axis
MAX_RANK = 31


@dataclass(frozen=True)
class ParameterSpec:
    """One weight of a layer: its shape, initializer, and treatment in training.

    `trained` is False for state such as moving averages, which no gradient reaches.
    """

    name: str
    shape: Shape
    initializer: Initializer
    trained: bool = True
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Scope:
    """The context in which a layer adds its nodes: its unique name, its number, and the mode.

    `trainable` is the layer's in this model. `carried` collects the states that layers pass on to the next batch: each
    before the batch, and after it.
    """

    label: str
    number: int
    training: bool
    trainable: bool
    carried: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Assignments:
    """All assignments of `trainable`: code that has looked at it looks again when there is a later one.

    Attributes
    ----------
    latest : int
        The number of the latest one; it changes with each, but may also get smaller.
    """

    latest: ClassVar[int] = 0
    _numbers: ClassVar[Iterator[int]] = itertools.count(1)

    @classmethod
    def note(cls) -> None:
        """Say that a layer may be trained, or not be trained, from now on."""
        cls.latest = next(cls._numbers)  # a sum of two threads might count once


@dataclass(eq=False)
class Layer:
    """A layer: a set of hyperparameters, fixed when it is made; only `trainable` may be assigned later.

    A layer made without a name gets the one that `summary` shows when a model is built of it.
    Assigning `trainable` of a layer affects all models that contain the layer; see `Model.trainable` for
    one model.

    Calling a layer on a `Symbol` (or a list of them) returns a new `Symbol`, or a tuple of them if it has several
    outputs. A layer that is called twice uses the same weights both times.

    A subclass is a dataclass of its hyperparameters, under ``@fastnn.config.register("layer")`` if models with it are
    to be saved. It defines ``call(self, x, *weights)``, a function of symbols made of operators and functions of
    `fastnn.ops`, and `parameters` if it has weights; a parameter named ``training`` of `call` says whether the model is
    being trained. (Layers of this library define `output_shape` and `apply` instead of `call`.) What is made of layers
    is a model: models are called, named, frozen and saved as layers are.
    """

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)

    #: the number of inputs that a call takes: (least, most); None for any number
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    #: how often `trainable` has been assigned
    assignments: ClassVar[int] = 0

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse methods that other libraries call, but fastnn never would."""
        super().__init_subclass__(**options)
        for name in ("forward", "build"):
            if name in cls.__dict__:
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: a layer defines call(self, x, *weights) of "
                    "functions of fastnn.ops, and parameters(self, shape) for its weights"
                )

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise TypeError(f"name: expected a non-empty string or None, got {self.name!r}")
        flag("trainable", self.trainable)
        self.prepare()
        object.__setattr__(self, "_fixed", True)

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "_fixed", False):
            if name != "trainable":
                if name not in self.__dict__ and not hasattr(type(self), name):
                    raise AttributeError(
                        f"{type(self).__name__}.{name} cannot be added after the layer is made: assign it before "
                        "super().__init__(), or make the class a dataclass of its hyperparameters"
                    )
                raise AttributeError(
                    f"{type(self).__name__}.{name} cannot be changed after the layer is made: make a new layer "
                    "(only `trainable` may be assigned)"
                )
            flag("trainable", value)
            object.__setattr__(self, "assignments", self.assignments + 1)
            object.__setattr__(self, name, value)
            Assignments.note()
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for number, spec in enumerate(self._specs()):
                if spec.name == name:
                    return self.weight_symbol(number)
        if name in ("get_weights", "set_weights", "weights", "kernel", "bias", "gamma", "beta"):
            raise AttributeError(
                f"a layer has hyperparameters only, no {name!r}: weights belong to the model, see "
                f"model.get_weights({self.label!r}) and model.set_weights(weights, {self.label!r}); symbols of "
                "weights, such as layer.kernel, are there once the layer has been called on symbols"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def prepare(self) -> None:
        """Check and normalise hyperparameters; called once by the constructor."""

    @property
    def _is_traced(self) -> bool:
        """Whether the layer is a function of symbols."""
        return hasattr(type(self), "call")

    @property
    def word(self) -> str:
        """What a model names the layer after."""
        return snake_case(type(self).__name__)

    @property
    def label(self) -> str:
        """The layer's name for error messages: its name, or else its class' name."""
        return self.name or type(self).__name__

    @property
    def given_name(self) -> str | None:
        """The name that the layer was made with; `name` may be one given by a model."""
        return None if getattr(self, "_named_by_model", False) else self.name

    def receive_name(self, name: str) -> None:
        """Take a model's name for the layer, if it was made without one."""
        if self.given_name is None:
            object.__setattr__(self, "name", name)
            object.__setattr__(self, "_named_by_model", True)

    def copied(self, name: str, *, trainable: bool) -> Layer:
        """Return a layer of the same hyperparameters, with a name of its own."""
        made = copy.copy(self)
        vars(made).update(name=name, trainable=trainable, _named_by_model=False)
        return made

    def note_call(self, shapes: Sequence[Shape]) -> None:
        """Say what the layer has been called on: its weights have symbols from now on."""
        object.__setattr__(self, "_called_on", tuple(shapes))

    def fail(self, message: str) -> ValueError:
        """Make the error for a wrong input, with the layer's name."""
        return ValueError(f"layer {self.label!r}: {message}")

    def accepts(self, kind: str, position: int) -> bool:
        """Return whether the input at a position may have values of a kind: "real", or "int64" for integers."""
        return kind == "real"

    def input_range(self, position: int, *shapes: Shape) -> tuple[int, int] | None:
        """Return the least and greatest integer that the input at a position may hold; None if any will do.

        Data are checked against it before anything runs. A layer that returns integers has to return those that it is
        given, or to define `output_range`: then the range is that of the model's input.
        """
        return None

    def output_range(self, *shapes: Shape) -> tuple[int, int] | None:
        """Return the least and greatest integer of the output, if these are others than those that it is given.

        They have to be those that the layers after it take.
        """
        return None

    def output_kind(self, *kinds: str) -> str | Sequence[str]:
        """Return the kind of the output's values, "real" or "int64", for the kinds of the inputs; a list by output."""
        return "real"

    def output_shape(self, *shapes: Shape) -> Shape | Sequence[Shape]:
        """Return the shape of an output sample; raises ValueError when the input shapes do not fit.

        A list of shapes says that the layer has several outputs: then calls give a tuple.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define output_shape(*shapes)")

    def parameters(self, *shapes: Shape) -> tuple[ParameterSpec, ...]:
        """Return the layer's weights for these input shapes, in Keras' order."""
        return ()

    @property
    def times_reset(self) -> int:
        """How often the states that the layer passes on to the next batch have been reset."""
        return 0

    def carries(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Return the shapes of the states of a sample that a call on such inputs passes on to the next batch."""
        return ()

    def apply(
        self, graph: Graph, inputs: Sequence[Tensor], weights: Sequence[Tensor], scope: Scope
    ) -> Tensor | Sequence[Tensor]:
        """Add the layer's nodes to a graph and return its output, or a list of them."""
        if not self._is_traced:
            raise NotImplementedError(f"{type(self).__name__} does not define apply(graph, inputs, weights, scope)")
        body: Any = self.call
        options = {"training": scope.training} if takes(body, "training") else {}
        place = Place(graph, scope.label, scope.number, training=scope.training)
        several, made = trace(place, body, [*inputs, *weights], **options)
        return made if several else made[0]

    @property
    def passes_mask(self) -> bool:
        """Whether the results of a call have the mask of its inputs, if these have one; a subclass may set it."""
        return False

    @property
    def takes_mask(self) -> bool:
        """Whether a call takes the mask of its first input as a further input, of samples (steps, 1)."""
        return False

    @property
    def makes_mask(self) -> bool:
        """Whether the last output is a mask, which calls do not return: their result has it."""
        return False

    def config(self) -> dict[str, Any]:
        """Return the hyperparameters as JSON values."""
        return to_config(self)

    # `Any`: a tuple for several outputs
    def __call__(self, inputs: Symbol | Sequence[Symbol]) -> Any:
        several_given = inputs if isinstance(inputs, (list, tuple)) else (inputs,)
        if any(isinstance(one, Traced) for one in several_given):
            return self._inside(several_given)
        symbols = self.with_mask(self.symbols(inputs))
        for position, symbol in enumerate(symbols):
            self._check_kind(position, symbol.kind, repr(symbol.layer.label))
        for symbol in () if self._is_traced else symbols:
            self._check_samples(symbol.batched, symbol.shape, symbol)
        several, results = self._called([symbol.result for symbol in symbols])
        made = self._made(symbols, results)
        if self.makes_mask:
            made, several = made[:-1], len(made) > 2
        return made if several else made[0]

    def _made(self, symbols: tuple[Symbol, ...], results: Sequence[Result], part: Part | None = None) -> Any:
        """Return the symbols of all outputs of a call, with masks."""
        made = results_of(self, symbols, results, part)
        if self.makes_mask:
            _set_mask(made[:-1], made[-1])
        elif self.passes_mask:
            _set_mask(made, self.mask_of(symbols))
        return made

    def called_again(
        self, inputs: tuple[Symbol, ...], results: Sequence[Result], part: Part | None
    ) -> tuple[Symbol, ...]:
        """Return the symbols of all outputs of a call whose results are known, where inputs may have masks now."""
        made: tuple[Symbol, ...] = self._made(self.with_mask(inputs), results, part)
        return made

    def _called(self, inputs: Sequence[Result]) -> Described:
        """Return what a call gives, whose inputs may have open sizes; the weights do not depend on these."""
        if not any(x.tried for x in inputs):
            found = self.described(inputs)
            self.note_call([x.shape for x in inputs])
            return found
        weights: dict[tuple[Shape, ...], tuple[Shape, ...]] = {}

        def describe(given: Sequence[Result]) -> Described:
            made, shapes = self.described(given), tuple([x.shape for x in given])
            weights.setdefault(tuple([spec.shape for spec in self.parameters(*shapes)]), shapes)
            return made

        found = described(self.label, inputs, describe)
        if len(weights) > 1:
            said = [
                f"{', '.join(map(str, mine))} for samples of shape {', '.join(map(str, shapes))}"
                for mine, shapes in list(weights.items())[:2]
            ]
            raise self.fail(
                "its weights would depend on sizes, such as the number of steps, that fastnn.Input leaves open: "
                f"their shapes are {said[0]}, and {said[1]}. Give fastnn.Input the size, or make samples of a fixed "
                "size by GlobalAveragePooling1D, or recurrent layers without return_sequences"
            )
        self.note_call(next(iter(weights.values())))
        return found

    def described(self, inputs: Sequence[Result]) -> Described:
        """Return whether a call on inputs of known shapes gives several outputs, and these."""
        return self._traced(inputs) if self._is_traced else self._described(inputs)

    def with_mask(self, symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        """Return what a call is on, with the mask of the first symbol if the layer takes it and has none yet."""
        mask = symbols[0].mask if self.takes_mask and symbols else None
        if mask is None or any(is_mask(one, symbols[0]) for one in symbols[1:]):
            return symbols
        return (*symbols, mask)

    def mask_of(self, symbols: Sequence[Symbol]) -> Symbol | None:
        """Return the mask of the inputs of a call: the one that some of them have."""
        found = {identity_of(one.mask): one.mask for one in symbols if one.mask is not None}
        found |= {identity_of(one): one for one in symbols[1:] if self.takes_mask and is_mask(one, symbols[0])}
        if len(found) > 1:
            raise self.fail(f"takes inputs of one mask, got {len(found)} different ones")
        return next(iter(found.values()), None)

    def _check_kind(self, position: int, kind: str, source: str) -> None:
        if not self.accepts(kind, position):
            takes, got = ("numbers", "integers") if kind == "int64" else ("integers", "numbers")
            hint = " (such as OneHot makes of integers)" if kind == "int64" else ": Input(..., dtype='int64')"
            raise self.fail(f"takes {takes}{hint}, got {got} from {source}")

    def _inside(self, given: Sequence[Any]) -> Any:
        """Apply a layer without weights to values of a function of symbols."""
        values = [one for one in given if isinstance(one, Traced)]
        place = values[0].place
        if len(values) < len(given) or any(one.place.graph is not place.graph for one in values):
            raise TypeError(f"layer {self.label!r}: in a function of symbols it takes values of that function alone")
        self.check_count(len(values))
        tensors = [one.tensor for one in values]
        for position, x in enumerate(tensors):
            self._check_kind(position, x.kind, f"the function {place.label!r}")
            if not self._is_traced:
                self._check_samples(x.batched, x.shape, values[position])
        shapes = [x.shape for x in tensors]
        if not self._is_traced:
            self.output_shape(*shapes)  # raises where they do not fit
        if self.parameters(*shapes):
            raise TypeError(
                f"layer {self.label!r} has weights, which a function of symbols cannot hold: call the layer on symbols "
                "outside the function, or give the weights to a Layer of your own by `parameters`"
            )
        made: Any = self.apply(place.graph, tensors, (), Scope(place.label, place.stream(), place.training, False))
        results = made if isinstance(made, (list, tuple)) else [made]
        found = tuple([Traced(one, place) for one in results])
        return found if isinstance(made, (list, tuple)) else found[0]

    def _check_samples(self, batched: bool, shape: Sequence[Any], value: object) -> None:
        """Raise unless a value is a batch of samples of a fixed size."""
        if not batched:
            raise self.fail(f"takes batches, got {value!r}, whose first axis is not that of the batch")
        if any(isinstance(size, Extent) for size in shape):
            raise self.fail(f"takes samples of a fixed size, got {value!r}; functions of fastnn.ops take any sizes")

    def _specs(self) -> Sequence[ParameterSpec]:
        """Return the layer's weights for what it was last called on; none before."""
        shapes = self.__dict__.get("_called_on")
        return () if shapes is None else self.parameters(*shapes)

    @property
    def weight_shapes(self) -> list[Shape]:
        """Shapes of the weights, for what the layer was last called on."""
        return [spec.shape for spec in self._specs()]

    def weight_symbol(self, number: int, part: Part | None = None) -> Symbol:
        """Return the symbol of a weight, by its number in Keras' order: it has no batch axis."""
        shape = self.weight_shapes[number] if part is None else part.weights[id(self)][number][2]
        return Symbol(shape, self, (), part=part, batched=False, weight=number)

    def symbols(self, inputs: Symbol | Sequence[Symbol]) -> tuple[Symbol, ...]:
        """Return what the layer is called on; raises unless these are symbols, and as many as it takes."""
        symbols = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
        for symbol in symbols:
            if not isinstance(symbol, Symbol):
                raise TypeError(
                    f"layer {self.label!r} takes symbols (fastnn.Input(...) or the result of another layer), got "
                    f"{type(symbol).__name__}; for values, make a model and call predict"
                )
        self.check_count(len(symbols))
        return symbols

    def check_count(self, count: int) -> None:
        least, most = self.arity
        if count < least or (most is not None and count > most):
            expected = f"at least {least}" if most is None else f"{least}" if least == most else f"{least} to {most}"
            raise self.fail(f"takes {expected} input(s), got {count}")

    def _described(self, inputs: Sequence[Result]) -> Described:
        """Return `described` of a layer that defines `output_shape`."""
        given = self.output_shape(*(x.shape for x in inputs))
        several = isinstance(given, list) or (isinstance(given, tuple) and any(isinstance(x, tuple) for x in given))
        shapes: Sequence[Any] = given if several else [given]
        for shape in shapes:
            if not isinstance(shape, tuple) or not all(isinstance(extent, numbers.Integral) for extent in shape):
                raise TypeError(
                    f"layer {self.label!r}: output_shape gave {given!r}, expected a tuple of integers or a list of such"
                )
            if prod(shape) > LARGEST:
                raise self.fail(f"gives samples of {prod(shape)} elements")
        kinds = self.output_kind(*(x.kind for x in inputs))
        kinds = [kinds] * len(shapes) if isinstance(kinds, str) else kinds
        if not shapes or len(kinds) != len(shapes):
            raise self.fail(f"has {len(shapes)} outputs and {len(kinds)} kinds of them, expected as many, at least one")
        return several, [Result(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]

    def _traced(self, inputs: Sequence[Result]) -> Described:
        """Return the same for a layer that defines `call`, which is called on values of a graph of its own."""
        graph = Graph()
        values = [graph.placeholder(x.shape, x.batched, x.kind, "x") for x in inputs]
        weights = [
            graph.placeholder(spec.shape, False, "real", spec.name)
            for spec in self.parameters(*(x.shape for x in inputs))
        ]
        made: Any = self.apply(graph, values, weights, Scope(self.label, 0, True, self.trainable))
        several = isinstance(made, (list, tuple))
        tensors = list(made) if isinstance(made, (list, tuple)) else [made]
        return several, [Result(x.shape, x.kind, x.batched) for x in tensors]

    def __repr__(self) -> str:
        """Show the name and all values that differ from the defaults."""
        shown = []
        for about in fields(self):
            name = about.name
            value = self.given_name if name == "name" else getattr(self, name)
            if has_default(about) and repr(value) in _spellings(about.default):
                continue
            shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def is_mask(symbol: Symbol, sequences: Symbol) -> bool:
    """Return whether a symbol may be the mask of sequences: of samples (steps, 1)."""
    return len(sequences.shape) > 1 and symbol.shape[1:] == (1,) and _are_as_long(symbol, sequences)


def _set_mask(symbols: Sequence[Symbol], mask: Symbol | None) -> None:
    """Give a mask to the results of a call that have as many steps."""
    for symbol in symbols:
        if mask is not None and symbol.batched and _are_as_long(symbol, mask):
            object.__setattr__(symbol, "mask", mask)


def _are_as_long(one: Symbol, other: Symbol) -> bool:
    """Return whether samples of two symbols have as many steps, whatever the sizes that are open."""
    known = dict(one.tried)
    pairs = [(known.get(size, shape), shape) for size, shape in other.tried]
    return all(mine[:1] == its[:1] for mine, its in [*pairs, (one.shape, other.shape)])


def _spellings(default: Any) -> tuple[str, ...]:
    """Return the repr of a default, and of the object that its name stands for."""
    alias = "Linear()" if default is None else "".join(part.title() for part in str(default).split("_")) + "()"
    return repr(default), alias


def shape_of(name: str, value: object, *, may_be_open: bool = False) -> tuple[Any, ...]:
    """Return a shape of positive integers, of few enough axes; an integer n stands for (n,).

    If it `may_be_open`, sizes may be None, and None stands for (None,).
    """
    given: Any = (value,) if isinstance(value, numbers.Integral) or (may_be_open and value is None) else value
    if not may_be_open or not isinstance(given, (list, tuple)):
        return checks.shape(name, given, MAX_RANK)
    known = checks.shape(name, filled(tuple(given), 1), MAX_RANK)
    return tuple([size if each is not None else None for size, each in zip(known, given, strict=True)])
