"""Fine-tuning by LoRA: a small transformer that has learnt one text learns to write in another style.

A GPT of two blocks first learns the help on Python's language, which comes with Python (`pydoc_data`), letter by
letter. The other style is that of programs: the source of the module `argparse`. Four models read a part of it that
none has learnt from:

- the pre-trained one, as it is;
- one with adapters (LoRA): its own weights are frozen, and low-rank updates of some kernels are trained;
- one that is fine-tuned as a whole, with a smaller learning rate for all but the last layers (`multipliers`);
- one with the same layers that begins from random weights and has only seen programs.

The perplexity says how many letters a model hesitates between. The adapters are a small part of the weights, and so is
the file that holds them: the pre-trained model stays as it is, for other files of adapters. Merged into the plain
weights they cost nothing more, and the merged model writes.
"""

import argparse
import inspect
import os
import tempfile
import time
from pydoc_data.topics import topics

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--plot", metavar="FILE.png", help="draw the perplexities")
parser.add_argument("--quick", action="store_true", help="a smaller network and less text, for a test")
args = parser.parse_args()

STEPS, BATCH = (32 if args.quick else 96), 16
LAYERS, HEADS, WIDTH = (1, 2, 16) if args.quick else (2, 4, 80)
PROSE, CODE = (12_000, 8_000) if args.quick else (360_000, 90_000)
PRETRAINING, FINE_TUNING, RANK = (2, 2, 4) if args.quick else (6, 8, 8)

prose = "\n\n".join(topics[name] for name in sorted(topics)).replace("\r", "")[:PROSE]
code = inspect.getsource(argparse).replace("\r", "")[-CODE:]
letters = fnn.text.Characters(prose + code)


def pieces(text):
    """Return pieces of the first nine tenths of a text with the letters that follow, and those of the rest."""
    tokens = letters.encode(text)
    cut = len(tokens) * 9 // 10
    return fnn.text.windows(tokens[:cut], STEPS, STEPS), fnn.text.windows(tokens[cut:], STEPS, STEPS)


learnt, prose_test = pieces(prose)
style, code_test = pieces(code)


def gpt(seed):
    """Return a transformer with new weights."""
    return fnn.applications.GPT(len(letters), STEPS, LAYERS, HEADS, WIDTH, dropout=0.0, seed=seed)


def train(model, optimizer, data, epochs):
    """Train a model; returns the time that it takes."""
    model.compile(optimizer, "cross_entropy", metrics=["perplexity"])
    begin = time.perf_counter()
    model.fit(*data, batch_size=BATCH, epochs=epochs, verbose=0)
    return time.perf_counter() - begin


def adamw(peak, data, epochs, **more):
    """Return an optimizer whose learning rate falls to zero within some epochs."""
    steps = epochs * -(-len(data[0]) // BATCH)
    return fnn.AdamW(fnn.schedules.CosineDecay(peak, steps), weight_decay=0.01, clipnorm=1.0, **more)


base = gpt(0)
seconds = train(base, adamw(0.003, learnt, PRETRAINING), learnt, PRETRAINING)
print(f"{len(prose)} letters of prose, {len(code)} of programs, {len(letters)} kinds; {base.count_params()} weights")
print(f"pre-training: {seconds:.1f} s\n")

adapted = fnn.lora.add(base, RANK, alpha=2 * RANK, layers=["*_attention", "*_up", "*_down"])
# a copy of the whole model
whole = gpt(0)
whole.set_weights(base.get_weights())
last = {"*": 0.3, f"block{LAYERS}_*": 1.0, "last_norm": 1.0}
runs = {
    "pre-trained": (base, None),
    f"LoRA, rank {RANK}": (adapted, adamw(0.005, style, FINE_TUNING)),
    "the whole model": (whole, adamw(0.001, style, FINE_TUNING, multipliers=last)),
    "programs alone": (gpt(1), adamw(0.003, style, FINE_TUNING)),
}
print(f"{'':18s}{'trained weights':>16s}{'prose':>9s}{'programs':>10s}{'seconds':>10s}")
perplexities = {}
for name, (model, optimizer) in runs.items():
    seconds = train(model, optimizer, style, FINE_TUNING) if optimizer is not None else 0.0
    perplexities[name] = [model.evaluate(*test)["perplexity"] for test in (prose_test, code_test)]
    trained = model.count_params(trainable=True) if optimizer is not None else 0
    before, after = perplexities[name]
    print(f"{name:18s}{trained:16d}{before:9.2f}{after:10.2f}{seconds:8.1f} s")

with tempfile.TemporaryDirectory() as folder:
    files = {name: os.path.join(folder, f"{name}.safetensors") for name in ("adapters", "model")}
    fnn.lora.save(adapted, files["adapters"])
    base.save(files["model"], include_optimizer=False)
    sizes = {name: os.path.getsize(path) / 1024 for name, path in files.items()}
    again = fnn.lora.load(base, files["adapters"])
print(f"\nthe file of the adapters has {sizes['adapters']:.0f} KiB, that of the model {sizes['model']:.0f} KiB")
merged = fnn.lora.merge(again)
apart = np.abs(merged.predict(code_test[0]) - adapted.predict(code_test[0])).max()
print(f"chances of letters after merging: at most {apart:.0e} apart")


prompt = letters.encode("for ")
for name, model in (("pre-trained", base), ("merged", merged)):
    written = model.generate(prompt, 60 if args.quick else 400, temperature=0.7, seed=0)
    print(f"\n--- {name}\n{letters.decode(prompt)}{letters.decode(written)}")

if args.plot:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(7, 4), layout="constrained")
    places = np.arange(len(perplexities))
    for shift, (column, label) in enumerate(((0, "prose"), (1, "programs"))):
        panel.bar(places + 0.4 * shift - 0.2, [each[column] for each in perplexities.values()], 0.4, label=label)
    panel.set_xticks(places, list(perplexities))
    panel.set(title="A small GPT learns another style", ylabel="perplexity (letters)", yscale="log")
    panel.legend()
    figure.savefig(args.plot, dpi=120)
    print(f"picture in {args.plot}")
