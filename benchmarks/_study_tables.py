"""Tables of the studies, as header and rows."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tilewright.reports import Record

sys.path.insert(0, str(Path(__file__).parents[1]))

from studies._common import Summary

Found = Sequence[Record]
Table = tuple[list[str], list[list[str]]]


def two_four(found: Found) -> Table:
    """Each family's score by method, and the last two as shares of the fair dense one."""
    methods = ("dense", "dense, repeated", "one-shot", "one-shot, permuted", "retrained", "retrained, permuted")
    header = ["family (score)", *methods, "retrained, share of dense"]
    rows = []
    for family in _in_order(r.inputs["family"] for r in found):
        own = [r for r in found if r.inputs["family"] == family]
        cells = [_cell(own, method=method) for method in methods]
        fair = "dense, repeated" if _values(own, method="dense, repeated") else "dense"
        rows.append([f"{family} ({own[0].name})", *cells, _share(own, {"method": "retrained"}, {"method": fair})])
    return header, rows


def inherited(found: Found) -> Table:
    """Score by task, pattern and method; the last column is inheritance less the best other one."""
    points = [r for r in found if r.name != "family cost"]
    methods = [m for m in _in_order(r.inputs["method"] for r in points) if m != "dense"]
    header = ["model, pattern", "steps each", "dense", *methods]
    rows = []
    for task in _in_order(r.inputs["task"] for r in points):
        own = [r for r in points if r.inputs["task"] == task]
        for pattern in (p for p in _in_order(r.inputs["pattern"] for r in own) if p != "dense"):
            here = [r for r in own if r.inputs["pattern"] == pattern]
            steps = str(here[0].extra["steps"])
            cells = [_cell(here, method=method) for method in methods]
            rows.append([f"{task} {pattern}", steps, _cell(own, method="dense"), *cells])
    return header, rows


def inheritance_gain(found: Found) -> Table:
    """What inheritance gains on each rival, averaged over tasks and patterns seed by seed, in points of the score."""
    points = [r for r in found if r.name != "family cost" and r.inputs["pattern"] != "dense"]
    rivals = [m for m in _in_order(r.inputs["method"] for r in points) if m != "inherited"]
    rows = []
    for rival in rivals:
        gains = []
        for seed in sorted({r.seed for r in points if r.seed is not None}):
            own = {
                (r.inputs["task"], r.inputs["pattern"], r.inputs["method"]): r.median for r in points if r.seed == seed
            }
            pairs = [(v, own[t, p, rival]) for (t, p, m), v in own.items() if m == "inherited" and (t, p, rival) in own]
            gains.append(sum(a - b for a, b in pairs) / len(pairs))
        gain = Summary.of(gains)
        rows.append([rival, f"{100 * gain.mean:+.2f}", f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"])
    return ["against", "points gained by inheritance", "95 % interval"], rows


def family_cost(found: Found) -> Table:
    """Time of a whole family over that of one member."""
    costs = [r for r in found if r.name == "family cost"]
    rows = [[str(r.inputs["task"]), str(r.extra["members"]), f"{r.median:.2f}"] for r in costs]
    return ["model", "members, dense to 1:16", "time of the family, in trainings of one member"], rows


def tiles(found: Found) -> Table:
    """Score and measured speed of every kind of pattern, by what its masks really prune."""
    speeds = {str(r.inputs["pattern"]): r.median for r in found if r.name == "speed"}
    rows = []
    for kind in _in_order(r.inputs["kind"] for r in found):
        own = [r for r in found if r.inputs["kind"] == kind and r.name != "speed"]
        for pattern in _in_order(r.inputs["pattern"] for r in own):
            here = [r for r in own if r.inputs["pattern"] == pattern]
            kept = [float(str(r.extra["density"])) for r in here if "density" in r.extra]
            sparsity = f"{100 * (1 - sum(kept) / len(kept)):.1f}%" if kept else "0%"
            speed = f"{speeds[str(pattern)]:.2f}x" if str(pattern) in speeds else "1x"
            rows.append([str(kind), f"`{pattern}`", sparsity, str(Summary.of(r.median for r in here)), speed])
    return ["kind", "pattern", "sparsity of the masks", "score", "speed on this CPU"], rows


def banks(found: Found) -> Table:
    """Score by ratio and method."""
    own = [r for r in found if "method" in r.inputs]
    methods = [m for m in _in_order(r.inputs["method"] for r in own) if m != "dense"]
    rows = [["1x (dense)", *[_cell(own, method="dense")] * len(methods)]]
    ratios = sorted({int(str(r.inputs["ratio"])) for r in own if r.inputs["method"] != "dense"})
    rows += [[f"`bank64@{ratio}x`", *(_cell(own, ratio=ratio, method=m) for m in methods)] for ratio in ratios]
    return ["pattern", *methods], rows


def sizes(found: Found) -> Table:
    """Score and latency of dense models by width, and of a wider one made sparse."""
    times = {(r.inputs["width"], r.inputs["ratio"]): r.median for r in found if r.name == "latency"}
    rows = []
    for (width, ratio), seconds in sorted(times.items(), key=lambda item: item[1]):
        own = [
            r for r in found if r.name != "latency" and r.inputs.get("width") == width and r.inputs["ratio"] == ratio
        ]
        name = f"width {width}, " + ("dense" if ratio == 1 else f"`bank64@{ratio}x`")
        rows.append([name, str(Summary.of(r.median for r in own)), f"{1e3 * seconds:.1f}"])
    return ["model", "score", "ms, 8 windows, one thread"], rows


def _in_order(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


def _values(found: Found, **inputs: object) -> list[float]:
    hits = [r for r in found if all(r.inputs.get(k) == v for k, v in inputs.items())]
    return [r.median for r in sorted(hits, key=lambda r: -1 if r.seed is None else r.seed)]


def _cell(found: Found, **inputs: object) -> str:
    values = _values(found, **inputs)
    return str(Summary.of(values)) if values else ""


def _share(found: Found, part: dict[str, object], whole: dict[str, object]) -> str:
    pairs = zip(_values(found, **part), _values(found, **whole), strict=False)
    shares = Summary.of(a / b for a, b in pairs)
    return f"{100 * shares.mean:.1f} ± {100 * (shares.mean - shares.low):.1f} %"
