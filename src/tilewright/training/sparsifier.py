"""`Sparsifier`: carries out a method on a model, from two hooks on its optimizer.

Static methods drop the gradients of pruned elements. Dynamic ones keep every weight's dense values in a shadow: outside of the
optimizer the parameter holds the masked values, so that any layer, and anything that reads the model, sees the sparse one; inside
of it the dense values, so that any optimizer updates them. Gradients taken at the masked values are the straight-through ones.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, CheckFailed, FormatError, TargetError
from ..patterns import Pattern, Unstructured, parse
from ..pruning import (
    Choice,
    Targets,
    Weight,
    choose,
    gathered,
    local,
    masks_of,
    own_part,
    patterns_of,
    prunable,
    set_mask_,
)
from ..report import Report
from .distributed import bare
from .guards import check_masks
from .methods import Method, at_sparsity

__all__ = ["Sparsifier"]

_TINY = 1e-150
"""Score of a kept element that scores nothing: below every other, and still above what is pruned."""


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
        if steps is not None and steps < method.last:
            raise ArgumentError(
                f"{type(method).__name__} changes masks until step {method.last}, and the training has {steps} steps; "
                "train longer or end the schedule earlier"
            )
        self._finals = {choice.weight.name: choice for choice in self._chosen(targets, ignore)}
        self._dense: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._optimizer: Optimizer | None = None
        self._handles: list[Any] = []
        self._prepared = False
        self._revealed = False
        if method.final is not None:
            self._begin()

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
        for name in self._finals:
            parameter = self._weight(name).tensor
            if parameter.requires_grad and id(parameter) not in own:
                raise ArgumentError(
                    f"the optimizer does not have {name}; make it from the parameters of the model as it is now, after "
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
        for name in self._finals:
            weight = self._weight(name)
            if weight.tensor.grad is None:
                continue
            gradient, kept = local(weight.tensor.grad), self._own_mask(weight)
            values = self._values(weight)
            if self.method.scoring(self.step + 1):
                self._count(name, values, gradient, factor)
            if not self.method.dynamic:
                gradient.mul_(kept)
            elif self.method.hidden_decay:
                gradient.add_(values * ~kept, alpha=self.method.hidden_decay * factor)
        self._prepared = True

    def finish(self) -> Report:
        """Take the hooks off and leave the model with fixed masks.

        Returns
        -------
        Report
            One row a weight: name, pattern, density and sparsity, all counted from the mask.

        Raises
        ------
        CheckFailed
            If the schedule is not at its end, a mask keeps everything, a pruned element is not zero, or a mask breaks its pattern.
        """
        self.detach()
        if self.step < self.method.last:
            raise CheckFailed(
                f"training stopped after {self.step} steps, and {type(self.method).__name__} reaches its pattern after "
                f"{self.method.last}; train on, or shorten the schedule"
            )
        self._dense, self._sums = {}, {}
        check_masks(self.model)
        return self.report()

    def report(self) -> Report:
        """Return what is pruned now: one row a weight, counted from the masks."""
        masks, patterns = masks_of(self.model), patterns_of(self.model)
        kept = {name: int(masks[name].sum()) for name in self._finals}
        rows = [
            {
                "name": name,
                "pattern": str(patterns[name]),
                "density": kept[name] / masks[name].numel(),
                "sparsity": 1 - kept[name] / masks[name].numel(),
            }
            for name in self._finals
        ]
        total = sum(masks[name].numel() for name in self._finals)
        sparsity = 1 - sum(kept.values()) / total if total else 0.0
        summary = {"steps": self.step, "mask changes": self.changes, "sparsity of the pruned": sparsity}
        return Report("sparsifier", tuple(rows), summary)

    def state_dict(self) -> dict[str, Any]:
        """Return what the model's own `state_dict` lacks: steps, patterns, dense values and score sums.

        With sharded weights every process must call, and each gets full tensors.
        """
        patterns = patterns_of(self.model)
        dense = {name: self._values(self._weight(name)) for name in self._finals} if self.method.dynamic else {}
        return {
            "step": self.step,
            "changes": self.changes,
            "patterns": {name: str(patterns[name]) for name in self._finals},
            "dense": {name: gathered(part, self._weight(name).tensor).clone() for name, part in dense.items()},
            "sums": {name: gathered(part, self._weight(name).tensor).clone() for name, part in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, after the model has loaded its own.

        Raises
        ------
        FormatError
            If the state is of a sparsifier with other weights or another kind of method.
        """
        if set(state["patterns"]) != set(self._finals) or bool(state["dense"]) != self.method.dynamic:
            raise FormatError(
                "the state is of a sparsifier with other weights or another method; build this one as that one was built"
            )
        self.step, self.changes = int(state["step"]), int(state["changes"])
        for name, text in state["patterns"].items():
            set_mask_(self._weight(name), self._mask(name), parse(text), in_place=True)
        self._dense = {name: self._placed(name, value) for name, value in state["dense"].items()}
        self._sums = {name: self._placed(name, value, wide=True) for name, value in state["sums"].items()}

    def _chosen(self, targets: Targets | None, ignore: Iterable[str]) -> list[Choice]:
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
        return [Choice(found[name], pattern) for name, pattern in patterns.items()]

    def _begin(self) -> None:
        """Give every weight the mask that it has before the first step."""
        there = masks_of(self.model)
        for name, choice in self._finals.items():
            weight = self._weight(name)
            if self.method.dynamic:
                self._dense[name] = local(weight.tensor).clone()
            if name not in there:
                every = torch.ones(weight.tensor.shape, dtype=torch.bool)
                set_mask_(weight, every, at_sparsity(choice.pattern or Unstructured(0.0), 0.0))
        firsts = {name: self.method.first(self._final(name)) for name in self._finals}
        self._cut({name: pattern for name, pattern in firsts.items() if pattern.density < 1})
        self.changes = 0

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            if not self._prepared:
                self.prepare()
            self._reveal()
            return None
        return (args[0], self._wrapped(closure)), {key: value for key, value in kwargs.items() if key != "closure"}

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that sees masked weights, however often the optimizer calls it from within its step."""

        def inside() -> Any:
            if self._revealed:
                self._hide()
            result = closure()
            self.prepare()
            self._reveal()
            return result

        return inside

    @torch.no_grad()
    def _reveal(self) -> None:
        """Put the dense values where the optimizer will update them."""
        if self.method.dynamic:
            for name in self._finals:
                weight = self._weight(name)
                local(weight.tensor).copy_(self._values(weight))
            self._revealed = True

    @torch.no_grad()
    def _hide(self) -> None:
        """Take the dense values away again and leave the masked ones."""
        if self.method.dynamic:
            for name in self._finals:
                weight = self._weight(name)
                self._values(weight).copy_(local(weight.tensor))
                local(weight.tensor).masked_fill_(~self._own_mask(weight), 0)
            self._revealed = False

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        self._prepared = False
        wanted = {name: self.method.at(self.step, self._final(name)) for name in self._finals}
        due = {name: pattern for name, pattern in wanted.items() if pattern is not None}
        if due and self.method.dynamic:
            # The mask is chosen on the new dense values, and the elements that come back are already in place.
            for name in self._finals:
                weight = self._weight(name)
                self._values(weight).copy_(local(weight.tensor))
            self._cut(due)
            self._revealed = False
        else:
            self._hide()
            self._cut(due)
        if due:
            self._sums = {}

    def _cut(self, patterns: Mapping[str, Pattern]) -> None:
        """Compute masks anew and apply them."""
        now = patterns_of(self.model)
        choices = []
        for name, pattern in patterns.items():
            weight = self._weight(name)
            same = pattern.fixed and pattern == now[name] and not self.method.dynamic
            if not same and pattern.density < 1 and pattern.refusal(weight.matrix_shape) is None:
                choices.append(Choice(weight, pattern))
        masks = self.method.solve(choices, self._score) if choices else {}
        for choice in choices:
            assert choice.pattern is not None
            mask, before = masks[choice.weight.name], self._mask(choice.weight.name)
            self.changes += int((mask.to(before.device) != before).sum())
            set_mask_(choice.weight, mask, choice.pattern, in_place=True)

    def _score(self, weight: Weight) -> Tensor:
        """Return the full scores of a weight; of a static method so that pruned elements come after all others."""
        if self.method.by[0] == "taylor":
            sums = self._sums.get(weight.name)
            scores = torch.zeros(()) if sums is None else gathered(sums, weight.tensor).sqrt()
            if not bool(scores.any()):
                raise CheckFailed(
                    f"{weight.name} got no gradient in the scoring steps before step {self.step}, so a Taylor score cannot rank "
                    "it; leave it out of the targets, or use score='magnitude'"
                )
        else:
            scores = gathered(self._values(weight), weight.tensor).abs()
        if self.method.dynamic:
            return scores
        kept = self._mask(weight.name)
        return scores.double().clamp(min=_TINY) * kept

    def _count(self, name: str, values: Tensor, gradient: Tensor, factor: float) -> None:
        wide = torch.promote_types(values.dtype, torch.float32)
        square = (values.to(wide) * gradient.to(wide) / factor).square()
        if bool(torch.isfinite(square).all()):  # a step that overflowed will be skipped, and must not spoil the sum
            held = self._sums.get(name)
            self._sums[name] = square if held is None else held.add_(square)

    def _final(self, name: str) -> Pattern:
        pattern = self._finals[name].pattern
        assert pattern is not None
        return pattern

    def _weight(self, name: str) -> Weight:
        """Return a weight with the parameter its module has now, which sharding and casting replace."""
        weight = self._finals[name].weight
        parameter = weight.module._parameters[weight.parameter_name]
        assert parameter is not None
        return replace(weight, tensor=parameter)

    def _mask(self, name: str) -> Tensor:
        weight = self._finals[name].weight
        mask = weight.module._buffers[f"{weight.parameter_name}_mask"]
        assert mask is not None
        return mask

    def _own_mask(self, weight: Weight) -> Tensor:
        return own_part(self._mask(weight.name), weight.tensor)

    def _values(self, weight: Weight) -> Tensor:
        """Return this process's part of the values that are scored and trained: hidden ones for dynamic methods."""
        own = local(weight.tensor)
        if not self.method.dynamic:
            return own
        held = self._dense[weight.name]
        if held.shape != own.shape or held.device != own.device or held.dtype != own.dtype:
            held = self._dense[weight.name] = self._placed(weight.name, held)
        return held

    def _placed(self, name: str, value: Tensor, wide: bool = False) -> Tensor:
        """Return a copy of this process's part of a full tensor, where and as the parameter is."""
        parameter = self._weight(name).tensor
        dtype = torch.promote_types(parameter.dtype, torch.float32) if wide else parameter.dtype
        return own_part(value.to(parameter.device, dtype), parameter).clone()
