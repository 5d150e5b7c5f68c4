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


def shares(found: Sequence[Record]) -> Table:
    """MRR of every pattern and method: mean over calibrations, and half the width of its 95% interval."""
    patterns = dict.fromkeys(str(r.inputs["pattern"]) for r in found if "passages" not in r.inputs)
    rows = [
        [pattern, *(_share(found, pattern, method) for method in METHODS)] for pattern in patterns if pattern != "dense"
    ]
    return ["pattern", *METHODS.values()], rows


def amounts(found: Sequence[Record]) -> Table:
    """What more calibration text gives at 2:4: MRR, the cosine to dense embeddings, and what it takes."""
    rows = []
    for label, more in (("256", {}), ("1024", {"passages": 1024})):
        own = _own(found, {"pattern": "2:4", "method": "second-order update", **more})
        cosine, seconds = (statistics.mean(float(str(r.extra[key])) for r in own) for key in ("cosine", "cpu seconds"))
        values = f"{statistics.mean(r.median for r in own):.3f}"
        rows.append([label, values, _interval(found, own), f"{cosine:.3f}", f"{seconds:.0f} s"])
    return ["paragraphs", "MRR", "of dense", "cosine to dense", "CPU time, one thread"], rows


def _own(found: Sequence[Record], inputs: dict[str, object]) -> list[Record]:
    own = [r for r in found if r.name == "mrr" and dict(r.inputs) == inputs]
    return sorted(own, key=lambda r: -1 if r.seed is None else r.seed)


def _share(found: Sequence[Record], pattern: str, method: str) -> str:
    own = _own(found, {"pattern": pattern, "method": method})
    return _interval(found, own) if own else ""


def _interval(found: Sequence[Record], own: Sequence[Record]) -> str:
    (dense,) = _own(found, {"pattern": "dense", "method": "dense"})
    share = Summary.of(100 * r.median / dense.median for r in own)
    return f"{share.mean:.1f}%" + (f" ± {share.mean - share.low:.1f}" if share.n > 1 else "")
