"""Turn records into sections of the report: latency, size, recovery, kernels.

A section without records is None. Several records of the same measurement (seeds, repeated runs) are drawn as the median of their
medians, with the smallest and the largest sample as whiskers. Timings whose results were not checked are omitted, and counted.
"""

from collections.abc import Iterable, Sequence

from ..records import Record
from .charts import Bar, BarChart, BarGroup, Cell, CurveChart, Line, Table, curve_chart
from .intervals import lower_is_better
from .measured import Measured, best_dense, by_inputs
from .quality import rank_of, title_of
from .wording import (
    TIMES,
    engine_title,
    fraction,
    metric_title,
    number,
    percent,
    precision_title,
    quantity,
    seconds,
    size,
    spread,
    times,
)

__all__ = ["kernels", "latency", "recovery", "sizes"]

LATENCY_TITLES = {"encode": "Whole model", "linear": "Sparse linear layers alone"}
SIZE_TITLES = {"disk": "Files on disk", "memory": "Memory when loaded", "weights": "Weights"}


def latency(records: Sequence[Record], name: str) -> BarChart | None:
    """Chart speed relative to the best dense engine, one group per batch."""
    timings = [r for r in records if r.kind == "latency" and r.name == name and r.checked]
    if not timings:
        return None
    groups, rows = [], []
    for batch, batched in by_inputs(timings, "threads", "sentences", "tokens").items():
        best = best_dense(batched.records)
        bars = []
        for (engine, model), timed in by_inputs(batched.records, "engine", "model").items():
            precision = precision_title(timed.records[0].inputs.get("precision"))
            label = f"{engine_title(engine)}, {model}"
            ratio = best[1].median / timed.median if best and timed.median > 0 else None
            if best and ratio is not None:
                tone = "dense" if model == "dense" else "accent" if ratio >= 1 else "behind"
                low, high = best[1].median / timed.max, best[1].median / max(timed.min, 1e-12)
                note = f"{seconds(timed.median)}{_within(timed)}"
                bars.append(Bar(f"{label} ({precision})", ratio, times(ratio), note, tone, low, high))
            rows.append(
                (
                    Cell(_batch(*batch)),
                    Cell(label),
                    Cell(precision),
                    Cell.of(times(ratio) if ratio is not None else "no dense peer", ratio),
                    *(Cell.of(seconds(v), v) for v in (timed.min, timed.median, timed.max)),
                    Cell.of(number(timed.n), timed.n),
                )
            )
        if bars:
            bars.sort(key=lambda bar: (bar.tone == "dense", -bar.value))
            groups.append((_batch(*batch), tuple(bars)))
    full = max((b.value for _, bars in groups for b in bars), default=1.0)
    columns = (
        ("batch", False),
        ("engine", False),
        ("precision", False),
        ("speed over the best dense engine", True),
        ("fastest call", True),
        ("median call", True),
        ("slowest call", True),
        ("samples", True),
    )
    return BarChart(
        LATENCY_TITLES.get(name, name),
        f"Speed relative to the best dense engine on the same batch in the same run, which is 1{TIMES}. Longer is faster. "
        "Next to each bar: the median time of a call and the range of its samples (thin line); in parentheses after the name: "
        "the engine's precision.",
        tuple(BarGroup(title, bars, max(full, 1.0), mark=1.0) for title, bars in groups),
        Table(LATENCY_TITLES.get(name, name), columns, tuple(rows)),
    )


def _within(timed: Measured) -> str:
    return f" ({spread(timed.min, timed.max, 's')})" if timed.min < timed.max else ""


def sizes(records: Sequence[Record]) -> BarChart | None:
    """Chart the sizes of the dense and the sparse model, in bytes."""
    groups, rows = [], []
    for name in _names(records, "size"):
        models = by_inputs((r for r in records if r.kind == "size" and r.name == name), "model")
        dense = models.get(("dense",))
        bars = []
        for (model,), measured in sorted(models.items(), key=lambda item: rank_of(str(item[0][0]))):
            is_dense, value = model == "dense", measured.median
            share = f"{value / dense.median:.2f} of dense" if dense and dense.median and not is_dense else ""
            tone = "dense" if is_dense else "accent"
            bars.append(Bar(title_of(model), value, size(value), share or ("reference" if is_dense else ""), tone))
            title = SIZE_TITLES.get(name, name)
            rows.append((Cell(title), Cell(title_of(model)), Cell.of(f"{value:,.0f}", value), Cell(share)))
        groups.append(BarGroup(SIZE_TITLES.get(name, name), tuple(bars), max(b.value for b in bars)))
    if not groups:
        return None
    columns = (("what", False), ("model", False), ("bytes", True), ("share", False))
    return BarChart(
        "Size", "Shorter is smaller. 1 MB is 1,000,000 bytes.", tuple(groups), Table("Size", columns, tuple(rows))
    )


def recovery(records: Sequence[Record]) -> tuple[CurveChart, ...]:
    """Chart every recovery run: its loss, and each measure on the validation split during it."""
    losses = [(r.name, r, "loss") for r in records if r.kind == "loss"]
    lines = [_line(label, r, key, several=len(losses) > 1) for label, r, key in losses]
    charts = []
    if any(lines):
        drawn = [line for line in lines if line]
        charts.append(curve_chart("Loss", "optimizer step", "distillation loss (no unit)", drawn, better="lower"))
    for name in _names(records, "curve"):
        curves = [r for r in records if r.kind == "curve" and r.name == name]
        drawn = [line for r in curves if (line := _line("recovered model", r, "values", several=len(curves) > 1))]
        if drawn:
            inputs, extra = curves[0].inputs, curves[0].extra
            dense = extra.get("dense")
            marks = {"dense": float(dense)} if isinstance(dense, (int, float)) else {}
            unit, count = next(((u, n) for u, n in inputs.items() if u not in ("split", "seed")), ("items", None))
            axis = f"{metric_title(name)} on {number(count)} {number(inputs.get('split'))} {unit}"
            better = "lower" if any(lower_is_better(r) for r in records if r.name == name) else "higher"
            chart = curve_chart("Quality during recovery", "optimizer step", axis, drawn, better=better, marks=marks)
            charts.append(chart)
    return tuple(charts)


def _line(label: str, record: Record, key: str, *, several: bool) -> Line | None:
    steps, values = record.extra.get("steps"), record.extra.get(key)
    if not (isinstance(steps, list) and isinstance(values, list) and steps and values):
        return None
    count = min(len(steps), len(values))
    title = label if record.seed is None or not several else f"{label}, seed {record.seed}"
    return title, [float(s) for s in steps[:count]], [float(v) for v in values[:count]]


def kernels(records: Sequence[Record]) -> BarChart | None:
    """Chart kernel micro-benchmarks as ratios to dense, one group per shape."""
    timings = [r for r in records if r.kind == "kernel" and r.checked]
    groups, rows = [], []
    for key, measured in by_inputs(timings, "op", "M", "N", "K", "tile", "layout").items():
        title = _kernel_title(*key)
        bars = []
        for record in sorted(measured.records, key=lambda r: -_float(r.inputs.get("density"))):
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
    caption = (
        f"Speed relative to the best dense engine on the same product, which is 1{TIMES}. Longer is faster; "
        "scales differ between groups."
    )
    return BarChart("Kernels", caption, tuple(groups), Table("Kernels", columns, tuple(rows)))


def _names(records: Iterable[Record], kind: str) -> list[str]:
    return list(dict.fromkeys(r.name for r in records if r.kind == kind))


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
