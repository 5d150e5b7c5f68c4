"""Figures draw the given data, and the same data gives the same file."""

import xml.etree.ElementTree as ET

import pytest

from tilewright.errors import ArgumentError
from tilewright.pages import Series, bar_figure, line_figure, save_figure, scatter_figure

LINE = Series("ours", [1, 2, 4], [1.0, 2.0, 3.0], [0.9, 1.8, 2.7], [1.1, 2.2, 3.3])


def figures():
    yield line_figure({"one": [LINE], "two": [LINE]}, "ratio", "share", log_x=True, references={"dense": 1.0})
    yield scatter_figure(
        {"gpu": [Series("dense", [1, 2], [1.1, 1.9], style="points")]}, "measured", "model", tolerance=0.1
    )
    yield bar_figure(
        {"mlp": {"dense": 1.0, "2:4": 0.9}, "cnn": {"dense": 1.0}}, "accuracy", intervals={"mlp": {"2:4": (0.8, 0.95)}}
    )


@pytest.mark.parametrize("number", range(3))
def test_the_same_data_gives_the_same_svg(tmp_path, number):
    for name in ("a.svg", "b.svg"):
        save_figure(list(figures())[number], tmp_path / "new" / name)
    first, second = ((tmp_path / "new" / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


def test_lines_hold_the_points_given():
    figure = line_figure({"one": [LINE]}, "ratio", "share")
    drawn = figure.axes[0].lines[0]
    assert list(drawn.get_xdata()) == LINE.x
    assert list(drawn.get_ydata()) == LINE.y


def test_points_are_not_joined():
    figure = scatter_figure({"gpu": [Series("dense", [1, 2], [1.1, 1.9], style="points")]}, "measured", "model")
    assert [line.get_linestyle() for line in figure.axes[0].lines if line.get_label() == "dense"] == ["None"]


def test_bars_have_the_heights_given():
    *_, figure = figures()
    assert sorted(bar.get_height() for bar in figure.axes[0].patches if bar.get_height() > 0) == [0.9, 1.0, 1.0]


def test_series_of_unequal_lengths_are_refused():
    with pytest.raises(ArgumentError, match="'ours' has 2 x, 1 y"):
        Series("ours", [1, 2], [1])


def test_limits_and_references_of_lines_can_be_told_apart():
    series = Series("one", [1.0, 2.0], [0.1, 0.9])
    figure = line_figure({"": [series]}, "x", "y", references={"low": 0.2, "high": 0.8}, y_limits=(0.5, 1.0))
    (axis,) = figure.axes
    assert axis.get_ylim() == (0.5, 1.0)
    assert len({line.get_linestyle() for line in axis.lines if line.get_label() in ("low", "high")}) == 2
