"""The next token of a GPT, with keys and values kept, beside transformers and the bandwidth of memory.

    python benchmarks/generation.py
    python benchmarks/generation.py --threads 1 2 --only 124M --rounds 5

Needs PyTorch and transformers. Both have the same random weights, and continue the same prompt with the likeliest
token: they have to choose the same ones. Both take turns, a few tokens each; medians of rounds. Reading all weights
once, from memory, is the least that a token takes: the last column says which part of the bandwidth, as a sum over as
many numbers reaches it with as many threads, is used by them and by the keys and values.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

import fastnn as fnn
from transformers_models import copy_gpt, shaken

Array = NDArray[Any]


@dataclass(frozen=True)
class Workload:
    """A GPT, and the tokens of its prompt."""

    name: str
    vocabulary: int
    steps: int
    layers: int
    heads: int
    width: int
    prompt: int
    tokens: int


WORKLOADS = (
    Workload("GPT 4 x 128", 65, 64, 4, 4, 128, 8, 50),
    Workload("GPT 6 x 384", 65, 256, 6, 6, 384, 64, 20),
    Workload("GPT-2 124M", 50257, 1024, 12, 12, 768, 128, 8),
)


@njit(fastmath=True, cache=True)  # type: ignore[untyped-decorator]
def _summed(x: Array) -> float:
    found: Any = np.float32(0.0)
    for at in range(len(x)):  # a loop over the values themselves would not become vectors
        found += x[at]
    return found  # type: ignore[no-any-return]


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def summed(x: Array, parts: int) -> float:
    """Return the sum of all numbers, which reads them once."""
    size, found = len(x) // parts, 0.0
    for part in prange(parts):
        found += _summed(x[part * size : (part + 1) * size])
    return found


def theirs(source: Any, prompt: Array) -> Iterator[int]:
    """Iterate over the likeliest next tokens of transformers' model."""
    torch = importlib.import_module("torch")
    with torch.inference_mode():
        given, past = torch.from_numpy(prompt)[None], None
        while True:
            result = source(given, past_key_values=past, use_cache=True)
            past, given = result.past_key_values, result.logits[:, -1:].argmax(-1)
            yield int(given)


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(work: Workload, threads: int, rounds: int) -> str:
    """Return a line of the table."""
    torch, peers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    fnn.set_num_threads(threads)
    torch.manual_seed(0)
    config = peers.GPT2Config(
        vocab_size=work.vocabulary, n_positions=work.steps, n_embd=work.width, n_layer=work.layers, n_head=work.heads,
        attn_implementation="sdpa",
    )  # fmt: skip
    source = shaken(peers.GPT2LMHeadModel(config))
    model = fnn.applications.GPT(
        work.vocabulary, work.steps, work.layers, work.heads, work.width, classifier_activation=None
    )
    copy_gpt(source, model, work.heads)
    prompt = np.random.default_rng(0).integers(0, work.vocabulary, work.prompt)
    streams = [model.stream(prompt, work.steps, temperature=0.0), theirs(source, prompt)]
    # what is read for a token: all weights but the rows of the embeddings, keys and values so far
    numbers = model.count_params() - work.steps * work.width + 2 * work.layers * work.width * work.prompt
    memory = np.ones(numbers, np.float32)
    chosen: list[list[int]] = [[next(stream)] for stream in streams]
    summed(memory, threads)
    times: list[list[float]] = [[], [], []]
    for _ in range(min(rounds, (work.steps - work.prompt - 1) // work.tokens)):
        for found, stream, tokens in zip(times, streams, chosen, strict=False):
            found.append(timed(lambda stream=stream, tokens=tokens: tokens.extend(  # type: ignore[misc]
                next(stream) for _ in range(work.tokens)
            )) / work.tokens)  # fmt: skip
        times[2].append(timed(lambda: summed(memory, threads)))
    assert chosen[0] == chosen[1], (chosen[0][:20], chosen[1][:20])
    ours, others, reading = (median(each) for each in times)
    rate = 4e-9 * numbers / reading
    return (
        f"{work.name:12} {threads:7} {1e3 * ours:11.3f} {1e3 * others:17.3f} {others / ours:8.2f} {rate:10.1f} "
        f"{reading / ours:8.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a workload's name")
    options = parser.parse_args(arguments)
    print(f"{'model':12} {'threads':>7} {'fastnn, ms':>11} {'transformers, ms':>17} {'ratio':>8} {'GB/s read':>10} "
          f"{'of that':>8}")  # fmt: skip
    for threads in options.threads:
        for work in WORKLOADS:
            if options.only in work.name:
                print(row(work, threads, options.rounds), flush=True)


if __name__ == "__main__":
    main()
