"""The pages on the golden integers, the metadata and DRAM agree with the code: examples run, and tables are computed."""

import re
from pathlib import Path

import numpy as np
import pytest

from tilewright.formats import METADATA_KINDS, interleave_metadata, reorder_metadata
from tilewright.hardware.dram import DRAMS, Dram, preset

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["reference/golden.md", "reference/metadata-24.md", "explanation/dram.md"]
EXAMPLES = [
    pytest.param(code, id=f"{page}-{i}")
    for page in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code):
    exec(compile(code, "page", "exec"), {})


def test_every_page_has_an_example():
    assert len(EXAMPLES) >= len(PAGES)


def test_the_presets_of_the_dram_page_are_computed():
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| ([\d.]+) \| (\d+)% \|$", (DOCS / PAGES[2]).read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == list(DRAMS)
    for name, peak, share in rows:
        of = preset(name)
        assert float(peak) == pytest.approx(of.peak / 1e9, abs=0.5 if of.peak > 1e11 else 0.05)
        assert round(Dram(of).efficiency(1 << 32) * 100) == int(share)
    memory = Dram(preset("lpddr4x"))
    speeds = [f"{0.1 / memory.stream(100_000_000, kind).seconds:.1f}" for kind in ("read", "write")]
    assert f"gives {speeds[0]} and {speeds[1]}" in (DOCS / PAGES[2]).read_text()


def test_the_types_of_the_metadata_page_are_the_code():
    page = (DOCS / PAGES[1]).read_text()
    for kind in METADATA_KINDS.values():
        dense, values, nibble = kind.group_bits
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{kind.name}`" in line)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        saving = f"{(1 - (values + nibble) / dense) * 100:g}%"
        assert cells[2:] == [str(dense), f"{values} + {nibble}", saving, f"{kind.word} bits", str(kind.covers)]


def test_the_start_of_memory_worked_out_by_hand_is_right():
    words = (np.arange(32)[:, None] * 10 + np.arange(2)).astype(np.uint16)
    assert interleave_metadata(reorder_metadata(words))[:4].tolist() == [0, 80, 1, 81]
