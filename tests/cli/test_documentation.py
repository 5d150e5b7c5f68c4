"""The page on the command line names every verb, option and exit code, and no others."""

import re
from pathlib import Path

import pytest

from tilewright.cli import faults

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
VERBS = ("run", "prune", "verify", "bench", "explain", "export", "simulate", "advise", "doctor")


def test_every_verb_is_listed():
    assert re.findall(r"^\| `(\w+)(?: [A-Z]|`)", PAGE, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_named(tilewright, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = set(re.findall(r"--[a-z][a-z-]+", tilewright(verb, "--help").out)) - {"--help"}
    assert options
    assert options <= set(re.findall(r"--[a-z][a-z-]+", PAGE))


def test_no_option_is_invented(tilewright, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    known = set().union(
        *(re.findall(r"--[a-z][a-z-]+", tilewright(*words, "--help").out) for words in ([], *([v] for v in VERBS)))
    )
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known


def test_every_exit_code_is_explained():
    codes = {faults.NOT_OK, faults.USAGE, faults.NOT_SUPPORTED, faults.FAULT, faults.INTERRUPTED, 0}
    section = PAGE.split("## Exit codes")[1].split("## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == codes
