"""The figure of a sweep: every design is a point, and the front is that of `pareto`."""

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware.explore import explore, grid, pareto
from tilewright.pages import pareto_figure, save_figure
from tilewright.records import Report

pytest.importorskip("matplotlib")
SWEEP = explore(grid("s4", "resnet50", patterns=[None, "bank64@4x"], vary={"rows": [0, 32, 64], "clock": [4e8, 8e8]}))


def test_points_and_front(tmp_path):
    figure = pareto_figure(SWEEP, "seconds", "area")
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines}
    built = [row for row in SWEEP.rows if row["seconds"] is not None]
    assert len(drawn["dense"]) + len(drawn["16:64"]) == len(built) == 8
    front = pareto(SWEEP.rows, {"seconds": "min", "area": "min"})
    assert drawn["front"] == sorted((row["seconds"], row["area"]) for row in front)
    save_figure(figure, tmp_path / "front.svg")
    assert (tmp_path / "front.svg").stat().st_size > 1000


def test_panels_have_fronts_of_their_own():
    figure = pareto_figure(SWEEP, "seconds", "joules", by="rows", panels="pattern")
    assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()] == ["dense", "16:64"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pareto_figure(Report("verify", ({},)), "a", "b"), "got one of kind 'verify'"),
        (lambda: pareto_figure(SWEEP, "speed"), "unknown column 'speed'; expected one of 'accelerator'"),
        (lambda: pareto_figure(SWEEP, "seconds", "quality"), "no design has both seconds and quality"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()
