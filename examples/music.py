"""A network that makes music: it reads old melodies note by note, and goes on with some that it has never heard.

The tunes are in `tunes.abc`, in ABC notation: letters are notes, numbers behind them lengths, lines end bars. A tune
becomes a row of tokens: its metre, then in turn the pitch of a note and its length, which also says whether a bar line
follows. Each tune is transposed to twelve keys, for more to learn from. A GRU names each following token, and its
perplexity says how many pitches, or lengths, it hesitates between. The tunes are few, so a sixth of them is held out at
a time: all are judged by a network that has not heard them. Beside it stands a table of how often a pitch follows the
last pitch, and a length the last length. In twelve keys the key of a tune has to be heard; the same network and table
are also taught, and asked, in the key of C alone.

Then it continues a tune from its first bars. `model.freeze(stateful=True)` gives one step of the network to compiled
code: a token goes in, the chances of the next one come out, and one is drawn. `--midi FOLDER` writes what it has made.
"""

import argparse
import os
import re

import numpy as np
from numba import njit

import fastnn as fnn
from fastnn import nopython as fnp

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tunes", metavar="FILE.abc", default=os.path.join(here, "tunes.abc"), help="tunes of your own")
parser.add_argument("--midi", metavar="FOLDER", help="write the continued tunes as MIDI files")
parser.add_argument("--plot", metavar="FILE.png", help="draw a continued tune (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one sixth held out, a small network, for a test")
args = parser.parse_args()

UNITS, EPOCHS, ROUNDS = (64, 6, 1) if args.quick else (256, 10, 6)  # epochs of tunes in all keys
KEYS, SIXTHS, GIVEN, TEMPERATURE = range(-6, 6), 6, 4, 0.7
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
NOTE = re.compile(r"([_^=]?)([A-Ga-g])([,']*)(\d*)(?:/(\d+))?(-?)|(\|\]?)|(\S)")


def read(path):
    """Return the tunes of a file: title, metre, semitones to the key of C (or Am, Ddor), and notes.

    A note is its pitch, which is MIDI's number, its length in sixteenths, and whether a bar line follows. A bar that
    does not fill the metre is an error.
    """
    with open(path, encoding="utf-8") as file:
        _, *blocks = re.split(r"^X:", file.read(), flags=re.MULTILINE)
    found = []
    for block in blocks:
        fields = dict(re.findall(r"^([TMLK]):\s*(.*?)\s*$", block, re.MULTILINE))
        title, key, unit = fields["T"], fields["K"], 16 // int(fields["L"].removeprefix("1/"))
        sharps = "FCGDAEB".index(key[0]) - 1 - {"": 0, "m": 3, "dor": 2}[key[1:]]
        moved = dict.fromkeys("FCGDAEB"[: max(sharps, 0)], 1) | dict.fromkeys("BEADGCF"[: max(-sharps, 0)], -1)
        music = re.sub(r"^\S:.*$", "", block[block.index("\nK:") :], flags=re.MULTILINE)
        notes, bars, filled, marks, tied = [], [], 0, {}, False
        for mark, letter, octaves, times, parts, tie, line, other in NOTE.findall(music):
            length, rest = divmod(unit * int(times or 1), int(parts or 1))
            if other or rest:
                raise ValueError(f"{title}, bar {len(bars) + 1}: expected notes of whole sixteenths, got {other!r}")
            if line:
                notes[-1][2] = True
                bars.append(filled)
                filled, marks = 0, {}
                continue
            if mark:  # it holds until the bar line
                marks[letter] = "_=^".index(mark) - 1
            pitch = 60 + (9, 11, 0, 2, 4, 5, 7)["ABCDEFG".index(letter.upper())] + 12 * letter.islower()
            pitch += marks.get(letter, moved.get(letter.upper(), 0)) + 12 * (octaves.count("'") - octaves.count(","))
            if tied:
                notes[-1][1:] = notes[-1][1] + length, False
            else:
                notes.append([pitch, length, False])
            tied, filled = bool(tie), filled + length
        bar = sixteenths(fields["M"])
        first, *inner, last = bars
        # a first bar may be short, and then it fills the last one
        if any(one != bar for one in inner) or not 0 < first <= bar or last != bar - first % bar:
            raise ValueError(f"{title}: bars have {bars} sixteenths, but the metre {bar}")
        found.append((title, fields["M"], -(7 * sharps + 6) % 12 - 6, [tuple(note) for note in notes]))
    return found


def sixteenths(metre):
    """Return the length of a bar."""
    beats, beat = map(int, metre.split("/"))
    return 16 * beats // beat


tunes = read(args.tunes)
if len(tunes) < 2 * SIXTHS:
    parser.error(f"expected at least {2 * SIXTHS} tunes, got {len(tunes)}")
pitches, lengths = zip(*((note[0], note[1:]) for tune in tunes for note in tune[3]), strict=True)
metres, transposed = {tune[1] for tune in tunes}, range(min(pitches) + KEYS[0], max(pitches) + KEYS[-1] + 1)
TOKENS = ["end", *sorted(metres), *transposed, *sorted(set(lengths))]
NUMBER = {token: number for number, token in enumerate(TOKENS)}
# what may stand where a pitch is expected, and where a length is
KINDS = np.array([[token == "end" or isinstance(token, int), isinstance(token, tuple)] for token in TOKENS]).T
STEPS = 2 * max(len(tune[3]) for tune in tunes) + 1


def encode(metre, notes, shift=0):
    """Return the numbers of the tokens of a tune, moved by semitones."""
    return [NUMBER[metre], *(NUMBER[token] for pitch, *length in notes for token in (pitch + shift, tuple(length)))]


def rows(tunes, one_key):
    """Return tunes in one key or in all, as rows of tokens and of those that follow; zeros fill them up."""
    found = [encode(metre, notes, shift) for _, metre, home, notes in tunes for shift in ([home] if one_key else KEYS)]
    x = fnn.data.pad_sequences(found, maxlen=STEPS, padding="post")
    return x, np.pad(x[:, 1:], ((0, 0), (0, 1)))


def by_table(train, test):
    """Return the chances of what follows: by the last pitch or the last length, or at first by the metre."""
    last = [np.concatenate([x[:, :1], x[:, :-1]], axis=1) for x, _ in (train, test)]
    counts = np.zeros((len(TOKENS), len(TOKENS)))
    np.add.at(counts, (last[0], train[1]), train[0] > 0)
    kinds = KINDS[np.arange(STEPS) % 2]
    usual = (counts.sum(axis=0) + 0.1) * kinds
    chances = counts[last[1]] * kinds + 5.0 * usual / usual.sum(axis=1, keepdims=True)
    return chances / chances.sum(axis=2, keepdims=True)


def surprise(chances, test):
    """Return the sums of -log(chance) of what came, of pitches and of lengths, and the number of lengths."""
    x, y = test
    found = -np.log(np.where(x > 0, np.take_along_axis(chances, y[:, :, None], axis=2)[:, :, 0], 1.0))
    return np.array([found[:, 0::2].sum(), found[:, 1::2].sum(), (x[:, 1::2] > 0).sum()])


def teach(train, epochs, size, rate):
    """Return a network that has learnt tunes, in batches of a size."""
    model = fnn.Sequential(
        [
            fnn.Input(STEPS, dtype="int64"), fnn.Embedding(len(TOKENS), 64, mask_zero=True), fnn.Dropout(0.25),
            fnn.GRU(UNITS, return_sequences=True), fnn.Dropout(0.5), fnn.Dense(len(TOKENS), activation="softmax"),
        ],
        seed=0,
    )  # fmt: skip
    falling = fnn.schedules.CosineDecay(rate, epochs * -(-len(train[0]) // size))
    model.compile(fnn.AdamW(falling, weight_decay=0.05, clipnorm=1.0), "cross_entropy")
    model.fit(*train, batch_size=size, epochs=epochs, verbose=0)
    return model


print(f"{len(tunes)} tunes with {len(pitches)} notes, {len(TOKENS)} tokens; all bars fill their metres")
sums = {}
for turn in range(ROUNDS):
    heard, unheard = [tune for i, tune in enumerate(tunes) if i % SIXTHS != turn], tunes[turn::SIXTHS]
    for one_key, keys in ((True, "in C"), (False, "in 12 keys")):
        train, test = rows(heard, one_key), rows(unheard, one_key)
        model = teach(train, 4 * EPOCHS, 8, 0.005) if one_key else teach(train, EPOCHS, 32, 0.01)
        for who, chances in (("table", by_table(train, test)), ("network", model.predict(test[0]))):
            sums[f"{who}, {keys}"] = sums.get(f"{who}, {keys}", 0.0) + surprise(chances, test)
print(f"{'perplexity of tunes held out':30s}{'pitches':>9s}{'lengths':>9s}{'notes':>9s}")
for label, (of_pitches, of_lengths, count) in sums.items():
    both = np.exp(np.array([of_pitches, of_lengths, of_pitches + of_lengths]) / count)
    print(f"  {label:28s}" + "".join(f"{one:9.2f}" for one in both))


@njit
def sing(net, state, first, chances, kinds, temperature, draws, sung):
    """Let a network read some tokens, and draw others until a tune ends; returns how many."""
    for token in first:
        fnp.step(net, state, token, chances)
    for place, draw in enumerate(draws):
        total = np.cumsum(chances ** (1.0 / temperature) * kinds[place % 2])
        token = min(np.searchsorted(total, draw * total[-1], side="right"), len(chances) - 1)
        if token == 0:
            return place
        sung[place] = token
        fnp.step(net, state, token, chances)
    return len(draws)


def name(note):
    """Return a note as text: its name and octave, its length in quarters if that is not 1, a bar line."""
    pitch, length, line = note
    return f"{NAMES[pitch % 12]}{pitch // 12 - 1}" + f":{length / 4:g}" * (length != 4) + " |" * line


def write_midi(path, metre, notes):
    """Write a tune as a MIDI file of one track, 120 quarters a minute."""

    def delay(ticks):
        return bytes([128 | ticks >> 7, ticks & 127] if ticks > 127 else [ticks])

    beats, beat = map(int, metre.split("/"))
    track = b"\0\xff\x51\x03" + (500_000).to_bytes(3, "big")
    track += b"\0\xff\x58\x04" + bytes([beats, beat.bit_length() - 1, 24, 8])
    for pitch, length, _ in notes:
        track += b"\0\x90" + bytes([pitch, 80]) + delay(120 * length) + b"\x80" + bytes([pitch, 0])
    track += b"\0\xff\x2f\0"
    header = b"MThd" + (6).to_bytes(4, "big") + b"\0\0\0\x01" + (480).to_bytes(2, "big")
    with open(path, "wb") as file:
        file.write(header + b"MTrk" + len(track).to_bytes(4, "big") + track)


# the last network goes on with the tunes that it has not heard
net, chances = model.freeze(stateful=True), np.zeros(len(TOKENS), np.float32)
rng = np.random.default_rng(4)
made, lines, right = [], 0, 0
for title, metre, _, notes in unheard:
    ends = [place for place, note in enumerate(notes, 1) if note[2]]
    given = notes[: ends[GIVEN - 1]]
    sung = np.zeros(96, np.int64)
    first = np.array(encode(metre, given))
    count = sing(net, fnp.state(net), first, chances, KINDS, TEMPERATURE, rng.random(len(sung)), sung)
    new = [(TOKENS[sung[i]], *TOKENS[sung[i + 1]]) for i in range(0, count, 2)]
    made.append((title, metre, notes, given, new))
    # a bar may be longer than the metre if a note is tied over the line
    since = 0
    for _, length, line in new:
        since += length
        if line:
            lines, right, since = lines + 1, right + (since % sixteenths(metre) == 0), 0
print(f"{len(made)} of them continued: {right} of {lines} bar lines are where the metre wants them")
title, metre, notes, given, new = made[0]
print(f"\n{title}, in {metre}, the first {GIVEN} bars:\n  {' '.join(map(name, given))}")
print(f"as the network goes on:\n  {' '.join(map(name, new))}")

if args.midi:
    os.makedirs(args.midi, exist_ok=True)
    for number, (_, its_metre, _, begun, added) in enumerate(made, 1):
        write_midi(os.path.join(args.midi, f"{number}.mid"), its_metre, begun + added)
    print(f"{len(made)} MIDI files in {args.midi}")

if args.plot:
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 1, figsize=(9, 5.5), sharex=True, sharey=True, layout="constrained")
    bar, at = sixteenths(metre), sum(note[1] for note in given)
    before = next(place for place, note in enumerate(notes, 1) if note[2])
    upbeat = sum(note[1] for note in notes[:before]) % bar  # what is sung before the first whole bar
    rolls = (("as it was written", notes[len(given) :], "#009E73"), ("as the network goes on", new, "#D55E00"))
    for panel, (label, rest, colour) in zip(panels, rolls, strict=True):
        for part, start, who, paint in ((given, 0, "given", "#0072B2"), (rest, at, label, colour)):
            left = start - upbeat + np.cumsum([0, *(note[1] for note in part[:-1])])
            width = [0.92 * note[1] / bar for note in part]
            panel.barh([note[0] for note in part], width, left=1 + left / bar, height=0.85, color=paint, label=who)
        panel.set(ylabel="pitch")
        panel.set_axisbelow(True)
        panel.grid(color="0.88")
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    used = {note[0] for note in notes + given + new}
    marked = [pitch for pitch in range(min(used), max(used) + 1) if pitch % 12 in (0, 4, 7)]
    panels[0].set_yticks(marked, [name((pitch, 4, False)) for pitch in marked])
    last = (at - upbeat + max(sum(note[1] for note in part) for _, part, _ in rolls)) // bar + 2
    panels[1].set(xlabel="bar", xticks=range(1, last, 1 if last < 20 else 2))
    figure.suptitle(f"{title}: the first {GIVEN} bars, and what follows")
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
