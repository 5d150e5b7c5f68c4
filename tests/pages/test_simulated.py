"""The page of simulated runs: drawn to scale, one colour per kind of work, readable numbers, and safe with any names."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware import compare
from tilewright.pages import simulation_page
from tilewright.pages.axes import Axis
from tilewright.pages.kinds import KINDS, colour_of
from tilewright.pages.roofs import rooflines
from tilewright.pages.simulated_tables import assumptions, operations, times_table
from tilewright.pages.timeline import timeline
from tilewright.pages.waterfall import waterfall
from tilewright.records import Report


@pytest.fixture(scope="module")
def comparison():
    return compare("bert-base", ["a100", "s4", "t4"], [1, 4], pattern="2:4")


@pytest.fixture(scope="module")
def page(comparison):
    return simulation_page(comparison, command="tilewright simulate --network bert-base --pattern 2:4", pattern="2:4")


def test_a_waterfall_is_to_scale_and_names_every_step(comparison):
    for run, dense in zip(comparison.runs, comparison.dense, strict=True):
        if run.cycles == dense.cycles:
            continue
        report = run.waterfall(dense)
        chart = waterfall(report)
        assert [step.label for step in chart.steps] == [row["step"] for row in report.rows]
        scale = chart.steps[0].width / dense.cycles
        assert chart.steps[-1].width == pytest.approx(run.cycles * scale)
        edge = chart.steps[0].width
        for row, step in zip(report.rows[1:-1], chart.steps[1:-1], strict=True):
            assert step.tone == ("good" if row["cycles"] < 0 else "bad")
            assert (step.start + step.width if row["cycles"] < 0 else step.start) == pytest.approx(edge)
            assert step.width == pytest.approx(abs(row["cycles"]) * scale)
            assert step.value == f"{row['cycles']:+,}".replace("-", "\N{MINUS SIGN}")
            edge = step.start if row["cycles"] < 0 else step.start + step.width


def test_a_roofline_has_a_disc_for_every_row_under_its_roof(comparison):
    reports = [run.roofline() for run in comparison.runs]
    charts = rooflines(reports)
    assert len({(chart.x_ticks, chart.y_ticks) for chart in charts}) == 1  # the same axes, so that machines compare
    for report, chart in zip(reports, charts, strict=True):
        assert len(chart.discs) == len(chart.table.rows) == len(report.rows)
        assert sum(disc.width**2 for disc in chart.discs) > 0
        assert all(0 <= disc.x <= 100 and 0 <= disc.y <= 100 for disc in chart.discs)
        assert bool(chart.sparsest) == (report.summary["flops/s, sparsest"] != report.summary["flops/s, dense"])
        by_share = max(report.rows, key=lambda row: row["share of cycles"])
        assert chart.discs[0].note.startswith(by_share["name"])
        assert chart.discs[0].colour == colour_of(by_share["kind"])
        points = [tuple(map(float, point.split(","))) for point in chart.dense.split()]
        assert points[-1] == pytest.approx((100.0, points[-2][1]))


def test_a_timeline_covers_the_run(comparison):
    for run in comparison.runs:
        chart = timeline(run.timeline())
        spans = [span for strip in chart.strips for span in strip.spans]
        assert min(span.start for span in spans) == pytest.approx(0, abs=0.1)
        assert max(span.start + span.width for span in spans) == pytest.approx(100, abs=0.1)
        assert {strip.name for strip in chart.strips} <= {"lanes", "vector unit"}
        assert {colour for _, colour, _ in chart.legend} >= {span.colour for span in spans}
        assert [kind for kind, _, _ in chart.legend] == sorted((k for k, _, _ in chart.legend), key=KINDS.index)


def test_a_long_timeline_stays_small(comparison):
    many = comparison.runs[0].timeline()
    bars = [event for event in many["traceEvents"] if event["ph"] == "X"]
    shift = max(event["ts"] + event["dur"] for event in bars)
    many["traceEvents"] += [{**event, "ts": event["ts"] + shift * i} for i in range(1, 40) for event in bars]
    assert sum(len(strip.spans) for strip in timeline(many).strips) < 4000


def test_one_kind_of_work_has_one_colour_everywhere(page):
    legends = re.findall(r'<li><i class="(k\d)"></i>([\w-]+)', page)
    assert len({name for _, name in legends}) >= 4
    assert {(colour, name) for colour, name in legends} == {(colour_of(name), name) for _, name in legends}
    notes = re.findall(r'class="(?:disc )?(k\d)"[^>]*?(?:title="|><title>)[^"<]*?, (\w+):', page)
    assert len(notes) > 50
    assert all(colour == colour_of(kind) for colour, kind in notes)
    assert len({colour_of(kind) for kind in KINDS}) == len(KINDS)


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.levels, self.links, self.sections, self.cells, self.tags, self._open = [], [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self._open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "a" and "class" not in attributes:
            self.links.append(attributes["href"])
        if tag == "section":
            self.sections.append("#" + attributes["id"])

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if {"td", "th", "dd", "li"} & set(self._open):
            self.cells.append(data)


def test_the_page_is_complete_and_every_section_is_in_its_contents(page, comparison):
    seen = _Page()
    seen.feed(page)
    assert (
        seen.links
        == seen.sections
        == ["#time", *(f"#run-{r.spec.name}-{r.batch}" for r in comparison.runs), "#reading"]
    )
    assert seen.levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(seen.levels, seen.levels[1:], strict=False))
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert all(a.get(key, "#").startswith(("#", "data:")) for _, a in seen.tags for key in ("src", "href"))
    assert "Simulated: no hardware was run" in page
    assert "<code>tilewright simulate --network bert-base --pattern 2:4</code>" in page


def test_no_number_is_written_as_a_power_and_units_stand_beside_them(page, comparison):
    seen = _Page()
    seen.feed(page)
    assert [cell for cell in seen.cells if re.search(r"\d[eE][+-]?\d", cell)] == []
    for run in comparison.runs:
        table = assumptions(run.assumptions())
        for row, cells in zip(run.assumptions().rows, table.rows, strict=True):
            if row["unit"] == "Hz":
                assert re.fullmatch(r"[\d.]+ [MG]Hz", cells[1].text)
            if row["unit"] == "byte/s":
                assert re.fullmatch(r"[\d.]+ [GT]B/s", cells[1].text)
            assert cells[0].more == row["source"]
        assert len(operations(run.table()).rows) == len(run.table().rows)
    for row, cells in zip(comparison.report().rows, times_table(comparison.report()).rows, strict=True):
        number, unit = cells[3].text.split(" ")
        assert float(number) * {"ms": 1, "\N{MICRO SIGN}s": 1e-3}[unit] == pytest.approx(row["ms"], rel=5e-3)


def test_an_interval_stands_beside_every_time(page, comparison):
    for run in comparison.runs:
        low, high = run.interval
        assert low < run.seconds < high
    assert "The thin line spans" in page
    quiet = simulation_page(compare("bert-base", ["t4"], interval=False))
    assert "The thin line spans" not in quiet


def test_names_cannot_break_out(comparison, monkeypatch):
    evil = '</title><script>alert("1")</script>&'
    genuine = type(comparison.runs[0]).roofline

    def roofline(run):
        report = genuine(run)
        return replace(report, rows=({**report.rows[0], "name": evil}, *report.rows[1:]))

    monkeypatch.setattr(type(comparison.runs[0]), "roofline", roofline)
    seen = _Page()
    seen.feed(simulation_page(comparison, command=evil, pattern=evil))
    assert [tag for tag, _ in seen.tags].count("script") == 1


def test_the_same_runs_give_the_same_bytes(page, comparison):
    again = simulation_page(comparison, command="tilewright simulate --network bert-base --pattern 2:4", pattern="2:4")
    assert again == page


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: waterfall(Report("roofline", ({"a": 1},))),
            "expected a report of Simulation.waterfall, got one of kind 'roofline' with 1 rows",
        ),
        (
            lambda: rooflines([Report("roofline", ())]),
            "expected a report of Simulation.roofline, got one of kind 'roofline' with 0 rows",
        ),
        (lambda: rooflines([]), "at least one report of Simulation.roofline, got none"),
        (lambda: timeline({"traceEvents": []}), "the trace contains no events"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"), [(0, 7.5, False), (3, 3, False), (0.02, 900, True), (2, 9, True), (5, 5, True)]
)
def test_ticks_are_round_and_lie_within_their_axis(low, high, logarithmic):
    axis = Axis(low, high, logarithmic)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    for tick in ticks:
        value = float(tick.text.replace(",", ""))
        assert low <= value <= high
        assert tick.at == pytest.approx(axis(value))
        if low < high:
            assert (
                round(value / 10 ** math.floor(math.log10(value)), 9) in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
                if value
                else True
            )
    falling = axis.ticks(falling=True)
    assert [tick.at for tick in falling] == pytest.approx([100 - tick.at for tick in ticks])
