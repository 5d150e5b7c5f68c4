"""The tables of studies/records/one_shot.jsonl: retrieval without training, as a share of the dense model's."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tilewright.records import Record

sys.path.insert(0, str(Path(__file__).parents[1]))

from studies._common import Summary

Table = tuple[Sequence[str], Sequence[Sequence[object]]]

METHODS = {
    "magnitude": "magnitude",
    "magnitude, permuted": "permuted",
    "wanda": "Wanda",
    "second-order mask": "second-order mask",
    "second-order update": "updated",
    "second-order update, dense target": "updated, dense target",
    "second-order update, permuted": "permuted, updated",
}


def shares(records: Sequence[Record]) -> Table:
    """Return the MRR of every pattern and method: mean over calibrations, and half the width of its 95% interval."""
    patterns = dict.fromkeys(str(r.inputs["pattern"]) for r in records if "passages" not in r.inputs)
    rows = [
        [pattern, *(_share(records, pattern, method) for method in METHODS)]
        for pattern in patterns
        if pattern != "dense"
    ]
    return ["pattern", *METHODS.values()], rows


def amounts(records: Sequence[Record]) -> Table:
    """Return the effect of more calibration text at 2:4: MRR, cosine to the dense embeddings, and time."""
    rows = []
    for label, more in (("256", {}), ("1024", {"passages": 1024})):
        runs = _runs(records, {"pattern": "2:4", "method": "second-order update", **more})
        cosine, seconds = (statistics.mean(float(str(r.extra[key])) for r in runs) for key in ("cosine", "cpu seconds"))
        values = f"{statistics.mean(r.median for r in runs):.3f}"
        rows.append([label, values, _interval(records, runs), f"{cosine:.3f}", f"{seconds:.0f} s"])
    return ["paragraphs", "MRR", "of dense", "cosine to dense", "CPU time, one thread"], rows


def _runs(records: Sequence[Record], inputs: dict[str, object]) -> list[Record]:
    runs = [r for r in records if r.name == "mrr" and dict(r.inputs) == inputs]
    return sorted(runs, key=lambda r: -1 if r.seed is None else r.seed)


def _share(records: Sequence[Record], pattern: str, method: str) -> str:
    runs = _runs(records, {"pattern": pattern, "method": method})
    return _interval(records, runs) if runs else ""


def _interval(records: Sequence[Record], runs: Sequence[Record]) -> str:
    (dense,) = _runs(records, {"pattern": "dense", "method": "dense"})
    share = Summary.of(100 * r.median / dense.median for r in runs)
    return f"{share.mean:.1f}%" + (f" ± {share.mean - share.low:.1f}" if share.n > 1 else "")
