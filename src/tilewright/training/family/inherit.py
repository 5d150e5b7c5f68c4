"""`inherit_`: a family of n:m models in one run, each level begun from the best of the one above."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, NotSupportedError
from ...graph import evaluating
from ...patterns import NM
from ...pruning import Targets, masks_of, patterns_of, remove_masks_
from ...records import digest
from ..distributed import ranks_of
from ..loop import Indexed, StepCallback, Training, require_batches, run_
from ..methods import SRSTE
from ..options import TrainOptions
from ..sparsifier import Sparsifier
from ..train import Loss, prepared, sample
from .members import Family, Member, model_bytes
from .store import FolderStore, Store

__all__ = ["inherit_", "level_steps"]


def inherit_(
    model: nn.Module,
    m: int,
    batches: Indexed,
    loss: Loss,
    *,
    options: TrainOptions,
    cost: float = 2.5,
    levels: Sequence[int] | None = None,
    decay: float = 2e-4,
    evaluate: Callable[[nn.Module], float] | None = None,
    checks: int = 1,
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    folder: Path | str | None = None,
    every: int = 50,
    progress: StepCallback | None = None,
) -> Family:
    """Train a dense model down through n:m, n from m - 1 to 1, and keep the model of every level.

    This is inherited dynamic pruning (Fang et al., arXiv 2208.06118): a level starts from the best model of the one above, dense values
    behind its masks included, and its mask follows the weights while they train (`SRSTE`), so that what was pruned too early may come
    back. The whole family takes ``cost * options.steps`` steps, shared out in proportion to how much each level multiplies the density
    down: the step from 16:16 to 15:16 is easily learnt, the one from 2:16 to 1:16 halves the model.

    Parameters
    ----------
    model
        Trained and dense. Left as the last level's model, with masks.
    m
        Group size of every level.
    batches
        ``batches[i]`` is the batch of the family's i-th step.
    loss
        As in `train_`.
    options
        ``options.steps`` is what training one member takes. Each level goes through the whole learning-rate schedule once.
    cost
        Steps of the family, in units of ``options.steps``.
    levels
        Values of n, falling; all from m - 1 to 1 where not given.
    decay
        Of values behind masks, as in `SRSTE`.
    evaluate
        ``evaluate(model)``, a number that is better when larger, taken in eval mode without gradients.
    checks
        How often in a level `evaluate` is asked, the last time at its end. The best model is the level's member.
    targets, ignore
        As in `sparsify_`; a list, as all targets have the same n.
    folder
        Where members are written, and from where a run that was killed goes on, between levels and inside one. In memory where not
        given.
    every
        Steps between two checkpoints in the folder.
    progress
        Called after every step, with the step and the number of steps of the level.

    Returns
    -------
    Family
        The dense model and one member for each level, densest first.

    Raises
    ------
    ArgumentError
        If the arguments do not fit together, or the folder belongs to another run.
    NotSupportedError
        If the model is spread over several processes.
    FormatError, CheckFailed, OSError
        As in `train_`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> batches = [torch.randn(16, 8) for _ in range(50)]
    >>> def loss(model, batch):
    ...     return (model(batch) - batch[:, :4]).square().mean()
    >>> family = inherit_(
    ...     model, 4, batches, loss, options=TrainOptions(steps=20), evaluate=lambda model: -float(loss(model, batches[0]))
    ... )
    >>> [member.name for member in family.members], [member.steps for member in family.members]
    (['dense', '3:4', '2:4', '1:4'], [0, 10, 15, 25])
    >>> family.pick(cost=family[2].bytes).n <= 2
    True
    """
    plan = _plan(model, m, options, cost, levels, checks, evaluate, targets)
    require_batches(batches, replace(options, steps=sum(steps for _, steps in plan)))
    run = _Run(model, m, batches, loss, options, decay, evaluate, checks, targets, tuple(ignore), progress)
    store = Store() if folder is None else FolderStore(Path(folder), every, lambda: run.inputs(plan))
    members = store.members() or (run.dense(store),)
    store.finish(members)
    first = 0
    for above, (n, steps) in zip([m, *(n for n, _ in plan)], plan, strict=False):
        if n < members[-1].n:
            run.start_from_(*store.best(above)[:2])
            members = (*members, run.level_(n, steps, first, store))
            store.finish(members)
        first += steps
    family = Family(members)
    family.load_(model, members[-1])
    return family


def level_steps(m: int, levels: Sequence[int], total: int) -> list[int]:
    """Share steps out to levels in proportion to ``log(density before / density after)``, at least one each.

    Examples
    --------
    >>> level_steps(4, [3, 2, 1], 50)
    [10, 15, 25]
    """
    ends = [round(total * math.log(m / n) / math.log(m / levels[-1])) for n in levels]
    steps = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [max(step, 1) for step in steps]


@dataclass(frozen=True)
class _Run:
    """The arguments of a run, and what is done with them level by level."""

    model: nn.Module
    m: int
    batches: Indexed
    loss: Loss
    options: TrainOptions
    decay: float
    evaluate: Callable[[nn.Module], float] | None
    checks: int
    targets: Targets | None
    ignore: tuple[str, ...]
    progress: StepCallback | None

    def inputs(self, plan: Sequence[tuple[int, int]]) -> dict[str, str]:
        """Return a hash of each thing that decides what the run computes."""
        steps = sum(steps for _, steps in plan)
        return {
            "options": digest(asdict(self.options), self.decay, self.checks, _name(self.loss), _name(self.evaluate)),
            "levels": digest(self.m, [list(level) for level in plan], self.targets, self.ignore),
            "batches": digest(sample(self.batches, replace(self.options, steps=steps))),
            "model": digest(_tensors(self.model)),
        }

    def dense(self, store: Store) -> Member:
        """Return the model as it was given, as the first member."""
        tensors, metric = _tensors(self.model), self._metric()
        store.keep(self.m, tensors, {}, {"metric": metric})
        file, state = store.place(self.m, self.m, tensors)
        return Member(self.m, self.m, {}, 1.0, 0, None, metric, model_bytes(self.model), file, state)

    def start_from_(self, tensors: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> None:
        """Put the best model of a level into the model, dense values in place of masked ones."""
        remove_masks_(self.model)
        values = {**tensors, **dense}
        with torch.no_grad():
            for name, own in self.model.state_dict().items():
                own.copy_(values[name])

    def level_(self, n: int, steps: int, first: int, store: Store) -> Member:
        """Train one level and return its best model."""
        method = Sparsifier(self.model, SRSTE(NM(n, self.m), self.decay), targets=self.targets, ignore=self.ignore)
        options = replace(
            self.options, steps=steps, seed=(self.options.seed + n) % 2**32, cycles=min(self.options.cycles, steps)
        )
        marks = {round(steps * (i + 1) / self.checks) for i in range(self.checks)}

        def watch(step: int) -> None:
            if step in marks:
                self._check(n, method, store)

        later = _From(self.batches, first * options.accumulate)
        where = store.checkpoint(n)
        with prepared(self.model, later, self.loss, options, method, where is not None) as (task, sparsifier):
            training = run_(task, sparsifier, where, self.progress, watch)
        tensors, _, facts = store.best(n)
        file, state = store.place(n, self.m, tensors)
        patterns = {name: str(pattern) for name, pattern in patterns_of(self.model).items()}
        density = 1 - float(str(method.report().summary["sparsity of the pruned"]))
        loss = _tail(training)
        return Member(n, self.m, patterns, density, steps, loss, facts["metric"], model_bytes(self.model), file, state)

    def _check(self, n: int, method: Sparsifier, store: Store) -> None:
        """Keep the model of this moment if it is the best of its level so far."""
        metric, best = self._metric(), store.metric(n)
        if metric is None or best is None or metric > best:
            store.keep(n, _tensors(self.model), method.state_dict()["dense"], {"metric": metric})

    def _metric(self) -> float | None:
        if self.evaluate is None:
            return None
        with evaluating(self.model), torch.no_grad():
            metric = float(self.evaluate(self.model))
        if not math.isfinite(metric):
            raise ArgumentError(f"evaluate must give a finite number, and it gave {metric}")
        return metric


class _From:
    """Batches from a later one on."""

    def __init__(self, batches: Indexed, first: int) -> None:
        self.batches, self.first = batches, first

    def __getitem__(self, step: int) -> Any:
        return self.batches[self.first + step]


def _plan(
    model: nn.Module,
    m: int,
    options: TrainOptions,
    cost: float,
    levels: Sequence[int] | None,
    checks: int,
    evaluate: Callable[[nn.Module], float] | None,
    targets: Targets | None,
) -> list[tuple[int, int]]:
    """Return (n, steps) of every level; refuse what cannot work."""
    if ranks_of(model).size > 1:
        raise NotSupportedError("inherit_ trains in one process; train the levels one by one with SRSTE on several")
    if m < 2 or not cost > 0:
        raise ArgumentError(
            f"a family needs groups of 2 or more and a cost above 0; it got m = {m} and a cost of {cost}"
        )
    chosen = list(range(m - 1, 0, -1)) if levels is None else list(levels)
    if not chosen or chosen != sorted(set(chosen), reverse=True) or not 0 < chosen[-1] <= chosen[0] < m:
        raise ArgumentError(f"levels must fall, from {m - 1} at most to 1 at least; they are {chosen}")
    if isinstance(targets, Mapping):
        raise ArgumentError("all targets of a family have the same n; targets must be a list")
    if checks < 1 or (checks > 1 and evaluate is None):
        raise ArgumentError(f"checks must be 1 or more, and more than 1 needs an evaluate function; it is {checks}")
    if masks_of(model):
        raise ArgumentError(
            "a family starts from a dense model, and this one has masks; call remove_masks_ on it first"
        )
    return list(zip(chosen, level_steps(m, chosen, round(cost * options.steps)), strict=True))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _tail(training: Training) -> float:
    last = training.losses[-max(1, len(training.losses) // 10) :]
    return sum(last) / len(last)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
