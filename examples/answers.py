"""A network that answers questions: it learns the language first, and needs few answers then.

A small grammar tells who gave what to whom, where and when, in the active or the passive, with words in other orders,
and asks for one of these. A BERT reads thousands of such sentences and questions, without answers, in which some words
are hidden, and learns to say which. To do so it has to know which words may stand for a person or a place, how a
sentence is built, and what its question has to do with it. Then it gets a few questions with answers, and learns to
mark them: it gives each word the chance that the answer begins there, and that it ends there. The same network is also
trained from nothing. What counts are answers that are exactly the true ones, in sentences that are new to both.

Each is trained in the way that suits it. Who has read sees the few sentences with other words hidden each time, and
with dropout, so as not to learn them by heart. From nothing both do more harm than good from 300 answers on.
"""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw exact matches over the number of answers")
parser.add_argument("--quick", action="store_true", help="fewer sentences, little training, for a test")
args = parser.parse_args()

KINDS = {
    "name": "anna ben clara david emma felix grace hugo ida jonas karla lucas mina nora oskar paula",
    "trade": "captain baker doctor farmer painter pilot teacher tailor singer gardener sailor judge miller nurse smith "
             "weaver hunter dancer",
    "age": "old young tall quiet clever merry tired brave",
    "look": "red small silver broken heavy blue golden strange",
    "thing": "coin key letter lamp ring map clock violin hat book basket bottle candle rope mirror drum knife cake "
             "chair flag",
    "near": "in near behind",
    "place": "garden harbour kitchen market tower library station forest mill cellar school bridge valley castle "
             "church island",
    "time": "on_monday on_tuesday on_wednesday on_friday on_sunday last_week last_night in_spring in_autumn at_noon",
    "verb": "gave_give_given sold_sell_sold sent_send_sent lent_lend_lent showed_show_shown threw_throw_thrown",
}  # fmt: skip
# words in capitals stand for what differs between sentences; the first five can be asked for
SENTENCES = (
    "GIVER GAVE TAKER THING PLACE TIME .", "GIVER GAVE THING to TAKER TIME PLACE .",
    "TIME GIVER GAVE THING to TAKER PLACE .", "PLACE TAKER got THING from GIVER TIME .",
    "TAKER was GIVEN THING by GIVER PLACE TIME .", "TIME THING was GIVEN to TAKER by GIVER PLACE .",
)  # fmt: skip
QUESTIONS = {
    "GIVER": ("who GAVE THING ?", "by whom was TAKER GIVEN THING ?", "from whom did TAKER get THING ?"),
    "TAKER": ("who was GIVEN THING ?", "to whom did GIVER GIVE THING ?", "who got THING from GIVER ?"),
    "THING": ("what did GIVER GIVE to TAKER ?", "what was TAKER GIVEN ?", "what did TAKER get ?"),
    "PLACE": ("where did GIVER GIVE THING to TAKER ?", "where was THING GIVEN ?", "where did TAKER get THING ?"),
    "TIME": ("when did GIVER GIVE THING to TAKER ?", "when was THING GIVEN ?", "when did TAKER get THING ?"),
}
STEPS, BATCH, HIDDEN = 40, 32, 0.25
READ, EPOCHS, UPDATES, CHOICES = (1000, 2, 30, 1) if args.quick else (20_000, 12, 400, 3)
AMOUNTS, SHOWN = (30, 100) if args.quick else (30, 100, 300, 1000), 100


def make(rng):
    """Return the words of a sentence, those of a question, and where in the sentence its answer begins and ends."""

    def one(options):
        return options[rng.integers(len(options))]

    def some(kind):
        return one(KINDS[kind].split())

    def person():
        return some("name") if rng.random() < 0.5 else f"the {some('age')} {some('trade')}"

    words = {"GIVER": person(), "TAKER": person(), "THING": f"a {one([some('look'), ''])} {some('thing')}",
             "PLACE": f"{some('near')} the {some('place')}", "TIME": some("time").replace("_", " ")}  # fmt: skip
    words |= zip(("GAVE", "GIVE", "GIVEN"), some("verb").split("_"), strict=True)
    asked, sentence = one(tuple(QUESTIONS)), []
    for word in one(SENTENCES).split():
        part = words.get(word, word).split()
        if word == asked:
            answer = len(sentence), len(sentence) + len(part) - 1
        sentence += part
        if word == "GIVER" and rng.random() < 0.3:
            sentence += [",", "a", "friend", "of", some("name"), ","]
    question = " ".join(words.get(word, word) for word in one(QUESTIONS[asked]).split())
    return sentence, question.split(), answer


def examples(count, seed):
    """Return sentences with their questions, and the places of the answers, (count, 2)."""
    rng = np.random.default_rng(seed)
    sentences, questions, answers = zip(*(make(rng) for _ in range(count)), strict=True)
    return [[*pair[0], "[SEP]", *pair[1]] for pair in zip(sentences, questions, strict=True)], np.array(answers)


def encode(texts):
    """Return the numbers of words, filled up with zeros."""
    return fnn.data.pad_sequences([[words.number(word) for word in text] for text in texts], STEPS, padding="post")


def hide(X, seed):
    """Return rows with some words hidden, the words that stood there, and weights, which are 1 for hidden words."""
    special = (0, words.number("[SEP]"))
    return fnn.text.mask_words(X, len(words), words.number("[MASK]"), HIDDEN, seed=seed, special=special)


def bert(dropout, seed):
    """Make a network that knows nothing yet, and gives hidden states of all words."""
    return fnn.applications.BERT(len(words), STEPS, layers=2, heads=4, width=64, dropout=dropout, seed=seed)


def optimizer(rate, updates):
    """Return an optimizer whose rate rises for a tenth of the updates, and then falls to zero."""
    return fnn.AdamW(fnn.schedules.WarmUp(fnn.schedules.CosineDecay(rate, updates), updates // 10), clipnorm=1.0)


def finder(learnt, texts, answers, seed):
    """Return a network that has learnt the chances of each word to be the first of the answer, and the last."""
    inner = bert(0.1 if learnt else 0.0, 1 + seed)
    if learnt:
        inner.set_weights(learnt.get_weights())
    tokens, X = fnn.Input(STEPS, dtype="int64"), encode(texts)
    ends = fnn.Permute((2, 1))(fnn.Dense(2)(inner(tokens)))
    model = fnn.Model(tokens, fnn.Activation("softmax")(ends), seed=seed)
    epochs = UPDATES // -(-len(X) // BATCH)
    model.compile(optimizer(0.001, UPDATES), "cross_entropy")
    for epoch in range(epochs):
        model.fit(hide(X, epoch)[0] if learnt else X, answers, batch_size=BATCH, epochs=1, verbose=0)
    return model


def find(model, texts):
    """Return the places (n, 2) of the likeliest answers, whose last word is not before the first."""
    first, last = np.moveaxis(model.predict(encode(texts)), 1, 0)
    both = np.triu(first[:, :, None] * last[:, None, :]).reshape(len(texts), -1)
    return np.stack(np.divmod(both.argmax(axis=1), STEPS), axis=1)


texts, _ = examples(READ, 0)
words = fnn.text.Words([" ".join(text).replace("[SEP]", "") for text in texts], special=["[MASK]", "[SEP]"])
test_texts, test_answers = examples(1000, 1)
print(f"{READ} sentences with questions, {len(words)} words, such as")
for text in texts[:3]:
    print("  " + " ".join(text).replace(" [SEP]", "").replace(" ,", ","))

X, learnt, tokens = encode(texts), bert(0.0, 0), fnn.Input(STEPS, dtype="int64")
reader = fnn.Model(tokens, fnn.Dense(len(words), activation="softmax")(learnt(tokens)), seed=0)
reader.compile(optimizer(0.003, EPOCHS * -(-READ // BATCH)), fnn.CrossEntropy(normalize="weights"))
hidden, whole, chosen = hide(encode(test_texts), 0)
for epoch in range(1, EPOCHS + 1):
    x, y, w = hide(X, epoch)
    reader.fit(x, y, sample_weight=w, batch_size=BATCH, epochs=1, verbose=0)
    if epoch in (1, EPOCHS // 2, EPOCHS):
        right = (reader.predict(hidden).argmax(axis=2) == whole)[chosen > 0]
        print(f"read {epoch:2d} times: {right.mean():.1%} of the hidden words of other sentences are right")

print(f"exact answers in {len(test_texts)} other sentences, mean of {CHOICES} choices of those with answers")
print(f"{'answers':>9s}{'from nothing':>15s}{'after reading':>15s}")
matches, shown = np.empty((len(AMOUNTS), 2, CHOICES)), []
for line, count in enumerate(AMOUNTS):
    for choice in range(CHOICES):
        some, answers = examples(count, 2 + choice)
        for column, known in enumerate((None, learnt)):
            found = find(finder(known, some, answers, choice), test_texts)
            matches[line, column, choice] = (found == test_answers).all(axis=1).mean()
            if count == SHOWN and choice == 0:
                shown.append(found)
    print(f"{count:9d}" + "".join(f"{mean:15.1%}" for mean in matches[line].mean(axis=1)))

print(f"\nwith {SHOWN} answers: what is true, what is found from nothing, and after reading")
for text, *places in list(zip(test_texts, test_answers, *shown, strict=True))[:6]:
    at = text.index("[SEP]")
    print("  " + " ".join(text[:at]).replace(" ,", ","), " ".join(text[at + 1 :]), sep="\n    ")
    print("    " + " | ".join(" ".join(text[first : last + 1]) for first, last in places))

if args.plot:
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    looks = (("from nothing", "o-", "#0072B2"), ("after reading", "s-", "#D55E00"))
    for column, (name, look, colour) in enumerate(looks):
        panel.plot(AMOUNTS, 100 * matches[:, column].mean(axis=1), look, color=colour, label=name)
        panel.plot(AMOUNTS, 100 * matches[:, column], ".", color=colour, alpha=0.5)
    panel.set(xlabel="questions with answers", ylabel="exact answers (%)", xscale="log", ylim=(0, 100))
    panel.set(xticks=AMOUNTS, xticklabels=AMOUNTS, title="Answers of a network that has read, and of one that has not")
    panel.minorticks_off()
    panel.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
