"""Header and rows of the tables about S4 and STA, for benchmarks/tables.py."""

from collections.abc import Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def _error(record: Record) -> str:
    return f"{float(str(record.extra['error'])):+.2%}"


def rates(records: Sequence[Record]) -> Table:
    """Return the twelve rates against the measurements and against the vendor's target."""
    measured = [r for r in records if r.unit == "TOPS" and "target" not in r.name]
    targets = {r.name.removesuffix(", target"): r for r in records if "target" in r.name}
    rows = [
        [
            r.name,
            f"{r.extra['published']:,.2f}",
            f"{r.median:,.2f}",
            _error(r),
            "held out" if r.inputs["held out"] else "fitted",
            _error(targets[r.name]),
        ]
        for r in measured
    ]
    header = ("S30", "measured, TOPS", "modelled", "error", "", "without overhead, against the target")
    return header, rows


def networks(records: Sequence[Record]) -> Table:
    """Return whole networks at each ratio, with asserted rows in bold."""
    rows = []
    for r in (r for r in records if r.unit == "samples/s"):
        mark = "**" if r.extra["tolerance"] is not None else ""
        sparsity = str(r.extra["note"]).removeprefix("effective MAC sparsity ").partition(",")[0]
        rows.append(
            [
                r.name,
                sparsity,
                f"{r.extra['published']:,.1f}",
                f"{mark}{r.median:,.1f}{mark}",
                f"{mark}{_error(r)}{mark}",
            ]
        )
    return ("network and card", "MAC sparsity", "published, samples/s", "modelled", "error"), rows


def watts(records: Sequence[Record]) -> Table:
    """Return the power of one chip."""
    rows = [[r.name, f"{r.extra['published']:g}", f"{r.median:.1f}"] for r in records if r.unit == "W"]
    return ("one chip", "published, W", "modelled, W"), rows


def ratios(records: Sequence[Record]) -> Table:
    """Return the modelled intervals of the ratios published for STA."""
    rows = [
        [
            r.inputs["network"],
            r.inputs["pattern"],
            r.name.removeprefix("STA over "),
            f"{r.extra['published']:g}",
            f"{r.min:.2f} to {r.max:.2f}",
            f"{r.median:.2f}",
            "yes" if r.extra["possible"] else "no",
        ]
        for r in records
    ]
    return ("network", "weights", "against", "published", "interval", "middle", "inside"), rows
