"""XOR needs a hidden layer: one neuron draws one line, and no line separates the corners of exclusive or."""

import argparse

import numpy as np

import fastnn as fnn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--plot", metavar="FILE.png", help="draw the decision regions (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="fewer tries, for a test")
args = parser.parse_args()

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y = np.array([0, 1, 1, 0])


def train(n_hidden, seed):
    """Train a 2-n_hidden-1 network on the four corners; without hidden neurons it is a single neuron."""
    hidden = [fnn.Dense(n_hidden, activation="tanh")] if n_hidden else []
    model = fnn.Sequential([*hidden, fnn.Dense(1, activation="sigmoid")], seed=seed)
    model.compile(fnn.Adam(0.1), loss="binary_cross_entropy", metrics=["accuracy"])
    model.fit(X, y, batch_size=4, epochs=300, verbose=0)
    return model


def draw(model, title):
    """Print where the output is above 0.5 ('#') and below ('.'); the four corners are marked by their labels."""
    side = np.linspace(-0.25, 1.25, 31)
    grid = np.array([[x1, x2] for x2 in side[::-2] for x1 in side])
    picture = np.where(model.predict(grid) > 0.5, "#", ".").reshape(-1, len(side))
    for (x1, x2), label in zip(X, y, strict=True):
        picture[13 - round(x2 * 10) - (x2 == 0), 5 + 20 * x1] = str(label)
    print(f"\n{title}")
    print("\n".join("    " + "".join(line) for line in picture))


single, network = train(0, seed=0), train(4, seed=0)
print("x1 x2  xor   one neuron   2-4-1 network")
for corner, label, p, q in zip(X, y, single.predict(X)[:, 0], network.predict(X)[:, 0], strict=True):
    print(f" {corner[0]}  {corner[1]}  {label:3d}   {p:10.3f}   {q:13.3f}")
print(f"loss        {single.evaluate(X, y)['loss']:10.3f}   {network.evaluate(X, y)['loss']:13.3f}")
print("The best that one neuron can do is to answer 0.5 for all: a loss of ln 2 = 0.693.")

draw(single, "one neuron: no line helps, so it answers 0.5 everywhere")
draw(network, "2-4-1 network: the hidden neurons' lines make a band")

print("\nhidden neurons   starts that learn XOR")
n_starts = 3 if args.quick else 10
for n_hidden in (0, 1, 2, 3, 4, 8):
    learned = sum(train(n_hidden, seed).evaluate(X, y)["accuracy"] == 1.0 for seed in range(n_starts))
    print(f"{n_hidden:14d}   {learned:2d} of {n_starts}   {'*' * learned}")
print("Two hidden neurons can do it, but often get stuck; more of them succeed from nearly every start.")

if args.plot:
    from matplotlib import pyplot as plt

    side = np.linspace(-0.25, 1.25, 101)
    x1, x2 = np.meshgrid(side, side)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    for ax, model, title in zip(axes, (single, network), ("one neuron", "2-4-1 network"), strict=True):
        output = model.predict(np.stack([x1.ravel(), x2.ravel()], axis=1)).reshape(x1.shape)
        filled = ax.contourf(x1, x2, output, levels=np.linspace(0, 1, 11), cmap="coolwarm")
        for label, color in ((0, "C0"), (1, "C3")):
            ax.plot(*X[y == label].T, "o", color=color, markeredgecolor="k", markersize=10, label=f"XOR is {label}")
        ax.set(title=f"{title}: a loss of {model.evaluate(X, y)['loss']:.3f}", xlabel="x1", aspect="equal")
    axes[0].set_ylabel("x2")
    axes[0].legend(loc="center")
    figure.colorbar(filled, ax=axes, label="the network's output")
    figure.savefig(args.plot)
