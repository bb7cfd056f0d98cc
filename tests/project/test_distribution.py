"""The distribution's name, and that nothing tells a user to install another project's.

The package index has a project called fastnn that is not this one.
"""

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
FOLDERS = ("src", "examples", "docs", "benchmarks", ".ci", "tests")
SUFFIXES = {".py", ".md", ".toml", ".json", ""}


def texts():
    paths = [path for path in CHECKOUT.iterdir() if path.is_file()]
    paths += [path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*") if path.is_file()]
    for path in paths:
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts and path != Path(__file__):
            yield path.relative_to(CHECKOUT), path.read_text("utf-8", errors="replace")


def test_no_text_asks_for_the_other_project():
    # `pip install fastnn`, `pip install "fastnn[plot]"`, `fastnn[cuda]` as a requirement, `version("fastnn")`
    wrong = re.compile(
        r"""pip3?\s+(?:install|download|wheel)\s[^\n&|;]*?(?<![\w./-])fastnn(?![\w-])|\bfastnn\[[a-z]|version\(["']fastnn["']\)"""
    )
    found = [f"{path}: {match.group()}" for path, text in texts() for match in wrong.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ['pip install "fastnn[plot]"', "python -m pip install fastnn", "pip install -U fastnn\n"]
)
def test_the_pattern_finds_what_is_wrong(text, monkeypatch):
    monkeypatch.setattr("test_distribution.texts", lambda: [("a file", text)])
    with pytest.raises(AssertionError):
        test_no_text_asks_for_the_other_project()


def test_one_name():
    assert PROJECT["name"] == "fastnn-numba"
    required = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    itself = [one for one in required if one.startswith("fastnn")]
    assert itself == ["fastnn-numba[cuda]"]
    # asv uninstalls this project between commits
    assert '"project": "fastnn-numba"' in (CHECKOUT / "asv.conf.json").read_text("utf-8")


def test_texts_name_extras_that_exist():
    named = {
        extra
        for _, text in texts()
        for given in re.findall(r"""pip install (?:-e )?["']\.\[([\w,-]+)\]["']""", text)
        for extra in given.split(",")
    }
    assert {"test", "cuda"} <= named <= set(PROJECT["optional-dependencies"])
