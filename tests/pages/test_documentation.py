"""The page on records matches the code, and its examples run."""

import dataclasses
import doctest
import re
from pathlib import Path

import pytest

from tilewright.pages import html
from tilewright.records import Record
from tilewright.records import record as records

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "records.md"


@pytest.mark.parametrize("module", [records, html])
def test_docstring_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(block, {})
    assert (tmp_path / "records.jsonl").read_text().count("\n") == 1


def test_the_page_lists_every_field():
    table = PAGE.read_text().split("## Fields")[1].split("## ")[0]
    listed = re.findall(
        r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    )
    assert listed == [field.name for field in dataclasses.fields(Record)]
