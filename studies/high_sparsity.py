"""Bank-balanced sparsity up to 32x: which recovery it needs, and a large sparse model against small dense ones at equal latency.

The claims of Yen et al. (arXiv 2207.08006): banks of 64 allow 32x, and a larger sparse model beats a smaller dense one in both
accuracy and speed. Run as ``python -m studies.high_sparsity [--small]``.
"""

import copy
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tilewright import load_, save, sparsify_
from tilewright.formats import read_checkpoint
from tilewright.pages import Series, line_figure, save_figure
from tilewright.runtime import SparseLinear
from tilewright.training import Gradual, ProgressiveOptions, Sparsifier, distill_progressively_, train_

from ._common import Book, Summary, begin
from ._families import FAMILIES, Family
from ._models import Characters
from ._text import without_vowels

RATIOS = (2, 4, 8, 16, 32)
METHODS = ("one-shot", "gradual", "progressive")
STEPS = 240
WIDTHS, WIDEST = (32, 48, 64, 96, 128), 256
"""Widths of the dense models, and of the model that is pruned."""
TASK = FAMILIES["BERT"]
BLOCKS = ("blocks.*",)


def trained(book: Book, width: int, seed: int, steps: int) -> nn.Module:
    """Train the dense model of a width, or load it."""
    from safetensors.torch import load_model, save_model

    torch.manual_seed(seed)
    model = Characters(False, width)
    path = book.scratch / f"dense-{width}-{steps}-{seed}.safetensors"
    if path.exists():
        load_model(model, path)
    else:
        train_(model, TASK.batches(seed), TASK.loss, options=TASK.training(seed, steps=steps))
        save_model(model, path)
    return model


def recovered(task: Family, dense: nn.Module, ratio: int, method: str, seed: int, steps: int) -> nn.Module:
    """Prune the Transformer blocks of a model to banks at a ratio, and train by a method."""
    model, pattern = copy.deepcopy(dense), f"bank64@{ratio}x"
    options = task.training(seed, steps=steps)
    plan = Gradual(pattern, end=steps // 2, every=max(1, steps // 24))
    match method:
        case "one-shot":
            sparsify_(model, pattern, targets=list(BLOCKS))
            train_(model, task.batches(seed + 1000), task.loss, options=options)
        case "gradual":
            sparsifier = Sparsifier(model, plan, targets=list(BLOCKS))
            train_(model, task.batches(seed + 1000), task.loss, options=options, method=sparsifier)
        case "progressive":
            _progressive(task, model, dense, plan, seed, steps)
    return model


class _Shown:
    """Batches of model inputs, without labels."""

    def __init__(self, task: Family, seed: int) -> None:
        self.batches = task.batches(seed)

    def __getitem__(self, step: int) -> torch.Tensor:
        return without_vowels(self.batches[step][:, :-1])[0]


def _progressive(task: Family, model: nn.Module, dense: nn.Module, plan: Gradual, seed: int, steps: int) -> None:
    """Prune gradually by progressive distillation on hidden states, attention and logits, without labels."""
    options = ProgressiveOptions(
        **{**task.options, "steps": steps}, seed=seed, output_loss="mse", attentions=("blocks.*.attention",)
    )
    sparsifier = Sparsifier(model, plan, targets=list(BLOCKS))
    distill_progressively_(
        model, dense, _Shown(task, seed + 1000), modules=["blocks.?"], options=options, method=sparsifier
    )


def banks(book: Book, seed: int, dense_steps: int, steps: int) -> None:
    """Compute the score of every ratio and method for a seed."""
    points: list[tuple[int, str]] = [(1, "dense")]
    points += [(ratio, method) for ratio in (RATIOS[-1:] if book.small else RATIOS) for method in METHODS]
    for ratio, method in points:
        if not book.find(point := {"ratio": ratio, "method": method}, seed):
            dense = trained(book, 128, seed, dense_steps)
            model = dense if ratio == 1 else recovered(TASK, dense, ratio, method, seed, steps)
            book.add(TASK.score, TASK.evaluate(model), point, seed)


def sizes(book: Book, seed: int, dense_steps: int, steps: int) -> None:
    """Compute the scores of dense models of every width and of a wider pruned one, all with the same total of training steps."""
    widest = 64 if book.small else WIDEST
    for width in (32, 64) if book.small else WIDTHS:
        if not book.find(point := {"width": width, "ratio": 1}, seed):
            book.add(TASK.score, TASK.evaluate(trained(book, width, seed, dense_steps + steps)), point, seed)
    for ratio in RATIOS[2:3] if book.small else RATIOS[2:]:
        point = {"width": widest, "ratio": ratio}
        if not book.find(point, seed):
            dense = trained(book, widest, seed, dense_steps)
            model = recovered(TASK, dense, ratio, "gradual", seed, steps)
            book.add(TASK.score, TASK.evaluate(model), point, seed)
            save(model, book.scratch / f"model-{widest}-{ratio}x")


def packed(plain: nn.Module, folder: Path, windows: torch.Tensor) -> nn.Module:
    """Return a checkpoint's model running packed, after checking its outputs against its unpacked weights in a dense model."""
    stored, dense = read_checkpoint(folder), copy.deepcopy(plain)
    state = {name: weight.packed.unpack() for name, weight in stored.weights.items()}
    state |= {name: raw.data.view(np.float32).reshape(raw.shape) for name, raw in stored.dense.items()}
    dense.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    model = load_(plain, folder, tokens=windows.numel())
    with torch.inference_mode():
        torch.testing.assert_close(model(windows), dense(windows), atol=1e-3, rtol=1e-3)
    return model


def latencies(book: Book) -> None:
    """Time all models in turn on 8 windows of 96 characters, sparse ones as loaded by `tilewright.load_` and checked."""
    windows = TASK.inputs(TASK.batches(0)[0])[:8]
    models: dict[tuple[int, int], nn.Module] = {}
    for record in book.records:
        width, ratio = record.inputs.get("width"), record.inputs.get("ratio")
        if isinstance(width, int) and isinstance(ratio, int):
            plain = Characters(False, width).eval()
            path = book.scratch / f"model-{width}-{ratio}x"
            models[width, ratio] = plain if ratio == 1 else packed(plain, path, windows)
    times: dict[tuple[int, int], list[float]] = {key: [] for key in models}
    with torch.inference_mode():
        for _ in range(3 if book.small else 15):
            for key, model in models.items():
                start = time.perf_counter()
                model(windows)
                times[key].append(time.perf_counter() - start)
    for (width, ratio), seconds in times.items():
        point = {"width": width, "ratio": ratio, "windows": 8, "threads": torch.get_num_threads()}
        packed_layers = sum(isinstance(module, SparseLinear) for module in models[width, ratio].modules())
        book.add("latency", float(np.median(seconds[1:])), point, None, "s", checked=True, packed_layers=packed_layers)


def draw(book: Book) -> None:
    """Write both figures."""
    dense = {"dense, before": Summary.of(book.values(TASK.score, method="dense")).mean}
    if longer := book.values(TASK.score, width=128, ratio=1):
        dense["dense, trained as long"] = Summary.of(longer).mean
    lines = []
    for method in METHODS:
        curve = {r: Summary.of(v) for r in RATIOS if (v := book.values(TASK.score, ratio=r, method=method))}
        for ratio, score in curve.items():
            print(f"{ratio:>3}x {method:<12} {score}")
        scores = list(curve.values())
        lines.append(
            Series(method, list(curve), [s.mean for s in scores], [s.low for s in scores], [s.high for s in scores])
        )
    figure = line_figure({"": lines}, "times fewer weights in the blocks", TASK.score, log_x=True, references=dense)
    save_figure(figure, book.figure)
    points: dict[str, list[tuple[float, Summary]]] = {"dense": [], "sparse": []}
    for record in (r for r in book.records if r.name == "latency"):
        inputs = {key: record.inputs[key] for key in ("width", "ratio")}
        score = Summary.of(book.values(TASK.score, **inputs))
        points["dense" if inputs["ratio"] == 1 else "sparse"].append((1e3 * record.median, score))
        print(f"width {inputs['width']:>3} at {inputs['ratio']:>2}x: {score}, {1e3 * record.median:.2f} ms")
    series = [
        Series(
            label,
            *zip(*[(x, s.mean) for x, s in line], strict=True),
            [s.low for _, s in line],
            [s.high for _, s in line],
        )
        for label, unsorted in points.items()
        if (line := sorted(unsorted, key=lambda point: point[0]))
    ]
    save_figure(
        line_figure({"": series}, "milliseconds, 8 windows, one thread", TASK.score, log_x=True),
        book.figure.with_name("high-sparsity-latency.svg"),
    )


def main() -> None:
    """Run every seed, measure latencies, draw the figures."""
    book = begin("high_sparsity", __doc__)
    dense_steps, steps = (20, 12) if book.small else (int(TASK.options["steps"]), STEPS)
    for seed in range(1 if book.small else 3):
        banks(book, seed, dense_steps, steps)
        sizes(book, seed, dense_steps, steps)
    if not book.values("latency"):
        latencies(book)
    draw(book)


if __name__ == "__main__":
    main()
