"""`Held`: the weights of a sparsifier, with the dense values behind their masks and their score sums."""

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
"""Score of a kept element whose own score is zero: below all other kept elements, above pruned ones."""


class Held:
    """Weights by name. Of a sharded weight, each process holds its own part of the dense values and score sums.

    Parameters
    ----------
    choices
        Weights with their final patterns.
    dynamic
        Whether to keep dense values behind the masks. A parameter then holds them only inside the optimizer step.
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
        """Return the weights with the current parameters of their modules, as sharding and casting replace parameters."""
        return [self.weight(name) for name in self._choices]

    def weight(self, name: str) -> Weight:
        """Return one weight with its current parameter."""
        weight = self._choices[name].weight
        parameter = weight.module._parameters[weight.parameter_name]
        assert parameter is not None
        return replace(weight, tensor=parameter)

    def final(self, name: str) -> Pattern:
        """Return the final pattern of a weight."""
        pattern = self._choices[name].pattern
        assert pattern is not None
        return pattern

    def mask(self, name: str) -> Tensor:
        """Return the full mask, the buffer of its module."""
        weight = self._choices[name].weight
        mask = weight.module._buffers[f"{weight.parameter_name}_mask"]
        assert mask is not None
        return mask

    def own_mask(self, weight: Weight) -> Tensor:
        """Return this process's part of a mask."""
        return own_part(self.mask(weight.name), weight.tensor)

    def values(self, weight: Weight) -> Tensor:
        """Return this process's part of the values to score and train: the dense values if the method is dynamic."""
        shard = local(weight.tensor)
        if not self.dynamic:
            return shard
        dense = self.dense[weight.name]
        if dense.shape != shard.shape or dense.device != shard.device or dense.dtype != shard.dtype:
            dense = self.dense[weight.name] = self._placed(weight.name, dense)  # the model was moved, cast or sharded
        return dense

    @torch.no_grad()
    def keep(self) -> None:
        """Store the current values of the parameters as the dense values."""
        if self.dynamic:
            for weight in self.weights():
                if weight.name in self.dense:
                    self.values(weight).copy_(local(weight.tensor))
                else:
                    self.dense[weight.name] = local(weight.tensor).clone()

    @torch.no_grad()
    def reveal(self) -> None:
        """Put the dense values into the parameters, for the optimizer to update.

        Raises
        ------
        CheckFailed
            If something else has written to a weight since `hide`, such as loading a state dict; those values would be lost.
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
        shard = local(weight.tensor)
        if self._hidden.get(weight.name) == _stamp(shard):
            return
        mask = self.own_mask(weight)
        if bool((shard != self.values(weight) * mask)[mask].any()):
            raise CheckFailed(
                f"{weight.name} was changed since the last step, and the dense values behind its mask would overwrite the change; "
                "load weights before creating the sparsifier, or load the sparsifier's state together with them"
            )

    @torch.no_grad()
    def hide(self) -> None:
        """Zero the pruned elements of the parameters; the dense values are those stored by `keep`."""
        if self.dynamic:
            for weight in self.weights():
                zero_(weight.tensor, self.mask(weight.name))
                self._hidden[weight.name] = _stamp(local(weight.tensor))
            self.revealed = False

    @torch.no_grad()
    def count(self, weight: Weight, gradient: Tensor, scale: float) -> None:
        """Add ``(w * g)**2`` to a weight's sum, unless gradients overflowed, as a scaler will skip that step."""
        values = self.values(weight)
        wide = torch.promote_types(values.dtype, torch.float32)
        square = (values.to(wide) * gradient.to(wide) / scale).square()
        if bool(torch.isfinite(square).all()):
            total = self.sums.get(weight.name)
            self.sums[weight.name] = square if total is None else total.add_(square)

    def score(self, weight: Weight, kind: str) -> Tensor:
        """Return the full scores of a weight; for a static method, pruned elements rank below all others.

        Raises
        ------
        CheckFailed
            If a Taylor score is requested and the weight got no gradient.
        """
        if kind == "taylor":
            sums = self.sums.get(weight.name)
            if sums is None:
                raise CheckFailed(
                    f"{weight.name} got no gradient in the scoring steps before this cut, so it has no Taylor score; "
                    "leave it out of the targets, or use score='magnitude'"
                )
            # Gradients that are all zero are valid: an earlier cut removed everything this weight feeds.
            scores = gathered(sums, weight.tensor).sqrt()
        else:
            scores = gathered(self.values(weight), weight.tensor).abs()
        return scores if self.dynamic else scores.double().clamp(min=_TINY) * self.mask(weight.name)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return full dense values and score sums. With sharded weights every process must call this."""
        dense = {weight.name: self.values(weight) for weight in self.weights()} if self.dynamic else {}
        return {"dense": self._whole(dense), "sums": self._whole(self.sums)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.dense = {name: self._placed(name, value) for name, value in state["dense"].items()}
        self.sums = {name: self._placed(name, value, wide=True) for name, value in state["sums"].items()}

    def _whole(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: gathered(part, self.weight(name).tensor).clone() for name, part in parts.items()}

    def _placed(self, name: str, full: Tensor, wide: bool = False) -> Tensor:
        """Return a copy of this process's part of a full tensor, with the device and dtype of the parameter."""
        parameter = self.weight(name).tensor
        dtype = torch.promote_types(parameter.dtype, torch.float32) if wide else parameter.dtype
        return own_part(full.to(parameter.device, dtype), parameter).clone()


def _stamp(tensor: Tensor) -> tuple[int, int]:
    """Return a value that changes whenever torch writes to or replaces a tensor."""
    return tensor.data_ptr(), tensor._version
