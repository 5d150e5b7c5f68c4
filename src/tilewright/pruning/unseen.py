"""The rest of the model: parameters that no pattern is tried on, and how many zeros there are in all."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import PatternError
from .assignment import Assignment, Targets
from .targets import matches
from .tensors import local

__all__ = ["refuse_unseen", "whole_model"]


def whole_model(model: nn.Module, choices: Sequence[Assignment]) -> dict[str, object]:
    """Return what a report says of the whole model: the share of zeros, and the tensors that are no weight of any choice."""
    parameters = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    zeros = sum(_zeros(parameter) for parameter in parameters.values())
    looked_at = {id(choice.weight.tensor) for choice in choices}
    rest = [(name, p) for name, _, p in _weight_like(model) if id(p) not in looked_at]
    facts: dict[str, object] = {"zeros of the whole model": zeros / total if total else 0.0}
    if rest:
        name, largest = max(rest, key=lambda pair: pair[1].numel())
        share = sum(parameter.numel() for _, parameter in rest) / total
        facts["not tried"] = (
            f"{share:.1%} of the model, in {len(rest)} {'tensor' if len(rest) == 1 else 'tensors'} that no pattern is tried on; the largest is "
            f"{name} {list(largest.shape)}"
        )
    return facts


def refuse_unseen(model: nn.Module, targets: Targets | None, ignore: Sequence[str]) -> None:
    """Raise `PatternError` for products' weights that are no layer of their own, such as experts, unless they are left out on purpose."""
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
            f"{share:.1%} of the model stands in {len(stacked)} parameters of three axes, the first {name} {list(first.shape)}, and strict was asked "
            f"for: such stacked weights, as of experts, are not pruned yet. Nothing was changed; put them under ignore, or leave strict out"
        )


def _meant(name: str, module: nn.Module, targets: Targets | None, ignore: Sequence[str]) -> bool:
    owner, _, parameter = name.rpartition(".")
    if any(matches(expression, owner, module, parameter) for expression in ignore):
        return False
    return targets is None or any(matches(expression, owner, module, parameter) for expression in targets)


def _weight_like(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield (name, module, parameter) of floating-point parameters with two axes or more, embeddings aside."""
    for module_name, module in model.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            for name, parameter in module._parameters.items():
                if parameter is not None and parameter.ndim > 1 and parameter.is_floating_point():
                    yield f"{module_name}.{name}" if module_name else name, module, parameter


@torch.no_grad()
def _zeros(parameter: Tensor) -> int:
    """Return how many elements are zero; of a sharded parameter, as many as this process's part suggests."""
    if parameter.is_meta or nn.parameter.is_lazy(parameter):
        return 0
    part = local(parameter)
    zeros = part.numel() - int(torch.count_nonzero(part))
    return round(zeros * parameter.numel() / part.numel()) if part.numel() else 0
