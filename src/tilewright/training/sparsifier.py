"""`Sparsifier`: carries out a method on a model, from two hooks on its optimizer.

Static methods drop the gradients of pruned elements. Dynamic ones keep every weight's dense values in a shadow: outside of the
optimizer the parameter holds the masked values, so that any layer, and anything that reads the model, sees the sparse one; inside
of it the dense values, so that any optimizer updates them. Gradients taken at the masked values are the straight-through ones.
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
    """Prunes a model while it trains.

    Masks are buffers ``<parameter>_mask`` from the beginning, as `sparsify_` makes them, and part of the model's `state_dict`.

    Parameters
    ----------
    model
        Trained in place. A `DistributedDataParallel` wrapper is looked through.
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or one of your own.
    targets, ignore
        As in `sparsify_`; a mapping gives each target its own final pattern. `FixedMask` takes the masks that there are.
    steps
        Optimizer steps to come, if known: a method that needs more is refused at once.

    Raises
    ------
    TargetError, PatternError
        As `sparsify_`.
    ArgumentError
        If method, targets and steps do not fit together, or `FixedMask` finds no mask.

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
        self._counts: dict[str, int] = {}  # kept elements, where the pattern does not say how many
        if method.final is not None:
            self._begin()
        for name, pattern in patterns_of(model).items():
            if name in self._held.names:
                self._count(name, pattern)

    def require_steps(self, steps: int) -> None:
        """Raise `ArgumentError` if so many more steps end before the schedule does."""
        if self.step + steps < self.method.last:
            raise ArgumentError(
                f"{type(self.method).__name__} changes masks until step {self.method.last}, and the training has "
                f"{self.step + steps} steps; train longer or end the schedule earlier"
            )

    def finals(self) -> dict[str, str]:
        """Return the text of the pattern that each weight is to have in the end."""
        return {name: str(self._held.final(name)) for name in self._held.names}

    def attach(self, optimizer: Optimizer) -> "Sparsifier":
        """Hook into an optimizer, before and after each of its steps; return the sparsifier.

        Raises
        ------
        ArgumentError
            If it is attached already, or a weight is trained and the optimizer does not have it.
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        while isinstance(inner, Optimizer) and inner is not optimizer:
            optimizer, inner = inner, getattr(inner, "optimizer", inner)
        if self._handles:
            raise ArgumentError("this sparsifier is attached to an optimizer already; finish it, or make another one")
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for weight in self._held.weights():
            if weight.tensor.requires_grad and id(weight.tensor) not in own:
                raise ArgumentError(
                    f"the optimizer does not have {weight.name}; make it from the parameters of the model as it is now, after "
                    "it was moved, cast or sharded"
                )
        self._optimizer = optimizer
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        return self

    def detach(self) -> None:
        """Take the hooks off the optimizer again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the gradients ready for the step: pruned elements dropped, or their decay added.

        The hook does this too. Call it before clipping gradients, so that their norm is that of what the optimizer will see.
        """
        scale = getattr(self._optimizer, "grad_scale", None)  # set while a GradScaler leaves unscaling to the optimizer
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
        """Take the hooks off and leave the model with fixed masks.

        Returns
        -------
        Report
            One row a weight: name, pattern, density and sparsity, all counted from the mask.

        Raises
        ------
        CheckFailed
            If the schedule is not at its end, a mask is not the one of the last cut, keeps everything or breaks its pattern, or a pruned
            element is not zero.
        """
        self.detach()
        if self.step < self.method.last:
            raise CheckFailed(
                f"training stopped after {self.step} steps, and {type(self.method).__name__} reaches its pattern after "
                f"{self.method.last}; train on, or shorten the schedule"
            )
        for name, count in self._counts.items():
            now = int(self._held.mask(name).sum())
            if now != count:
                raise CheckFailed(
                    f"the mask of {name} keeps {now} elements, and the last cut left {count}; the model has loaded the state of another "
                    "step. A trainer that returns to its best checkpoint must not take one from before the schedule's end"
                )
        self._held.dense, self._held.sums = {}, {}
        check_masks(self.model)
        return self.report()

    def report(self) -> Report:
        """Return what is pruned now: one row a weight, counted from the masks."""
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
        """Return what the model's own `state_dict` lacks: steps, patterns, dense values and score sums.

        With sharded weights every process must call, and each gets full tensors.
        """
        patterns = patterns_of(self.model)
        texts = {name: str(patterns[name]) for name in self._held.names}
        return {"step": self.step, "changes": self.changes, "patterns": texts, **self._held.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, after the model has loaded its own.

        Raises
        ------
        FormatError
            If the state is of a sparsifier with other weights or another kind of method.
        """
        if set(state["patterns"]) != set(self._held.names) or bool(state["dense"]) != self.method.dynamic:
            raise FormatError(
                "the state is of a sparsifier with other weights or another method; build this one as that one was built"
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
            raise TargetError(f"ignore must be a list of expressions, and it is {ignore!r}; write [{ignore!r}]")
        if self.method.shared and isinstance(targets, Mapping):
            raise ArgumentError(
                f"{type(self.method).__name__} takes all targets through the same patterns; targets must be a list"
            )
        if final is not None:
            chosen = choose(self.model, final, targets, list(ignore))
            taken = [choice for choice in chosen if choice.pattern is not None]
            if not taken:
                raise TargetError(f"no weight can take {final}: {chosen[0].weight.name}: {chosen[0].reason}")
            return taken
        if targets is not None or list(ignore):
            raise ArgumentError("FixedMask holds the masks that there are; targets and ignore belong to sparsify_")
        patterns = patterns_of(self.model)
        if not patterns:
            raise ArgumentError(
                "the model has no masks, so there is nothing to hold at zero; call sparsify_ on it first"
            )
        found = {weight.name: weight for weight in prunable(self.model)}
        return [Assignment(found[name], pattern) for name, pattern in patterns.items()]

    def _begin(self) -> None:
        """Give every weight the mask that it has before the first step."""
        there = masks_of(self.model)
        self._held.keep()
        for weight in self._held.weights():
            if weight.name not in there:
                every = torch.ones(weight.tensor.shape, dtype=torch.bool)
                set_mask_(weight, every, at_sparsity(self._held.final(weight.name), 0.0))
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
        """Say whether `prepare` was called for these very gradients; those of a step that was skipped are others."""
        if not self._prepared:
            return False
        gradients = {weight.name: weight.tensor.grad for weight in self._held.weights()}
        return all(ref() is gradients[name] for name, ref in self._prepared.items())

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that sees masked weights, however often the optimizer calls it from within its step."""

        def inside() -> Any:
            if self._held.revealed:
                self._held.keep()
                self._held.hide()
            self._prepared = {}
            result = closure()
            if not self._is_prepared():  # the closure may have done it, before it clipped the gradients
                self.prepare()
            self._held.reveal()
            return result

        return inside

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        self._prepared = {}
        wanted = {name: self.method.at(self.step, self._held.final(name)) for name in self._held.names}
        due = {name: pattern for name, pattern in wanted.items() if pattern is not None}
        self._held.keep()
        if due:  # while elements that come back have their values in place
            self._cut(due)
            self._held.sums = {}
        self._held.hide()

    def _cut(self, patterns: Mapping[str, Pattern]) -> None:
        """Compute masks anew and apply them."""
        now = patterns_of(self.model)
        choices = []
        for name, pattern in patterns.items():
            weight = self._held.weight(name)
            same = pattern.fixed and pattern == now[name] and not self.method.dynamic
            if not same and pattern.density < 1 and not weight.refusal(pattern):
                choices.append(Assignment(weight, pattern))
        masks = self.method.solve(choices, self._score) if choices else {}
        for choice in choices:
            assert choice.pattern is not None
            mask, before = masks[choice.weight.name], self._held.mask(choice.weight.name)
            self.changes += int((mask.to(before.device) != before).sum())
            set_mask_(choice.weight, mask, choice.pattern, in_place=True)
            self._count(choice.weight.name, choice.pattern)

    def _count(self, name: str, pattern: Pattern) -> None:
        if not pattern.fixed:
            self._counts[name] = int(self._held.mask(name).sum())

    def _score(self, weight: Weight) -> Tensor:
        return self._held.score(weight, self.method.by[0])
