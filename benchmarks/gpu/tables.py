"""The Markdown of each section, made from its JSON: units in headers, ratios in brackets, and the project's aims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# shares of cuBLAS, of a copy and of cuDNN, and times as fast as compiled PyTorch
PRODUCT_AIMS = {"float32": 0.9, "tf32": 0.7, "bf16": 0.7}
BANDWIDTH_AIM = 0.9
CONVOLUTION_AIM = 0.8
TRAINING_AIMS = {
    "64-128-64-10, batch 128": 2.0, "784-256-128-10, batch 128": 2.0, "784-256-128-10, batch 4096": 2.0,
    "1024-4096-4096-1024, batch 4096": 1.0,
}  # fmt: skip
Section = dict[str, Any]


def environment(facts: dict[str, Any]) -> Iterator[str]:
    """Yield the environment of the figures."""
    if not facts:
        yield "Nothing is known of the machine yet."
        return
    yield (
        f"{facts['date']}; {facts['gpu']} (compute capability {facts['capability']}, kernels for "
        f"{facts['architecture']}, {facts['multiprocessors']} multiprocessors, {facts['memory']})"
    )
    driver = [f"{name} {facts[key]}" for key, name in (("driver", "driver"), ("cuda", "CUDA")) if key in facts]
    versions = [f"{name} {number}" for name, number in facts["versions"].items()]
    yield ", ".join([f"fastnn {facts['fastnn']}", *driver, f"Python {facts['python']}", *versions, facts["system"]])
    if facts["clocks"]:
        yield ", ".join(f"{name} {value}" for name, value in facts["clocks"].items()) + " (before the start)"


def kernels(section: Section) -> Iterator[str]:
    """Yield the number of compiled kernels."""
    facts = section["facts"]
    yield f"{facts.get('compiled', 0)} of {facts['kernels']} kernels by {facts['processes']} processes."


def checks(section: Section) -> Iterator[str]:
    """Yield a line for each op: its number of cases, and the worst error relative to its bound."""
    facts, items = section["facts"], section["items"]
    yield (
        f"{len(items)} of {facts.get('cases', '?')} cases ran to their end, each twice, on random numbers of salt "
        f"{facts.get('salt')} and with outputs full of NaN; {sum(one['ratio'] > 1.0 for one in items)} are off by more "
        f"than they may be, {sum(not one['same'] for one in items)} differ from run to run."
    )
    yield ""
    yield "| op | precision | cases | too far off | largest error / bound | of | s |"
    yield "|---|---|---:|---:|---:|---|---:|"
    groups: dict[tuple[str, str], list[Section]] = {}
    for one in items:
        precision = one["precision"] if one["precision"] != "float32" else one["dtype"]
        groups.setdefault((one["op"], precision), []).append(one)
    for (op, precision), group in sorted(groups.items()):
        worst = max(group, key=lambda one: float(one["ratio"]))
        off = sum(one["ratio"] > 1.0 for one in group)
        seconds = sum(one["seconds"] for one in group)
        what = f"{worst['case']}: {worst['output']}" if worst["output"] else ""
        yield f"| {op} | {precision} | {len(group)} | {off or ''} | {worst['ratio']:.3g} | {what} | {seconds:.1f} |"


def digits(section: Section) -> Iterator[str]:
    """Yield a line for each device."""
    facts = section["facts"]
    yield "| device | loss of the first epoch | of the last | test accuracy | ms per epoch |"
    yield "|---|---:|---:|---:|---:|"
    for one in section["items"]:
        losses = one["losses"]
        yield (
            f"| {one['device']} | {losses[0]:.6f} | {losses[-1]:.6f} | {one['accuracy']:.4f} "
            f"| {one['milliseconds an epoch']:.3g} |"
        )
    if "weights" in facts:
        yield ""
        yield (
            f"After {facts['steps']} steps weights differ by {facts['weights']:.1e} at most; the losses of the first "
            f"epoch by {facts['first_loss']:.1e} of their size, of the last by {facts['last_loss']:.1e}."
        )


def models(section: Section) -> Iterator[str]:
    """Yield a line for each file of tests."""
    yield "| file | tests |"
    yield "|---|---|"
    for one in section["items"]:
        yield f"| tests/simulator/{one['file']} | {one['counts']} |"


def sanitizer(section: Section) -> Iterator[str]:
    """Yield a line for each tool."""
    yield "| tool | ran | summary |"
    yield "|---|---|---|"
    for one in section["items"]:
        yield f"| {one['tool']} | {one['ran']} | {one['summary']} |"


def matmul(section: Section) -> Iterator[str]:
    """Yield a line for each product and precision."""
    yield f"cuBLAS: {section['facts'].get('peer')}. For bf16 our operands are float32 in memory, cuBLAS' are bf16."
    yield ""
    yield "| m x n x k | precision | fastnn us | quartiles | TFLOP/s | cuBLAS (fastnn / cuBLAS) | aim | off by |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for one in section["items"]:
        rates = one["tflops"]
        peer = "n/a"
        if "cuBLAS" in rates:
            peer = f"{rates['cuBLAS']:.4g} ({rates['fastnn'] / rates['cuBLAS']:.2f})"
        precision = one["precision"]
        alike = "" if precision == "float32" or one["rounds"] else " (as float32)"
        yield (
            f"| {' x '.join(map(str, one['product']))} | {precision}{alike} | {_times(one['us']['fastnn'])} "
            f"| {rates['fastnn']:.4g} | {peer} | {PRODUCT_AIMS[precision]} | {one['off']:.0e} |"
        )


def convolutions(section: Section) -> Iterator[str]:
    """Yield a line for each convolution and gradient."""
    yield f"cuDNN: {section['facts'].get('peer')}. Gradients for weights are those of chunks."
    yield ""
    yield "| op | images, filters | factors | fastnn us | quartiles | TFLOP/s | cuDNN (fastnn / cuDNN) | aim | off by |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for one in section["items"]:
        rates, peer = one["tflops"], "n/a"
        if "cuDNN" in rates:
            peer = f"{rates['cuDNN']:.4g} ({rates['fastnn'] / rates['cuDNN']:.2f})"
        yield (
            f"| {one['op']} | {one['name']} | {one['precision']} | {_times(one['us']['fastnn'])} "
            f"| {rates['fastnn']:.4g} | {peer} | {CONVOLUTION_AIM} | {one['off']:.0e} |"
        )


def recurrent(section: Section) -> Iterator[str]:
    """Yield a line for each recurrent layer and gradient."""
    yield "| op | layer | fastnn us | quartiles | us a step | TFLOP/s | off by |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for one in section["items"]:
        yield (
            f"| {one['op']} | {one['name']} | {_times(one['us']['fastnn'])} | {one['us_per_step']:.3g} "
            f"| {one['tflops']['fastnn']:.4g} | {one['off']:.0e} |"
        )


def cells(section: Section) -> Iterator[str]:
    """Yield a line for each network: a step with the cell, and beside it the layer of the same formula."""
    yield "| network | launches | cell us | quartiles | layer us (layer / cell) | losses off by |"
    yield "|---|---:|---:|---:|---:|---:|"
    for one in section["items"]:
        own, layer = one["us"]["cell"], one["us"]["layer"]
        yield (
            f"| {one['name']} | {one['launches']} | {_times(own)} | {layer[0]:.4g} ({layer[0] / own[0]:.2f}) "
            f"| {max(one['off'].values()):.0e} |"
        )


def warpgroups(section: Section) -> Iterator[str]:
    """Yield the lines of the checks, and those of the products."""
    checked = [one for one in section["items"] if "ratio" in one]
    timed = [one for one in section["items"] if "tflops" in one]
    yield from checks({**section, "items": checked})
    if timed:
        yield ""
        yield from matmul({**section, "items": timed})


def bandwidth(section: Section) -> Iterator[str]:
    """Yield a line for each kernel."""
    yield "| kernel | MB | us | quartiles | GB/s | copy GB/s (kernel / copy) | aim | off by |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for one in section["items"]:
        rates = one["gbps"]
        yield (
            f"| {one['kernel']} | {one['nbytes'] / 1e6:.4g} | {_times(one['us']['fastnn'])} | {rates['fastnn']:.4g} "
            f"| {rates['copy']:.4g} ({one['share']:.2f}) | {BANDWIDTH_AIM} | {one['off']:.0e} |"
        )


def calls(section: Section) -> Iterator[str]:
    """Yield a line for each call."""
    yield (
        f"{section['facts'].get('network')}, from NumPy arrays to NumPy arrays, by the host's clock; in brackets how "
        f"many times as long as fastnn's. PyTorch: {section['facts'].get('peer')}."
    )
    yield ""
    yield "| call | rows | fastnn us | quartiles | PyTorch eager |"
    yield "|---|---:|---:|---:|---:|"
    for one in section["items"]:
        other = one["us"].get("PyTorch eager")
        peer = "n/a" if other is None else f"{other[0]:.4g} ({other[0] / one['us']['fastnn'][0]:.2f})"
        yield f"| {one['method']} | {one['rows']} | {_times(one['us']['fastnn'])} | {peer} |"


def launches(section: Section) -> Iterator[str]:
    """Yield a line for each launch of a training step."""
    yield "Microseconds of a kernel that is launched again and again, and of the step that all of them are."
    yield ""
    yield "| network | kernel | grid | threads | us | quartiles |"
    yield "|---|---|---|---:|---:|---:|"
    for one in section["items"]:
        where = f"{'x'.join(map(str, one['grid']))} | {one['threads']}" if "grid" in one else " | "
        stage = f" #{one['stage']}" if one.get("stage") else ""
        yield f"| {one['network']} | {one['kernel']}{stage} | {where} | {_times(one['us'])} |"


def training(section: Section) -> Iterator[str]:
    """Yield a line for each network and precision; the compiling contestant was timed against fastnn later."""
    yield (
        f"Microseconds a step, and in brackets how many times as long as fastnn's in the same run. "
        f"PyTorch: {section['facts'].get('peer')}."
    )
    yield ""
    groups: dict[tuple[str, str], list[Section]] = {}
    for one in section["items"]:
        groups.setdefault((one["network"], one["precision"]), []).append(one)
    names = dict.fromkeys(name for one in section["items"] for name in (*one["us"], *one["skipped"]))
    others = [name for name in names if name != "fastnn"]
    yield "| network | precision | fastnn us | quartiles | " + " | ".join([*others, "aim |"])
    yield "|---|---|" + "---:|" * (len(others) + 3)
    for (network, precision), group in groups.items():
        cells = []
        for name in others:
            of = next((one for one in group if name in one["us"] or name in one["skipped"]), None)
            if of is None:
                cells.append("")
            elif name in of["skipped"]:
                cells.append("skipped")
            else:
                cells.append(f"{of['us'][name][0]:.4g} ({of['us'][name][0] / of['us']['fastnn'][0]:.2f})")
        aim = f"{TRAINING_AIMS[network]:g} x compiled" if network in TRAINING_AIMS else ""
        yield f"| {network} | {precision} | {_times(group[0]['us']['fastnn'])} | {' | '.join([*cells, aim])} |"
    reasons = dict.fromkeys(f"{name}: {why}" for one in section["items"] for name, why in one["skipped"].items())
    for reason in reasons:
        yield ""
        yield f"Skipped: {reason}"


def _times(micro: list[float]) -> str:
    median, low, high = micro
    return f"{median:.4g} | {low:.4g} to {high:.4g}"
