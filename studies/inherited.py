"""Inherited dynamic pruning against other methods for n:m, all with the same number of training steps.

The claim of Fang et al. (arXiv 2208.06118): going down from n = m - 1, each level starting from the best model of the level above with a
dynamic mask, beats other methods for n:m Transformers (by 6.7% on average), and yields the whole family along the way. Run as
``python -m studies.inherited [--small]``.
"""

import copy
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from tilewright import sparsify_
from tilewright.pages import bar_figure, save_figure
from tilewright.training import SRSTE, Family, Gradual, Sparsifier, inherit_, train_

from ._common import Book, Summary, begin
from ._families import FAMILIES
from ._families import Family as Task

TARGETS = ((2, 4), (1, 4), (2, 8), (1, 8), (1, 16))
ALONE = "SR-STE, alone"
"""A member trained by itself for the steps of one member: the baseline for a family that costs `COST` such trainings."""
METHODS = ("dense, trained on", "inherited", "one-shot", "gradual", "SR-STE, from dense", "SR-STE, from scratch", ALONE)
MEMBER = {"BERT": 100, "ViT": 150}
"""Training steps of one member; a family takes `COST` times as many."""
COST = 2.5


@dataclass(frozen=True)
class Plan:
    """A task, with the training steps of its dense model and of one member."""

    task: Task
    dense: int
    member: int


def dense_model(plan: Plan, seed: int) -> nn.Module:
    """Train the dense model, the starting point of all methods except training from scratch."""
    torch.manual_seed(seed)
    model = plan.task.build()
    options = plan.task.training(seed, steps=plan.dense)
    train_(model, plan.task.batches(seed), plan.task.loss, options=options)
    return model


def inherited(book: Book, plan: Plan, dense: nn.Module, m: int, seed: int) -> Family:
    """Train or reload the family of one m; members are written as they finish."""
    folder = book.scratch / f"{plan.task.name}-{m}-{seed}"
    return inherit_(
        copy.deepcopy(dense),
        m,
        plan.task.batches(seed + 1000),
        plan.task.loss,
        options=plan.task.training(seed, steps=plan.member),
        cost=COST,
        evaluate=plan.task.evaluate,  # only at the end of a level: selection on held-out data would favour this method
        ignore=plan.task.ignore,
        folder=folder,
    )


def rival(plan: Plan, method: str, dense: nn.Module, pattern: str, steps: int, seed: int) -> nn.Module:
    """Train a model to a pattern by another method, or keep training it dense, for a number of steps."""
    task = plan.task
    model = copy.deepcopy(dense)
    options = task.training(seed, steps=steps)
    schedule = None
    match method:
        case "one-shot":
            sparsify_(model, pattern, ignore=task.ignore)
        case "gradual":
            schedule = Gradual(pattern, end=steps // 2, every=max(1, steps // 20))
        case "SR-STE, from dense" | "SR-STE, alone":
            schedule = SRSTE(pattern)
        case "SR-STE, from scratch":  # its budget includes the training of the dense model, which it does not use
            torch.manual_seed(seed)
            model = task.build()
            options = task.training(seed, steps=steps + plan.dense)
            schedule = SRSTE(pattern)
    sparsifier = None if schedule is None else Sparsifier(model, schedule, ignore=task.ignore)
    train_(model, task.batches(seed + 1000), task.loss, options=options, method=sparsifier)
    return model


def run(book: Book, plan: Plan, seed: int) -> None:
    """Compute all missing points of a task and a seed."""
    targets = TARGETS[:2] if book.small else TARGETS
    points = [{"task": plan.task.name, "pattern": f"{n}:{m}", "method": name} for n, m in targets for name in METHODS]
    if all(book.find(point, seed) for point in points):
        return
    score = plan.task.score
    dense = dense_model(plan, seed)
    if not book.find({"task": plan.task.name, "pattern": "dense", "method": "dense"}, seed):
        book.add(
            score, plan.task.evaluate(dense), {"task": plan.task.name, "pattern": "dense", "method": "dense"}, seed
        )
    for n, m in targets:
        missing = [point for point in points if point["pattern"] == f"{n}:{m}" and not book.find(point, seed)]
        for point in missing:
            if point["method"] == ALONE:
                model = rival(plan, ALONE, dense, f"{n}:{m}", plan.member, seed)
                book.add(score, plan.task.evaluate(model), point, seed, steps=plan.member)
        if all(point["method"] == ALONE for point in missing):
            continue
        family = inherited(book, plan, dense, m, seed)
        member = next(member for member in family.members if member.n == n)
        budget = sum(other.steps for other in family.members if other.n >= n)
        for point in (point for point in missing if point["method"] != ALONE):
            method = point["method"]
            if method == "inherited":
                assert member.metric is not None
                total = sum(other.steps for other in family.members)
                value, notes = member.metric, {"steps": budget, "family_steps": total, "members": m - 1}
            else:
                model = rival(plan, method, dense, f"{n}:{m}", budget, seed)
                value, notes = plan.task.evaluate(model), {"steps": budget}
            book.add(score, value, point, seed, **notes)


def cost_of_family(book: Book, plan: Plan, seed: int) -> None:
    """Time the whole family from 16:16 down against training one member, both without evaluation, in alternation."""
    point = {"task": plan.task.name, "m": 16}
    if book.find(point, seed):
        return
    task, ratios = plan.task, []
    for _ in range(1 if book.small else 3):
        start = time.perf_counter()
        rival(plan, "SR-STE, from dense", task.build(), "8:16", plan.member, seed)
        middle = time.perf_counter()
        options = task.training(seed, steps=plan.member)
        family = inherit_(
            task.build(), 16, task.batches(seed), task.loss, options=options, cost=COST, ignore=task.ignore
        )
        ratios.append((time.perf_counter() - middle) / (middle - start))
        assert len(family.members) == 16
    book.add("family cost", statistics.median(ratios), point, seed, "ratio", members=16, samples=ratios)


def draw(book: Book) -> None:
    """Write the figure: score by pattern and method, relative to the dense model trained as long, seed by seed."""
    groups: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for record in (r for r in book.records if r.name == "family cost"):
        print(f"16 members of one family take {record.median:.2f} times as long as one of them")
    points = [r for r in book.records if r.name != "family cost"]
    for task in dict.fromkeys(str(r.inputs["task"]) for r in points):
        score = next(r.name for r in points if r.inputs["task"] == task)
        for pattern in dict.fromkeys(str(r.inputs["pattern"]) for r in points if r.inputs["pattern"] != "dense"):
            dense = book.values(score, task=task, pattern=pattern, method=METHODS[0])
            for method in METHODS[1:]:
                values = book.values(score, task=task, pattern=pattern, method=method)
                shares = Summary.of(v / d for v, d in zip(values, dense, strict=True))
                group = f"{task} {pattern}"
                groups.setdefault(group, {})[method] = shares.mean
                intervals.setdefault(group, {})[method] = (shares.low, shares.high)
                print(f"{group:<12}{method:<24}{Summary.of(values)}   {shares.mean:7.1%} of dense")
    save_figure(
        bar_figure(groups, "score, share of dense trained as long", intervals=intervals, references={"dense": 1.0}),
        book.figure,
    )


def main() -> None:
    """Run every task and seed, then draw."""
    book = begin("inherited", __doc__)
    for seed in range(1 if book.small else 3):
        for name, member in ({"ViT": 20} if book.small else MEMBER).items():
            task = FAMILIES[name]
            plan = Plan(task, 40 if book.small else task.options["steps"], member)
            run(book, plan, seed)
            if seed == 0 and (book.small or name == "BERT"):
                cost_of_family(book, plan, seed)
    draw(book)


if __name__ == "__main__":
    main()
