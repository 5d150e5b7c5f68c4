"""Header and rows of the tables about GPUs, for benchmarks/tables.py."""

from collections.abc import Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def _error(record: Record) -> float:
    return float(str(record.extra["error"]))


def groups(found: Sequence[Record]) -> Table:
    """Points, mean and worst error of each group, those that set a constant apart from those that are judged."""
    rows = []
    keys = dict.fromkeys((str(r.inputs["group"]), bool(r.inputs["held out"])) for r in found)
    for group, held in keys:
        if group == "limit of 2:4":
            continue
        records = [r for r in found if r.inputs["group"] == group and r.inputs["held out"] == held]
        errors = [abs(_error(r)) for r in records]
        tolerance = records[0].extra["tolerance"]
        bound = "" if tolerance is None else f"{float(str(tolerance)):.1%}"
        mean, worst = sum(errors) / len(errors), max(errors)
        rows.append([group, len(errors), "" if held else "yes", f"{mean:.1%}", f"{worst:.1%}", bound])
    return ("group", "points", "set a constant", "mean error", "worst error", "asserted, each"), rows


def ratios(found: Sequence[Record]) -> Table:
    """Dense over 2:4 of BERT-base end to end."""
    rows = [
        [
            r.name,
            f"{float(str(r.extra['published'])):.2f}",
            f"{r.median:.2f}",
            f"{_error(r):+.1%}",
            "" if r.inputs["held out"] else "yes",
            str(r.extra["note"]),
        ]
        for r in found
        if r.inputs["group"] == "BERT-base 2:4 speed-up"
    ]
    return ("run", "published", "modelled", "error", "set a constant", "bound"), rows


def limit(found: Sequence[Record]) -> Table:
    """Speed-up of 2:4 on RTX 3090 by K, in ragged waves and in whole ones."""
    records = [r for r in found if r.inputs["group"] == "limit of 2:4"]
    inputs = list(dict.fromkeys(int(float(str(r.extra["x"]))) for r in records))
    rows = []
    for outputs in dict.fromkeys(r.name.split(" ")[0] for r in records):
        ours = [r for r in records if r.name.startswith(f"{outputs} ")]
        rows.append([f"{int(outputs):,}", *(f"{r.median:.3f}" for r in ours)])
    return ("outputs, 4,096 tokens", *(f"K = {k:,}" for k in inputs)), rows


def products(found: Sequence[Record]) -> Table:
    """Tile-wise products on V100 and MLPerf on T4, point by point."""
    rows = [
        [
            r.inputs["group"],
            r.name,
            f"{float(str(r.extra['published'])):,.1f}",
            f"{r.median:,.1f}",
            r.unit,
            f"{_error(r):+.1%}",
            "" if r.inputs["held out"] else "yes",
        ]
        for r in found
        if str(r.inputs["group"]).startswith(("V100", "T4"))
    ]
    return ("group", "point", "published", "modelled", "unit", "error", "set a constant"), rows
