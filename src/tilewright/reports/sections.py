"""From records to what the report shows: quality, latency, size, layers, recovery, kernels. No number is made up here.

A section without records is None. Several records of the same thing (seeds, repeated runs) are drawn as the median of their medians
with the smallest and the largest sample as whiskers. A timing whose result was not checked is left out, and counted.
"""

from collections.abc import Iterable, Sequence

from .charts import Bar, BarChart, BarGroup, Cell, CurveChart, Table, curve_chart
from .measured import best_dense, by_inputs
from .records import Record
from .wording import (
    TIMES,
    engine_title,
    fraction,
    metric_title,
    number,
    percent,
    quantity,
    seconds,
    size,
    spread,
    times,
)

__all__ = ["kernels", "latency", "quality", "recovery", "sizes"]

STAGES = ("dense", "pruned", "recovered", "packed", "sparse")
LATENCY_TITLES = {"encode": "Whole model", "linear": "Sparse linear layers alone"}
SIZE_TITLES = {"disk": "Files on disk", "memory": "Memory when loaded", "weights": "Weights"}


def quality(records: Sequence[Record]) -> BarChart | None:
    """Draw every quality figure of every stage, as share of dense where dense was measured."""
    rows: list[tuple[Cell, ...]] = []
    groups = []
    for name in _names(records, "quality"):
        stages = by_inputs((r for r in records if r.kind == "quality" and r.name == name), "model")
        ordered = sorted(stages.items(), key=lambda item: _rank(str(item[0][0])))
        dense = stages.get(("dense",))
        bars = []
        for (stage,), found in ordered:
            is_dense = stage == "dense"
            share = percent(found.median / dense.median) if dense and dense.median and not is_dense else ""
            tone = "dense" if is_dense else "plain" if stage == "pruned" else "accent"
            note = "reference" if is_dense else f"{share} of dense" if share else ""
            value = number(float(found.median))
            bars.append(Bar(_title(stage), found.median, value, note, tone, found.min, found.max))
            unit = found.records[0].unit
            rows.append(
                (
                    Cell(name),
                    Cell(_title(stage)),
                    Cell.of(value, found.median),
                    Cell(share),
                    Cell(spread(found.min, found.max, unit)),
                    Cell.of(number(found.seeds), found.seeds),
                )
            )
        top = max([b.high or b.value for b in bars])
        groups.append(BarGroup(metric_title(name), tuple(bars), top if dense else max(1.0, top)))
    if not groups:
        return None
    columns = (
        ("figure", False),
        ("model", False),
        ("value", True),
        ("share of dense", True),
        ("spread", False),
        ("seeds", True),
    )
    table = Table("Quality before and after", columns, tuple(rows))
    seeds = max(m.seeds for m in by_inputs((r for r in records if r.kind == "quality"), "model").values())
    caption = "Longer is better. " + (
        f"Bars are medians over up to {seeds} seeds; the thin line spans the smallest and the largest."
        if seeds > 1
        else "One seed."
    )
    return BarChart("Quality before and after", caption, tuple(groups), table)


def latency(records: Sequence[Record], name: str) -> BarChart | None:
    """Draw speed relative to the best dense engine of the same batch, one group a batch."""
    mine = [r for r in records if r.kind == "latency" and r.name == name and r.checked]
    if not mine:
        return None
    groups, rows = [], []
    batches = by_inputs(mine, "threads", "sentences", "tokens")
    for batch, found in batches.items():
        best = best_dense(found.records)
        bars = []
        for (engine, model), one in by_inputs(found.records, "engine", "model").items():
            label = f"{engine_title(engine)}, {model}"
            ratio = best[1].median / one.median if best and one.median > 0 else None
            if ratio is not None:
                tone = "dense" if model == "dense" else "accent" if ratio >= 1 else "behind"
                bars.append(Bar(label, ratio, times(ratio), seconds(one.median), tone))
            rows.append(
                (
                    Cell(_batch(*batch)),
                    Cell(label),
                    Cell.of(times(ratio) if ratio is not None else "no dense peer", ratio),
                    Cell.of(seconds(one.median), one.median),
                    Cell(spread(one.min, one.max, "s")),
                    Cell.of(number(one.n), one.n),
                )
            )
        if bars:
            bars.sort(key=lambda bar: (bar.tone == "dense", -bar.value))
            groups.append((_batch(*batch), tuple(bars)))
    full = max((b.value for _, bars in groups for b in bars), default=1.0)
    columns = (
        ("batch", False),
        ("engine", False),
        ("vs best dense", True),
        ("median", True),
        ("spread", False),
        ("n", True),
    )
    return BarChart(
        LATENCY_TITLES.get(name, name),
        f"Speed relative to the best dense engine of the same batch and run, which is 1{TIMES}. Longer is faster; beside it the median time of a call.",
        tuple(BarGroup(title, bars, max(full, 1.0), mark=1.0) for title, bars in groups),
        Table(LATENCY_TITLES.get(name, name), columns, tuple(rows)),
    )


def sizes(records: Sequence[Record]) -> BarChart | None:
    """Draw bytes of the dense and the sparse model."""
    groups, rows = [], []
    for name in _names(records, "size"):
        found = by_inputs((r for r in records if r.kind == "size" and r.name == name), "model")
        dense = found.get(("dense",))
        bars = []
        for (model,), one in sorted(found.items(), key=lambda item: _rank(str(item[0][0]))):
            is_dense = model == "dense"
            share = f"{one.median / dense.median:.2f} of dense" if dense and dense.median and not is_dense else ""
            tone = "dense" if is_dense else "accent"
            bars.append(
                Bar(_title(model), one.median, size(one.median), share or ("reference" if is_dense else ""), tone)
            )
            title = SIZE_TITLES.get(name, name)
            rows.append((Cell(title), Cell(_title(model)), Cell.of(f"{one.median:,.0f}", one.median), Cell(share)))
        groups.append(BarGroup(SIZE_TITLES.get(name, name), tuple(bars), max(b.value for b in bars)))
    if not groups:
        return None
    columns = (("what", False), ("model", False), ("bytes", True), ("share", False))
    return BarChart(
        "Size", "Shorter is smaller. 1 MB is 1,000,000 bytes.", tuple(groups), Table("Size", columns, tuple(rows))
    )


def recovery(records: Sequence[Record]) -> CurveChart | None:
    """Draw the loss of every recovery run."""
    lines = []
    for record in records:
        steps, losses = record.extra.get("steps"), record.extra.get("loss")
        if record.kind == "loss" and isinstance(steps, list) and isinstance(losses, list) and losses:
            label = record.name if record.seed is None else f"{record.name}, seed {record.seed}"
            count = min(len(steps), len(losses))
            lines.append((label, [float(s) for s in steps[:count]], [float(v) for v in losses[:count]]))
    return curve_chart("Recovery", "step", "loss", lines) if lines else None


def kernels(records: Sequence[Record]) -> BarChart | None:
    """Draw kernel micro-benchmarks as ratio to dense, one group a shape."""
    mine = [r for r in records if r.kind == "kernel" and r.checked]
    groups, rows = [], []
    for key, found in by_inputs(mine, "op", "M", "N", "K", "tile", "layout").items():
        title = _kernel_title(*key)
        bars = []
        for record in sorted(found.records, key=lambda r: -_float(r.inputs.get("density"))):
            density = _float(record.inputs.get("density"))
            ratio, peak = record.extra.get("ratio"), record.extra.get("share_of_peak")
            peer = engine_title(record.extra.get("dense_engine") or "dense")
            peak_text = f"{percent(peak)} of peak" if isinstance(peak, (int, float)) else ""
            if isinstance(ratio, (int, float)):
                bars.append(Bar(f"density {fraction(density)}", float(ratio), times(ratio), peak_text, "accent"))
            rows.append(
                (
                    Cell(title),
                    Cell.of(fraction(density), density),
                    Cell.of(times(ratio) if isinstance(ratio, (int, float)) else "", ratio),
                    Cell(peer),
                    Cell(peak_text),
                    Cell.of(quantity(record.median, record.unit), record.median),
                    Cell(spread(record.min, record.max, record.unit)),
                )
            )
        if bars:
            groups.append(BarGroup(title, tuple(bars), max(1.0, *(b.value for b in bars)), mark=1.0))
    if not rows:
        return None
    columns = (
        ("kernel", False),
        ("density", True),
        ("vs dense", True),
        ("dense engine", False),
        ("share of peak", False),
        ("median", True),
        ("spread", False),
    )
    caption = f"Speed relative to the best dense engine on the same product, which is 1{TIMES}. Longer is faster; each group has its own scale."
    return BarChart("Kernels", caption, tuple(groups), Table("Kernels", columns, tuple(rows)))


def _names(records: Iterable[Record], kind: str) -> list[str]:
    return list(dict.fromkeys(r.name for r in records if r.kind == kind))


def _rank(stage: str) -> int:
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def _title(value: object) -> str:
    text = "" if value is None else str(value)
    return text[:1].upper() + text[1:]


def _batch(threads: object, sentences: object, tokens: object) -> str:
    parts = []
    if sentences is not None:
        parts.append(f"{number(sentences)} sentence{'' if sentences == 1 else 's'}")
    if tokens is not None:
        parts.append(f"{number(tokens)} tokens")
    if threads is not None:
        parts.append(f"{number(threads)} thread{'' if threads == 1 else 's'}")
    return ", ".join(parts) or "one call"


def _kernel_title(op: object, m: object, n: object, k: object, tile: object, layout: object) -> str:
    shape = ", ".join(f"{letter} {number(v)}" for letter, v in zip("MNK", (m, n, k), strict=True) if v is not None)
    parts = (number(op), f"tile {number(tile)}" if tile is not None else "", shape, number(layout))
    return " · ".join(p for p in parts if p)


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
