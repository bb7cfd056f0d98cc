"""The documentation site: every public name has a place in its reference, and every page of docs one in its menus."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import fastnn as fnn

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def names():
    """The module of docs/extensions that reads docs/reference.toml; it needs no Sphinx."""
    sys.path.insert(0, str(DOCS / "extensions"))
    try:
        return importlib.import_module("public_names")
    finally:
        sys.path.remove(str(DOCS / "extensions"))


def test_the_reference_has_every_public_name_once(names):
    pages, missing = names.pages()
    assert not missing, f"add them, or their module, to docs/reference.toml: {missing}"
    entries = [entry.name for page in pages for section in page.sections for entry in section.entries]
    assert len(set(entries)) == len(entries)
    assert {"fastnn.Dense", "fastnn.nopython.predict", "fastnn.ops.conv", "fastnn.lora.add"} <= set(entries)


def test_layers_that_fastnn_has_are_public_there():
    own = {"ConstantLayer", "InputLayer", "Layer", "Operation", "ParameterSpec", "Symbol"}
    custom = {"Custom", "RowFunction", "Function", "SymbolFunction"}
    assert set(fnn.layers.__all__) - set(fnn.__all__) == own | custom


def test_a_module_that_is_left_out_is_found(names, monkeypatch, tmp_path):
    table = tmp_path / "reference.toml"
    table.write_text(names.TABLE.read_text(encoding="utf-8").replace('"fastnn.text"', ""), encoding="utf-8")
    monkeypatch.setattr(names, "TABLE", table)
    assert names.pages()[1] == sorted(f"fastnn.text.{name}" for name in fnn.text.__all__)


def test_pages_show_methods_where_users_call_them(names):
    shown = {entry.name: entry for page in names.pages()[0] for section in page.sections for entry in section.entries}
    assert {"__call__", "compile", "fit", "freeze", "predict", "save"} <= set(names.members(fnn.Model))
    assert set(names.members(fnn.Sequential)) == {"add", "build", "layers", "summary"}  # and those of Model
    assert names.public_base(fnn.Sequential) == "fastnn.Model"
    assert not shown["fastnn.Dense"].methods and "parameters" in shown["fastnn.layers.Layer"].methods
    assert "name" in shown["fastnn.Dense"].note and not shown["fastnn.layers.Layer"].note
    assert shown["fastnn.MaxPooling2D"].others[0] == "fastnn.MaxPool2D"


def test_every_page_is_in_a_menu():
    entries = {"index"}
    for path in DOCS.glob("*.md"):
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            entries |= {line for line in tree.splitlines() if line and line[0] != ":"}
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert pages <= entries, f"add them to a menu, such as that of docs/guides.md: {pages - entries}"
