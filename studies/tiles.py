"""Tile-wise patterns against block, vector and element-wise ones: accuracy by sparsity, and what each is worth on this CPU.

The claim of Guo et al. (arXiv 2008.13006, 2402.10876): tiles that are regular inside and free outside lose hardly more than single
elements do, and run as fast as dense tiles. Pruned in stages, each from the last, scores by Taylor over all layers. Run as
``python -m studies.tiles [--small]``.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from tilewright import parse
from tilewright.pruning import masks_of
from tilewright.reports.figures import Series, line_figure, save_figure
from tilewright.runtime.costs import measured_costs
from tilewright.training import MultiStage, TrainOptions, train_

from ._common import Book, Summary, begin
from ._families import FAMILIES, Family

LEVELS = (25, 50, 75, 85, 90, 95)
KINDS = {
    "element-wise": "any@{}%",
    "vector of 16": "{}:16",
    "block 8x8": "block8x8@{}%",
    "block 32x32": "block32x32@{}%",
    "TW, tile 4": "tw4@{}%",
    "TW, tile 16": "tw16@{}%",
    "TW, tile 64": "tw64@{}%",
    "TW, tile 128": "tw128@{}%",
    "TEW, tile 64": "tew64@{}%+{}%",
    "TVW, tile 64": "tvw64@{}%",
}
STEPS = 70
"""Training steps of a stage, the scoring ones among them."""


def stages(kind: str, levels: Sequence[int]) -> list[str]:
    """Return the patterns of a chain, each sparser than the last.

    A vector of 16 has no count of its own for every level; TEW restores 5%, or half of what is kept; TVW starts at one half.
    """
    text = KINDS[kind]
    if kind.startswith("vector"):
        return list(dict.fromkeys(text.format(max(1, round(16 * (1 - level / 100)))) for level in levels))
    return [
        text.format(level, f"{min(5.0, (100 - level) / 2):g}")
        for level in levels
        if not (kind.startswith("TVW") and level < 50)
    ]


def chain(
    book: Book, family: Family, dense: nn.Module, kind: str, seed: int, levels: Sequence[int], steps: int
) -> None:
    """Prune through all stages of one kind, scoring the model at the end of each."""
    patterns = stages(kind, levels)
    points = [{"kind": kind, "pattern": pattern} for pattern in patterns]
    if all(book.find(point, seed) for point in points):
        return
    model = copy.deepcopy(dense)
    scoring = max(1, steps // 5)

    def look(step: int, total: int, loss: float, extras: object) -> None:
        stage, rest = divmod(step, steps)
        if rest or book.find(points[stage - 1], seed):
            return
        mode = model.training
        masks = masks_of(model).values()
        kept = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
        book.add(family.score, family.evaluate(model), points[stage - 1], seed, density=kept)
        model.train(mode)

    options: TrainOptions = family.training(seed, steps=steps * len(patterns), cycles=len(patterns))
    method = MultiStage(patterns, every=steps, begin=scoring, scoring_steps=scoring)
    train_(model, family.batches(seed + 1000), family.loss, options=options, method=method, progress=look)


def speeds(book: Book, levels: Sequence[int]) -> None:
    """Measure what each pattern is worth on this machine: dense time over sparse, a layer of BERT-base, 128 tokens, one thread."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(768, 3072))
    for kind in KINDS:
        for pattern in stages(kind, levels):
            point = {"kind": kind, "pattern": pattern, "shape": "3072x768", "tokens": 128, "threads": 1}
            if book.find(point, None):
                continue
            costs = measured_costs(layer, [pattern], tokens=128)
            taken = costs.get(("0.weight", str(parse(pattern))), costs["0.weight", "dense"])
            book.add("speed", costs["0.weight", "dense"] / taken, point, None, "ratio")


def draw(book: Book, family: Family) -> None:
    """Write both figures: score by sparsity, and score by measured speed."""
    by_sparsity, by_speed = [], []
    dense = Summary.of(book.values(family.score, kind="dense"))
    print(f"dense {dense}")
    for kind in KINDS:
        patterns = list(dict.fromkeys(str(r.inputs["pattern"]) for r in book.records if r.inputs["kind"] == kind))
        scores, kept, fast = [], [], []
        for pattern in patterns:
            own = [r for r in book.records if r.name == family.score and r.inputs["pattern"] == pattern]
            if not own:
                continue
            scores.append(Summary.of(r.median for r in own))
            kept.append(sum(float(str(r.extra["density"])) for r in own) / len(own))
            fast.append(book.values("speed", pattern=pattern)[0])
            print(f"{pattern:<18}{scores[-1]}  sparsity {1 - kept[-1]:6.1%}  speed {fast[-1]:.2f}x")
        order = sorted(range(len(scores)), key=lambda i: -kept[i])
        if not order:
            continue
        y = [scores[i].mean for i in order]
        low, high = [scores[i].low for i in order], [scores[i].high for i in order]
        by_sparsity.append(Series(kind, [100 * (1 - kept[i]) for i in order], y, low, high))
        by_speed.append(Series(kind, [fast[i] for i in order], y, style="both"))
    panels = {
        "single elements, vectors, blocks": by_sparsity[:4],
        "tiles": by_sparsity[4:8],
        "tiles and more": by_sparsity[7:],
    }
    panels = {title: shown for title, shown in panels.items() if shown}
    references = {"dense": dense.mean}
    save_figure(line_figure(panels, "sparsity, %", family.score, references=references), book.figure)
    speed = line_figure(
        {"": by_speed}, "times as fast as dense, one layer", family.score, log_x=True, references=references
    )
    save_figure(speed, book.figure.with_name("tiles-speed.svg"))


def main() -> None:
    """Run every chain and seed, then draw."""
    book = begin("tiles", __doc__)
    family = FAMILIES["ViT" if book.small else "BERT"]
    levels = (50, 75) if book.small else LEVELS
    for seed in range(1 if book.small else 3):
        torch.manual_seed(seed)
        dense = family.build()
        steps = 40 if book.small else int(family.options["steps"])
        train_(dense, family.batches(seed), family.loss, options=family.training(seed, steps=steps))
        if not book.find({"kind": "dense", "pattern": "dense"}, seed):
            book.add(family.score, family.evaluate(dense), {"kind": "dense", "pattern": "dense"}, seed)
        for kind in list(KINDS)[:: 3 if book.small else 1]:
            chain(book, family, dense, kind, seed, levels, 10 if book.small else STEPS)
    speeds(book, levels)
    draw(book, family)


if __name__ == "__main__":
    main()
