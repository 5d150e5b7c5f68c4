"""Quality before and after pruning: every measure at every stage, as a share of dense, with intervals over items and spread over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Record
from .charts import Bar, BarChart, BarGroup, Cell, Table
from .intervals import DRAWS, Interval, lower_is_better, share_interval
from .measured import Measured, by_inputs
from .wording import metric_title, number, percent, share_range, spread

__all__ = ["STAGES", "Stage", "items_of", "meaning_of", "quality", "quality_stages", "rank_of", "title_of"]

STAGES = ("dense", "pruned", "recovered", "packed", "sparse")


@dataclass(frozen=True)
class Stage:
    """One measure at one stage, and its share of the dense model's."""

    name: str
    measured: Measured
    share: float | None
    interval: Interval | None


def quality_stages(records: Sequence[Record], measure: str) -> list[Stage]:
    """Return every stage of a measure, dense first."""
    values = (r for r in records if r.kind == "quality" and r.name == measure)
    stages = {str(key[0]): measured for key, measured in by_inputs(values, "model").items()}
    dense = stages.get("dense")
    rows = []
    for name, measured in sorted(stages.items(), key=lambda item: rank_of(item[0])):
        share = interval = None
        if dense and name != "dense" and dense.median and measured.median:
            lower = lower_is_better(measured.records[0])
            share = dense.median / measured.median if lower else measured.median / dense.median
            interval = share_interval(measured.records, dense.records)
        rows.append(Stage(name, measured, share, interval))
    return rows


def quality(records: Sequence[Record]) -> BarChart | None:
    """Chart every measure at every stage, with its meaning, as a share of dense if dense was measured."""
    names = list(dict.fromkeys(r.name for r in records if r.kind == "quality"))
    measures = {name: quality_stages(records, name) for name in names}
    if not measures:
        return None
    groups = tuple(_group(name, stages) for name, stages in measures.items())
    rows = tuple(_row(name, stage) for name, stages in measures.items() for stage in stages)
    columns = (
        ("measure", False),
        ("model", False),
        ("value", True),
        ("share of dense", True),
        ("95 % interval", False),
        ("over seeds", False),
    )
    every = [stage for stages in measures.values() for stage in stages]
    return BarChart("Quality before and after", _caption(every), groups, Table("Quality", columns, rows))


def meaning_of(record: Record) -> str:
    """Return the explanation of a measure in its record; empty if there is none."""
    return number(record.extra.get("meaning"))


def items_of(record: Record) -> str:
    """Return the items of a measure, such as ``500 held-out pairs``; empty if the record does not count them."""
    values = record.extra.get("each")
    known = {"model", "seed", "corpus", "task"}
    counts = {unit: n for unit, n in record.inputs.items() if unit not in known and isinstance(n, int)}
    unit, count = next(iter(counts.items()), ("items", len(values) if isinstance(values, list) else 0))
    return f"{count:,} held-out {unit}" if count else ""


def rank_of(stage: str) -> int:
    """Return the position of a stage in the order of a job."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def title_of(value: object) -> str:
    """Return a name with a capital first letter."""
    text = "" if value is None else str(value)
    return text[:1].upper() + text[1:]


def _group(name: str, stages: Sequence[Stage]) -> BarGroup:
    bars = []
    dense = next((stage.measured.median for stage in stages if stage.name == "dense"), None)
    for stage in stages:
        measured = stage.measured
        low, high = measured.min, measured.max
        if stage.interval and dense:
            low, high = stage.interval.low * dense, stage.interval.high * dense
            if lower_is_better(measured.records[0]):
                low, high = dense / stage.interval.high, dense / stage.interval.low
        tone = "dense" if stage.name == "dense" else "plain" if stage.name == "pruned" else "accent"
        bars.append(Bar(title_of(stage.name), measured.median, number(measured.median), _note(stage), tone, low, high))
    top = max(bar.high or bar.value for bar in bars)
    return BarGroup(
        metric_title(name), tuple(bars), top if dense else max(1.0, top), note=meaning_of(stages[0].measured.records[0])
    )


def _note(stage: Stage) -> str:
    if stage.name == "dense":
        return "reference"
    if stage.share is None:
        return ""
    interval = f" ({share_range(stage.interval.low, stage.interval.high)})" if stage.interval else ""
    return f"{percent(stage.share)}{interval} of dense"


def _row(name: str, stage: Stage) -> tuple[Cell, ...]:
    measured, seeds = stage.measured, stage.measured.seeds
    unit = measured.records[0].unit
    interval = stage.interval
    return (
        Cell(metric_title(name)),
        Cell(title_of(stage.name)),
        Cell.of(number(measured.median), measured.median),
        Cell.of("" if stage.share is None else percent(stage.share), stage.share),
        Cell(share_range(interval.low, interval.high) if interval else ""),
        Cell("one seed" if seeds == 1 else f"{seeds} seeds: {spread(measured.min, measured.max, unit) or 'all equal'}"),
    )


def _caption(stages: Sequence[Stage]) -> str:
    lower = {lower_is_better(stage.measured.records[0]) for stage in stages}
    words = [
        {frozenset({False}): "Longer is better.", frozenset({True}): "Shorter is better."}.get(frozenset(lower), "")
    ]
    items = next((items_of(stage.measured.records[0]) for stage in stages if stage.interval), None)
    seeds = max(stage.measured.seeds for stage in stages)
    if items is not None:
        words.append(
            f"In parentheses, and as a thin line: the 95 % interval of the share of dense, from a paired bootstrap over the {items} "
            f"({DRAWS:,} draws)."
        )
    if seeds == 1:
        words.append("One seed: the variation between seeds is unknown.")
    elif items is None:
        words.append(f"Bars are medians over up to {seeds} seeds; the thin line spans the smallest and the largest.")
    else:
        words.append(f"Bars are medians over up to {seeds} seeds; the table shows their spread.")
    return " ".join(word for word in words if word)
