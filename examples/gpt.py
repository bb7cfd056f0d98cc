"""A small GPT: a transformer learns a text letter by letter, and continues what it is given.

The text is the help on Python's language, which comes with Python (`pydoc_data`). The network has the architecture of
GPT-2, with 4 blocks of 128 numbers and 64 letters at a time: for each letter of a piece it gives the chances of the
next one, from all letters before it. Its perplexity says how many letters it hesitates between: as many as there are
letters at first, 1 if it knew all. It is trained on nine tenths of the text; the rest shows what it has learnt of the
language and not by heart. Beside it stands a table of what follows two letters.

Then it writes: `model.stream` gives each letter when it is chosen, with different temperatures, and `model.generate`
continues several beginnings at once. The keys and values of earlier letters are kept, so that a letter costs one step;
without them each one costs the whole piece again, and is the same.
"""

import argparse
import time
from pydoc_data.topics import topics

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw the perplexity over the training")
parser.add_argument("--quick", action="store_true", help="a smaller network and less text, for a test")
args = parser.parse_args()

STEPS, BATCH = 64, 24
LAYERS, HEADS, WIDTH = (2, 2, 32) if args.quick else (4, 4, 128)
KEPT, EPOCHS, WRITTEN = (30_000, 3, 60) if args.quick else (400_000, 8, 300)

text = "\n\n".join(topics[name] for name in sorted(topics)).replace("\r", "")
while "  " in text:  # without indentation
    text = text.replace("  ", " ")
text = text[:KEPT]
letters = fnn.text.Characters(text)
tokens = letters.encode(text)
cut = len(tokens) * 9 // 10
test = fnn.text.windows(tokens[cut:], STEPS, STEPS)


def by_table(train, test):
    """Return the perplexity of a table of what follows two letters, smoothed by what follows one."""
    n = len(letters)
    two, one = np.zeros((n * n, n)), np.zeros((n, n))
    np.add.at(two, (train[:-2] * n + train[1:-1], train[2:]), 1.0)
    np.add.at(one, (train[1:-1], train[2:]), 1.0)
    chances = (one + 0.1) / (one + 0.1).sum(axis=1, keepdims=True)
    rows, last = two[test[:-2] * n + test[1:-1]], test[1:-1]
    chances = (rows + 5.0 * chances[last]) / (rows.sum(axis=1, keepdims=True) + 5.0)
    return np.exp(-np.log(chances[np.arange(len(last)), test[2:]]).mean())


model = fnn.applications.GPT(len(letters), STEPS, LAYERS, HEADS, WIDTH, dropout=0.1, seed=0)
updates = EPOCHS * (cut // STEPS // BATCH)
rates = fnn.schedules.CosineDecay(1e-4, updates, warmup_target=3e-3, warmup_steps=updates // 20)
model.compile(fnn.AdamW(rates, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0), "cross_entropy",
              metrics=["perplexity"])  # fmt: skip
table = by_table(tokens[:cut].astype(int), tokens[cut:].astype(int))
print(f"{len(text)} letters of {len(letters)} kinds, {model.count_params()} weights")
print(f"table of two letters: perplexity {table:.2f}\n")
print(f"{'epoch':>5s}{'training':>11s}{'test':>8s}{'thousand letters a second':>28s}")
curves = []
for epoch in range(EPOCHS):
    # other pieces in each epoch, so that no letter is always the first
    x, y = fnn.text.windows(tokens[epoch * 23 % STEPS : cut], STEPS, STEPS)
    begin = time.perf_counter()
    trained = model.fit(x, y, batch_size=BATCH, verbose=0).history["perplexity"][-1]
    seconds = time.perf_counter() - begin
    curves.append((trained, model.evaluate(*test)["perplexity"]))
    print(f"{epoch + 1:5d}{curves[-1][0]:11.2f}{curves[-1][1]:8.2f}{x.size / seconds / 1000:28.0f}")

prompt = "The function "
for temperature in (0.5, 0.9):
    print(f"\n--- temperature {temperature}")
    print(prompt, end="")
    for token in model.stream(letters.encode(prompt), WRITTEN, temperature, seed=1):
        print(letters.decode([token]), end="")
    print()
print("\n--- several at once, among the five likeliest letters, to the end of a line")
prompts = ["If the value ", "A class ", "Changed in version 3."]
found = model.generate([letters.encode(one) for one in prompts], 70, 0.7, top_k=5, seed=2, stop=letters.encode("\n"))
for one, more in zip(prompts, found, strict=True):
    print(f"{one}|{letters.decode(more)}")


def timed(count, **more):
    """Return written letters, and the microseconds of each, the beginning among them."""
    begin = time.perf_counter()
    written = model.generate(letters.encode(prompt), count, seed=3, **more)
    return written, 1e6 * (time.perf_counter() - begin) / count


timed(10, cache=False)
kept, short = timed(WRITTEN)
whole, long = timed(WRITTEN, cache=False)
print(f"\na letter takes {short:.0f} µs, without the keys and values of earlier ones {long:.0f} µs")
print(f"the same letters: {'yes' if np.array_equal(kept, whole) else 'no'}")

if args.plot:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    for curve, label in zip(zip(*curves, strict=True), ("training, with dropout", "test"), strict=True):
        panel.plot(range(1, EPOCHS + 1), curve, marker="o", label=label)
    panel.axhline(table, color="grey", linestyle="--", label="table of two letters")
    panel.set(title="A small GPT learns a text", xlabel="epoch", ylabel="perplexity (letters)", ylim=(0, None))
    panel.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
