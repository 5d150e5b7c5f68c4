"""The code on the budget page runs, block by block, in an empty folder."""

import re
from pathlib import Path

import pytest

from tilewright.pruning import masks_of

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "choose-a-budget.md"


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "scan.svg").exists()
    assert len((tmp_path / "scan.jsonl").read_text().splitlines()) == 1 + 3 * 3
    assert masks_of(names["again"])
    assert masks_of(names["model"])
