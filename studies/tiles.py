"""Tile-wise patterns against block, vector and element-wise ones: accuracy by sparsity, and speed on this CPU.

The claim of Guo et al. (arXiv 2008.13006, 2402.10876): tiles that are regular inside and free outside lose hardly more than single
elements do, and run as fast as dense tiles. Pruning is in stages, with Taylor scores ranked over all layers. Run as
``python -m studies.tiles [--small]``.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tilewright import parse
from tilewright.pages import Series, line_figure, save_figure
from tilewright.pruning import masks_of
from tilewright.runtime import measured_costs
from tilewright.training import MultiStage, TrainOptions, train_

from ._common import Book, Summary, begin
from ._families import FAMILIES, Family

LEVELS = (25, 50, 75, 85, 90, 95)
DENSE = "dense, trained on"
KINDS = {
    DENSE: "dense",
    "element-wise": "any@{}%",
    "vector of 32": "{}:32",
    "block 8x8": "block8x8@{}%",
    "block 32x32": "block32x32@{}%",
    "TW, tile 4": "tw4@{}%",
    "TW, tile 16": "tw16@{}%",
    "TW, tile 64": "tw64@{}%",
    "TW, tile 128": "tw128@{}%",
    "TEW, tile 64": "tew64@{}%+{}%",
    "TVW, tile 64": "tvw64@{}%",
}
PANELS = {
    "single elements, vectors, blocks": ("element-wise", "vector of 32", "block 8x8", "block 32x32"),
    "tiles": ("TW, tile 4", "TW, tile 16", "TW, tile 64", "TW, tile 128"),
    "tiles and more": ("element-wise", "TW, tile 64", "TEW, tile 64", "TVW, tile 64"),
}
STEPS = 60
"""Training steps of a stage, including the scoring steps."""


def stages(kind: str, levels: Sequence[int]) -> list[str]:
    """Return the patterns of a chain, one per level, each sparser than the last.

    Vectors use the count nearest to a level. TEW restores 5%, or half of what is kept. TVW begins as TW, as its n:m alone prunes half.
    """
    text, patterns = KINDS[kind], []
    for level in levels:
        form = text.replace("tvw", "tw") if level < 50 else text
        count = round(32 * (1 - level / 100))
        patterns.append(form.format(count if kind.startswith("vector") else level, f"{min(5.0, (100 - level) / 2):g}"))
    return patterns


def points_of(kind: str, levels: Sequence[int]) -> list[dict[str, Any]]:
    """Return the inputs of a chain's records, one per stage."""
    return [{"kind": kind, "pattern": text, "stage": i + 1} for i, text in enumerate(stages(kind, levels))]


def chain(
    book: Book, family: Family, dense: nn.Module, kind: str, seed: int, levels: Sequence[int], steps: int
) -> None:
    """Prune through all stages of one kind and score the model after each; the dense model is trained for as long."""
    points = points_of(kind, levels)
    if all(book.find(point, seed) for point in points):
        return
    model = copy.deepcopy(dense)
    scoring = max(1, steps // 5)

    def look(step: int, total: int, loss: float, extras: object) -> None:
        stage, remainder = divmod(step, steps)
        if remainder or book.find(points[stage - 1], seed):
            return
        mode = model.training
        masks = masks_of(model).values()
        kept = sum(int(mask.sum()) for mask in masks) / (sum(mask.numel() for mask in masks) or 1) if masks else 1.0
        book.add(family.score, family.evaluate(model), points[stage - 1], seed, density=kept)
        model.train(mode)

    options: TrainOptions = family.training(seed, steps=steps * len(points), cycles=len(points))
    patterns = [str(point["pattern"]) for point in points]
    method = None if kind == DENSE else MultiStage(patterns, every=steps, begin=scoring, scoring_steps=scoring)
    train_(model, family.batches(seed + 1000), family.loss, options=options, method=method, progress=look)


def speeds(book: Book, levels: Sequence[int]) -> None:
    """Measure each pattern's speedup on this machine: dense time over sparse time, one layer of BERT-base, 128 tokens, one thread.

    A layer that would be slower sparse runs dense, so no speedup is below 1.
    """
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(768, 3072))
    for pattern in dict.fromkeys(text for kind in KINDS if kind != DENSE for text in stages(kind, levels)):
        point = {"pattern": pattern, "shape": "3072x768", "tokens": 128, "threads": 1}
        if not book.find(point, None):
            costs = measured_costs(layer, [pattern], tokens=128)
            seconds = costs.get(("0.weight", parse(pattern).canonical), costs["0.weight", "dense"])
            book.add("speed", costs["0.weight", "dense"] / seconds, point, None, "ratio", checked=True)


def draw(book: Book, family: Family, levels: Sequence[int]) -> None:
    """Write both figures: score by sparsity, and score by measured speed."""
    by_sparsity: dict[str, Series] = {}
    by_speed = []
    for kind in KINDS:
        scores, sparsities, speedups = [], [], []
        for level, point in zip(levels, points_of(kind, levels), strict=True):
            records = [r for r in book.records if r.name == family.score and dict(r.inputs) == point]
            if records:
                scores.append(Summary.of(r.median for r in records))
                density = sum(float(str(r.extra["density"])) for r in records) / len(records)
                # The dense model is drawn at the level of the stage that is trained as long.
                sparsities.append(level if kind == DENSE else 100 * (1 - density))
                speedups.append(1.0 if kind == DENSE else book.values("speed", pattern=point["pattern"])[0])
                print(
                    f"{kind:<18}{point['pattern']:<18}{scores[-1]}  sparsity {1 - density:6.1%}  speed {speedups[-1]:.2f}x"
                )
        if scores:
            y, low, high = [s.mean for s in scores], [s.low for s in scores], [s.high for s in scores]
            by_sparsity[kind] = Series(kind, sparsities, y, low, high, "dashed" if kind == DENSE else "both")
            if kind != DENSE:
                by_speed.append(Series(kind, speedups, y, style="both"))
    panels = {
        title: [by_sparsity[kind] for kind in (DENSE, *kinds) if kind in by_sparsity] for title, kinds in PANELS.items()
    }
    limits = None if book.small else (0.58, 0.72)  # cuts off only blocks of 32 at 95%
    save_figure(line_figure(panels, "sparsity, %", family.score, y_limits=limits), book.figure)
    speed = line_figure({"": by_speed}, "times as fast as dense, one layer", family.score, log_x=True, y_limits=limits)
    save_figure(speed, book.figure.with_name("tiles-speed.svg"))


def main() -> None:
    """Run every chain and seed, then draw."""
    book = begin("tiles", __doc__)
    family = FAMILIES["ViT" if book.small else "BERT"]
    levels = (50, 75) if book.small else LEVELS
    kinds = list(KINDS)[:: 3 if book.small else 1]
    points = [{"kind": "dense", "pattern": "dense"}, *(point for kind in kinds for point in points_of(kind, levels))]
    for seed in range(1 if book.small else 3):
        if all(book.find(point, seed) for point in points):
            continue
        torch.manual_seed(seed)
        dense = family.build()
        steps = 40 if book.small else int(family.options["steps"])
        train_(dense, family.batches(seed), family.loss, options=family.training(seed, steps=steps))
        if not book.find(points[0], seed):
            book.add(family.score, family.evaluate(dense), points[0], seed)
        for kind in kinds:
            chain(book, family, dense, kind, seed, levels, 10 if book.small else STEPS)
    speeds(book, levels)
    draw(book, family, levels)


if __name__ == "__main__":
    main()
