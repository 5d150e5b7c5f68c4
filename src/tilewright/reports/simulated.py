"""Pictures of simulated runs: operations under the roofs of a machine, where a speed-up went, and what ran when."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..errors import ArgumentError
from ..report import Report
from .svg import COLOURS, Drawing, amount, powers, round_steps

__all__ = ["roofline_svg", "simulation_page", "timeline_svg", "waterfall_svg"]

_WIDTH = 920
_PAGE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;"
    "background:#fbfbf9;color:#1b2023}pre{overflow-x:auto;font-size:13px}h1{font-size:26px}h2{font-size:20px;margin-top:2.2rem}"
    "@media (prefers-color-scheme:dark){body{background:#14181a;color:#e7eae8}}"
)


def waterfall_svg(report: Report) -> str:
    """Draw the steps from a dense run to a sparse one.

    Parameters
    ----------
    report
        Of `Simulation.waterfall`.

    Returns
    -------
    str
        A whole SVG file.

    Raises
    ------
    ArgumentError
        If the report is of another kind.
    """
    _check(report, "waterfall")
    rows: list[Any] = list(report.rows)
    left, right, top, height = 210.0, 190.0, 62.0, 30.0
    full = max(max(row["after"], row["after"] - row["cycles"]) for row in rows) or 1
    scale = (_WIDTH - left - right) / full
    ratio, ideal = report.summary["speed-up"], report.summary["ideal speed-up"]
    drawing = Drawing(
        _WIDTH, top + height * len(rows) + 16, f"Cycles from dense to sparse on {report.summary['accelerator']}"
    )
    drawing.text(16, 26, f"{report.summary['dense']}: {ratio:.2f}x of an ideal {ideal:.2f}x", style="title")
    drawing.text(
        16,
        46,
        "What fewer multiply-accumulates would save if all cycles shrank with them, and who takes it back.",
        style="soft",
    )
    drawing.text(_WIDTH - 108, 58, "cycles", anchor="end", style="soft small")
    drawing.text(_WIDTH - 16, 58, "of the ideal", anchor="end", style="soft small")
    for index, row in enumerate(rows):
        y = top + height * index
        whole = index in (0, len(rows) - 1)
        start, end = (0, row["after"]) if whole else sorted((row["after"], row["after"] - row["cycles"]))
        style = "plain" if whole else "good" if row["cycles"] < 0 else "bad"
        drawing.text(left - 12, y + 19, row["step"], anchor="end")
        drawing.box(left + start * scale, y + 5, max(1.0, (end - start) * scale), height - 10, style, row["meaning"])
        if index:
            drawing.line([(left + start * scale if whole else left + end * scale, y), (left + end * scale, y)], "hair")
        share = row["of the ideal saving"]
        told = f"{row['cycles']:,}" if whole else f"{row['cycles']:+,}"
        drawing.text(_WIDTH - 108, y + 19, told, anchor="end")
        if share is not None:
            drawing.text(_WIDTH - 16, y + 19, f"{share:+.1%}", anchor="end", style="soft")
    return str(drawing)


def roofline_svg(reports: Sequence[Report]) -> str:
    """Draw the operations of one run or several under the roofs of their machines.

    Parameters
    ----------
    reports
        Of `Simulation.roofline`; operations without DRAM traffic lie at the right edge.

    Returns
    -------
    str
        A whole SVG file.

    Raises
    ------
    ArgumentError
        If a report is of another kind, or there is none.
    """
    if not reports:
        raise ArgumentError("a roofline needs at least one report of Simulation.roofline")
    for report in reports:
        _check(report, "roofline")
    every: list[Any] = [row for report in reports for row in report.rows]
    roofs: list[Any] = [report.summary for report in reports]
    finite = [row["flops/byte"] for row in every if math.isfinite(row["flops/byte"])] or [1.0]
    x_low, x_high = 0.7 * min(finite), 4 * max(*finite, *(r["flops/byte, ridge"] for r in roofs))
    y_high = 2 * max(r["flops/s, sparsest"] for r in roofs)
    y_low = 0.5 * min([row["flops/s"] for row in every] or [y_high / 1e3])
    plot = _Plot(x_low, x_high, y_low, y_high, len(reports))
    for index, (report, roof) in enumerate(zip(reports, roofs, strict=True)):
        plot.roof(index, roof)
        rows: list[Any] = list(report.rows)
        for row in rows:
            plot.operation(index, row)
    return str(plot.drawing)


class _Plot:
    """Logarithmic axes of a roofline, and what stands on them."""

    left, right, top, bottom = 84.0, 24.0, 66.0, 480.0

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float, machines: int) -> None:
        self.x_low, self.x_high, self.y_low, self.y_high = x_low, x_high, y_low, y_high
        self.drawing = Drawing(_WIDTH, 536 + 22 * machines, "Operations under the roofs of a machine")
        draw = self.drawing
        draw.text(16, 26, "Dense-equivalent operations a second by operations a byte of DRAM", style="title")
        draw.text(
            16,
            46,
            "One chip. Larger discs take more of the time; dashed roofs are of the sparsest pattern.",
            style="soft",
        )
        for value in powers(x_low, x_high):
            draw.line([(self.x(value), self.top), (self.x(value), self.bottom)], "hair")
            draw.text(self.x(value), self.bottom + 20, f"{value:g}", anchor="middle", style="soft small")
        for value in powers(y_low, y_high):
            draw.line([(self.left, self.y(value)), (_WIDTH - self.right, self.y(value))], "hair")
            draw.text(self.left - 8, self.y(value) + 4, amount(value), anchor="end", style="soft small")
        draw.text((self.left + _WIDTH) / 2, self.bottom + 42, "operations a byte", anchor="middle", style="soft")
        draw.text(22, (self.top + self.bottom) / 2, "operations a second", anchor="middle", style="soft", turn=True)

    def x(self, value: float) -> float:
        share = math.log(min(value, self.x_high) / self.x_low) / math.log(self.x_high / self.x_low)
        return self.left + max(0.0, share) * (_WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        share = math.log(max(value, self.y_low) / self.y_low) / math.log(self.y_high / self.y_low)
        return self.bottom - min(1.0, share) * (self.bottom - self.top)

    def roof(self, index: int, summary: Mapping[str, Any]) -> None:
        """Draw the slope of the bandwidth and the level of the lanes; dashed, that of the sparsest pattern."""
        bandwidth, colour = summary["byte/s, DRAM"], index % len(COLOURS)
        for key, style in (("flops/s, dense", "line"), ("flops/s, sparsest", "thin")):
            level = summary[key]
            if style == "thin" and level == summary["flops/s, dense"]:
                continue
            start = max(self.x_low, self.y_low / bandwidth)
            points = [(start, start * bandwidth), (level / bandwidth, level), (self.x_high, level)]
            self.drawing.line([(self.x(a), self.y(b)) for a, b in points if a >= start], f"{style} s{colour}")
        y = 536 + 22 * index
        self.drawing.box(self.left, y - 11, 12, 12, f"f{colour}")
        words = f"{summary['accelerator']}, {summary['dtype']}, batch {summary['batch']}: {amount(summary['flops/s, dense'], 'op/s')}, "
        self.drawing.text(self.left + 20, y, words + f"{amount(bandwidth, 'B/s')}")

    def operation(self, index: int, row: Mapping[str, Any]) -> None:
        """Draw one operation, or several that are alike."""
        radius = 3 + 22 * math.sqrt(row["share of cycles"])
        others = f" and {row['operations'] - 1} like it" if row["operations"] > 1 else ""
        note = (
            f"{row['name']}{others}: "
            f"{amount(row['flops/s'], 'op/s')}, {row['flops/byte']:.3g} a byte, {row['share of cycles']:.1%} of the time"
        )
        self.drawing.point(
            self.x(row["flops/byte"]), self.y(row["flops/s"]), radius, f"point f{index % len(COLOURS)}", note
        )


def timeline_svg(trace: Mapping[str, Any]) -> str:
    """Draw what ran when, a row for the lanes and one for the vector unit.

    Parameters
    ----------
    trace
        Of `Simulation.timeline`.

    Returns
    -------
    str
        A whole SVG file. Neighbours thinner than a pixel are drawn as one.

    Raises
    ------
    ArgumentError
        If the trace holds no events.
    """
    events = [event for event in trace.get("traceEvents", ()) if event["ph"] == "X"]
    if not events:
        raise ArgumentError("the trace holds nothing that ran; give what Simulation.timeline returns")
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    title = next((e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"), "a run")
    end = max(event["ts"] + event["dur"] for event in events)
    left, top, height = 110.0, 60.0, 46.0
    scale = (_WIDTH - left - 24) / end
    kinds = list(dict.fromkeys(event["cat"] for event in events))
    drawing = Drawing(_WIDTH, top + height * len(names) + 84, f"What ran when: {title}")
    drawing.text(16, 26, title, style="title")
    drawing.text(16, 46, f"{amount(end / 1e6, 's')} from the first operation to the last.", style="soft")
    for row, (tid, name) in enumerate(sorted(names.items())):
        y = top + height * row
        drawing.text(left - 12, y + 26, name, anchor="end")
        for start, length, kind, note in _bars([e for e in events if e["tid"] == tid], 1.0 / scale):
            drawing.box(
                left + start * scale, y + 6, length * scale, height - 14, f"f{kinds.index(kind) % len(COLOURS)}", note
            )
    bottom = top + height * len(names)
    for value in round_steps(end):
        drawing.line([(left + value * scale, top), (left + value * scale, bottom)], "hair")
        drawing.text(left + value * scale, bottom + 18, f"{value / 1e3:g}", anchor="middle", style="soft small")
    drawing.text(_WIDTH - 24, bottom + 36, "milliseconds", anchor="end", style="soft small")
    for index, kind in enumerate(kinds):
        x = left + 100 * (index % 8)
        drawing.box(x, bottom + 52, 12, 12, f"f{index % len(COLOURS)}")
        drawing.text(x + 18, bottom + 63, kind, style="small")
    return str(drawing)


def simulation_page(title: str, parts: Sequence[tuple[str, str, Report | None]]) -> str:
    """Return one self-contained HTML page of pictures and tables.

    Parameters
    ----------
    title
        At the top.
    parts
        Heading, SVG (may be empty) and report (may be None) of each section.
    """
    sections = []
    for heading, svg, report in parts:
        table = f"<pre>{escape(str(report))}</pre>" if report is not None else ""
        fold = f"<details><summary>Numbers</summary>{table}</details>" if svg and table else table
        sections.append(f"<section><h2>{escape(heading)}</h2>{svg}{fold}</section>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_PAGE}</style></head><body><h1>{escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )


def _bars(events: Sequence[Mapping[str, Any]], least: float) -> list[tuple[float, float, str, str]]:
    """Return (start, length, kind, note) of what is drawn: neighbours that are too thin count as one."""
    bars: list[tuple[float, float, str, str]] = []
    for event in events:
        start, length, kind = event["ts"], event["dur"], event["cat"]
        if bars:
            before, thick, last, note = bars[-1]
            if start <= before + thick + least and (
                max(thick, length) < least or (last == kind and min(thick, length) < least)
            ):
                bars[-1] = (before, start + length - before, kind, note)
                continue
        bars.append((start, length, kind, f"{event['name']}: {length:.4g} us, {event['args']['cycles']:,} cycles"))
    return bars


def _check(report: Report, kind: str) -> None:
    if report.kind != kind or not report.rows:
        raise ArgumentError(
            f"this picture is drawn from a report of Simulation.{kind}, and a report of kind {report.kind!r} with {len(report.rows)} rows "
            "was given"
        )
