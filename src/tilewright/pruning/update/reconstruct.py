"""The update of a whole model: every chosen weight pruned and re-solved on the inputs it will see, or nothing changed at all."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, NotSupportedError
from ...patterns import as_matrix
from ..assignment import Assignment
from ..inputs.activations import Moments, collect
from ..inputs.calibration import Calibration
from ..inputs.sequence import in_sequence
from ..matrices import as_rows, as_stored
from ..scores import SCORES
from ..solve import solve
from ..tensors import whole
from ..weights import Weight
from .biases import bias_of
from .obs import Obs, update_rows

__all__ = ["Reconstruction", "prune_and_update_", "reconstruct_"]

Visit = Callable[[Weight, list[Moments]], None]


@dataclass(frozen=True)
class Reconstruction:
    """What became of a model's weights.

    Parameters
    ----------
    masks
        By weight name, in stored shape; not yet set.
    errors
        By weight name: the squared error of the layer's output relative to its power, with the dense weights under the mask and with
        the updated ones.
    """

    masks: dict[str, Tensor]
    errors: dict[str, tuple[float, float]]


def prune_and_update_(
    model: nn.Module, taken: Sequence[Assignment], score: str, budget: str, data: Calibration | None, options: Obs
) -> tuple[dict[str, Tensor], dict[str, tuple[float, float]]]:
    """Write updated weights into a model; return their masks in stored shape and their errors, by weight name.

    Masks that another score or another weight has a say in are decided first; the others along the way.
    """
    if data is None:
        raise ArgumentError("an update needs data=Calibration(batches) to see the inputs of the layers")
    data = replace(data, batches=list(data.batches))  # walked through for the score and for the update
    early = [choice for choice in taken if not _decided_late(choice, score, budget)]
    decided: dict[str, Tensor] = {}
    if early:
        scorer = SCORES[score](model, [choice.weight for choice in early], None if score == "magnitude" else data)
        decided = solve(early, scorer, budget)
    result = reconstruct_(model, taken, data, decided, options)
    return result.masks, result.errors


def _decided_late(choice: Assignment, score: str, budget: str) -> bool:
    assert choice.pattern is not None
    return score == "second-order" and (choice.pattern.fixed or budget == "uniform")


def reconstruct_(
    model: nn.Module, taken: Sequence[Assignment], data: Calibration, decided: Mapping[str, Tensor], options: Obs
) -> Reconstruction:
    """Write the updated weights into a model, or, with an exception, leave it as it was.

    Parameters
    ----------
    decided
        Masks in stored shape by weight name; weights without one get theirs by second-order saliency.
    """
    _refuse_spread(taken)
    patterns = {choice.weight.name: choice.pattern for choice in taken}
    weights = [choice.weight for choice in taken]
    biases = _own_biases(model, weights)
    result = Reconstruction({}, {})

    def visit(weight: Weight, sums: list[Moments]) -> None:
        pattern = patterns[weight.name]
        assert pattern is not None
        mask = decided.get(weight.name)
        known = None if mask is None else as_matrix(mask.cpu().numpy(), weight.layout)
        bias = biases.get(weight.name)
        rows = as_rows(weight, weight.tensor.detach())
        found = update_rows(rows, sums, pattern, known, options, bias is not None)
        with torch.no_grad():
            weight.tensor.copy_(as_stored(weight, found.weights))
            if bias is not None:
                bias += found.shift
        result.masks[weight.name] = as_stored(weight, torch.from_numpy(found.mask)).contiguous()
        result.errors[weight.name] = (found.before, found.after)

    moved = [*(weight.tensor for weight in weights), *biases.values()]
    before = [tensor.detach().clone() for tensor in moved]
    try:
        _walk(model, weights, data, visit, options)
    except BaseException:
        with torch.no_grad():
            for tensor, values in zip(moved, before, strict=True):
                tensor.copy_(values)
        raise
    return result


def _walk(model: nn.Module, weights: Sequence[Weight], data: Calibration, visit: Visit, options: Obs) -> None:
    if options.sequential:
        reference = deepcopy(model) if options.target == "dense" else None
        in_sequence(model, weights, data, visit, reference)
        return
    sums = collect(model, weights, data)
    for weight in weights:
        visit(weight, sums.pop(weight.name))


def _own_biases(model: nn.Module, weights: Sequence[Weight]) -> dict[str, Tensor]:
    """Return by weight name the biases that belong to one module only."""
    uses = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    shared = {p.data_ptr() for p in model.parameters() if uses[id(p)] > 1}
    found = {weight.name: bias_of(weight) for weight in weights}
    return {name: bias for name, bias in found.items() if bias is not None and bias.data_ptr() not in shared}


def _refuse_spread(taken: Sequence[Assignment]) -> None:
    for choice in taken:
        if whole(choice.weight.tensor) is not choice.weight.tensor:
            raise NotSupportedError(
                f"{choice.weight.name} is spread over processes, and the update needs whole weights; prune first, then shard the model"
            )
