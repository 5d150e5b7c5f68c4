"""Pictures of simulated runs: well-formed, to scale, harmless whatever names say, and refused for other reports."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware.simulate import simulate
from tilewright.report import Report
from tilewright.reports.simulated import roofline_svg, timeline_svg, waterfall_svg
from tilewright.reports.svg import amount, powers, round_steps

SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def dense():
    return simulate("bert-base", "a100", batch=4, interval=False)


@pytest.fixture(scope="module")
def sparse():
    return simulate("bert-base", "a100", batch=4, pattern="2:4", interval=False)


def boxes(svg, *styles):
    return [e for e in ET.fromstring(svg).iter(f"{SPACE}rect") if e.get("class") in styles]


def words(svg):
    return [e.text for e in ET.fromstring(svg).iter(f"{SPACE}text")]


def test_a_waterfall_is_to_scale_and_names_every_step(dense, sparse):
    report = sparse.waterfall(dense)
    svg = waterfall_svg(report)
    bars = boxes(svg, "plain", "good", "bad")
    assert len(bars) == len(report.rows)
    scale = float(bars[0].get("width")) / dense.cycles
    assert float(bars[-1].get("width")) == pytest.approx(sparse.cycles * scale, abs=0.01)
    edge = float(bars[0].get("x")) + float(bars[0].get("width"))
    for row, bar in zip(report.rows[1:-1], bars[1:-1], strict=True):
        assert bar.get("class") == ("good" if row["cycles"] < 0 else "bad")
        start, end = float(bar.get("x")), float(bar.get("x")) + float(bar.get("width"))
        assert (end if row["cycles"] < 0 else start) == pytest.approx(edge, abs=1.1)
        edge = start if row["cycles"] < 0 else end
        assert row["step"] in words(svg)
        assert f"{row['cycles']:+,}" in words(svg)


def test_a_roofline_has_a_disc_for_every_row(dense):
    other = simulate("resnet50", "s4", interval=False)
    reports = [dense.roofline(), other.roofline()]
    svg = roofline_svg(reports)
    discs = list(ET.fromstring(svg).iter(f"{SPACE}circle"))
    assert len(discs) == sum(len(report.rows) for report in reports)
    first = discs[0].find(f"{SPACE}title").text
    assert first.startswith(reports[0].rows[0]["name"])
    lines = [e for e in ET.fromstring(svg).iter(f"{SPACE}polyline") if "thin" in e.get("class", "")]
    assert len(lines) == 2
    for disc in discs:
        assert 84 <= float(disc.get("cx")) <= 897
        assert 60 <= float(disc.get("cy")) <= 481


def test_a_machine_without_selectors_has_one_roof(dense):
    run = simulate("bert-base", "t4", interval=False)
    classes = [e.get("class") for e in ET.fromstring(roofline_svg([run.roofline()])).iter(f"{SPACE}polyline")]
    assert [c for c in classes if c != "hair"] == ["line s0"]


def test_a_timeline_covers_the_run(sparse):
    svg = timeline_svg(sparse.timeline())
    styles = [f"f{i}" for i in range(8)]
    bars = [e for e in boxes(svg, *styles) if e.get("height") == "32.0"]
    ends = [float(e.get("x")) + float(e.get("width")) for e in bars]
    assert min(float(e.get("x")) for e in bars) == pytest.approx(110, abs=0.1)
    assert max(ends) == pytest.approx(896, abs=0.1)
    assert {"lanes", "vector unit", "linear", "softmax", "milliseconds"} <= set(words(svg))


def test_a_long_timeline_stays_small():
    run = simulate("bert-large", "a100", interval=False)
    many = run.timeline()
    bars = [event for event in many["traceEvents"] if event["ph"] == "X"]
    shift = max(event["ts"] + event["dur"] for event in bars)
    many["traceEvents"] += [{**event, "ts": event["ts"] + shift * i} for i in range(1, 40) for event in bars]
    assert len(timeline_svg(many)) < 400_000


def test_names_cannot_break_out(dense):
    report = dense.roofline()
    evil = {**report.rows[0], "name": '</title><script>alert("1")</script>&'}
    svg = roofline_svg([replace(report, rows=(evil,))])
    ET.fromstring(svg)
    assert "<script" not in svg


def test_the_same_run_gives_the_same_bytes(dense, sparse):
    assert waterfall_svg(sparse.waterfall(dense)) == waterfall_svg(sparse.waterfall(dense))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: waterfall_svg(Report("roofline", ({"a": 1},))), "drawn from a report of Simulation.waterfall"),
        (lambda: roofline_svg([Report("roofline", ())]), "a report of kind 'roofline' with 0 rows was given"),
        (lambda: roofline_svg([]), "at least one report"),
        (lambda: timeline_svg({"traceEvents": []}), "the trace holds nothing that ran"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


def test_numbers_as_they_are_read():
    assert [amount(v, "op/s") for v in (3.12e14, 999.96, 1500, 0.0021, 0)] == [
        "312 Top/s",
        "1 kop/s",
        "1.5 kop/s",
        "2.1 mop/s",
        "0 op/s",
    ]
    assert powers(5, 2000) == [10, 100, 1000]
    assert round_steps(7.5) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert round_steps(0) == [0.0]
