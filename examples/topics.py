"""Words known by the company they keep: topics of sentences from a handful that somebody has labelled.

A small grammar makes sentences about kitchens, gardens, ships, music and mountains. Thousands of them have no label,
and twenty have one. A network first learns from the others: given two words on each side, which word is missing? To
answer, its table of words (an `Embedding`) has to put words with the same neighbours at the same place. A second
network starts with that table, and has to tell the topic from the mean of a sentence's words. Many words of the test
sentences are in none of the labelled ones: who counts words does not know them, and neither does a table that starts
at random.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw the words' places in the table")
parser.add_argument("--quick", action="store_true", help="fewer sentences and epochs, for a test")
args = parser.parse_args()

THINGS = {
    "kitchen": "pot pan spoon oven soup bread butter flour onion garlic pepper salt plate bowl knife recipe sauce "
               "cake sugar kettle dough noodle apron rice",
    "garden": "rose tulip hedge lawn spade rake seed soil bee worm apple pear tree leaf root weed bush fence compost "
              "bulb petal stem ladybird sprout",
    "ship": "sail mast anchor deck captain sailor harbour wave tide rope hull compass island storm whale gull "
            "lighthouse cabin crew rudder port chart buoy galley",
    "music": "violin cello drum flute choir melody chord rhythm song singer organ piano trumpet concert stage score "
             "audience conductor opera waltz string bow harp tune",
    "mountain": "summit ridge glacier valley hut climber cliff snow peak rock slope trail goat eagle avalanche "
                "crevasse ice boulder pass tent cave guide ledge moraine",
}  # fmt: skip
ACTIONS = {
    "kitchen": "stirs bakes peels boils fries tastes", "garden": "waters plants prunes digs grows blooms",
    "ship": "sinks steers drifts floats sails anchors", "music": "plays sings tunes hums rehearses echoes",
    "mountain": "climbs descends hikes slips crosses rests",
}  # fmt: skip
# T stands for a thing, A for an action
FORMS = ("the T A near the T", "a T and a T A again", "nobody A without the old T and the T",
         "the T of the T slowly A", "every T A with a big T today")  # fmt: skip
TOPICS = tuple(THINGS)
ALL = " ".join([*FORMS, *THINGS.values(), *ACTIONS.values()]).split()
# number 0 fills up short sentences
WORDS = ["-", *dict.fromkeys(word for word in ALL if word not in "TA")]
NUMBER = {word: number for number, word in enumerate(WORDS)}
LENGTH, COLUMNS = 9, 16
COUNT, EPOCHS = (4000, 8) if args.quick else (20000, 15)


def sentences(count, seed):
    """Return sentences (count, LENGTH) as numbers of words, ended by zeros, and their topics."""
    rng = np.random.default_rng(seed)
    topics, found = rng.integers(0, len(TOPICS), count), np.zeros((count, LENGTH), int)
    for row, topic in zip(found, topics, strict=True):
        chosen = {"T": THINGS[TOPICS[topic]].split(), "A": ACTIONS[TOPICS[topic]].split()}
        words = [rng.choice(chosen[word]) if word in chosen else word for word in rng.choice(FORMS).split()]
        row[: len(words)] = [NUMBER[word] for word in words]
    return found, topics


def gaps(X):
    """Return the two words on each side of every word, and the word itself."""
    around = np.pad(X, ((0, 0), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(around, 5, axis=1).reshape(-1, 5)
    windows = windows[windows[:, 2] > 0]
    return windows[:, [0, 1, 3, 4]], windows[:, 2]


def network(inputs, outputs, table=None, seed=0):
    """Make a network that looks words up, and answers from their mean."""
    layers = [fnn.Input(inputs, dtype="int64"), fnn.Embedding(len(WORDS), COLUMNS, name="words"),
              fnn.GlobalAveragePooling1D(), fnn.Dense(outputs, activation="softmax")]  # fmt: skip
    model = fnn.Sequential(layers, seed=seed)
    model.compile(fnn.Adam(0.01), "cross_entropy", metrics=["accuracy"])
    if table is not None:
        model.set_weights([table], "words")
    return model


def counts(X):
    """Return how often each word is in a sentence."""
    return np.stack([(number == X).sum(axis=1) for number in range(1, len(WORDS))], axis=1).astype(np.float32)


text, _ = sentences(COUNT, 0)
X_test, y_test = sentences(2000, 1)
print(f"{len(WORDS) - 1} words, {COUNT} sentences without labels, such as")
for row in text[:4]:
    print("  " + " ".join(WORDS[number] for number in row if number))

missing = network(4, len(WORDS))
history = missing.fit(*gaps(text), batch_size=256, epochs=EPOCHS, verbose=0)
perplexity = np.exp(history.history["loss"])
print(f"perplexity: {perplexity[0]:.0f} in the first epoch, {perplexity[-1]:.0f} in the last")
(table,) = missing.get_weights("words")
unit = table / np.linalg.norm(table, axis=1, keepdims=True)
for word in ("soup", "rose", "captain", "violin", "glacier"):
    nearest = np.argsort(-unit @ unit[NUMBER[word]])[1:6]
    print(f"  {word:8s} is near {', '.join(WORDS[number] for number in nearest)}")

print("accuracy on 2000 other sentences, guessing is right about 20%; the mean of 5 choices of the labelled ones:")
print(f"{'labelled':>10s}{'counts of words':>18s}{'table at random':>18s}{'table from text':>18s}{'words known':>14s}")
for count in (10, 20, 50, 200):
    found = []
    for seed in range(5):
        X, y = sentences(count, 10 + seed)
        known = np.isin(X_test, X)[X_test > 0].mean()
        linear = fnn.Sequential([fnn.Dense(len(TOPICS), activation="softmax")], seed=seed)
        linear.compile(fnn.Adam(0.02), "cross_entropy", metrics=["accuracy"])
        linear.fit(counts(X), y, batch_size=5, epochs=100, verbose=0)
        scores = [linear.evaluate(counts(X_test), y_test)["accuracy"]]
        for start in (None, table):
            model = network(LENGTH, len(TOPICS), start, seed)
            model.fit(X, y, batch_size=5, epochs=100, verbose=0)
            scores.append(model.evaluate(X_test, y_test)["accuracy"])
        found.append([*scores, known])
    *accuracies, known = 100 * np.mean(found, axis=0)
    print(f"{count:10d}" + "".join(f"{score:17.1f}%" for score in accuracies) + f"{known:13.0f}%")

if args.plot:
    import matplotlib.pyplot as plt

    things = {topic: [NUMBER[word] for word in THINGS[topic].split()] for topic in TOPICS}
    centred = unit - unit[np.concatenate(list(things.values()))].mean(axis=0)
    axes = np.linalg.svd(centred[np.concatenate(list(things.values()))], full_matrices=False)[2][:2]
    figure, panel = plt.subplots(figsize=(9, 7), layout="constrained")
    for marker, (topic, numbers) in zip("osD^v", things.items(), strict=True):
        x, y = (centred[numbers] @ axes.T).T
        panel.scatter(x, y, marker=marker, label=topic)
        # every third word, so that they can be read
        for number, right, up in list(zip(numbers, x, y, strict=True))[::3]:
            panel.annotate(WORDS[number], (right, up), fontsize=9, xytext=(4, 3), textcoords="offset points")
    panel.set(title="Things by their neighbours in sentences", xlabel="first axis of the table", ylabel="second axis")
    panel.legend(loc="center")
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
