"""The rest of the model: parameters that pruning does not cover, and the zeros of the model as a whole."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import PatternError
from .assignment import Assignment, Targets
from .targets import matches
from .tensors import local

__all__ = ["refuse_unseen", "whole_model"]


def whole_model(model: nn.Module, assignments: Sequence[Assignment]) -> dict[str, object]:
    """Return the report entries on the whole model: its share of zeros, and the tensors that no assignment covers."""
    parameters = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    zeros = sum(_zeros(parameter) for parameter in parameters.values())
    covered = {id(assignment.weight.tensor) for assignment in assignments}
    rest = [(name, p) for name, _, p in _weight_like(model) if id(p) not in covered]
    facts: dict[str, object] = {"zeros of the whole model": zeros / total if total else 0.0}
    if rest:
        name, largest = max(rest, key=lambda pair: pair[1].numel())
        share = sum(parameter.numel() for _, parameter in rest) / total
        facts["not tried"] = (
            f"{share:.1%} of the model, in {len(rest)} {'tensor' if len(rest) == 1 else 'tensors'} that pruning does not cover; the largest is "
            f"{name} {list(largest.shape)}"
        )
    return facts


def refuse_unseen(model: nn.Module, targets: Targets | None, ignore: Sequence[str]) -> None:
    """Raise `PatternError` for stacked weights that are not layers, such as experts, unless `targets` or `ignore` leaves them out."""
    stacked = [
        (name, parameter)
        for name, module, parameter in _weight_like(model)
        if parameter.ndim == 3 and len(parameter) > 1 and _meant(name, module, targets, ignore)
    ]
    if stacked:
        total = sum(parameter.numel() for parameter in model.parameters())
        share = sum(parameter.numel() for _, parameter in stacked) / total
        name, first = stacked[0]
        raise PatternError(
            f"{share:.1%} of the model is in three-dimensional parameters ({len(stacked)} of them, the first {name} {list(first.shape)}), which strict "
            "does not allow: stacked weights, such as those of experts, cannot be pruned yet. Nothing was changed; add them to ignore, or omit strict"
        )


def _meant(name: str, module: nn.Module, targets: Targets | None, ignore: Sequence[str]) -> bool:
    owner, _, parameter = name.rpartition(".")
    if any(matches(expression, owner, module, parameter) for expression in ignore):
        return False
    return targets is None or any(matches(expression, owner, module, parameter) for expression in targets)


def _weight_like(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield (name, module, parameter) of floating-point parameters with two or more dimensions, except embeddings."""
    for module_name, module in model.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.ndim > 1 and parameter.is_floating_point():
                    yield f"{module_name}.{name}" if module_name else name, module, parameter


@torch.no_grad()
def _zeros(parameter: Tensor) -> int:
    """Return the number of zeros; for a sharded parameter, an estimate from this process's shard."""
    if parameter.is_meta or nn.parameter.is_lazy(parameter):
        return 0
    shard = local(parameter)
    zeros = shard.numel() - int(torch.count_nonzero(shard))
    return round(zeros * parameter.numel() / shard.numel()) if shard.numel() else 0
