"""GPT and BERT beside transformers' models and PyTorch: the same results, and the time of a training step.

    python benchmarks/transformers_models.py
    python benchmarks/transformers_models.py --threads 1 2 --rounds 9
    python benchmarks/transformers_models.py --only results

Needs PyTorch and transformers. First random weights of small configurations of `GPT2LMHeadModel`, `LlamaForCausalLM`,
`BertModel` and of BERT with three heads are copied into `fnn.applications.GPT` and `BERT`: scores and hidden states
have to agree (`--only results` ends there). Then a training step of a small GPT is timed, with and without dropout:
AdamW, cross-entropy, one batch. PyTorch has two networks, `GPT2LMHeadModel` and a plain one around
`scaled_dot_product_attention`; ratios are to the faster of both. They take turns; medians of rounds.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastnn as fnn
from convolutions import measured

Array = NDArray[Any]
VOCABULARY, STEPS, LAYERS, HEADS, WIDTH, BATCH = 65, 64, 4, 4, 128, 12
RATE, DECAY = 1e-3, 0.1


def array(tensor: Any) -> Array:
    """Return a tensor's numbers."""
    found: Array = tensor.detach().numpy()
    return found


def split_heads(kernels: Sequence[Array], biases: Sequence[Array], heads: int) -> list[Array]:
    """Return the weights of an attention layer, of kernels (inputs, outputs) of query, key, value and output."""
    found: list[Array] = []
    for kernel, bias in zip(kernels[:3], biases[:3], strict=True):
        found += [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]
    return [*found, kernels[3].reshape(heads, -1, kernels[3].shape[1]), biases[3]]


def copy_gpt(source: Any, model: fnn.Model, heads: int) -> None:
    """Give a model the weights of a `GPT2LMHeadModel`."""
    body = source.transformer
    model.set_weights([array(body.wte.weight)], "token_embedding")
    model.set_weights([array(body.wpe.weight)], "position_embedding")
    for number, block in enumerate(body.h, start=1):
        name, width = f"block{number}", body.wte.weight.shape[1]
        joined, bias = array(block.attn.c_attn.weight), array(block.attn.c_attn.bias)
        kernels = [*(joined[:, i * width : (i + 1) * width] for i in range(3)), array(block.attn.c_proj.weight)]
        biases = [*np.split(bias, 3), array(block.attn.c_proj.bias)]
        model.set_weights(split_heads(kernels, biases, heads), f"{name}_attention")
        for ours, theirs in (("norm1", block.ln_1), ("norm2", block.ln_2), ("up", block.mlp.c_fc),
                             ("down", block.mlp.c_proj)):  # fmt: skip
            model.set_weights([array(theirs.weight), array(theirs.bias)], f"{name}_{ours}")
    model.set_weights([array(body.ln_f.weight), array(body.ln_f.bias)], "last_norm")


def copy_bert(source: Any, model: fnn.Model, heads: int) -> None:
    """Give a model the weights of a `BertModel`."""
    table = source.embeddings
    for name, part in (("token", table.word_embeddings), ("position", table.position_embeddings),
                       ("segment", table.token_type_embeddings)):  # fmt: skip
        model.set_weights([array(part.weight)], f"{name}_embedding")
    norms = [("embedding_norm", table.LayerNorm)]
    for number, block in enumerate(source.encoder.layer, start=1):
        name, of = f"block{number}", block.attention
        parts = [of.self.query, of.self.key, of.self.value, of.output.dense]
        kernels, biases = [array(part.weight).T for part in parts], [array(part.bias) for part in parts]
        model.set_weights(split_heads(kernels, biases, heads), f"{name}_attention")
        norms += [(f"{name}_norm1", of.output.LayerNorm), (f"{name}_norm2", block.output.LayerNorm)]
        for ours, theirs in (("up", block.intermediate.dense), ("down", block.output.dense)):
            model.set_weights([array(theirs.weight).T, array(theirs.bias)], f"{name}_{ours}")
    for name, part in norms:
        model.set_weights([array(part.weight), array(part.bias)], name)


def copy_dense(model: fnn.Model, parts: Sequence[tuple[str, Any]]) -> None:
    """Give dense layers the weights of `Linear` modules."""
    for name, part in parts:
        model.set_weights([array(part.weight).T, *([array(part.bias)] if part.bias is not None else [])], name)


def copy_llama(source: Any, model: fnn.Model, head: int) -> None:
    """Give a model the weights of a `LlamaForCausalLM`, whose heads have some size."""
    body = source.model
    model.set_weights([array(body.embed_tokens.weight)], "token_embedding")
    for number, block in enumerate(body.layers, start=1):
        name, of = f"block{number}", block.self_attn
        kernels = [array(each.weight).T for each in (of.q_proj, of.k_proj, of.v_proj)]
        split, output = [kernel.reshape(len(kernel), -1, head) for kernel in kernels], array(of.o_proj.weight).T
        model.set_weights([*split, output.reshape(-1, head, output.shape[1])], f"{name}_attention")
        gated = block.mlp.gate_proj, block.mlp.up_proj, block.mlp.down_proj
        model.set_weights([array(each.weight).T for each in gated], f"{name}_gated")
        for ours, theirs in (("norm1", block.input_layernorm), ("norm2", block.post_attention_layernorm)):
            model.set_weights([array(theirs.weight)], f"{name}_{ours}")
    model.set_weights([array(body.norm.weight)], "last_norm")
    copy_dense(model, [("scores", source.lm_head)])


def shaken(model: Any) -> Any:
    """Give biases and norms random values too: those of a new model are zeros and ones."""
    torch = importlib.import_module("torch")
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.05 * torch.randn_like(each))
    return model.eval()


def difference(name: str, ours: Array, theirs: Array) -> None:
    """Print the largest difference as a part of the largest number.

    Raises
    ------
    AssertionError
        If it is not within rounding.
    """
    worst = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"{name}: differ by at most {worst:.1e} of the largest", flush=True)
    assert worst < 1e-5, name


def same_results() -> None:
    """Compare the networks with those of transformers."""
    torch, peers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = peers.GPT2Config(vocab_size=101, n_positions=48, n_embd=64, n_layer=3, n_head=4)
    source = shaken(peers.GPT2LMHeadModel(config))
    gpt = fnn.applications.GPT(101, 48, 3, 4, 64, classifier_activation=None)
    copy_gpt(source, gpt, 4)
    tokens = rng.integers(0, 101, (5, 48))
    with torch.no_grad():
        difference("GPT2LMHeadModel, scores", gpt.predict(tokens), array(source(torch.from_numpy(tokens)).logits))
    same_llama(tokens)
    same_berts(rng)


def same_llama(tokens: Array) -> None:
    """Compare GPT with the options of LLaMA: grouped heads, rotation, gated layers."""
    torch, peers = importlib.import_module("torch"), importlib.import_module("transformers")
    config = peers.LlamaConfig(
        vocab_size=101, hidden_size=64, intermediate_size=176, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=48, rms_norm_eps=1e-6, tie_word_embeddings=False,
    )  # fmt: skip
    source = shaken(peers.LlamaForCausalLM(config))
    llama = fnn.applications.GPT(
        101, 48, 3, 8, 64, 0.0, use_bias=False, key_value_heads=2, intermediate_dim=176, gated=True, norm="rms",
        epsilon=1e-6, rotary=10000.0, tied=False, classifier_activation=None,
    )  # fmt: skip
    copy_llama(source, llama, 8)
    with torch.no_grad():
        difference("LlamaForCausalLM, scores", llama.predict(tokens), array(source(torch.from_numpy(tokens)).logits))


def same_berts(rng: np.random.Generator) -> None:
    """Compare BERT and its heads, with padding."""
    torch, peers = importlib.import_module("torch"), importlib.import_module("transformers")
    options = {"vocab_size": 101, "max_position_embeddings": 48, "hidden_size": 64, "num_hidden_layers": 3}
    options |= {"num_attention_heads": 4, "intermediate_size": 256}
    config = peers.BertConfig(**options, num_labels=3)
    there = np.arange(48) < rng.integers(5, 49, (5, 1))
    tokens, kinds = rng.integers(1, 101, (5, 48)) * there, rng.integers(0, 2, (5, 48))
    given = {"input_ids": tokens, "token_type_ids": kinds, "attention_mask": there.astype(int)}

    def results(source: Any) -> Any:
        with torch.no_grad():
            return source(**{name: torch.from_numpy(each) for name, each in given.items()})

    def ours(source: Any, **more: Any) -> fnn.Model:
        model = fnn.applications.BERT(101, 48, 3, 4, 64, segments=2, classifier_activation=None, **more)
        copy_bert(source, model, 4)
        return model

    source = shaken(peers.BertModel(config, False))
    states, expected = ours(source).predict([tokens, kinds]), array(results(source).last_hidden_state)
    difference("BertModel with padding, last states", states[there], expected[there])

    source = shaken(peers.BertForMaskedLM(config))
    bert, head = ours(source.bert, head="words"), source.cls.predictions
    copy_dense(bert, [("words_dense", head.transform.dense)])
    norm = head.transform.LayerNorm
    bert.set_weights([array(norm.weight), array(norm.bias)], "words_norm")
    bert.set_weights([array(head.bias)], "words")
    scores, expected = bert.predict([tokens, kinds]), array(results(source).logits)
    difference("BertForMaskedLM, scores", scores[there], expected[there])

    source = shaken(peers.BertForQuestionAnswering(peers.BertConfig(**options, num_labels=2)))
    bert = ours(source.bert, head="answers")
    copy_dense(bert, [("answers", source.qa_outputs)])
    found = results(source)
    for scores, expected, name in zip(
        bert.predict([tokens, kinds]), (array(found.start_logits), array(found.end_logits)), ("begin", "end"),
        strict=True,
    ):  # fmt: skip
        difference(f"BertForQuestionAnswering, where answers {name}", scores[there], expected[there])

    source = shaken(peers.BertForSequenceClassification(config))
    bert = ours(source.bert, classes=3, pool="first")
    copy_dense(bert, [("pooled", source.bert.pooler.dense), ("classes", source.classifier)])
    difference("BertForSequenceClassification, scores", bert.predict([tokens, kinds]), array(results(source).logits))


def plain_network(dropout: float) -> Any:
    """Return a GPT of PyTorch's own layers."""
    torch = importlib.import_module("torch")
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.joined, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
            self.drop = nn.Dropout(dropout)

        def forward(self, x: Any) -> Any:
            parts = self.joined(self.norm1(x)).split(WIDTH, dim=2)
            q, k, v = (each.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for each in parts)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout if self.training else 0.0, is_causal=True)
            x = x + self.drop(self.output(y.transpose(1, 2).reshape(x.shape)))
            return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(STEPS, WIDTH)
            self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(WIDTH)
            self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])

        def forward(self, tokens: Any) -> Any:
            x = self.blocks(self.drop(self.tokens(tokens) + self.places.weight))
            return self.norm(x) @ self.tokens.weight.T

    return Network()


def contestants(dropout: float, threads: int) -> dict[str, Callable[[], float]]:
    """Return a function of each network that takes a training step and returns the loss."""
    torch, peers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.set_num_threads(threads)
    fnn.set_num_threads(threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, VOCABULARY, (2, BATCH, STEPS))
    config = peers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=STEPS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
    theirs = peers.GPT2LMHeadModel(config).train()
    model = fnn.applications.GPT(VOCABULARY, STEPS, LAYERS, HEADS, WIDTH, dropout, classifier_activation=None, seed=0)
    copy_gpt(theirs, model, HEADS)
    model.compile(fnn.AdamW(RATE, DECAY, epsilon=1e-8), fnn.CrossEntropy(from_logits=True))
    tokens, labels = torch.from_numpy(x), torch.from_numpy(y).reshape(-1)

    def stepping(network: Any, scores: Callable[[Any], Any]) -> Callable[[], float]:
        optimizer = torch.optim.AdamW(network.parameters(), RATE, eps=1e-8, weight_decay=DECAY)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(scores(tokens).view(-1, VOCABULARY), labels)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step

    plain = plain_network(dropout).train()
    return {
        "fastnn": lambda: float(model.train_on_batch(x, y)["loss"]),
        "GPT2LMHeadModel": stepping(theirs, lambda tokens: theirs(tokens).logits),
        "plain PyTorch": stepping(plain, plain),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print differences, and a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["results"])
    given = parser.parse_args(arguments)
    same_results()
    if given.only:
        return
    for threads in given.threads:
        print(f"\nms a training step, float32, {threads} thread(s): {LAYERS} layers x {WIDTH}, batch {BATCH} x {STEPS}")
        for dropout in (0.0, 0.1):
            calls = contestants(dropout, threads)
            if not dropout:
                ours, theirs = (np.array([calls[name]() for _ in range(3)]) for name in ("fastnn", "GPT2LMHeadModel"))
                worst = float(np.abs(ours / theirs - 1.0).max())
                assert worst < 1e-3, f"the losses differ by {worst:.1e}: {ours}, {theirs}"
                print(f"losses of three steps within {worst:.0e}")
            times = {name: 1e3 * each for name, each in measured(calls, 0.2, given.rounds).items()}
            ratio = min(each for name, each in times.items() if name != "fastnn") / times["fastnn"]
            shown = "  ".join(f"{name} {each:8.2f}" for name, each in times.items())
            print(f"dropout {dropout}  {shown}  {ratio:6.2f} times", flush=True)


if __name__ == "__main__":
    main()
