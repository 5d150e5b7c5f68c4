"""Header and rows of the tables about GPUs, for benchmarks/tables.py."""

from collections.abc import Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def _error(record: Record) -> float:
    return float(str(record.extra["error"]))


def groups(records: Sequence[Record]) -> Table:
    """Return the points, the mean and the worst error of each group, with fitted and held-out points apart."""
    rows = []
    keys = dict.fromkeys((str(r.inputs["group"]), bool(r.inputs["held out"])) for r in records)
    for group, held_out in keys:
        if group == "limit of 2:4":
            continue
        members = [r for r in records if r.inputs["group"] == group and r.inputs["held out"] == held_out]
        errors = [abs(_error(r)) for r in members]
        tolerance = members[0].extra["tolerance"]
        bound = "" if tolerance is None else f"{float(str(tolerance)):.1%}"
        mean, worst = sum(errors) / len(errors), max(errors)
        rows.append([group, len(errors), "" if held_out else "yes", f"{mean:.1%}", f"{worst:.1%}", bound])
    return ("group", "points", "set a constant", "mean error", "worst error", "asserted, each"), rows


def ratios(records: Sequence[Record]) -> Table:
    """Return the end-to-end speed-ups of 2:4 over dense for BERT-base."""
    rows = [
        [
            r.name,
            f"{float(str(r.extra['published'])):.2f}",
            f"{r.median:.2f}",
            f"{_error(r):+.1%}",
            "" if r.inputs["held out"] else "yes",
            str(r.extra["note"]),
        ]
        for r in records
        if r.inputs["group"] == "BERT-base 2:4 speed-up"
    ]
    return ("run", "published", "modelled", "error", "set a constant", "bound"), rows


def limit(records: Sequence[Record]) -> Table:
    """Return the speed-up of 2:4 on RTX 3090 by K, with partial waves and with full ones."""
    members = [r for r in records if r.inputs["group"] == "limit of 2:4"]
    inputs = list(dict.fromkeys(int(float(str(r.extra["x"]))) for r in members))
    rows = []
    for outputs in dict.fromkeys(r.name.split(" ")[0] for r in members):
        ours = [r for r in members if r.name.startswith(f"{outputs} ")]
        rows.append([f"{int(outputs):,}", *(f"{r.median:.3f}" for r in ours)])
    return ("outputs, 4,096 tokens", *(f"K = {k:,}" for k in inputs)), rows


def products(records: Sequence[Record]) -> Table:
    """Return tile-wise products on V100 and MLPerf on T4, point by point."""
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
        for r in records
        if str(r.inputs["group"]).startswith(("V100", "T4"))
    ]
    return ("group", "point", "published", "modelled", "unit", "error", "set a constant"), rows
