"""A network that writes: it learns a text letter by letter, and goes on by itself in a compiled loop.

The text is the help on Python's language, which comes with Python (`pydoc_data`). A GRU reads it in pieces of 64
letters and has to name each following letter. Its perplexity says how many letters it hesitates between: as many as
there are letters at first, 1 if it knew all. The network is trained on nine tenths of the text, and the rest shows
what it has learnt of the language and not by heart. Beside it stands a table of how often each letter follows the
last two.

Then it writes. `model.freeze(stateful=True)` gives one step of the network to compiled code: the state of the GRU is an
array, a letter goes in, the chances of the next one come out, and one is drawn. No Python runs between letters.
"""

import argparse
import time
from pydoc_data.topics import topics

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw the perplexity over the training")
parser.add_argument("--quick", action="store_true", help="a tenth of the text, for a test")
args = parser.parse_args()

STEPS, UNITS, COLUMNS = 64, 128, 24
KEPT, EPOCHS = (40_000, 3) if args.quick else (400_000, 10)

text = "\n\n".join(topics[name] for name in sorted(topics)).replace("\r", "")[:KEPT]
letters = sorted(set(text))
number = {letter: index for index, letter in enumerate(letters)}
whole = np.array([number[letter] for letter in text])
cut = len(whole) * 9 // 10


def pieces(letters, shift):
    """Return pieces of the text, shifted from the last ones, and for each letter the next one."""
    count = (len(letters) - 1 - shift) // STEPS
    rows = letters[shift : shift + count * STEPS + 1]
    return rows[:-1].reshape(count, STEPS), rows[1:].reshape(count, STEPS)


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


model = fnn.Sequential(
    [
        fnn.Input(STEPS, dtype="int64"), fnn.Embedding(len(letters), COLUMNS),
        fnn.GRU(UNITS, return_sequences=True), fnn.Dense(len(letters), activation="softmax"),
    ],
    seed=0,
)  # fmt: skip
model.compile(fnn.Adam(0.004, clipnorm=1.0), "cross_entropy", metrics=["perplexity"])
test = pieces(whole[cut:], 0)
table = by_table(whole[:cut], whole[cut:])
print(f"{len(text)} letters of {len(letters)} kinds; table of two letters: perplexity {table:.2f}")
print(f"{'epoch':>5s}{'training':>11s}{'test':>8s}")
curves = []
seconds = 0.0
for epoch in range(EPOCHS):
    # other pieces in each epoch, so that no letter is always the first
    x, y = pieces(whole[:cut], (epoch * 23) % STEPS)
    begin = time.perf_counter()
    trained = model.fit(x, y, batch_size=32, epochs=1, verbose=0).history["perplexity"][-1]
    seconds = time.perf_counter() - begin
    curves.append((trained, model.evaluate(*test)["perplexity"]))
    print(f"{epoch + 1:5d}{curves[-1][0]:11.2f}{curves[-1][1]:8.2f}")
print(f"{x.size / seconds / 1000:.0f} thousand letters a second in the last epoch of training")


@njit
def write(net, first, chances, temperature, draws, written):
    """Let a network read some letters, and write others."""
    state = np.zeros((2, UNITS), chances.dtype)
    for letter in first:
        fnp.step(net, state, letter, chances)
    for place, draw in enumerate(draws):
        sharp = chances ** (1.0 / temperature)
        total = np.cumsum(sharp)
        letter = min(np.searchsorted(total, draw * total[-1]), len(chances) - 1)
        written[place] = letter
        fnp.step(net, state, letter, chances)


net, chances = model.freeze(stateful=True), np.zeros(len(letters), np.float32)
prompt = "The function "
first = np.array([number[letter] for letter in prompt])
draws = np.random.default_rng(1).random(400)
for temperature in (0.3, 0.7):
    written = np.zeros(len(draws), np.int64)
    write(net, first, chances, temperature, draws, written)
    print(f"\n--- temperature {temperature}")
    print(prompt + "".join(letters[index] for index in written))
begin = time.perf_counter()
write(net, first, chances, 0.7, draws, written)
print(f"\n{1e6 * (time.perf_counter() - begin) / len(draws):.1f} µs a letter")

if args.plot:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    for curve, label in zip(zip(*curves, strict=True), ("training", "test"), strict=True):
        panel.plot(range(1, EPOCHS + 1), curve, marker="o", label=label)
    panel.axhline(table, color="grey", linestyle="--", label="table of two letters")
    panel.set(title="A GRU learns a text", xlabel="epoch", ylabel="perplexity (letters)", ylim=(0, None))
    panel.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
