"""Tables of the studies, as header and rows."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tilewright.records import Record

sys.path.insert(0, str(Path(__file__).parents[1]))

from studies._common import Summary
from studies._models import Characters

Records = Sequence[Record]
Table = tuple[list[str], list[list[str]]]


def two_four(records: Records) -> Table:
    """Return each family's score by method, and retraining as a share of the comparable dense run."""
    methods = ("dense", "dense, repeated", "one-shot", "one-shot, permuted", "retrained", "retrained, permuted")
    header = ["family (score)", *methods, "retrained, share of dense trained as often"]
    rows = []
    for family in _in_order(r.inputs["family"] for r in records):
        runs = [r for r in records if r.inputs["family"] == family]
        cells = [_cell(runs, method=method) for method in methods]
        fair = "dense, repeated" if _values(runs, method="dense, repeated") else "dense"
        rows.append([f"{family} ({runs[0].name})", *cells, _share(runs, {"method": "retrained"}, {"method": fair})])
    return header, rows


def inherited(records: Records) -> Table:
    """Return the score by task, pattern and method; all methods except members trained alone use the same number of steps."""
    points = [r for r in records if r.name != "family cost"]
    methods = [m for m in _in_order(r.inputs["method"] for r in points) if m != "dense"]
    header = ["model, pattern", "steps each", "dense", *methods]
    rows = []
    for task in _in_order(r.inputs["task"] for r in points):
        runs = [r for r in points if r.inputs["task"] == task]
        for pattern in (p for p in _in_order(r.inputs["pattern"] for r in runs) if p != "dense"):
            here = [r for r in runs if r.inputs["pattern"] == pattern]
            shared = [r for r in here if "alone" not in str(r.inputs["method"])]
            (steps,) = {str(r.extra["steps"]) for r in shared}  # the comparison is fair only with one budget for all
            cells = [_cell(here, method=method) for method in methods]
            rows.append([f"{task} {pattern}", steps, _cell(runs, method="dense"), *cells])
    return header, rows


def inheritance_gain(records: Records) -> Table:
    """Return the gain of inheritance over each rival in points of the score, averaged over tasks and patterns for each seed."""
    points = [r for r in records if r.name != "family cost" and r.inputs["pattern"] != "dense"]
    rivals = [m for m in _in_order(r.inputs["method"] for r in points) if m != "inherited"]
    rows = []
    for rival in rivals:
        gains = []
        for seed in sorted({r.seed for r in points if r.seed is not None}):
            score = {
                (r.inputs["task"], r.inputs["pattern"], r.inputs["method"]): r.median for r in points if r.seed == seed
            }
            pairs = [
                (v, score[t, p, rival]) for (t, p, m), v in score.items() if m == "inherited" and (t, p, rival) in score
            ]
            if pairs:
                gains.append(sum(a - b for a, b in pairs) / len(pairs))
        gain = Summary.of(gains)
        rows.append([rival, f"{100 * gain.mean:+.2f}", f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"])
    return ["against", "points gained by inheritance", "95 % interval"], rows


def family_cost(records: Records) -> Table:
    """Return the time of a whole family relative to that of one member."""
    costs = [r for r in records if r.name == "family cost"]
    rows = [[str(r.inputs["task"]), str(r.extra["members"]), f"{r.median:.2f}"] for r in costs]
    return ["model", "members, dense to 1:16", "time of the family, in trainings of one member"], rows


def tiles(records: Records) -> Table:
    """Return the score of every kind at every stage, with the sparsity of its masks and the measured speed of its pattern."""
    speeds = {str(r.inputs["pattern"]): r.median for r in records if r.name == "speed"}
    scores = [r for r in records if r.name != "speed"]
    stages = sorted({int(str(r.inputs["stage"])) for r in scores if "stage" in r.inputs})
    rows = []
    for kind in _in_order(r.inputs["kind"] for r in scores if "stage" in r.inputs):
        cells = []
        for stage in stages:
            here = [r for r in scores if r.inputs["kind"] == kind and r.inputs.get("stage") == stage]
            kept = sum(float(str(r.extra["density"])) for r in here) / len(here)
            speed = speeds.get(str(here[0].inputs["pattern"]))
            more = "" if speed is None else f"; {100 * (1 - kept):.1f}%, {speed:.2f}x"
            cells.append(f"{Summary.of(r.median for r in here)}{more}")
        rows.append([kind, *cells])
    return ["kind", *(f"stage {stage}" for stage in stages)], rows


def banks(records: Records) -> Table:
    """Return the score by ratio and method."""
    runs = [r for r in records if "method" in r.inputs]
    methods = [m for m in _in_order(r.inputs["method"] for r in runs) if m != "dense"]
    # The dense model trained for the same total number of steps.
    longer = [r for r in records if r.inputs.get("width") == 128 and r.name != "latency"]
    rows = [
        ["dense, before", *[_cell(runs, method="dense")] * len(methods)],
        ["dense, trained as long", *[_cell(longer, ratio=1)] * len(methods)],
    ]
    ratios = sorted({int(str(r.inputs["ratio"])) for r in runs if r.inputs["method"] != "dense"})
    rows += [[f"`bank64@{ratio}x`", *(_cell(runs, ratio=ratio, method=m) for m in methods)] for ratio in ratios]
    return ["pattern", *methods], rows


def sizes(records: Records) -> Table:
    """Return the score and latency of dense models by width, and of wider models made sparse."""
    times = {(r.inputs["width"], r.inputs["ratio"]): r.median for r in records if r.name == "latency"}
    rows = []
    for (width, ratio), seconds in sorted(times.items(), key=lambda item: item[1]):
        runs = [
            r for r in records if r.name != "latency" and r.inputs.get("width") == width and r.inputs["ratio"] == ratio
        ]
        name = f"width {width}, " + ("dense" if ratio == 1 else f"`bank64@{ratio}x`")
        cells = [str(Summary.of(r.median for r in runs)), f"{_weights(int(str(width)), int(str(ratio))) / 1e3:.0f}"]
        rows.append([name, *cells, f"{1e3 * seconds:.1f}"])
    return ["model", "score", "thousand weights", "ms, 8 windows, one thread"], rows


def _weights(width: int, ratio: int) -> float:
    """Return the weights that a character model keeps when its blocks are pruned; embeddings, convolution and head stay dense."""
    model = Characters(False, width)
    pruned = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    return sum(p.numel() for p in model.parameters()) - pruned * (1 - 1 / ratio)


def _in_order(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values))


def _values(records: Records, **inputs: object) -> list[float]:
    hits = [r for r in records if all(r.inputs.get(k) == v for k, v in inputs.items())]
    return [r.median for r in sorted(hits, key=lambda r: -1 if r.seed is None else r.seed)]


def _cell(records: Records, **inputs: object) -> str:
    values = _values(records, **inputs)
    return str(Summary.of(values)) if values else ""


def _share(records: Records, part: dict[str, object], whole: dict[str, object]) -> str:
    pairs = zip(_values(records, **part), _values(records, **whole), strict=True)
    shares = Summary.of(a / b for a, b in pairs)
    return f"{100 * shares.mean:.1f} ± {100 * (shares.mean - shares.low):.1f} %"
