"""Every record op: the CPU against the float64 reference, parts, finite differences, NaN and infinity."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from cases import CASES
from derivatives import DERIVATIVES, GRADIENTS_WITHIN
from fastnn.backend.cpu.codegen import bits
from fastnn.backend.cpu.codegen.intrinsics import SOURCE_POINTERS
from fastnn.backend.cpu.loading.build import KERNELS, kernels
from fastnn.backend.cpu.processor.blocking import RECURRENT
from fastnn.backend.reference.instruction import EXECUTE
from fastnn.formulas import elementary, losses
from fastnn.formulas.activations import SAVES
from fastnn.formulas.optimizers import FORMULAS
from fastnn.formulas.pointwise import ARITY, FLAT
from fastnn.losses.arrays import ELEMENTWISE
from fastnn.program.layout import Flag
from fastnn.program.opcodes import CONTROL, OPS
from fastnn.program.verify import verify
from making import Case
from running import FLOAT64_EPS, Reference, differences, excess, run_cpu, run_reference

DTYPES = ("float32", "float64")
GROUPS = {
    key: list(cases)
    for key, cases in itertools.groupby(
        sorted(CASES, key=lambda case: (case.op, case.variant, case.formula)),
        key=lambda case: "-".join(part for part in (case.op, case.variant, case.formula) if part),
    )
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_cpu_agrees_with_reference(group, dtype):
    wrong = []
    for case in GROUPS[group]:
        got, expected = run_cpu(case, dtype), run_reference(case, dtype)
        wrong += differences(case, dtype, got, expected)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", GROUPS)
def test_parts_do_not_change_a_bit(group, dtype):
    for case in GROUPS[group]:
        whole = run_cpu(case, dtype)
        for parts in (2, 3, 5):
            cut = run_cpu(case, dtype, parts)
            assert (cut.steps, cut.counters) == (whole.steps, whole.counters), case.id
            for name, output in whole.outputs.items():
                assert cut.outputs[name].tobytes() == output.tobytes(), f"{case.id}: {name} in {parts} parts"
            for slot, array in whole.data.items():
                assert cut.data[slot].tobytes() == array.tobytes(), f"{case.id}: slot {slot} in {parts} parts"


def test_verifier_accepts_every_case():
    for case, dtype in itertools.product(CASES, DTYPES):
        verify(Reference(case, dtype).program)


# --- finite differences ---------------------------------------------------------------------------------------


def slopes(case: Case, wrt: str, objective) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat indices of some elements of an operand and an objective's slopes in them.

    The differences are of fourth order: their error is far below 1e-6 of the slope.
    """
    reference = Reference(case, "float64")
    start = case.values()[wrt]
    indices = np.random.default_rng(6).permutation(start.size)[:40]
    found = np.zeros(len(indices))
    step = 2e-5
    for number, index in enumerate(indices):
        for weight, move in ((1, -2.0), (-8, -1.0), (8, 1.0), (-1, 2.0)):
            moved = start.copy()
            moved.flat[index] += move * step
            found[number] += weight * objective(reference.outputs({wrt: moved}))
    return indices, found / (12.0 * step)


def compare(case: Case, wrt: str, objective, gradient: np.ndarray) -> None:
    """Compare a gradient with finite differences."""
    indices, expected = slopes(case, wrt, objective)
    got = gradient.reshape(-1)[indices]
    # a softmax of one column or a batch norm of one row has no slope
    scale = max(np.abs(gradient).max(), 1e-3)
    error = np.abs(got - expected)
    assert (error <= 1e-6 * np.abs(got) + 1e-8 * scale).all(), (
        f"{case.id}: the gradient of {wrt} is off by {error.max():.3g} of {scale:.3g}"
    )


def source(case: Case, name: str) -> str:
    """Return the operand of the forward op that a gradient op reads as `name`."""
    if name != "saved":
        return name
    return "x" if SAVES[case.formula] == "input" else "y"


def gradient_by_record(case: Case, derivative, outputs, dy: np.ndarray) -> np.ndarray:
    """Return the gradient op's results on the CPU from the forward op's operands and outputs."""
    if not derivative.op:
        return dy
    known = {**case.values(), **outputs, "dy": dy}
    op = OPS[derivative.op]
    operands = {name: source(case, given) for name, given in derivative.operands.items()}
    values = {name: known[given] for name, given in operands.items() if given in known}
    values = {name: value for name, value in values.items() if name in {spec.name for spec in op.operands}}
    dims = {name: derivative.size(name, case.dims) for name in op.dims}
    optional = frozenset(spec.name for spec in op.operands if spec.optional) & {*values, derivative.output}
    params = {name: number for name, number in case.params.items() if name in op.params}
    record = replace(case, op=derivative.op, dims=dims, flags=derivative.flags, optional=optional, params=params,
                     variant=derivative.variant or case.variant, special={})  # fmt: skip
    return run_cpu(record, "float64", changed=values).outputs[derivative.output]


def is_smooth(case: Case, wrt: str) -> bool:
    """Return whether finite differences of a case are meaningful and cheap."""
    if wrt not in case.operands or Flag.ACCUMULATE in case.flags or case.formula == "step":
        return False
    if case.op in ("matmul", "batched_matmul", "conv", "batch_norm", "batch_norm_inference") and case.flags != Flag(0):
        return False  # the other flags are compared with the reference, which composes them
    if case.op == "batched_matmul" and case.note != "square":
        return False
    if case.op in RECURRENT and not {"kept", "y"} <= case.operands:
        return False
    if wrt == "start" and case.note.startswith("dropout"):
        return False  # its factors have no gradient
    return (
        case.note not in ("take", "clipped", "-inf", "offset", "long", "outside")
        and sum(np.prod(case.shape(n)) for n in case.operands) < 4000
    )


@pytest.mark.parametrize("op", DERIVATIVES)
def test_gradients_by_finite_differences(op):
    checked = set()
    for case, derivative in itertools.product(CASES, DERIVATIVES[op]):
        if case.op != op or not is_smooth(case, derivative.wrt):
            continue
        output = OPS[op].operands[0].name
        outputs = Reference(case, "float64").outputs({})
        dy = np.random.default_rng(5).standard_normal(outputs[output].shape)
        written = np.isfinite(outputs[output])

        def objective(found, dy=dy[written], output=output, written=written):
            return float((dy * found[output][written]).sum())

        gradient = gradient_by_record(case, derivative, outputs, dy)
        compare(case, derivative.wrt, objective, gradient)
        checked.add((derivative.wrt, case.formula))
    assert {wrt for wrt, _ in checked} == {derivative.wrt for derivative in DERIVATIVES[op]}
    if op == "activation":
        assert {formula for _, formula in checked} == SAVES.keys() - {"step"}


@pytest.mark.parametrize("op", GRADIENTS_WITHIN)
def test_gradients_of_losses_by_finite_differences(op):
    wrt, output = GRADIENTS_WITHIN[op]
    checked = set()
    for case in CASES:
        if case.op != op or output not in case.operands or not is_smooth(case, wrt):
            continue
        values = case.values()

        def objective(found, case=case, values=values):
            if case.op == "penalty":
                return float(found["total"][0]) / case.dims["batch"]
            weight = values.get("weight", np.ones(case.dims["samples"]))
            rows = np.repeat(weight, case.dims["per_sample"])
            return case.params["scale"] * float((rows * found["row_loss"]).sum())

        gradient = run_cpu(case, "float64").outputs[output] - values.get(output, 0.0)
        compare(case, wrt, objective, gradient)
        checked.add(case.variant)
    assert checked == (set(ELEMENTWISE) if op == "loss" else {""})


# --- NaN and infinity -----------------------------------------------------------------------------------------

# Metrics count a NaN as wrong. Of two maxima adam_amsgrad keeps the one that is no NaN; the NaN that made the other
# one is in `v` as well. A mean of NaN is none yet. Places are integers. A place that holds NaN is the first maximum of
# its window; no place equals a maximum that is NaN.
NAN_MAY_VANISH = {
    ("count_correct", "x"), ("confusion", "x"), ("label_confusion", "x"), ("auc_histogram", "x"), ("top_k", "x"),
    ("optimizer", "s2"), ("moving_average", "mean"), ("arg_reduce", "x"), ("max_pool_grad", "x"),
    ("max_pool_grad", "y"), *((op, "mask") for op in RECURRENT),
}  # fmt: skip
# conditions are 1 or 0, and NaN is a true one
NAN_IS_TRUE = {(name, operand) for name in FLAT - {"sign", "floor", "ceil", "round"} for operand in "ab"}
NAN_IS_TRUE.add(("where", "a"))
# what these are multiplied by is zero beyond the edges of maps, where a kernel may multiply, and the reference does not
TIMES_ZERO = {("conv", "w"), ("conv_back", "w"), ("conv_weights", "dy")}
# as do products of weights, which are zero for keys that are left out
TIMES_ZERO |= {(op, name) for op in ("attention", "attention_grad") for name in ("q", "k", "v", "dy", "rows", "mask")}
# of a column whose moments overflow these are computed again from x
AGAIN = {("batch_statistics", "moments")}


def smallest() -> list[Case]:
    """Return, for each kind of case, the one with the fewest elements above 30."""
    kinds: dict[tuple, Case] = {}
    for case in CASES:
        size = sum(np.prod(case.shape(name)) for name in case.operands)
        kind = (case.op, case.variant, case.formula, case.flags, case.optional, case.note)
        best = kinds.get(kind)
        if size > 30 and (best is None or size < sum(np.prod(best.shape(name)) for name in best.operands)):
            kinds[kind] = case
    return list(kinds.values())


SMALLEST = smallest()


def real_operands(case: Case) -> list[str]:
    """Return the operands of reals (or of float64) that a record reads."""
    return [
        name for name, value in case.values().items()
        if value.dtype == np.float64 and name != "hyper" and (case.op, name) not in AGAIN
    ]  # fmt: skip


@pytest.mark.parametrize("group", sorted({case.op for case in SMALLEST}))
def test_nan_reaches_what_depends_on_it(group):
    for case in SMALLEST:
        if case.op != group:
            continue
        reference = Reference(case, "float64")
        before = reference.outputs({})
        for name in real_operands(case):
            value = case.values()[name]
            index = value.size // 2
            changed = {}
            for number in (np.nan, 1e-3, -1e-3):
                changed[number] = value.copy()
                changed[number].flat[index] = number if np.isnan(number) else value.flat[index] + number
            after = reference.outputs({name: changed[np.nan]})
            moved = [reference.outputs({name: changed[step]}) for step in (1e-3, -1e-3)]
            if (case.op, name) not in NAN_MAY_VANISH and (case.formula, name) not in NAN_IS_TRUE:
                for output, array in after.items():
                    depends = np.zeros(array.shape, bool)
                    for other in moved:
                        depends |= (other[output] != before[output]) & ~np.isnan(before[output])
                    assert np.isnan(array[depends]).all(), f"{case.id}: NaN in {name} does not reach {output}"
            for dtype in DTYPES:
                got = run_cpu(case, dtype, 2, {name: changed[np.nan]}).outputs
                for output, array in after.items():
                    same = np.isnan(got[output]) == np.isnan(array)
                    if (case.op, name) in TIMES_ZERO:
                        same |= np.isnan(got[output])
                    assert same.all(), f"{case.id} in {dtype}: NaN in {name}, {output} differs at {np.argwhere(~same)}"


@pytest.mark.parametrize("group", sorted({case.op for case in SMALLEST}))
def test_infinity_as_in_the_reference(group):
    for case, number, dtype in itertools.product(SMALLEST, (np.inf, -np.inf), DTYPES):
        if case.op != group:
            continue
        for name in real_operands(case):
            # targets are checked to be finite; the highest probability below 1 is 1 - 1e-7 rounded to the dtype
            if name == "target" or (case.variant, name) == ("binary_cross_entropy", "x"):
                continue
            # at an offset distances may be rounded to 0, and an infinity times 0 is NaN
            if (case.note, name) == ("offset", "gamma") or (case.op, name) in TIMES_ZERO:
                continue
            changed = case.values()[name].copy()
            changed.flat[changed.size // 2] = number
            expected = run_reference(case, dtype, {name: changed}).outputs
            got = run_cpu(case, dtype, 2, {name: changed}).outputs
            for output, array in expected.items():
                error = excess(case, output, dtype, got[output], array)
                assert error <= 1.0, f"{case.id} in {dtype}: {number} in {name}, {output} is off by {error:.3g}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("parts", [1, 3])
def test_gather_stops_at_input_that_is_not_finite(dtype, bad, parts):
    (case,) = (case for case in CASES if Flag.CHECK_FINITE in case.flags and case.dims["rows"] == 7)
    array = case.arrays(dtype)[0].copy()
    row = case.index[case.counters["cursor"] + 7 + 4]  # of the second step
    array[row, 3] = bad
    case = replace(case, make_arrays=lambda dtype: {0: array})
    for result in (run_cpu(case, dtype, parts), run_reference(case, dtype)):
        assert result.steps == 1
        assert (result.counters["status"], result.counters["status_detail"]) == (1, row)
        assert result.counters["cursor"] == case.counters["cursor"] + 7
    unchecked = replace(case, flags=Flag(0))
    for result in (run_cpu(unchecked, dtype, parts), run_reference(unchecked, dtype)):
        assert (result.steps, result.counters["status"]) == (2, 0)


def test_bad_loss_is_noted_once():
    case = replace(next(case for case in CASES if case.op == "sum_loss" and case.dims["rows"] == 33), steps=3)
    for counters, noted in (({"step": 4}, 5), ({"step": 4, "bad_loss_step": 2}, 2)):
        for changed, expected in ((np.nan, noted), (np.inf, noted), (0.5, counters.get("bad_loss_step", 0))):
            values = case.values()["row_loss"].copy()
            values[20] = changed
            started = replace(case, counters=counters)
            for run in (run_cpu, run_reference):
                result = run(started, "float32", changed={"row_loss": values})
                assert result.counters["bad_loss_step"] == expected
                assert result.steps == 3


def test_float32_totals_are_summed_in_float64():
    # 1e20 squared overflows in float32
    case = next(case for case in CASES if case.op == "sum_squares" and case.dims["n"] == 7)
    total = run_cpu(case, "float32", changed={"x": np.full(7, 1e20)}).outputs["total"][0]
    assert total == pytest.approx(7 * float(np.float32(1e20)) ** 2, rel=8 * FLOAT64_EPS)


# --- completeness ---------------------------------------------------------------------------------------------


def test_every_op_has_cases():
    with_cases = {case.op for case in CASES}
    assert with_cases == OPS.keys() - CONTROL
    assert EXECUTE.keys() == OPS.keys() - CONTROL
    # besides functions that elementwise kernels and products call, the kernels' folder has kernels of ops only
    of_ops = {op for op, entry in KERNELS.items() if entry.factory.__module__.startswith(f"{kernels.__name__}.")}
    assert of_ops == OPS.keys() | {"map", "map_grad", "panel", "pointwise_map", "shifted_weights", "taps"}
    assert len({case.id for case in CASES}) == len(CASES)


def test_every_variant_has_cases():
    covered = {(case.op, case.variant) for case in CASES}
    formulas = losses.define(np.float64, lambda f: f, elementary.define(np.float64, lambda f: f, bits))
    assert {variant for op, variant in covered if op == "loss"} == formulas.keys() == ELEMENTWISE.keys()
    assert {variant for op, variant in covered if op == "optimizer"} == FORMULAS.keys()
    for op in ("gather", "gather_labels"):
        assert {variant for name, variant in covered if name == op} == SOURCE_POINTERS.keys()
    mapped = {(case.op, case.formula) for case in CASES if case.formula}
    assert {formula for op, formula in mapped if op == "activation"} == SAVES.keys()
    assert {formula for op, formula in mapped if op == "pointwise"} == ARITY.keys()
    assert {formula for op, formula in mapped if op == "activation_grad"} == SAVES.keys() - {"step"}


def test_every_optional_operand_is_there_and_missing():
    for op in (op for name, op in OPS.items() if name not in CONTROL):
        cases = [case for case in CASES if case.op == op.name]
        for spec in op.operands:
            present = {spec.name in case.operands for case in cases}
            # regression takes dense targets only, and the targets of other metrics exclude each other
            only_dense = op.name == "regression_sums" and spec.name in ("target", "labels")
            assert present == ({spec.name == "target"} if only_dense else {True} | {not spec.optional}), (
                f"{op.name}: {spec.name}"
            )


def test_every_flag_has_cases():
    seen = {(case.op, flag) for case in CASES for flag in Flag if flag in case.flags}
    shared = (Flag.REPEAT_A, Flag.REPEAT_B, Flag.CYCLE_A, Flag.CYCLE_B)
    assert seen >= {("batched_matmul", flag) for flag in (Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, *shared)}
    accumulating = ("matmul", "sum_rows", "layer_norm_param_grad", "batch_norm_grad", "batch_norm_inference_grad")
    assert seen >= {(op, Flag.ACCUMULATE) for op in (*accumulating, "sum_squares")}
    matmul = (Flag.TRANSPOSE_A, Flag.TRANSPOSE_B, Flag.MAP_FORWARD, Flag.MAP_GRADIENT)
    assert seen >= {("matmul", flag) for flag in matmul}
    assert seen >= {("gather", Flag.CHECK_FINITE), ("tick", Flag.TRAINING)}
