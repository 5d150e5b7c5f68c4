"""`Sparsifier`: applies a method to a model through two hooks on its optimizer.

Static methods drop the gradients of pruned elements. Dynamic methods keep a dense copy of every weight. Outside the optimizer step
the parameter holds the masked values, so every layer and every reader of the model sees the sparse weight; inside the step it holds
the dense values, so any optimizer can update them. Gradients taken at the masked values are the straight-through gradients.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, CheckFailed, FormatError, TargetError
from ..patterns import Pattern, parse
from ..pruning import (
    Assignment,
    Targets,
    Weight,
    choose,
    local,
    masks_of,
    patterns_of,
    prunable,
    set_mask_,
)
from ..records import Report
from .distributed import bare
from .guards import check_masks
from .held import Held
from .methods import Method, at_sparsity

__all__ = ["Sparsifier"]


class Sparsifier:
    """Prune a model while it trains.

    From the start, masks are buffers ``<parameter>_mask``, as created by `sparsify_`, and part of the model's `state_dict`.

    Parameters
    ----------
    model
        The model to prune in place. A `DistributedDataParallel` wrapper is unwrapped.
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or your own `Method`.
    targets, ignore
        Which weights to prune, as in `sparsify_`; a mapping gives each target its own final pattern. `FixedMask` accepts neither,
        as it holds the masks the model has. Default: every weight that can take the pattern.
    steps
        Number of optimizer steps to come. If given, a method that needs more raises an error now instead of in `finish`.

    Raises
    ------
    TargetError, PatternError
        As in `sparsify_`.
    ArgumentError
        If method, targets and steps contradict each other, or `FixedMask` is used on a model without masks.

    Examples
    --------
    >>> from tilewright.training import SRSTE
    >>> model = nn.Linear(8, 4)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> sparsifier = Sparsifier(model, SRSTE("2:4")).attach(optimizer)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.randn(16, 8)).square().mean().backward()
    ...     optimizer.step()
    >>> sparsifier.finish().summary["sparsity of the pruned"], int(model.weight.count_nonzero())
    (0.5, 16)
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        *,
        targets: Targets | None = None,
        ignore: Iterable[str] = (),
        steps: int | None = None,
    ) -> None:
        self.model = bare(model)
        self.method = method
        self.step = 0
        self.changes = 0
        if steps is not None:
            self.require_steps(steps)
        self._held = Held(self._chosen(targets, ignore), method.dynamic)
        self._optimizer: Optimizer | None = None
        self._handles: list[Any] = []
        self._prepared: dict[str, weakref.ref[Tensor]] = {}
        self._counts: dict[str, int] = {}  # kept elements of weights whose pattern does not fix the number
        if method.final is not None:
            self._begin()
        for name, pattern in patterns_of(model).items():
            if name in self._held.names:
                self._count(name, pattern)

    def require_steps(self, steps: int) -> None:
        """Raise `ArgumentError` if training for `steps` more steps would end before the schedule does."""
        if self.step + steps < self.method.last:
            raise ArgumentError(
                f"{type(self.method).__name__} changes masks until step {self.method.last}, but training ends after "
                f"{self.step + steps} steps; train longer or end the schedule earlier"
            )

    def finals(self) -> dict[str, str]:
        """Return the final pattern of each weight, as text."""
        return {name: str(self._held.final(name)) for name in self._held.names}

    def attach(self, optimizer: Optimizer) -> "Sparsifier":
        """Register hooks that run before and after each step of an optimizer; return the sparsifier.

        Raises
        ------
        ArgumentError
            If the sparsifier is already attached, or the optimizer lacks a trainable weight.
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        while isinstance(inner, Optimizer) and inner is not optimizer:
            optimizer, inner = inner, getattr(inner, "optimizer", inner)
        if self._handles:
            raise ArgumentError(
                "this sparsifier is already attached to an optimizer; call finish(), or create another one"
            )
        members = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for weight in self._held.weights():
            if weight.tensor.requires_grad and id(weight.tensor) not in members:
                raise ArgumentError(
                    f"the optimizer does not have {weight.name}; create the optimizer from the model's current parameters, after "
                    "moving, casting or sharding the model"
                )
        self._optimizer = optimizer
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        return self

    def detach(self) -> None:
        """Remove the hooks from the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def prepare(self) -> None:
        """Prepare the gradients for the optimizer step: drop those of pruned elements, or add their decay.

        The hook does this too. Call it before you clip gradients, so that the norm is that of the gradients the optimizer will see.
        """
        scale = getattr(self._optimizer, "grad_scale", None)  # set if a GradScaler leaves unscaling to the optimizer
        factor = 1.0 if scale is None else float(scale)
        prepared = {}
        for weight in self._held.weights():
            if weight.tensor.grad is None:
                continue
            prepared[weight.name] = weakref.ref(weight.tensor.grad)
            gradient, kept = local(weight.tensor.grad), self._held.own_mask(weight)
            if self.method.scoring(self.step + 1):
                self._held.count(weight, gradient, factor)
            if not self.method.dynamic:
                gradient.mul_(kept)
            elif self.method.hidden_decay:
                gradient.add_(self._held.values(weight) * ~kept, alpha=self.method.hidden_decay * factor)
        self._prepared = prepared

    def finish(self) -> Report:
        """Remove the hooks, check the masks and leave them fixed on the model.

        Returns
        -------
        Report
            One row per weight: name, pattern, and density and sparsity counted from the mask.

        Raises
        ------
        CheckFailed
            If the schedule has not ended, a mask differs from that of the last cut, keeps everything or breaks its pattern, or a
            pruned element is not zero.
        """
        self.detach()
        if self.step < self.method.last:
            raise CheckFailed(
                f"training stopped after {self.step} steps, but {type(self.method).__name__} reaches its pattern after "
                f"{self.method.last}; train longer, or shorten the schedule"
            )
        for name, count in self._counts.items():
            now = int(self._held.mask(name).sum())
            if now != count:
                raise CheckFailed(
                    f"the mask of {name} keeps {now} elements, but the last cut left {count}; the model has loaded the state of a "
                    "different step. A trainer that restores its best checkpoint must not use one from before the end of the schedule"
                )
        self._held.dense, self._held.sums = {}, {}
        check_masks(self.model)
        return self.report()

    def report(self) -> Report:
        """Return the current sparsity: one row per weight, counted from its mask."""
        patterns, rows, kept, total = patterns_of(self.model), [], 0, 0
        for name in self._held.names:
            mask = self._held.mask(name)
            count = int(mask.sum())
            density = count / mask.numel()
            rows.append({"name": name, "pattern": str(patterns[name]), "density": density, "sparsity": 1 - density})
            kept, total = kept + count, total + mask.numel()
        sparsity = 1 - kept / total if total else 0.0
        summary = {"steps": self.step, "mask changes": self.changes, "sparsity of the pruned": sparsity}
        return Report("sparsifier", tuple(rows), summary)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the model's `state_dict` does not hold: steps, patterns, dense values and score sums.

        With sharded weights every process must call this, and each gets full tensors.
        """
        patterns = patterns_of(self.model)
        texts = {name: str(patterns[name]) for name in self._held.names}
        return {"step": self.step, "changes": self.changes, "patterns": texts, **self._held.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`, after the model has loaded its own.

        Raises
        ------
        FormatError
            If the state comes from a sparsifier with different weights or a different kind of method.
        """
        if set(state["patterns"]) != set(self._held.names) or bool(state["dense"]) != self.method.dynamic:
            raise FormatError(
                "the state comes from a sparsifier with different weights or a different method; create this one with the same "
                "arguments"
            )
        self.step, self.changes = int(state["step"]), int(state["changes"])
        for name, text in state["patterns"].items():
            pattern = parse(text)
            set_mask_(self._held.weight(name), self._held.mask(name), pattern, in_place=True)
            self._count(name, pattern)
        self._held.load(state)

    def _chosen(self, targets: Targets | None, ignore: Iterable[str]) -> list[Assignment]:
        final = self.method.final
        if isinstance(ignore, str):
            raise TargetError(f"ignore must be a list of expressions; got {ignore!r}, use [{ignore!r}]")
        if self.method.shared and isinstance(targets, Mapping):
            raise ArgumentError(
                f"{type(self.method).__name__} prunes all targets to the same patterns; targets must be a list, not a mapping"
            )
        if final is not None:
            assignments = choose(self.model, final, targets, list(ignore))
            pruned = [assignment for assignment in assignments if assignment.pattern is not None]
            if not pruned:
                first = assignments[0]
                raise TargetError(f"no weight can take {final}: {first.weight.name}: {first.reason}")
            return pruned
        if targets is not None or list(ignore):
            raise ArgumentError(
                "FixedMask holds the masks the model already has; pass targets and ignore to sparsify_ instead"
            )
        patterns = patterns_of(self.model)
        if not patterns:
            raise ArgumentError("the model has no masks to hold; call sparsify_ on it first")
        weights = {weight.name: weight for weight in prunable(self.model)}
        return [Assignment(weights[name], pattern) for name, pattern in patterns.items()]

    def _begin(self) -> None:
        """Give every weight the mask it has before the first step."""
        masks = masks_of(self.model)
        self._held.keep()
        for weight in self._held.weights():
            if weight.name not in masks:
                full = torch.ones(weight.tensor.shape, dtype=torch.bool)
                set_mask_(weight, full, at_sparsity(self._held.final(weight.name), 0.0))
        firsts = {name: self.method.first(self._held.final(name)) for name in self._held.names}
        self._cut({name: pattern for name, pattern in firsts.items() if pattern.density < 1})
        self._held.hide()
        self.changes = 0

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            if not self._is_prepared():
                self.prepare()
            self._held.reveal()
            return None
        return (args[0], self._wrapped(closure)), {key: value for key, value in kwargs.items() if key != "closure"}

    def _is_prepared(self) -> bool:
        """Return whether `prepare` ran on the current gradient tensors; after a skipped step they are different tensors."""
        if not self._prepared:
            return False
        gradients = {weight.name: weight.tensor.grad for weight in self._held.weights()}
        return all(ref() is gradients[name] for name, ref in self._prepared.items())

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that sees masked weights, however often the optimizer calls it within a step."""

        def inside() -> Any:
            if self._held.revealed:
                self._held.keep()
                self._held.hide()
            self._prepared = {}
            result = closure()
            if not self._is_prepared():  # the closure may have called it before clipping the gradients
                self.prepare()
            self._held.reveal()
            return result

        return inside

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        self._prepared = {}
        schedule = {name: self.method.at(self.step, self._held.final(name)) for name in self._held.names}
        due = {name: pattern for name, pattern in schedule.items() if pattern is not None}
        self._held.keep()
        if due:  # before hide, while elements that return still have their dense values
            self._cut(due)
            self._held.sums = {}
        self._held.hide()

    def _cut(self, patterns: Mapping[str, Pattern]) -> None:
        """Compute new masks for these patterns and apply them."""
        current = patterns_of(self.model)
        assignments = []
        for name, pattern in patterns.items():
            weight = self._held.weight(name)
            same = pattern.fixed and pattern == current[name] and not self.method.dynamic
            if not same and pattern.density < 1 and not weight.refusal(pattern):
                assignments.append(Assignment(weight, pattern))
        masks = self.method.solve(assignments, self._score) if assignments else {}
        for assignment in assignments:
            assert assignment.pattern is not None
            name = assignment.weight.name
            mask, previous = masks[name], self._held.mask(name)
            self.changes += int((mask.to(previous.device) != previous).sum())
            set_mask_(assignment.weight, mask, assignment.pattern, in_place=True)
            self._count(name, assignment.pattern)

    def _count(self, name: str, pattern: Pattern) -> None:
        if not pattern.fixed:
            self._counts[name] = int(self._held.mask(name).sum())

    def _score(self, weight: Weight) -> Tensor:
        return self._held.score(weight, self.method.by[0])
