"""The rules that docs/architecture.md states: directions of imports, jit options in one place, sizes of files."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "numpy_mlp.py")
CHECKOUT = Path(__file__).parents[2]

HYPERPARAMETERS = {"activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers"}
HYPERPARAMETERS |= {"schedules"}
# What each room may import; nothing else.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "modules": {"locks"},
    "elsewhere": set(),
    "names": set(),
    "hints": {"elsewhere", "modules", "names"},
    "registry": {"checks", "hints", "modules"},
    "seeding": set(),
    "threads": {"checks", "locks"},
    "addresses": set(),
    "casts": set(),
    "version": set(),
    "cache": {"hints"},
    "interrupts": set(),
    "locks": set(),
    "console": {"locks"},
    "files": set(),
    "checks": set(),
    "figures": set(),
    "markup": set(),
    "config": {"checks", "registry"},
    "activations": {"checks", "casts", "formula_types", "formulas", "hints", "registry"},
    "constraints": {"checks", "casts", "hints", "registry"},
    "initializers": {"checks", "casts", "hints", "registry"},
    "regularizers": {"checks", "casts", "hints", "registry"},
    "schedules": {"checks", "hints", "registry"},
    "losses": {"checks", "activations", "casts", "formula_types", "formulas", "hints", "modules", "registry"},
    "metrics": {"checks", "casts", "formulas", "hints", "locks", "losses", "registry"},
    "optimizers": {"checks", "casts", "formula_types", "formulas", "hints", "registry", "schedules"},
    "datasets": {"checks", "hints", "registry", "seeding"},
    "callbacks": {"checks", "console", "errors", "files", "hints", "locks", "metrics", "registry"},
    "formulas": set(),
    "formula_types": {"formulas", "modules"},
    "program": {"locks", "markup"},
    "graph": {"formulas", "modules"},
    "layers": {"checks", "casts", "config", "formula_types", "formulas", "graph", "hints", "locks", "registry"}
    | HYPERPARAMETERS,
    "ops": {"activations", "checks", "graph", "hints", "layers"},
    "lower": {"formulas", "graph", "modules", "program"},
    "backend": set(),
    "backend/settings": set(),
    "backend/store": {"cache", "files"},
    "backend/protocol": {"program"},
    "backend/cpu": set(),
    "backend/cpu/processor": {"backend/settings", "program"},
    "backend/cpu/layouts": {"addresses", "backend/cpu/processor", "formulas", "program"},
    "backend/cpu/codegen": {"backend/cpu/layouts", "backend/cpu/processor", "formulas", "program"},
    "backend/cpu/kernels": {
        "backend/cpu/codegen",
        "backend/cpu/layouts",
        "backend/cpu/processor",
        "formulas",
        "program",
    },
    "backend/cpu/native": {
        "backend/cpu/codegen",
        "backend/cpu/layouts",
        "backend/cpu/processor",
        "formulas",
        "program",
    },
    "backend/cpu/loading": {
        "backend/cpu/codegen",
        "backend/cpu/kernels",
        "backend/cpu/layouts",
        "backend/cpu/native",
        "backend/cpu/processor",
        "backend/settings",
        "backend/store",
        "cache",
        "formulas",
        "interrupts",
        "locks",
        "modules",
        "program",
    },
    "backend/cpu/threads": {"backend/cpu/layouts", "backend/cpu/loading", "locks", "program", "threads"},
    "backend/cpu/executor": {
        "addresses",
        "backend/cpu/layouts",
        "backend/cpu/loading",
        "backend/cpu/processor",
        "backend/cpu/threads",
        "console",
        "formulas",
        "program",
        "threads",
    },
    "backend/cpu/calls": {
        "addresses",
        "backend/cpu/executor",
        "backend/cpu/layouts",
        "backend/cpu/loading",
        "backend/cpu/processor",
        "backend/cpu/threads",
        "program",
        "threads",
    },
    "backend/cpu/frozen": {
        "addresses",
        "backend/cpu/calls",
        "backend/cpu/codegen",
        "backend/cpu/executor",
        "backend/cpu/layouts",
        "backend/cpu/loading",
        "backend/cpu/processor",
        "formulas",
        "locks",
        "program",
    },
    "backend/cuda": set(),
    "backend/cuda/codegen": {"backend/settings", "backend/store", "cache", "errors", "formulas", "locks", "program"},
    "backend/cuda/kernels": {"backend/cuda/codegen", "formulas", "modules", "program"},
    "backend/cuda/launch": {
        "backend/protocol",
        "backend/cuda/codegen",
        "backend/cuda/kernels",
        "console",
        "formulas",
        "program",
    },
    "backend/cuda/simulator": {"backend/cuda/codegen", "backend/cuda/launch", "program"},
    "backend/cuda/driver": {
        "backend/protocol",
        "backend/cuda/codegen",
        "backend/cuda/launch",
        "backend/cuda/simulator",
        "errors",
    },
    "backend/cuda/device_function": {"backend/cuda/codegen", "formulas", "modules", "program"},
    "backend/devices": {"backend/cuda/driver", "backend/cuda/launch", "backend/protocol", "program"},
    "cuda": {"backend/cuda/driver", "hints"},
    # the oracle takes its definitions from the array functions that users call, not from the compiled formulas
    "backend/reference": {"activations", "formulas", "losses", "metrics", "modules", "program"},
    "nopython": {
        *(f"backend/cpu/{room}" for room in ("codegen", "executor", "frozen", "layouts")),
        *(f"backend/cuda/{room}" for room in ("codegen", "device_function")),
        "casts",
        "hints",
        "program",
    },
    "linalg": {
        *(f"backend/cpu/{room}" for room in ("calls", "executor", "layouts")),
        *("activations", "addresses", "casts", "formulas", "locks", "program", "threads"),
    },
}
# the storey above the pipeline, from the bottom to the top
ALLOWED |= {
    "objective": {"checks", "graph", "losses", "metrics", "program", "registry"},
    "tables": {"casts", "checks", "config", "hints", "layers"},
    "data": {
        *("addresses", "backend/devices", "casts", "checks", "errors", "layers", "losses", "lower", "objective"),
        *("hints", "registry", "tables"),
    },
    "runtime": {
        *(f"backend/cpu/{room}" for room in ("calls", "executor", "frozen", "layouts")),
        *("backend/devices", "backend/protocol"),
        *(
            "activations",
            "addresses",
            "casts",
            "checks",
            "console",
            "constraints",
            "data",
            "errors",
            "graph",
            "interrupts",
            "layers",
            "locks",
        ),
        *("losses", "lower", "objective", "optimizers", "program", "seeding", "threads"),
    },
    "training": {
        *(
            "backend/cpu/executor",
            "backend/cpu/loading",
            "callbacks",
            "casts",
            "checks",
            "console",
            "data",
            "errors",
            "figures",
            "layers",
        ),
        *("formulas", "hints", "locks", "lower", "markup", "objective", "optimizers", "program", "registry", "runtime"),
        *("seeding", "threads"),
    },
    "saving": {
        *(
            "checks",
            "config",
            "cuda",
            "errors",
            "files",
            "layers",
            "losses",
            "objective",
            "optimizers",
            "program",
            "registry",
        ),
        *("runtime", "tables", "training"),
    },
    "export": {
        *(f"backend/cpu/{room}" for room in ("frozen", "layouts")),
        "backend/devices",
        *("checks", "nopython", "objective", "optimizers", "program", "runtime"),
    },
    "model": {
        *("checks", "backend/cpu/frozen", "callbacks", "casts", "config", "console"),
        *("data", "errors", "export", "hints", "layers", "locks", "lower", "markup", "nopython", "objective", "ops"),
        *("optimizers", "program"),
        *("runtime", "saving", "seeding", "tables", "training"),
    },
    "applications": {"checks", "hints", "initializers", "layers", "model", "ops", "tables"},
    "inspect": {"activations", "checks", "figures", "hints", "layers", "model", "ops", "seeding", "training"},
    "integrations": {"callbacks", "checks", "hints", "locks", "threads", "training"},
    "lora": {
        *("checks", "errors", "hints", "initializers", "layers", "model", "runtime", "saving", "seeding", "training"),
    },
    "plot": {
        *("activations", "checks", "figures", "hints", "inspect", "layers", "losses", "model", "runtime", "training"),
    },
    "text": {"checks", "files", "hints", "seeding"},
    "sklearn": {
        *("activations", "backend/cpu/loading", "callbacks", "inspect", "layers", "locks", "losses", "model"),
        *("objective", "optimizers", "registry", "regularizers", "runtime", "threads", "training"),
    },
    "testing": {"activations", "formulas", "hints", "layers", "losses", "model", "nopython", "sklearn", "training"},
}
ALLOWED["."] = set(ALLOWED)
ALLOWED["demo"] = set(ALLOWED)
ALLOWED["__main__"] = {"demo", "console", "."}

REQUIRED_PACKAGES = {"numpy", "numba", "llvmlite", "tqdm", "safetensors"}
# rooms that only those import who have their extra
EXTRAS = {"sklearn": {"joblib", "scipy", "sklearn"}, "testing": {"pytest", "sklearn"}}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """Return a module's room: its first folder, for a backend the folder within; or the module, if it is in none."""
    parts = [part for part in module.split(".")[1:] if part != "__init__"]
    if not parts:
        return "."
    if parts[0] != "backend":
        return parts[0]
    folders = [part for index, part in enumerate(parts) if PACKAGE.joinpath(*parts[: index + 1]).is_dir()]
    if len(folders) == 1:
        return "/".join(parts[:2])
    return "/".join(folders[:3]) if folders[1] != "reference" else "backend/reference"


def module_of(path: Path) -> str:
    return ".".join(("fastnn", *path.relative_to(PACKAGE).with_suffix("").parts))


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a module without code for type checkers only."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from runtime_nodes(child)


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the dotted names of imports; `from package import module` gives the module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = PACKAGE.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = inside.is_dir() or inside.with_suffix(".py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_point_one_way(path):
    here = room_of(module_of(path))
    assert here in ALLOWED, f"{path} is in a new room: say in ALLOWED and docs/architecture.md what it may import"
    for name in imported(ast.walk(parsed(path))):
        if name.partition(".")[0] == "fastnn" and room_of(name) != here:
            assert room_of(name) in ALLOWED[here], f"{module_of(path)} may not import {name}"


def test_the_allowed_directions_have_no_circle():
    # raises an error that names the circle
    list(TopologicalSorter(ALLOWED).static_order())


def test_no_files_import_each_other_in_a_circle():
    """Imports in functions and for type checkers alone count as well: they make files as hard to read."""
    edges = {}
    for path in PACKAGE.rglob("*.py"):
        module = module_of(path).removesuffix(".__init__")
        edges[module] = set(imported(ast.walk(parsed(path)))) - {module}
    list(TopologicalSorter(edges).static_order())


def test_kernels_know_no_layers_and_layers_no_kernels():
    """The two ends of the pipeline meet in `program` alone."""
    above = {"layers", "graph", "lower", "objective", "data", "runtime", "training", "saving", "export", "model"}
    for room in ALLOWED:
        if room in ("program", "formulas") or room.startswith("backend"):
            assert not ALLOWED[room] & above
    for room in ("layers", "graph", "lower"):
        assert not any(other.startswith("backend") for other in ALLOWED[room])


# Names with an underscore that are documented: those of named tuples have it so that no field has their name.
DOCUMENTED = {"_asdict", "_fields", "_replace"}
# What other libraries have no public name for.
FOREIGN = {
    *("_customize_tm_options", "_get_compiled_object", "_get_host_cpu_name", "_tm", "_tm_features"),  # Numba's codegen
    *("_ary", "_can_compile", "_item"),  # arrays of Numba's simulator, dispatchers
    *("_instances", "_wrapped"),  # tqdm
    *("_is_gil_enabled", "_is_owned"),  # sys, threading.RLock
    "_ARRAY_API",  # NumPy's functions for C
}


def reads(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the names that are read of anything but `self` and `cls`, and imported from fastnn, with their lines."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastnn"):
            modules = {name.rpartition(".")[2] for name in imported(iter([node]))}
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name not in modules)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            of, name = node.args[:2]
            if isinstance(name, ast.Constant) and ast.unparse(of) not in ("self", "cls"):
                yield node.lineno, name.value


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_file_reads_what_is_private_to_another(path):
    """A name with an underscore is read of `self` and `cls`, or where the file itself defines it."""
    nodes = list(ast.walk(parsed(path)))
    mine = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    mine |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    mine |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for line, name in reads(nodes):
        if name.startswith("_") and not name.startswith("__"):
            assert name in mine | DOCUMENTED | FOREIGN, f"{path}:{line}: {name} is private to another file"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_third_parties(path):
    """Only the compiled backends and extensions of Numba import Numba; optional packages are imported in functions."""
    tree = parsed(path)
    everywhere = {name.partition(".")[0] for name in imported(runtime_nodes(tree))}
    if not room_of(module_of(path)).startswith(("backend/cpu", "backend/cuda", "nopython")):
        # what the processor is, LLVM tells without Numba
        assert not everywhere & {"numba", *([] if room_of(module_of(path)) == "backend/settings" else ["llvmlite"])}
    outside_functions = list(runtime_nodes(tree))
    inside = {
        id(node)
        for function in outside_functions
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = set(sys.stdlib_module_names) | REQUIRED_PACKAGES | EXTRAS.get(module_of(path).split(".")[1], set())
    at_import = {name.partition(".")[0] for name in imported(n for n in outside_functions if id(n) not in inside)}
    assert at_import <= found | {"fastnn"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_no_property_with_a_lock(path):
    """Before Python 3.12 a `functools.cached_property` has a lock, which the child of a fork may find taken."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "functools":
            assert "cached_property" not in {alias.name for alias in node.names}
        if isinstance(node, ast.Attribute) and node.attr == "cached_property":
            assert ast.unparse(node.value) != "functools"


JITTING = {
    PACKAGE / "backend" / name
    for name in (
        "cpu/codegen/options.py",
        "cpu/loading/compile.py",
        "cuda/codegen/options.py",
        "cuda/codegen/compile.py",
    )
}
# hands whole kernels to Numba's simulator, which takes no options
JITTING.add(PACKAGE / "backend" / "cuda" / "simulator" / "device.py")
COMPILERS = {"jit", "njit", "cfunc", "vectorize", "guvectorize", "stencil", "compile_extra", "compile_isolated"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_every_compiled_function_goes_through_options(path):
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            assert node.value not in ("nnan", "ninf", "fast"), f"{path}:{node.lineno}: NaN has to reach the user"
        if path not in JITTING:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                jitting = {(module, name) for module in ("numba", "cuda") for name in COMPILERS}
                assert (node.value.id, node.attr) not in jitting, f"{path}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                assert not COMPILERS & {alias.name for alias in node.names}, f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword):
                assert node.arg != "fastmath", f"{path}:{node.value.lineno}"


def test_fast_maths_flags_keep_nan():
    from fastnn.backend.cpu.codegen import options

    flags = {name: value for name, value in vars(options).items() if name.endswith("_FLAGS")}
    assert {"FORMULA_FLAGS", "KERNEL_FLAGS"} <= set(flags)
    for value in flags.values():
        assert value <= {"contract", "reassoc", "nsz", "arcp"}
    assert sorted(options.FORMULA_FLAGS) == ["contract"]
    for decorate in (options.formula, options.helper, options.inlined):
        chosen = decorate(lambda x: x).targetoptions
        assert chosen["fastmath"] in (options.FORMULA_FLAGS, options.KERNEL_FLAGS)
        assert chosen["error_model"] == "numpy"


def test_files_stay_readable():
    folders = (CHECKOUT / name for name in ("src", "tests", "benchmarks", "examples"))
    long = {
        str(path): count
        for folder in folders
        for path in folder.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long, f"past 500 lines something wants to be two files: {long}"
