"""`Held`: the weights that a sparsifier looks after, with the dense values behind their masks and the sums of their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckFailed
from ..patterns import Pattern
from ..pruning import Assignment, Weight, gathered, local, own_part, zero_

__all__ = ["Held"]

_TINY = 1e-150
"""Score of a kept element that scores nothing: below every other, and still above what is pruned."""


class Held:
    """Weights by name. Of sharded ones, each process holds its own part of values and sums.

    Parameters
    ----------
    choices
        Weights with their final patterns.
    dynamic
        Whether dense values live on behind the masks. Then a parameter holds them only inside the optimizer.
    """

    def __init__(self, choices: Sequence[Assignment], dynamic: bool) -> None:
        self._choices = {choice.weight.name: choice for choice in choices}
        self.dynamic = dynamic
        self.dense: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self.revealed = False
        self._hidden: dict[str, tuple[int, int]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the weights, in the order of the model."""
        return list(self._choices)

    def weights(self) -> list[Weight]:
        """Return the weights with the parameters their modules have now, which sharding and casting replace."""
        return [self.weight(name) for name in self._choices]

    def weight(self, name: str) -> Weight:
        """Return one weight as `weights` does."""
        weight = self._choices[name].weight
        parameter = weight.module._parameters[weight.parameter_name]
        assert parameter is not None
        return replace(weight, tensor=parameter)

    def final(self, name: str) -> Pattern:
        """Return the pattern that a weight is to have in the end."""
        pattern = self._choices[name].pattern
        assert pattern is not None
        return pattern

    def mask(self, name: str) -> Tensor:
        """Return the mask as it is in its module, whole."""
        weight = self._choices[name].weight
        mask = weight.module._buffers[f"{weight.parameter_name}_mask"]
        assert mask is not None
        return mask

    def own_mask(self, weight: Weight) -> Tensor:
        """Return this process's part of a mask."""
        return own_part(self.mask(weight.name), weight.tensor)

    def values(self, weight: Weight) -> Tensor:
        """Return this process's part of the values that are scored and trained: the dense ones of a dynamic method."""
        own = local(weight.tensor)
        if not self.dynamic:
            return own
        dense = self.dense[weight.name]
        if dense.shape != own.shape or dense.device != own.device or dense.dtype != own.dtype:
            dense = self.dense[weight.name] = self._placed(weight.name, dense)  # the model was moved, cast or sharded
        return dense

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the values that the parameters hold now as the dense ones."""
        if self.dynamic:
            for weight in self.weights():
                if weight.name in self.dense:
                    self.values(weight).copy_(local(weight.tensor))
                else:
                    self.dense[weight.name] = local(weight.tensor).clone()

    @torch.no_grad()
    def reveal(self) -> None:
        """Put the dense values where the optimizer will update them.

        Raises
        ------
        CheckFailed
            If something else has written to a weight since `hide`, as loading a state into the model does: that would be lost.
        """
        if self.dynamic:
            weights = self.weights()
            if not self.revealed:
                for weight in weights:
                    self._require_untouched(weight)
            for weight in weights:
                local(weight.tensor).copy_(self.values(weight))
            self.revealed = True

    def _require_untouched(self, weight: Weight) -> None:
        own = local(weight.tensor)
        if self._hidden.get(weight.name) == _stamp(own):
            return
        kept = self.own_mask(weight)
        if bool((own != self.values(weight) * kept)[kept].any()):
            raise CheckFailed(
                f"{weight.name} holds other values than the last step left, and the dense ones kept behind its mask would overwrite them; "
                "load weights before the sparsifier is made, or load its own state with them"
            )

    @torch.no_grad()
    def hide(self) -> None:
        """Take the dense values, which `keep` has remembered, away again and leave the masked ones."""
        if self.dynamic:
            for weight in self.weights():
                zero_(weight.tensor, self.mask(weight.name))
                self._hidden[weight.name] = _stamp(local(weight.tensor))
            self.revealed = False

    @torch.no_grad()
    def count(self, weight: Weight, gradient: Tensor, scale: float) -> None:
        """Add ``(w * g)**2`` to a weight's sum. Gradients that overflowed belong to a step that will be skipped."""
        values = self.values(weight)
        wide = torch.promote_types(values.dtype, torch.float32)
        square = (values.to(wide) * gradient.to(wide) / scale).square()
        if bool(torch.isfinite(square).all()):
            so_far = self.sums.get(weight.name)
            self.sums[weight.name] = square if so_far is None else so_far.add_(square)

    def score(self, weight: Weight, kind: str) -> Tensor:
        """Return a weight's scores, whole; of a static method so that pruned elements come after all others.

        Raises
        ------
        CheckFailed
            If no gradient was counted for a Taylor score.
        """
        if kind == "taylor":
            sums = self.sums.get(weight.name)
            if sums is None:
                raise CheckFailed(
                    f"{weight.name} got no gradient in the scoring steps before this cut, so a Taylor score cannot rank it; "
                    "leave it out of the targets, or use score='magnitude'"
                )
            # Gradients that are all zero are an answer: an earlier cut took everything this weight feeds.
            scores = gathered(sums, weight.tensor).sqrt()
        else:
            scores = gathered(self.values(weight), weight.tensor).abs()
        return scores if self.dynamic else scores.double().clamp(min=_TINY) * self.mask(weight.name)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return dense values and sums, whole. With sharded weights every process must call."""
        dense = {weight.name: self.values(weight) for weight in self.weights()} if self.dynamic else {}
        return {"dense": self._whole(dense), "sums": self._whole(self.sums)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self.dense = {name: self._placed(name, value) for name, value in state["dense"].items()}
        self.sums = {name: self._placed(name, value, wide=True) for name, value in state["sums"].items()}

    def _whole(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: gathered(part, self.weight(name).tensor).clone() for name, part in parts.items()}

    def _placed(self, name: str, full: Tensor, wide: bool = False) -> Tensor:
        """Return a copy of this process's part of a full tensor, where and as the parameter is."""
        parameter = self.weight(name).tensor
        dtype = torch.promote_types(parameter.dtype, torch.float32) if wide else parameter.dtype
        return own_part(full.to(parameter.device, dtype), parameter).clone()


def _stamp(tensor: Tensor) -> tuple[int, int]:
    """Return what changes when a tensor is written to or replaced; by torch, that is."""
    return tensor.data_ptr(), tensor._version
