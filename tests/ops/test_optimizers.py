"""Optimizers against naive NumPy written as the formulas stand in Keras 3 and in the papers."""

import copy
import inspect
import math
import pickle

import numba
import numpy as np
import pytest

import fastnn as fnn
from fastnn import config, optimizers, schedules
from fastnn.backend.cpu.codegen import bits
from fastnn.formulas import elementary
from fastnn.formulas import optimizers as formulas
from fastnn.optimizers import SGD, Adadelta, AdaGrad, Adam, AdamW, Custom, Lion, Nadam, RMSprop
from fastnn.registry import REGISTRY

N_STEPS = 20


def rate(t):
    return 0.02 / (1 + 0.1 * (t - 1))


# Each naive optimizer is a generator function: it is sent a gradient and the parameter, and yields the new
# parameter. t = 1, 2, ... and lr = rate(t), as in the papers.


def naive_sgd(momentum=0.0, nesterov=False):
    t, velocity, new = 0, 0.0, None
    while True:
        g, p = yield new
        t += 1
        lr = rate(t)
        velocity = momentum * velocity - g * lr
        new = p + momentum * velocity - g * lr if nesterov else p + velocity


def naive_adagrad(initial=0.1, epsilon=1e-7):
    t, accumulator, new = 0, initial, None
    while True:
        g, p = yield new
        t += 1
        accumulator = accumulator + np.square(g)
        new = p - rate(t) * g / np.sqrt(accumulator + epsilon)


def naive_rmsprop(rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    t, velocity, average, step, new = 0, 0.0, 0.0, 0.0, None
    while True:
        g, p = yield new
        t += 1
        velocity = rho * velocity + (1 - rho) * np.square(g)
        average = rho * average + (1 - rho) * g
        variance = velocity - np.square(average) if centered else velocity
        increment = rate(t) * g / np.sqrt(variance + epsilon)
        step = momentum * step + increment
        new = p - step


def naive_adadelta(rho=0.95, epsilon=1e-7):
    t, mean_g, mean_delta, new = 0, 0.0, 0.0, None
    while True:
        g, p = yield new
        t += 1
        mean_g = rho * mean_g + (1 - rho) * g**2
        delta = -np.sqrt(mean_delta + epsilon) / np.sqrt(mean_g + epsilon) * g
        mean_delta = rho * mean_delta + (1 - rho) * delta**2
        new = p + rate(t) * delta


def naive_adam(beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
    t, m, v, highest, new = 0, 0.0, 0.0, 0.0, None
    while True:
        g, p = yield new
        t += 1
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        highest = np.maximum(highest, v)
        alpha = rate(t) * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        new = p - alpha * m / (np.sqrt(highest if amsgrad else v) + epsilon)


def naive_nadam(beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    t, m, v, product, new = 0, 0.0, 0.0, 1.0, None
    while True:
        g, p = yield new
        t += 1
        u_now = beta_1 * (1 - 0.5 * 0.96**t)
        u_next = beta_1 * (1 - 0.5 * 0.96 ** (t + 1))
        product = product * u_now
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat = u_next * m / (1 - product * u_next) + (1 - u_now) * g / (1 - product)
        v_hat = v / (1 - beta_2**t)
        new = p - rate(t) * m_hat / (np.sqrt(v_hat) + epsilon)


def naive_lion(beta_1=0.9, beta_2=0.99):
    t, m, new = 0, 0.0, None
    while True:
        g, p = yield new
        t += 1
        new = p - rate(t) * np.sign(beta_1 * m + (1 - beta_1) * g)
        m = beta_2 * m + (1 - beta_2) * g


CASES = [
    (SGD, {}, naive_sgd),
    (SGD, {"nesterov": True}, naive_sgd),
    (SGD, {"momentum": 0.9}, naive_sgd),
    (SGD, {"momentum": 0.8, "nesterov": True}, naive_sgd),
    (AdaGrad, {}, naive_adagrad),
    (AdaGrad, {"initial_accumulator_value": 0.0, "epsilon": 1e-3}, naive_adagrad),
    (RMSprop, {}, naive_rmsprop),
    (RMSprop, {"rho": 0.8, "epsilon": 1e-3}, naive_rmsprop),
    (RMSprop, {"momentum": 0.7}, naive_rmsprop),
    (RMSprop, {"centered": True, "epsilon": 1e-2}, naive_rmsprop),
    (RMSprop, {"centered": True, "momentum": 0.7, "epsilon": 1e-2}, naive_rmsprop),
    (Adadelta, {}, naive_adadelta),
    (Adadelta, {"rho": 0.8, "epsilon": 1e-3}, naive_adadelta),
    (Adam, {}, naive_adam),
    (Adam, {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 1e-2}, naive_adam),
    (Adam, {"amsgrad": True, "beta_2": 0.6}, naive_adam),
    (AdamW, {"weight_decay": 0.0}, naive_adam),
    (Nadam, {}, naive_nadam),
    (Nadam, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-2}, naive_nadam),
    (Lion, {}, naive_lion),
    (Lion, {"beta_1": 0.6, "beta_2": 0.7}, naive_lion),
]
VARIANTS = [cls(**options) for cls, options, _ in CASES]


def names(case):
    cls, options, _ = case
    return cls.__name__ + "".join(f"-{name}={value}" for name, value in options.items())


@pytest.fixture(scope="module")
def updates():
    """All formulas, jitted for both dtypes with the flags that fastnn allows itself."""

    def jit(function):
        return numba.njit(fastmath={"contract"}, error_model="numpy")(function)

    return {real: formulas.define(real, jit, elementary.define(real, jit, bits)) for real in (np.float32, np.float64)}


def advance(optimizer, update, real, p, gradients, first_step=0, slots=None):
    """Run the formula element by element, as a kernel does, and return parameters and slots."""
    p = p.astype(real)
    if slots is None:
        slots = np.zeros((formulas.MAX_SLOTS, len(p)), real)
        for slot, value in enumerate(optimizer.slot_initial):
            slots[slot] = value
    for row, g in zip(optimizer.hyper_rows(first_step, len(gradients)).astype(real), gradients, strict=True):
        for i in range(len(p)):
            p[i], slots[0, i], slots[1, i], slots[2, i] = update(p[i], real(g[i]), *slots[:, i], *row)
    return p, slots


def problem():
    """Parameters away from 0 and gradients of all magnitudes, also exact zeros and constant ones."""
    generator = np.random.default_rng(3)
    p = generator.uniform(1.0, 2.0, 8) * generator.choice([-1.0, 1.0], 8)
    gradients = generator.normal(size=(N_STEPS, 8)) * np.array([1.0, 1.0, 10.0, 0.1, 1e-3, 1e-5, 0.0, 1.0])
    gradients[:, 7] = np.linspace(0.5, 2.0, N_STEPS)
    return p, gradients


def run_naive(naive, p, gradients, weight_decay=0.0):
    next(naive)
    for t, g in enumerate(gradients, start=1):
        p = naive.send((g, p - p * rate(t) * weight_decay))
    return p


@pytest.mark.parametrize("weight_decay", [None, 0.5])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_against_naive(case, weight_decay, updates):
    cls, options, naive = case
    naive_options = {name: value for name, value in options.items() if name != "weight_decay"}
    naive_options = {name.replace("initial_accumulator_value", "initial"): v for name, v in naive_options.items()}
    options = options if weight_decay is None else {**options, "weight_decay": weight_decay}
    optimizer = cls(learning_rate=lambda step: rate(step + 1), **options)
    p, gradients = problem()
    expected = run_naive(naive(**naive_options), p, gradients, weight_decay or 0.0)
    assert np.abs(expected - p).max() > 1e-4

    exact, _ = advance(optimizer, updates[np.float64][optimizer.formula], np.float64, p, gradients)
    np.testing.assert_allclose(exact, expected, rtol=1e-12)

    p, gradients = p.astype(np.float32), gradients.astype(np.float32)
    expected = run_naive(
        naive(**naive_options), p.astype(np.float64), gradients.astype(np.float64), weight_decay or 0.0
    )
    single, _ = advance(optimizer, updates[np.float32][optimizer.formula], np.float32, p, gradients)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-6, atol=1e-6)


def test_every_formula_and_optimizer_has_a_case(updates):
    assert {optimizer.formula for optimizer in VARIANTS} == set(formulas.FORMULAS)
    assert {type(optimizer) for optimizer in VARIANTS} | {Custom} == set(REGISTRY["optimizer"].values())
    for functions in updates.values():
        assert set(functions) == set(formulas.FORMULAS)


@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_parameters_are_named_as_in_the_table(name, updates):
    formula = formulas.FORMULAS[name]
    slots = [*formula.slots, *["s0", "s1", "s2"][len(formula.slots) :]]
    scalars = [*formula.scalars, *[f"h{i}" for i in range(8)][len(formula.scalars) :]]
    expected = ["p", "g", *slots, *scalars]
    assert list(inspect.signature(updates[np.float32][name].py_func).parameters) == expected


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", VARIANTS, ids=lambda o: o.formula)
def test_result_types_spare_slots_and_nan(optimizer, real, updates):
    update = updates[real][optimizer.formula]
    h = optimizer.hyper_rows(5, 1)[0].astype(real)
    state = [real(0.5), real(0.25), real(0.125)]
    values = update(real(1.0), real(0.1), *state, *h)
    signature = update.nopython_signatures[-1]
    assert {str(item) for item in signature.return_type} == {np.dtype(real).name}
    used = len(optimizer.slots)
    assert values[1 + used :] == tuple(state[used:])
    assert all(new != old for new, old in zip(values[1 : 1 + used], state, strict=False))
    assert math.isnan(update(real(1.0), real("nan"), *state, *h)[0])
    assert math.isnan(update(real("nan"), real(0.1), *state, *h)[0])
    for slot in range(used):
        broken = [real("nan") if i == slot else value for i, value in enumerate(state)]
        new = update(real(1.0), real(0.1), *broken, *h)
        # Of amsgrad's maximum only: max(NaN, v) = v, but v is NaN too whenever its maximum is.
        assert math.isnan(new[0]) or optimizer.slots[slot] == "v_max"


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", VARIANTS, ids=lambda o: o.formula)
@pytest.mark.parametrize("power", [64, 84, 127])
def test_a_huge_gradient_is_overcome(optimizer, real, power, updates):
    """After a gradient whose square is infinite, the parameters move as they do after one of 0."""
    huge = 2.0 ** (power if real is np.float32 else 8 * power)
    p, update = np.ones(2), updates[real][optimizer.formula]
    gradients = np.full((40, 2), 0.25)
    gradients[5] = huge, 0.0
    p, slots = advance(optimizer, update, real, p, gradients)
    assert np.isfinite(p).all()
    assert np.isfinite(slots).all()
    if optimizer.formula.startswith("sgd"):
        assert p[0] != p[1]  # nothing is squared, so the gradient counts
    elif optimizer.formula != "lion":
        assert p[0] == p[1]
    moved, _ = advance(optimizer, update, real, p, gradients[:1], first_step=40, slots=slots.copy())
    assert optimizer.formula.startswith("sgd") or (moved != p).all()


def test_the_sum_of_adagrad_stays_finite(updates):
    gradients = np.full((20, 1), 2.0**63)
    _, slots = advance(AdaGrad(), updates[np.float32]["adagrad"], np.float32, np.ones(1), gradients)
    assert np.isfinite(slots).all()


def test_training_goes_on_after_a_huge_gradient():
    for name in ("adam", "adamw", "nadam", "rmsprop", "adagrad", "adadelta", "lion"):
        model = fnn.Sequential([fnn.Input(1), fnn.Dense(1, kernel_initializer="zeros")], seed=0)
        model.compile(name, "mae")
        model.train_on_batch(np.full((1, 1), 1e25), np.full((1, 1), 3e25))
        assert all(np.isfinite(weights).all() for weights in model.get_weights()), name
        before = model.get_weights()[0]
        for _ in range(3):
            model.train_on_batch(np.ones((1, 1)), np.full((1, 1), 9.0))
        assert np.isfinite(model.get_weights()[0]).all(), name
        assert model.get_weights()[0] > before, name


def test_amsgrad_keeps_nan(updates):
    update = updates[np.float32]["adam_amsgrad"]
    h = Adam(amsgrad=True).hyper_rows(0, 1)[0].astype(np.float32)
    one, nan = np.float32(1.0), np.float32("nan")
    assert math.isnan(update(one, nan, one, one, one, *h)[3])


def test_centered_rmsprop_survives_rounding(updates):
    optimizer = RMSprop(rho=0.5, centered=True)
    constant = np.tile(np.linspace(100.0, 2000.0, 64), (300, 1))
    p, slots = advance(optimizer, updates[np.float32]["rmsprop_centered"], np.float32, np.ones(64), constant)
    assert (slots[0] - slots[1].astype(np.float64) ** 2 < -1e-7).any()
    assert np.isfinite(p).all()


@pytest.mark.parametrize("learning_rate", [0.1, schedules.CosineDecay(0.1, 900), schedules.WarmUp(0.3, 7)])
@pytest.mark.parametrize("optimizer", VARIANTS, ids=lambda o: o.formula)
def test_rows_do_not_depend_on_chunks(optimizer, learning_rate):
    def fresh():
        new = copy.deepcopy(optimizer)
        new.learning_rate = learning_rate
        return new

    n = 1100
    whole = fresh().hyper_rows(0, n)
    assert whole.shape == (n, 8)
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    same = fresh()
    for chunk in (1, 7, 255, 256, 257, 1000):
        for start in range(0, n, chunk):
            rows = same.hyper_rows(start, min(chunk, n - start))
            assert rows.tobytes() == whole[start : start + chunk].tobytes()
    for resumed in (1, 255, 256, 700, n - 1):
        assert fresh().hyper_rows(resumed, n - resumed).tobytes() == whole[resumed:].tobytes()
    for step in (3, 1099, 700, 0, 256):
        assert same.hyper_rows(step, 1).tobytes() == whole[step : step + 1].tobytes()
    assert fresh().hyper_rows(3, 0).shape == (0, 8)


def test_rows_are_the_callers_own():
    optimizer = Adam()
    optimizer.hyper_rows(0, 3)[:] = 7.0
    assert optimizer.hyper_rows(0, 3).tobytes() == Adam().hyper_rows(0, 3).tobytes()


def test_rows_by_hand():
    assert SGD(0.5, weight_decay=0.25).hyper_rows(9, 1).tolist() == [[0.5, 0.125, 0, 0, 0, 0, 0, 0]]
    row = Adam(0.5, 0.75, 0.5, 1e-3).hyper_rows(1, 1)[0]
    np.testing.assert_allclose(row[:5], [0.5 * math.sqrt(0.75) / 0.4375, 0, 0.25, 0.5, 1e-3], rtol=1e-15)
    assert AdamW().hyper_rows(0, 1)[0, 1] == 0.001 * 0.004


def test_nadam_product_far_out():
    row = Nadam(0.5).hyper_rows(10**9, 2)
    np.testing.assert_allclose(row[:, :7], [[0.45, 0, 0.05, 0.1, 0.001, 1e-7, 1.0]] * 2, rtol=1e-12)


def test_corrections_come_to_rest():
    for optimizer in (Adam(0.5), Nadam(0.5)):
        far = optimizer.hyper_rows(10**15, 1)  # at once, not after a walk of 10^12 blocks
        np.testing.assert_allclose(far, optimizer.hyper_rows(10**6, 1), rtol=1e-12)


@pytest.mark.parametrize("optimizer", VARIANTS, ids=lambda o: o.formula)
def test_two_halves_equal_the_whole(optimizer, updates):
    p, gradients = problem()
    update = updates[np.float32][optimizer.formula]
    whole, slots = advance(optimizer, update, np.float32, p, gradients)
    half, state = advance(optimizer, update, np.float32, p, gradients[:9])
    again = copy.deepcopy(optimizer)
    half, state = advance(again, update, np.float32, half, gradients[9:], 9, state)
    assert half.tobytes() == whole.tobytes()
    assert state.tobytes() == slots.tobytes()


def test_learning_rate_can_be_assigned():
    optimizer = Adam(0.5)
    before = optimizer.hyper_rows(0, 4)
    optimizer.learning_rate *= 0.5
    assert optimizer.learning_rate == 0.25
    np.testing.assert_array_equal(optimizer.hyper_rows(0, 4)[:, :2], before[:, :2] / 2)
    optimizer.learning_rate = schedules.StepDecay(1.0, 2, 0.5)
    assert [optimizer.learning_rate_at(step) for step in range(4)] == [1.0, 1.0, 0.5, 0.5]
    np.testing.assert_array_equal(optimizer.hyper_rows(0, 4)[:, 0], before[:, 0] * [2.0, 2.0, 1.0, 1.0])
    optimizer.learning_rate = schedules.StepDecay(1.0, 1, 0.5)
    assert optimizer.hyper_rows(2, 1)[0, 0] == before[2, 0] * 0.5
    optimizer.learning_rate = np.float32(0.5)
    assert type(optimizer.learning_rate) is float
    assert optimizer.learning_rate_at(99) == 0.5


def test_users_function_is_asked_step_by_step_and_not_ahead():
    seen = []

    def function(step):
        seen.append(step)
        return 0.1

    optimizer = SGD(function)
    optimizer.hyper_rows(0, 3)
    optimizer.hyper_rows(3, 1)
    assert seen == [0, 1, 2, 3]
    SGD(schedules.WarmUp(function, 2)).hyper_rows(5, 1)
    assert seen[4:] == [3]


def test_bad_learning_rates_name_the_step():
    optimizer = SGD(lambda step: 0.1 if step < 300 else math.nan)
    optimizer.hyper_rows(0, 300)
    with pytest.raises(ValueError, match="returned nan at step 300"):
        optimizer.hyper_rows(299, 2)
    growing = SGD(schedules.ExponentialDecay(1.0, 1, 2.0))
    growing.hyper_rows(1000, 24)
    with pytest.raises(ValueError, match="learning rate inf at step 1024"):
        growing.hyper_rows(1000, 25)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", SGD(0.01)),
        ("momentum", SGD(0.01, 0.9)),
        ("nesterov", SGD(0.01, 0.9, True)),
        ("adagrad", AdaGrad(0.001, 0.1, 1e-7)),
        ("rmsprop", RMSprop(0.001, 0.9, 0.0, 1e-7, False)),
        ("adadelta", Adadelta(0.001, 0.95, 1e-7)),
        ("adam", Adam(0.001, 0.9, 0.999, 1e-7, False)),
        ("amsgrad", Adam(0.001, 0.9, 0.999, 1e-7, True)),
        ("adamw", AdamW(0.001, 0.004, 0.9, 0.999, 1e-7, False)),
        ("nadam", Nadam(0.001, 0.9, 0.999, 1e-7)),
        ("lion", Lion(0.001, 0.9, 0.99)),
    ],
)
def test_get(name, expected):
    made = optimizers.get(name)
    assert type(made) is type(expected)
    assert made == expected
    assert optimizers.get(name) is not made
    assert optimizers.get(name.upper()) == expected
    assert optimizers.get(made) is made


def test_get_refuses():
    with pytest.raises(ValueError, match=r"unknown optimizer 'adan'; did you mean 'adam'\?.*adamw.*sgd"):
        optimizers.get("adan")
    for value in (Adam, None, 0.1):
        with pytest.raises(TypeError, match="expected an optimizer"):
            optimizers.get(value)


@pytest.mark.parametrize("optimizer", VARIANTS, ids=lambda o: o.formula)
def test_slots_config_copy_and_pickle(optimizer):
    formula = formulas.FORMULAS[optimizer.formula]
    assert optimizer.slots == formula.slots
    assert len(optimizer.slot_initial) == len(formula.slots) <= formulas.MAX_SLOTS
    assert len(formula.scalars) <= formulas.HYPER_COLUMNS
    optimizer = copy.copy(optimizer)
    optimizer.learning_rate = schedules.CosineDecay(0.1, 10)
    optimizer.hyper_rows(0, 5)
    assert config.from_config(config.to_config(optimizer), REGISTRY["optimizer"], "optimizer") == optimizer
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert copy.deepcopy(optimizer) == optimizer


def test_slot_initial_of_adagrad():
    assert AdaGrad(initial_accumulator_value=0.3).slot_initial == (0.3,)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(-0.1), ValueError, r"SGD.learning_rate: expected a number >= 0, got -0\.1"),
        (lambda: SGD(math.inf), ValueError, "SGD.learning_rate: expected a finite number"),
        (lambda: SGD("0.1"), TypeError, "SGD.learning_rate: expected a learning rate .*'0.1' of type str"),
        (lambda: SGD(True), TypeError, "SGD.learning_rate: expected a number, got True"),
        (lambda: SGD(Adam()), TypeError, "SGD.learning_rate: expected a learning rate"),
        (lambda: SGD(schedules.CosineDecay), TypeError, "SGD.learning_rate: expected a learning rate"),
        (lambda: SGD(momentum=1.5), ValueError, "SGD.momentum: expected a number >= 0 and <= 1, got 1.5"),
        (lambda: SGD(nesterov="yes"), TypeError, "SGD.nesterov: expected True or False, got 'yes'"),
        (lambda: AdaGrad(initial_accumulator_value=-1), ValueError, "initial_accumulator_value: .*>= 0"),
        (lambda: AdaGrad(epsilon=0), ValueError, "AdaGrad.epsilon: expected a number > 0, got 0"),
        (lambda: RMSprop(rho=1.0), ValueError, "RMSprop.rho: expected a number >= 0 and < 1, got 1.0"),
        (lambda: RMSprop(momentum=-1), ValueError, "RMSprop.momentum: expected"),
        (lambda: RMSprop(centered=1), TypeError, "RMSprop.centered: expected True or False"),
        (lambda: Adadelta(rho=-0.1), ValueError, "Adadelta.rho: expected"),
        (lambda: Adam(beta_1=1), ValueError, "Adam.beta_1: expected a number >= 0 and < 1, got 1"),
        (lambda: Adam(beta_2=math.nan), ValueError, "Adam.beta_2: expected a finite number"),
        (lambda: Adam(amsgrad=0), TypeError, "Adam.amsgrad: expected True or False"),
        (lambda: Adam(weight_decay=-1), ValueError, "Adam.weight_decay: expected a number >= 0"),
        (lambda: AdamW(weight_decay=None), TypeError, "AdamW.weight_decay: expected a number, got None"),
        (lambda: Nadam(epsilon=-1), ValueError, "Nadam.epsilon: expected a number > 0"),
        (lambda: Lion(beta_1=0), ValueError, "Lion.beta_1: expected a number > 0 and < 1, got 0"),
        (lambda: Adam(clipnorm=0), ValueError, "Adam.clipnorm: expected a number > 0"),
        (lambda: Adam(clipvalue="1"), TypeError, "Adam.clipvalue: expected a number"),
        (
            lambda: Adam(clipnorm=1, global_clipnorm=1),
            ValueError,
            "at most one .* got clipnorm and global_clip",
        ),
        (lambda: Adam().hyper_rows(-1, 1), ValueError, "steps >= 0"),
        (lambda: Adam().hyper_rows(0, -1), ValueError, "steps >= 0"),
        (lambda: Adam().hyper_rows(2**60, 1), ValueError, "fewer than"),
        (lambda: Adam().hyper_rows(0.0, 1), TypeError, "integer"),
        (lambda: setattr(Adam(), "learning_rate", -1), ValueError, "Adam.learning_rate: expected"),
        (lambda: setattr(Adam(), "beta_1", 0.5), AttributeError, "Adam.beta_1 is fixed"),
        (lambda: setattr(Adam(), "lr", 0.5), AttributeError, "Adam has no hyperparameter 'lr'"),
    ],
)
def test_hyperparameters_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_hyperparameters_may_be_any_real_numbers():
    assert Adam(1, beta_1=np.float64(0.5), weight_decay=np.float32(0.5), clipnorm=2) == Adam(
        1.0, beta_1=0.5, weight_decay=0.5, clipnorm=2.0
    )
