"""The figure of a scan: which lines share a panel, and that they show the numbers of the rows."""

import pytest

from tilewright.errors import ArgumentError
from tilewright.pages import save_figure, sensitivity_figure
from tilewright.patterns import parse
from tilewright.pruning import Scan, ScanPoint


def scan(*names):
    points = [("1:4", 0.25, 0.5), (None, 1.0, 0.0), ("2:4", 0.5, 0.125), ("4:16", None, None)]
    return Scan(
        tuple(
            ScanPoint(f"{name}.weight", (8, 16), text and parse(text), density, rise=rise)
            for name in names
            for text, density, rise in points
        ),
        dense_loss=1.0,
        patterns=3,
        batches=1,
        score="magnitude",
        cached=0,
    )


def drawn(figure):
    return {
        axis.get_title(loc="left"): {
            line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axis.lines
        }
        for axis in figure.axes
        if axis.get_visible()
    }


LINE = [(0.0, 0.0), (0.5, 0.125), (0.75, 0.5)]


def test_layers_that_differ_in_numbers_share_a_panel():
    panels = drawn(sensitivity_figure(scan("layer.0.query", "layer.11.query", "layer.0.out1", "head")))
    assert panels == {"head": {"head": LINE}, "layer.*.out1": {"0": LINE}, "layer.*.query": {"0": LINE, "11": LINE}}


def test_layers_without_kin_share_one_panel():
    assert drawn(sensitivity_figure(scan("first", "second"))) == {
        "one layer pruned at a time": {"first": LINE, "second": LINE}
    }


def test_it_can_be_saved(tmp_path):
    save_figure(sensitivity_figure(scan("a.0", "a.1")), tmp_path / "scan.svg")
    assert "rise of the loss" in (tmp_path / "scan.svg").read_text()


def test_an_empty_scan_is_refused():
    with pytest.raises(ArgumentError, match="the scan has no points to draw"):
        sensitivity_figure(scan())
