"""SCALE-Sim's counts: equal to its recorded ones, and differences from ours that add up."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware.scalesim import conv_as_product, explain_difference, scalesim_cycles
from tilewright.records import read_records

from .validation import script

RECORDS = read_records(script("scalesim").RECORDS)
FLOWS = ("ws", "os", "is")
sizes = st.integers(1, 70)
sides = st.integers(1, 33)


def skewed(matrix):
    """Return operands delayed one cycle more in each column, as they enter a systolic array; -1 where nothing does."""
    lines, width = matrix.shape
    out = np.full((lines + width - 1, width), -1)
    for column in range(width):
        out[column : column + lines, column] = matrix[:, column]
    return out


def reference(M, N, K, rows, columns, flow):
    """Return the number of the last line that SCALE-Sim's array is asked to write, by laying the lines out one by one."""
    down, across, streamed = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[flow]
    lines = 0
    for _ in range(0, down, rows):
        for _ in range(0, across, columns):
            silent = rows - 1 if flow == "os" else 2 * rows - 1
            lines += len(skewed(np.ones((silent + streamed, columns))))
    return lines - 1


def test_there_are_records_of_every_flow_and_array():
    assert len(RECORDS) >= 40
    assert {r.inputs["flow"] for r in RECORDS} == set(FLOWS)
    assert len({(r.inputs["rows"], r.inputs["columns"]) for r in RECORDS}) == 5
    assert {r.inputs["kind"] for r in RECORDS} == {"gemm", "conv"}


@pytest.mark.parametrize("flow", FLOWS)
def test_every_recorded_count_is_ours(flow):
    for record in (r for r in RECORDS if r.inputs["flow"] == flow):
        layer = record.inputs["layer"]
        M, N, K = layer if record.inputs["kind"] == "gemm" else conv_as_product(*layer)
        ours = scalesim_cycles(M, N, K, rows=record.inputs["rows"], columns=record.inputs["columns"], flow=flow)
        assert ours == record.median - record.extra["stalls"], record.inputs
        assert record.extra["stalls"] == 0


@given(sizes, sizes, sizes, sides, sides, st.sampled_from(FLOWS))
def test_closed_forms_are_lines_laid_out(M, N, K, rows, columns, flow):
    assert scalesim_cycles(M, N, K, rows=rows, columns=columns, flow=flow) == reference(M, N, K, rows, columns, flow)


@given(sizes, sizes, sizes, sides, sides, st.sampled_from(FLOWS))
def test_differences_add_up(M, N, K, rows, columns, flow):
    report = explain_difference(M, N, K, rows=rows, columns=columns, flow=flow)
    theirs = scalesim_cycles(M, N, K, rows=rows, columns=columns, flow=flow)
    assert sum(row["SCALE-Sim"] for row in report.rows) == theirs == report.summary["SCALE-Sim"]
    assert sum(row["ours"] for row in report.rows) == report.summary["ours"]
    assert sum(row["difference"] for row in report.rows) == report.summary["ours"] - theirs


def test_one_part_lacks_its_drain_and_a_cycle():
    report = explain_difference(32, 32, 32, rows=32, columns=32, flow="os")
    different = {row["component"]: row["difference"] for row in report.rows if row["difference"]}
    assert different == {"draining the sums": 32, "counting from 0": 1}
    assert report.summary["SCALE-Sim with the drain of its paper"] == 93 + 32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scalesim_cycles(0, 1, 1, rows=8, columns=8, flow="os"), "M is 0; it must be"),
        (lambda: scalesim_cycles(1, 1, 1, rows=0, columns=8, flow="os"), "rows is 0; it must be"),
        (
            lambda: scalesim_cycles(1, 1, 1, rows=8, columns=8, flow="rs"),
            "unknown flow 'rs'; .*xpected 'os' .*, 'ws' .* or 'is'",
        ),
        (lambda: conv_as_product(2, 2, 3, 3, 1, 1), "a filter of 3 x 3 does not fit an image of 2 x 2"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


def test_the_page_says_what_the_code_does():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "scale-sim.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "page", "exec"), {})
    report = explain_difference(128, 768, 768, rows=32, columns=32, flow="os")
    rows = [(r["component"], r["SCALE-Sim"], r["ours"], r["difference"]) for r in report.rows]
    rows.append(("total", report.summary["SCALE-Sim"], report.summary["ours"], report.summary["difference"]))
    assert all(f"| {' | '.join(map(str, row))} |" in page for row in rows)
    assert f"{len(RECORDS)} counts" in page
