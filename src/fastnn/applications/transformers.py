"""Transformers: GPT, which predicts the next token, and BERT, which reads whole sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.hints import explained
from fastnn.initializers import RandomNormal
from fastnn.layers import (
    Activation,
    Add,
    Dense,
    Dropout,
    Embedding,
    Input,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
)
from fastnn.layers.symbols import Symbol
from fastnn.model import Model
from fastnn.ops.products import matmul
from fastnn.ops.shapes import transpose

_DEVIATION = 0.02


@dataclass(frozen=True)
class _Blocks:
    """What all blocks of a transformer share."""

    layers: int
    heads: int
    width: int
    dropout: float
    use_bias: bool
    epsilon: float
    activation: str
    causal: bool
    #: the standard deviation of the initial kernels whose results are added to what goes by
    residual: float

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises
        ------
        TypeError, ValueError
            When one is invalid.
        """
        for name in ("layers", "heads", "width"):
            checks.size(name, getattr(self, name))
        checks.number("dropout", self.dropout, at_least=0.0, below=1.0)
        checks.flag("use_bias", self.use_bias)
        if self.width % self.heads:
            raise ValueError(f"width: expected a multiple of heads, which is {self.heads}, got {self.width}")

    def norm(self, x: Symbol, name: str) -> Symbol:
        """Normalise each step."""
        found: Symbol = LayerNorm(epsilon=self.epsilon, center=self.use_bias, name=name)(x)
        return found

    def dropped(self, x: Symbol, name: str) -> Symbol:
        """Drop numbers in training."""
        found: Symbol = Dropout(self.dropout, name=name)(x) if self.dropout else x
        return found

    def attention(self, x: Symbol, name: str) -> Symbol:
        """Let steps see each other."""
        layer = MultiHeadAttention(
            self.heads, self.width // self.heads, dropout=self.dropout, use_bias=self.use_bias, causal=self.causal,
            kernel_initializer=RandomNormal(0.0, _DEVIATION), name=f"{name}_attention",
        )  # fmt: skip
        return self.dropped(layer(x), f"{name}_attention_dropout")

    def dense(self, x: Symbol, name: str) -> Symbol:
        """Apply the two dense layers of a block to each step."""
        for units, part, activation, deviation in (
            (4 * self.width, "up", self.activation, _DEVIATION),
            (self.width, "down", None, self.residual),
        ):
            x = Dense(
                units, activation, use_bias=self.use_bias, kernel_initializer=RandomNormal(0.0, deviation),
                name=f"{name}_{part}",
            )(x)  # fmt: skip
        return self.dropped(x, f"{name}_dropout")

    def before(self, x: Symbol, name: str) -> Symbol:
        """Return the result of a block that normalises what its parts take, as GPT-2's do."""
        x = Add(name=f"{name}_add1")([x, self.attention(self.norm(x, f"{name}_norm1"), name)])
        found: Symbol = Add(name=f"{name}_add2")([x, self.dense(self.norm(x, f"{name}_norm2"), name)])
        return found

    def after(self, x: Symbol, name: str) -> Symbol:
        """Return the result of a block that normalises the sums, as BERT's do."""
        x = self.norm(Add(name=f"{name}_add1")([x, self.attention(x, name)]), f"{name}_norm1")
        return self.norm(Add(name=f"{name}_add2")([x, self.dense(x, name)]), f"{name}_norm2")


def _sequences(vocabulary: int, steps: int) -> Symbol:
    checks.size("vocabulary", vocabulary)
    return Input(checks.size("steps", steps), dtype="int64", name="tokens")


@explained
def GPT(
    vocabulary: int,
    steps: int,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    dropout: float = 0.1,
    use_bias: bool = True,
    *,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "gpt",
) -> Model:
    """Make a transformer with the architecture of GPT-2: for each step it predicts the next token.

    ::

        model = fnn.applications.GPT(vocabulary=65, steps=64, layers=4, heads=4, width=128, seed=0)
        model.compile(fnn.AdamW(0.001), "cross_entropy", metrics=["perplexity"])

    Parameters
    ----------
    vocabulary : int
        Number of tokens: they are from 0 to vocabulary - 1.
    steps : int
        Tokens of a sample.
    layers : int
        Number of blocks.
    heads : int
        Heads of each attention, a divisor of `width`.
    width : int
        Numbers for each step.
    dropout : float
        Of the embeddings, of the weights of attention and of what blocks add, in [0, 1).
    use_bias : bool
        Whether layers have biases, those of normalisation too.
    classifier_activation : str, activation object or None
        Of the outputs; None gives the scores.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled. Inputs have shape (steps,), outputs (steps, vocabulary).

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Radford, Wu, Child, Luan, Amodei and Sutskever 2019, "Language models are unsupervised multitask learners": the
    small model is ``GPT(50257, 1024)``, with 124,439,808 parameters. Blocks normalise what attention and the two dense
    layers take. The output matrix is the table of tokens, transposed. A step sees itself and the steps before, so rows
    may be filled up at their end. Initial weights are normal with the deviation 0.02. Those of the layers whose results
    are added, but of attention, have 0.02 / sqrt(2 layers); the output kernels of attention have it too.
    """
    tokens = _sequences(vocabulary, steps)
    checks.size("layers", layers)
    residual = _DEVIATION / float(np.sqrt(2 * layers))
    blocks = _Blocks(layers, heads, width, dropout, use_bias, 1e-5, "gelu_tanh", True, residual)
    table = Embedding(vocabulary, width, RandomNormal(0.0, _DEVIATION), name="token_embedding")
    x = table(tokens)
    places = PositionEmbedding(steps, RandomNormal(0.0, _DEVIATION), name="position_embedding")(x)
    x = blocks.dropped(Add(name="embedded")([x, places]), "embedding_dropout")
    for number in range(1, layers + 1):
        x = blocks.before(x, f"block{number}")
    scores: Symbol = matmul(blocks.norm(x, "last_norm"), transpose(table.embeddings))
    if classifier_activation is not None:
        scores = Activation(classifier_activation, name="next")(scores)
    model = Model(tokens, scores, seed=seed, dtype=dtype, name=name)
    for number in range(1, layers + 1):
        place = f"block{number}_attention"
        weights = model.get_weights(place)
        weights[-2 if use_bias else -1] *= residual / _DEVIATION
        model.set_weights(weights, place)
    return model


@explained
def BERT(
    vocabulary: int,
    steps: int,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    dropout: float = 0.1,
    classes: int | None = None,
    *,
    pool: str | None = None,
    segments: int | None = None,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "bert",
) -> Model:
    """Make a transformer with the architecture of BERT, whose steps see all others; the token 0 is padding.

    ::

        words = fnn.applications.BERT(8000, 128, layers=4, heads=4, width=256, classes=8000)  # hidden words
        sentences = fnn.applications.BERT(8000, 128, layers=4, heads=4, width=256, classes=2, pool="first")

    Parameters
    ----------
    vocabulary : int
        Number of tokens: they are from 0, which is padding, to vocabulary - 1.
    steps : int
        Tokens of a sample.
    layers : int
        Number of blocks.
    heads : int
        Heads of each attention, a divisor of `width`.
    width : int
        Numbers for each step.
    dropout : float
        Of the embeddings, of the weights of attention and of what blocks add, in [0, 1).
    classes : int, optional
        Number of outputs of a dense layer at the end; None gives the last hidden states.
    pool : {"first"}, optional
        None gives a result for each step. "first" gives one for the sample, by a dense layer with tanh on the first
        step.
    segments : int, optional
        Number of kinds of segments: the model then has a second input, the kind of each token. None means that all
        tokens are of one kind, whose row is part of those of the positions.
    classifier_activation : str, activation object or None
        Of the outputs, if there are classes; None gives the scores.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled. Inputs have shape (steps,). Outputs have shape (steps, width), or (width,) with `pool`; with
        `classes` these are in the place of the width.

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Devlin, Chang, Lee and Toutanova 2018, "BERT: pre-training of deep bidirectional transformers", arXiv:1810.04805.
    Blocks normalise the sums of their parts' results and what they take. Steps with padding are left out by attention,
    losses and metrics; their own results mean nothing. Initial weights are normal with the deviation 0.02. The paper's
    outputs for hidden words have one more dense layer, and the table of tokens as their kernel; here they have a kernel
    of their own.
    """
    tokens = _sequences(vocabulary, steps)
    blocks = _Blocks(layers, heads, width, dropout, True, 1e-12, "gelu", False, _DEVIATION)
    if pool not in (None, "first"):
        raise ValueError(f"pool: expected 'first' or None, got {checks.shorten(pool)}")
    if classes is not None:
        checks.size("classes", classes)
    normal = RandomNormal(0.0, _DEVIATION)
    x = Embedding(vocabulary, width, normal, mask_zero=True, name="token_embedding")(tokens)
    summands, inputs = [x, PositionEmbedding(steps, normal, name="position_embedding")(x)], [tokens]
    if segments is not None:
        kinds = Input(steps, dtype="int64", name="segments")
        inputs.append(kinds)
        table = Embedding(checks.size("segments", segments), width, normal, name="segment_embedding")
        summands.append(table(kinds))
    x = blocks.norm(Add(name="embedded")(summands), "embedding_norm")
    x = blocks.dropped(x, "embedding_dropout")
    for number in range(1, layers + 1):
        x = blocks.after(x, f"block{number}")
    if pool == "first":
        x = Dense(width, "tanh", kernel_initializer=normal, name="pooled")(x[:, 0])
    if classes is not None:
        x = Dense(classes, classifier_activation, kernel_initializer=normal, name="classes")(
            blocks.dropped(x, "classes_dropout") if pool else x
        )
    return Model(inputs if segments is not None else tokens, x, seed=seed, dtype=dtype, name=name)
