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
    GroupedQueryAttention,
    Input,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
    RMSNorm,
    SwiGLU,
    TiedDense,
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
    #: heads of keys and values, if they are fewer
    key_value_heads: int | None = None
    #: numbers between both dense layers, 4 width by default
    intermediate: int | None = None
    #: "layer" or "rms"
    norms: str = "layer"
    #: the wavelength of rotated queries and keys
    rotary: float | None = None
    #: whether the dense layers have a gate
    gated: bool = False

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
        checks.number("epsilon", self.epsilon, at_least=1e-12, below=1.0)
        checks.flag("use_bias", self.use_bias)
        checks.flag("gated", self.gated)
        if self.norms not in ("layer", "rms"):
            raise ValueError(f"norm: expected 'layer' or 'rms', got {checks.shorten(self.norms)}")
        if self.intermediate is not None:
            checks.size("intermediate_dim", self.intermediate)
        if self.width % self.heads:
            raise ValueError(f"width: expected a multiple of heads, which is {self.heads}, got {self.width}")
        groups = self.key_value_heads
        if groups is not None and self.heads % checks.size("key_value_heads", groups):
            raise ValueError(f"key_value_heads: expected a divisor of heads, which is {self.heads}, got {groups}")

    def norm(self, x: Symbol, name: str) -> Symbol:
        """Normalise each step."""
        if self.norms == "rms":
            divided: Symbol = RMSNorm(epsilon=self.epsilon, name=name)(x)
            return divided
        found: Symbol = LayerNorm(epsilon=self.epsilon, center=self.use_bias, name=name)(x)
        return found

    def dropped(self, x: Symbol, name: str) -> Symbol:
        """Drop numbers in training."""
        found: Symbol = Dropout(self.dropout, name=name)(x) if self.dropout else x
        return found

    def attention(self, x: Symbol, name: str) -> Symbol:
        """Let steps see each other."""
        options: dict[str, Any] = {
            "dropout": self.dropout, "use_bias": self.use_bias, "causal": self.causal, "rotary": self.rotary,
            "kernel_initializer": RandomNormal(0.0, _DEVIATION),
            "output_initializer": RandomNormal(0.0, self.residual), "name": f"{name}_attention",
        }  # fmt: skip
        size, groups = self.width // self.heads, self.key_value_heads
        layer = (
            MultiHeadAttention(self.heads, size, **options)
            if groups is None
            else GroupedQueryAttention(size, self.heads, groups, **options)
        )
        return self.dropped(layer(x), f"{name}_attention_dropout")

    def dense(self, x: Symbol, name: str) -> Symbol:
        """Apply the dense layers of a block to each step."""
        inner, normal = self.intermediate or 4 * self.width, RandomNormal(0.0, _DEVIATION)
        last = RandomNormal(0.0, self.residual)
        if self.gated:
            x = SwiGLU(
                inner, self.activation, self.use_bias, kernel_initializer=normal, output_initializer=last,
                name=f"{name}_gated",
            )(x)  # fmt: skip
        else:
            for units, part, activation, initializer in (
                (inner, "up", self.activation, normal),
                (self.width, "down", None, last),
            ):
                x = Dense(
                    units, activation, use_bias=self.use_bias, kernel_initializer=initializer, name=f"{name}_{part}"
                )(x)
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
    key_value_heads: int | None = None,
    intermediate_dim: int | None = None,
    activation: str | None = None,
    gated: bool = False,
    norm: str = "layer",
    epsilon: float = 1e-5,
    rotary: float | None = None,
    tied: bool = True,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "gpt",
) -> Model:
    """Make a transformer with the architecture of GPT-2, or of LLaMA: for each step it predicts the next token.

    ::

        model = fnn.applications.GPT(vocabulary=65, steps=64, layers=4, heads=4, width=128, seed=0)
        model.compile(fnn.AdamW(0.001), "cross_entropy", metrics=["perplexity"])

        llama = fnn.applications.GPT(
            65, 64, layers=4, heads=4, width=128, dropout=0.0, use_bias=False, key_value_heads=2, intermediate_dim=352,
            gated=True, norm="rms", rotary=10000.0, tied=False,
        )

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
    key_value_heads : int, optional
        Heads of keys and values, a divisor of `heads`; None means as many as of queries.
    intermediate_dim : int, optional
        Numbers between the dense layers of a block; None means 4 width.
    activation : str or activation object, optional
        Between them; None means "silu" with a gate, and "gelu_tanh" without one.
    gated : bool
        Whether the dense layers of a block are a `SwiGLU`.
    norm : {"layer", "rms"}
        Whether blocks normalise by `LayerNorm` or `RMSNorm`.
    epsilon : float
        Of the normalisation.
    rotary : float, optional
        Queries and keys are rotated by their positions, with this wavelength (see `MultiHeadAttention`), and there is
        no table of positions.
    tied : bool
        Whether the output matrix is the table of tokens, transposed; else the model has a dense layer without a bias.
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
    layers take. A step sees itself and the steps before, so rows may be filled up at their end. Initial weights are
    normal with the deviation 0.02; those of the last kernels of attention and of the dense layers have
    0.02 / sqrt(2 layers). The options of the second example make the architecture of LLaMA: Touvron et al. 2023,
    arXiv:2302.13971 and arXiv:2307.09288.
    """
    tokens = _sequences(vocabulary, steps)
    checks.size("layers", layers)
    checks.flag("tied", tied)
    blocks = _Blocks(
        layers, heads, width, dropout, use_bias, epsilon, activation or ("silu" if gated is True else "gelu_tanh"),
        True, _DEVIATION / float(np.sqrt(2 * layers)), key_value_heads, intermediate_dim, norm, rotary, gated,
    )  # fmt: skip
    normal = RandomNormal(0.0, _DEVIATION)
    table = Embedding(vocabulary, width, normal, name="token_embedding")
    x = table(tokens)
    if rotary is None:
        x = Add(name="embedded")([x, PositionEmbedding(steps, normal, name="position_embedding")(x)])
    x = blocks.dropped(x, "embedding_dropout")
    for number in range(1, layers + 1):
        x = blocks.before(x, f"block{number}")
    x = blocks.norm(x, "last_norm")
    scores: Symbol = (
        matmul(x, transpose(table.embeddings))
        if tied
        else Dense(vocabulary, use_bias=False, kernel_initializer=normal, name="scores")(x)
    )
    if classifier_activation is not None:
        scores = Activation(classifier_activation, name="next")(scores)
    return Model(tokens, scores, seed=seed, dtype=dtype, name=name)


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
    head: str | None = None,
    segments: int | None = None,
    classifier_activation: Any = "softmax",
    seed: int | np.random.Generator | None = None,
    dtype: str = "float32",
    name: str | None = "bert",
) -> Model:
    """Make a transformer with the architecture of BERT, whose steps see all others; the token 0 is padding.

    ::

        words = fnn.applications.BERT(8000, 128, layers=4, heads=4, width=256, head="words")  # hidden words
        answers = fnn.applications.BERT(8000, 128, layers=4, heads=4, width=256, head="answers", segments=2)
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
    head : {"words", "answers"}, optional
        "words" scores all tokens at each step, for hidden words: a dense layer, normalisation, and the table of tokens.
        "answers" gives two outputs, which are scores of all steps: where an answer begins, and where it ends. Without
        `classes` and `pool`.
    segments : int, optional
        Number of kinds of segments: the model then has a second input, the kind of each token. None means that all
        tokens are of one kind, whose row is part of those of the positions.
    classifier_activation : str, activation object or None
        Of the outputs, if there are classes or a head; None gives the scores.
    seed, dtype, name
        As for `Model`.

    Returns
    -------
    Model
        Not compiled. Inputs have shape (steps,). Outputs have shape (steps, width), or (width,) with `pool`; with
        `classes` these are in the place of the width. With the head "words" the output has shape (steps, vocabulary),
        with "answers" both have shape (steps,).

    Raises
    ------
    TypeError, ValueError
        When an argument is invalid.

    Notes
    -----
    Devlin, Chang, Lee and Toutanova 2018, "BERT: pre-training of deep bidirectional transformers", arXiv:1810.04805.
    Blocks normalise the sums of their parts' results and what they take. Steps with padding are left out by attention,
    losses and metrics; their own results mean nothing, and "answers" has scores of them too. Initial weights are normal
    with the deviation 0.02. The heads are those of `BertForMaskedLM` and `BertForQuestionAnswering` in transformers;
    ``classes=2, pool="first"`` is that of `BertForSequenceClassification`.
    """
    tokens = _sequences(vocabulary, steps)
    blocks = _Blocks(layers, heads, width, dropout, True, 1e-12, "gelu", False, _DEVIATION)
    if pool not in (None, "first"):
        raise ValueError(f"pool: expected 'first' or None, got {checks.shorten(pool)}")
    if head not in (None, "words", "answers"):
        raise ValueError(f"head: expected 'words', 'answers' or None, got {checks.shorten(head)}")
    if classes is not None:
        checks.size("classes", classes)
    if head is not None and (classes is not None or pool is not None):
        raise ValueError(f"head: expected no classes and no pool with {head!r}")
    normal = RandomNormal(0.0, _DEVIATION)
    words = Embedding(vocabulary, width, normal, mask_zero=True, name="token_embedding")
    x = words(tokens)
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
    outputs: Any = x
    if head == "words":
        x = Dense(width, "gelu", kernel_initializer=normal, name="words_dense")(x)
        outputs = TiedDense(name="words")([blocks.norm(x, "words_norm"), words.embeddings])
        if classifier_activation is not None:
            outputs = Activation(classifier_activation, name="word")(outputs)
    elif head == "answers":
        x = Dense(2, kernel_initializer=normal, name="answers")(x)
        outputs = [
            Activation(classifier_activation or "linear", name=part)(x[:, :, place])
            for place, part in enumerate(("start", "end"))
        ]
    return Model(inputs if segments is not None else tokens, outputs, seed=seed, dtype=dtype, name=name)
