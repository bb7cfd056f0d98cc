"""Models with gradient accumulation and moving averages, and Keras' algorithm for them in plain NumPy."""

import numpy as np

import fastnn as fnn

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(24, 3)), RNG.normal(size=(24, 2))


def linear(optimizer, dtype="float64", **options):
    model = fnn.Sequential([fnn.Input(3), fnn.Dense(2, **options)], seed=0, dtype=dtype)
    model.compile(optimizer, "mse")
    return model


def batches(count, size=4):
    """Return batches in the order of the rows, from the first again at the end."""
    starts = [size * (index % (len(X) // size)) for index in range(count)]
    return [(X[start : start + size], Y[start : start + size]) for start in starts]


class Keras:
    """The steps of `keras.optimizers.Optimizer.apply` on a kernel and a bias, in their order, for SGD and Adam."""

    def __init__(self, variables, name, rate, k=None, ema=None, overwrite=None, decay=None, limit=None, clip=None):
        self.variables, self.name, self.rate, self.k = variables, name, rate, k
        self.ema, self.overwrite, self.decay, self.limit, self.clip = ema, overwrite, decay, limit, clip
        self.counter = 0
        self.sums, self.averages, self.m, self.v = ([np.zeros_like(v) for v in variables] for _ in range(4))

    @property
    def iterations(self):
        return self.counter // self.k if self.k else self.counter

    def update(self, gradients):
        rate = self.rate(self.counter)
        if self.clip == "clipnorm":
            gradients = [g * 0.3 / max(np.linalg.norm(g), 0.3) for g in gradients]
        elif self.clip == "global_clipnorm":
            norm = np.sqrt(sum((g**2).sum() for g in gradients))
            gradients = [g * 0.3 / max(norm, 0.3) for g in gradients]
        elif self.clip == "clipvalue":
            gradients = [np.clip(g, -0.3, 0.3) for g in gradients]
        for index, g in enumerate(gradients):
            p = self.variables[index]
            if self.decay:
                p = p - p * self.decay * rate
            if self.name == "sgd":
                self.m[index] = 0.9 * self.m[index] - rate * g
                p = p + self.m[index]
            else:
                t = self.iterations + 1
                self.m[index] = 0.9 * self.m[index] + 0.1 * g
                self.v[index] = 0.999 * self.v[index] + 0.001 * g**2
                alpha = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                p = p - alpha * self.m[index] / (np.sqrt(self.v[index]) + 1e-7)
            self.variables[index] = p

    def apply(self, gradients):
        if not self.k:
            self.update(gradients)
        elif (self.counter + 1) % self.k == 0:
            self.update([(g + total) / self.k for g, total in zip(gradients, self.sums, strict=True)])
            self.sums = [np.zeros_like(v) for v in self.variables]
        else:
            self.sums = [g + total for g, total in zip(gradients, self.sums, strict=True)]
        if self.ema is not None:
            momentum = self.ema if self.iterations != 0 else 0.0
            self.averages = [
                momentum * a + (1 - momentum) * p for a, p in zip(self.averages, self.variables, strict=True)
            ]
            if self.overwrite and (self.iterations + 1) % self.overwrite == 0:
                self.variables = list(self.averages)
        if self.limit:
            norm = np.sqrt((self.variables[0] ** 2).sum(axis=0))
            self.variables[0] = self.variables[0] * np.clip(norm, 0, self.limit) / norm
        self.counter += 1

    def step(self, x, y):
        kernel, bias = self.variables
        slope = 2 * (x @ kernel + bias - y) / y.size
        self.apply([x.T @ slope, slope.sum(axis=0)])


def decaying(step):
    return 0.05 / (1 + 0.3 * step)


KINDS = {
    "sgd": lambda **more: fnn.SGD(decaying, **more),
    "nesterov": lambda **more: fnn.SGD(decaying, momentum=0.9, nesterov=True, **more),
    "adagrad": lambda **more: fnn.AdaGrad(decaying, **more),
    "rmsprop": lambda **more: fnn.RMSprop(decaying, momentum=0.5, centered=True, **more),
    "adadelta": lambda **more: fnn.Adadelta(decaying, **more),
    "adam": lambda **more: fnn.Adam(decaying, **more),
    "amsgrad": lambda **more: fnn.Adam(decaying, amsgrad=True, global_clipnorm=0.5, **more),
    "adamw": lambda **more: fnn.AdamW(decaying, weight_decay=0.1, **more),
    "nadam": lambda **more: fnn.Nadam(decaying, clipnorm=0.5, **more),
    "lion": lambda **more: fnn.Lion(decaying, **more),
    "custom": lambda **more: fnn.optimizers.Custom(
        counting, decaying, state={"m": 0.5}, hyperparameters={"beta": 0.9}, **more
    ),
}


def counting(p, g, m, learning_rate, step, beta):
    m = beta * m + g
    return p - learning_rate * m / step, m


def deep(optimizer, dtype="float64", width=4):
    layers = [
        fnn.Dense(width, "tanh", kernel_regularizer=fnn.L2(0.01), kernel_constraint=fnn.MaxNorm(1.5)),
        fnn.Dense(2, bias_regularizer=fnn.L1(0.01)),
    ]
    model = fnn.Sequential([fnn.Input(3), *layers], seed=1, dtype=dtype)
    # the state of the second optimizer begins at another step than the first
    model.compile("sgd", "huber")
    model.train_on_batch(X[:4], Y[:4])
    model.compile(optimizer, "huber")
    return model


BOTH = {"gradient_accumulation_steps": 4, "use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3}


def classifier(optimizer, width=16, **options):
    layers = [fnn.Dense(width, "relu"), fnn.BatchNorm(), fnn.Dropout(0.2), fnn.Dense(3, "softmax")]
    model = fnn.Sequential([fnn.Input(3), *layers], seed=2, **options)
    model.compile("sgd", "cross_entropy")
    model.train_on_batch(X, LABELS)
    model.compile(optimizer, "cross_entropy", metrics=["accuracy"])
    return model


LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
OPTIONS = {"batch_size": 5, "verbose": 0, "class_weight": {0: 0.5, 2: 2.0}}


def state_of(model):
    runtime = model._runtime
    return runtime.parameters.tobytes(), runtime.optimizer_state.tobytes()
