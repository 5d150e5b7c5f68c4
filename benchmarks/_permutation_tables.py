"""Published results on channel permutation, and the tables of benchmarks/records/permutation.jsonl."""

from collections.abc import Mapping, Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]

PUBLISHED = {
    "channel swap": (2913.352, 0.214, 55.972),
    "channel swap, 100 escapes": (2914.174, 2.249, 450.025),
    "channel swap, 1000 escapes": (2920.694, 20.248, None),
    "stripe groups of 8": (2919.757, 0.013, 60.653),
    "stripe groups of 8, 100 escapes": (2919.758, 0.152, 465.709),
    "stripe groups of 8, 1000 escapes": (2919.935, 1.387, None),
    "stripe groups of 12": (2921.947, 0.860, None),
    "100,000 random orders": (2879.129, 11.510, None),
}
"""Kept magnitude, seconds on a V100, seconds on a CPU: NVIDIA apex, permutation_tests/README.md. Not measured here."""

DEFAULT, BEST = 2852.3772, 3042.3323
"""What 2:4 keeps of the example in the default order, and the sum of the largest half of each row."""


def efficacy(kept: float, default: float, best: float) -> float:
    """Return the same as `tilewright.pruning.efficacy`, without importing torch."""
    return 100 * (kept - default) / (best - default)


def example(records: Sequence[Record]) -> Table:
    """Return the published example: published strategies, then ours."""
    rows: list[Sequence[object]] = [["default order", f"{DEFAULT:.3f}", "0.0", "", ""]]
    for name, (kept, gpu, cpu) in sorted(PUBLISHED.items(), key=lambda item: item[1][0]):
        processor = f"{cpu:,.0f} s" if cpu is not None else "not published"
        rows.append([name, f"{kept:.3f}", f"{efficacy(kept, DEFAULT, BEST):.1f}", f"{gpu:.2f} s", processor])
    for record in records:
        if record.name == "published example":
            spread = f"{record.median:.3f} ({record.min:.3f} to {record.max:.3f})"
            seconds = f"{record.extra['seconds']:.1f} s"
            rows.append(
                [
                    f"**ours, at most {record.inputs['budget_s']:g} s**",
                    spread,
                    f"{record.extra['efficacy']:.1f}",
                    "",
                    seconds,
                ]
            )
    return ["strategy", "kept magnitude", "efficacy, %", "V100", "CPU"], rows


def minilm(records: Sequence[Record]) -> Table:
    """Return the MRR of MiniLM pruned once by magnitude, by pattern and by what the permutation keeps fixed."""
    of = {(r.inputs["pattern"], r.inputs["order"]): r for r in records if r.name == "minilm mrr"}
    rows = []
    for pattern in dict.fromkeys(pattern for pattern, _ in of):
        dense = of[pattern, "dense"].median
        for order in ("default", "embeddings fixed", "similarities fixed"):
            record = of[pattern, order]
            summary = record.extra.get("summary")
            gain, seconds = "", ""
            if isinstance(summary, Mapping):
                gain = f"+{100 * (summary['kept after'] / summary['kept before'] - 1):.2f}%"
                seconds = f"{summary['seconds']:.0f} s"
            share = f"{record.median:.3f} ({100 * record.median / dense:.0f}% of {dense:.3f})"
            rows.append([f"`{pattern}`", order, gain, seconds, share])
    return ["pattern", "order of channels", "kept magnitude", "search", "MRR, no training"], rows


def layers(records: Sequence[Record]) -> Table:
    """Return the channel groups of MiniLM at 2:4, with similarities as the output."""
    record = next(r for r in records if r.inputs.get("order") == "similarities fixed" and r.inputs["pattern"] == "2:4")
    rows = []
    for row in record.extra["rows"]:
        name = str(row["layers"]).replace("inner.encoder.layer.", "").replace(".weight", "").replace("*.", "")
        heads = f"{row['heads']} x {row['channels']}" if row["heads"] > 1 else row["channels"]
        kept = f"{row['before']:,.0f} → {row['after']:,.0f}"
        rows.append([name, row["weights"], heads, kept, f"{row['efficacy']:.1f}", f"{row['seconds']:.1f} s"])
    return ["layers", "weights", "channels", "kept magnitude", "efficacy, %", "search"], rows
