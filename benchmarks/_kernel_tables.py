"""Header and rows of the tables about CPU kernels and the choice between sparse and dense, for benchmarks/tables.py."""

from collections.abc import Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def shapes(records: Sequence[Record], layout: str, tile: int) -> Table:
    """Return the ratios to the best dense engine for one layout, by shape and density."""
    records = [
        r for r in records if r.kind == "kernel" and r.inputs.get("layout") == layout and r.inputs.get("tile") == tile
    ]
    records = [r for r in records if r.inputs["M"] >= 128 and "times_best_dense" in r.extra]
    if not records:
        raise SystemExit(f"no kernel records with layout {layout} and tile {tile}")
    patterns = list(dict.fromkeys(str(r.inputs["pattern"]) for r in records))
    by_shape: dict[tuple[object, ...], dict[str, Record]] = {}
    for r in records:
        by_shape.setdefault((r.inputs["M"], r.inputs["N"], r.inputs["K"]), {})[str(r.inputs["pattern"])] = r
    rows = [
        [
            " x ".join(map(str, shape)),
            *(
                f"{hits[p].extra['times_best_dense']:.2f}x ({100 * hits[p].extra['share_of_peak']:.0f}%)"
                for p in patterns
            ),
        ]
        for shape, hits in by_shape.items()
    ]
    return ["M x N x K", *patterns], rows


def goals(records: Sequence[Record]) -> Table:
    """Return goals and results over all shapes, with the bound set by the dense engine's speed."""
    kinds: dict[tuple[str, str, float], list[Record]] = {}
    for r in records:
        if "goal" not in r.extra or "times_best_dense" not in r.extra:
            continue
        what = "one token, tile 16" if r.inputs["M"] == 1 else "n:m, tile 1" if r.inputs["tile"] == 1 else "tile 8"
        kinds.setdefault((what, str(r.inputs["layout"]), float(str(r.inputs["density"]))), []).append(r)
    rows = []
    for (what, layout, density), hits in sorted(kinds.items(), key=lambda kind: (kind[0][0], kind[0][1], -kind[0][2])):
        reached = sorted(r.extra["times_best_dense"] for r in hits)
        # The ratio to this run's dense engine that the kernel would reach at 100% of peak.
        bound = sorted(r.extra["times_best_dense"] / r.extra["share_of_peak"] for r in hits)
        met = sum(r.extra["times_best_dense"] >= r.extra["goal"] for r in hits)
        rows.append(
            [
                what,
                layout,
                f"1/{1 / density:.0f}",
                f"{hits[0].extra['goal']:.2f}",
                f"{reached[0]:.2f} to {reached[-1]:.2f}",
                f"{met} of {len(hits)}",
                "memory" if what.startswith("one") else f"{bound[0]:.2f} to {bound[-1]:.2f}",
            ]
        )
    return ["kernel", "layout", "density", "goal", "reached", "shapes that meet it", "most possible here"], rows


def matvec(records: Sequence[Record]) -> Table:
    """Return the ratios of the few-token kernels."""
    records = [r for r in records if r.kind == "kernel" and r.inputs.get("N") == 4096 and "times_best_dense" in r.extra]
    records = [
        r
        for r in records
        if r.inputs["engine"] == "tilewright" and (r.inputs["tile"] == 16 or r.inputs["pattern"] == "2:4")
    ]
    patterns = list(dict.fromkeys(str(r.inputs["pattern"]) for r in records))
    rows = []
    for tokens in sorted({int(str(r.inputs["M"])) for r in records}):
        hits = {r.inputs["pattern"]: r for r in records if r.inputs["M"] == tokens}
        rows.append([tokens, *(f"{hits[p].extra['times_best_dense']:.2f}x" for p in patterns)])
    return ["tokens", *patterns], rows


def cold(records: Sequence[Record]) -> Table:
    """Return the time with a whole model's weights relative to the time with one weight repeated."""
    times = {
        (str(r.inputs["pattern"]), int(str(r.inputs["M"])), r.inputs["copies"] != 1): r.median
        for r in records
        if r.kind == "kernel-weights"
    }
    patterns, tokens = (sorted({key[part] for key in times}, key=str) for part in (0, 1))
    tokens = sorted(tokens, key=lambda count: int(str(count)))
    rows = [[p, *(f"{times[p, t, True] / times[p, t, False]:.2f}x" for t in tokens)] for p in patterns]  # type: ignore[index]
    return ["768 x 768", *(f"{t} tokens" for t in tokens)], rows


def never_slower(records: Sequence[Record]) -> Table:
    """Return the layers that ran sparse after each fresh measurement, and the loaded model against its dense original."""
    rows = []
    for choice in (r for r in records if r.kind == "choices"):
        whole = [
            r
            for r in records
            if r.kind == "whole" and (r.name, r.inputs["pattern"]) == (choice.name, choice.inputs["pattern"])
        ]
        counts = sorted({int(count) for count in choice.extra["sparse"]})
        layers = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        sets = "the same" if choice.median == 1 else f"{choice.median:.0f} different"
        ratios = [f"{r.median:.2f}x" for r in sorted(whole, key=lambda r: int(str(r.inputs["tokens"])))]
        rows.append([choice.name, f"`{choice.inputs['pattern']}`", layers, sets, *ratios])
    return ["model", "pattern", "layers sparse", "from ten fresh caches", "1 token", "16 tokens", "128 tokens"], rows
