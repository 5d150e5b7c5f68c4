"""`inherit_`: a family of n:m models in one run, each level starting from the best model of the level above."""

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
    """Train a dense model through successive n:m levels, n from m - 1 down to 1, and keep the model of every level.

    This is inherited dynamic pruning (Fang et al., arXiv 2208.06118). Each level starts from the best model of the level above,
    including the dense values behind its masks, and its mask follows the weights as they train (`SRSTE`), so an element pruned too
    early may return. The whole family takes ``cost * options.steps`` steps. Each level's share is proportional to the logarithm of
    the factor by which it reduces the density: from 16:16 to 15:16 little has to be relearnt, from 2:16 to 1:16 half the weights go.

    Parameters
    ----------
    model
        A trained dense model. Afterwards it is the model of the last level, with masks.
    m
        Group size of every level, at least 2.
    batches
        A sequence whose ``batches[i]`` is always the same batch; indices run through the whole family.
    loss
        ``loss(model, batch)`` returns a scalar tensor, as in `train_`.
    options
        Training options; ``options.steps`` is the number of steps for one member. Each level runs the full learning-rate schedule.
    cost
        Steps of the whole family, in units of ``options.steps``. Default: 2.5.
    levels
        Decreasing values of n. Default: all from m - 1 to 1.
    decay
        Decay of the values behind masks, as in `SRSTE`. Default: 2e-4.
    evaluate
        ``evaluate(model)`` returns a number, larger is better; it runs in evaluation mode without gradients. Default: members have
        no metric.
    checks
        Number of evaluations per level, the last one at its end; the best model becomes the level's member. Default: 1.
    targets, ignore
        Which weights to prune, as in `sparsify_`. `targets` must be a list, as all targets have the same n.
    folder
        Folder to write members to. A killed run resumes from it, even within a level. Default: keep the family in memory.
    every
        Number of steps between checkpoints in the folder. Default: 50.
    progress
        A callback that runs after every step, with the step and the number of steps of the level, see `StepCallback`.

    Returns
    -------
    Family
        The dense model and one member per level, densest first.

    Raises
    ------
    ArgumentError
        If the arguments contradict each other, or the folder belongs to a different run.
    NotSupportedError
        If the model is distributed over several processes.
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
    """Distribute steps over levels in proportion to ``log(density before / density after)``, at least one per level.

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
    """The arguments of a run, and the operations on each level."""

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
        """Return a hash of each input that determines the result."""
        steps = sum(steps for _, steps in plan)
        return {
            "options": digest(asdict(self.options), self.decay, self.checks, _name(self.loss), _name(self.evaluate)),
            "levels": digest(self.m, [list(level) for level in plan], self.targets, self.ignore),
            "batches": digest(sample(self.batches, replace(self.options, steps=steps))),
            "model": digest(_tensors(self.model)),
        }

    def dense(self, store: Store) -> Member:
        """Return the original dense model as the first member."""
        tensors, metric = _tensors(self.model), self._metric()
        store.keep(self.m, tensors, {}, {"metric": metric})
        file, state = store.place(self.m, self.m, tensors)
        return Member(self.m, self.m, {}, 1.0, 0, None, metric, model_bytes(self.model), file, state)

    def start_from_(self, tensors: Mapping[str, Tensor], dense: Mapping[str, Tensor]) -> None:
        """Load the best model of a level into the model, with dense values instead of masked ones."""
        remove_masks_(self.model)
        values = {**tensors, **dense}
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                tensor.copy_(values[name])

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

        batches = _From(self.batches, first * options.accumulate)
        checkpoint = store.checkpoint(n)
        with prepared(self.model, batches, self.loss, options, method, checkpoint is not None) as (task, sparsifier):
            training = run_(task, sparsifier, checkpoint, self.progress, watch)
        tensors, _, facts = store.best(n)
        file, state = store.place(n, self.m, tensors)
        patterns = {name: str(pattern) for name, pattern in patterns_of(self.model).items()}
        density = 1 - float(str(method.report().summary["sparsity of the pruned"]))
        loss = _tail(training)
        return Member(n, self.m, patterns, density, steps, loss, facts["metric"], model_bytes(self.model), file, state)

    def _check(self, n: int, method: Sparsifier, store: Store) -> None:
        """Keep the current model if it is the best of its level so far."""
        metric, best = self._metric(), store.metric(n)
        if metric is None or best is None or metric > best:
            store.keep(n, _tensors(self.model), method.state_dict()["dense"], {"metric": metric})

    def _metric(self) -> float | None:
        if self.evaluate is None:
            return None
        with evaluating(self.model), torch.no_grad():
            metric = float(self.evaluate(self.model))
        if not math.isfinite(metric):
            raise ArgumentError(f"evaluate must return a finite number; got {metric}")
        return metric


class _From:
    """Batches from a given index on."""

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
    """Return (n, steps) of every level; raise `ArgumentError` for invalid arguments."""
    if ranks_of(model).size > 1:
        raise NotSupportedError(
            "inherit_ trains in a single process; on several processes, train the levels one by one with SRSTE"
        )
    if m < 2 or not cost > 0:
        raise ArgumentError(f"m must be at least 2 and cost above 0; got m={m}, cost={cost}")
    values = list(range(m - 1, 0, -1)) if levels is None else list(levels)
    if not values or values != sorted(set(values), reverse=True) or not 0 < values[-1] <= values[0] < m:
        raise ArgumentError(f"levels must be decreasing values of n from {m - 1} to 1; got {values}")
    if isinstance(targets, Mapping):
        raise ArgumentError("targets must be a list, not a mapping, as all targets of a family have the same n")
    if checks < 1 or (checks > 1 and evaluate is None):
        raise ArgumentError(f"checks must be 1, or more if evaluate is given; got {checks}")
    if masks_of(model):
        raise ArgumentError("inherit_ needs a dense model, but this one has masks; call remove_masks_ on it first")
    return list(zip(values, level_steps(m, values, round(cost * options.steps)), strict=True))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _tail(training: Training) -> float:
    tail = training.losses[-max(1, len(training.losses) // 10) :]
    return sum(tail) / len(tail)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
