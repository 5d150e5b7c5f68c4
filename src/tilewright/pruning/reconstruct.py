"""The update of a whole model: every chosen weight pruned and re-solved on the inputs it will see, or nothing changed at all."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, NotSupportedError
from ..patterns import as_matrix
from .activations import Moments, collect
from .calibration import Calibration
from .choices import Choice
from .matrices import as_rows, as_stored
from .scores import SCORES
from .sequence import in_sequence
from .solve import solve
from .tensors import whole
from .update import Obs, update_rows
from .weights import Weight

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
    model: nn.Module, taken: Sequence[Choice], score: str, budget: str, data: Calibration | None, options: Obs
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


def _decided_late(choice: Choice, score: str, budget: str) -> bool:
    assert choice.pattern is not None
    return score == "second-order" and (choice.pattern.fixed or budget == "uniform")


def reconstruct_(
    model: nn.Module, taken: Sequence[Choice], data: Calibration, decided: Mapping[str, Tensor], options: Obs
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
    result = Reconstruction({}, {})

    def visit(weight: Weight, sums: list[Moments]) -> None:
        pattern = patterns[weight.name]
        assert pattern is not None
        mask = decided.get(weight.name)
        known = None if mask is None else as_matrix(mask.cpu().numpy(), weight.layout)
        found = update_rows(as_rows(weight, weight.tensor.detach()), sums, pattern, known, options)
        with torch.no_grad():
            weight.tensor.copy_(as_stored(weight, found.weights))
        result.masks[weight.name] = as_stored(weight, torch.from_numpy(found.mask)).contiguous()
        result.errors[weight.name] = (found.before, found.after)

    before = [weight.tensor.detach().clone() for weight in weights]
    try:
        _walk(model, weights, data, visit, options)
    except BaseException:
        with torch.no_grad():
            for weight, values in zip(weights, before, strict=True):
                weight.tensor.copy_(values)
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


def _refuse_spread(taken: Sequence[Choice]) -> None:
    for choice in taken:
        if whole(choice.weight.tensor) is not choice.weight.tensor:
            raise NotSupportedError(
                f"{choice.weight.name} is spread over processes, and the update needs whole weights; prune first, then shard the model"
            )
