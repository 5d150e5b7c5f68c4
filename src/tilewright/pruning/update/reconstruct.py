"""The update of a whole model: every targeted weight is pruned and refitted to the inputs it will see, or nothing is changed."""

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
    """Masks and errors of an updated model.

    Parameters
    ----------
    masks
        Masks by weight name, bool in stored shape; not yet set on the model.
    errors
        Squared error of each layer's output relative to its power, by weight name: for the masked dense weights, and for the updated
        weights.
    """

    masks: dict[str, Tensor]
    errors: dict[str, tuple[float, float]]


def prune_and_update_(
    model: nn.Module, assignments: Sequence[Assignment], score: str, budget: str, data: Calibration | None, options: Obs
) -> tuple[dict[str, Tensor], dict[str, tuple[float, float]]]:
    """Write updated weights into a model; return their masks in stored shape and their errors, by weight name.

    Masks that depend on another score or on other weights are decided first, the others during the update.
    """
    if data is None:
        raise ArgumentError("an update needs data=Calibration(batches) to see the inputs of the layers")
    data = replace(data, batches=list(data.batches))  # iterated twice: for the score and for the update
    predecided = [assignment for assignment in assignments if not _decided_late(assignment, score, budget)]
    masks: dict[str, Tensor] = {}
    if predecided:
        scorer = SCORES[score](
            model, [assignment.weight for assignment in predecided], None if score == "magnitude" else data
        )
        masks = solve(predecided, scorer, budget)
    result = reconstruct_(model, assignments, data, masks, options)
    return result.masks, result.errors


def _decided_late(assignment: Assignment, score: str, budget: str) -> bool:
    assert assignment.pattern is not None
    return score == "second-order" and (assignment.pattern.fixed or budget == "uniform")


def reconstruct_(
    model: nn.Module, assignments: Sequence[Assignment], data: Calibration, decided: Mapping[str, Tensor], options: Obs
) -> Reconstruction:
    """Write the updated weights into a model; if an exception is raised, restore it.

    Parameters
    ----------
    model
        Model to update in place.
    assignments
        Weights to update, with their patterns.
    data
        Calibration batches.
    decided
        Masks by weight name, in stored shape. The masks of weights that are missing here are chosen by second-order saliency.
    options
        Options of the update.
    """
    _refuse_spread(assignments)
    patterns = {assignment.weight.name: assignment.pattern for assignment in assignments}
    weights = [assignment.weight for assignment in assignments]
    biases = _own_biases(model, weights)
    result = Reconstruction({}, {})

    def visit(weight: Weight, sums: list[Moments]) -> None:
        pattern = patterns[weight.name]
        assert pattern is not None
        mask = decided.get(weight.name)
        matrix = None if mask is None else as_matrix(mask.cpu().numpy(), weight.layout)
        bias = biases.get(weight.name)
        rows = as_rows(weight, weight.tensor.detach())
        solved = update_rows(rows, sums, pattern, matrix, options, bias is not None)
        with torch.no_grad():
            weight.tensor.copy_(as_stored(weight, solved.weights))
            if bias is not None:
                bias += solved.shift
        result.masks[weight.name] = as_stored(weight, torch.from_numpy(solved.mask)).contiguous()
        result.errors[weight.name] = (solved.before, solved.after)

    updated = [*(weight.tensor for weight in weights), *biases.values()]
    before = [tensor.detach().clone() for tensor in updated]
    try:
        _walk(model, weights, data, visit, options)
    except BaseException:
        with torch.no_grad():
            for tensor, values in zip(updated, before, strict=True):
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
    """Return the biases of the weights, by weight name, except those shared by several modules."""
    uses = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    shared = {p.data_ptr() for p in model.parameters() if uses[id(p)] > 1}
    biases = {weight.name: bias_of(weight) for weight in weights}
    return {name: bias for name, bias in biases.items() if bias is not None and bias.data_ptr() not in shared}


def _refuse_spread(assignments: Sequence[Assignment]) -> None:
    for assignment in assignments:
        if whole(assignment.weight.tensor) is not assignment.weight.tensor:
            raise NotSupportedError(
                f"{assignment.weight.name} is sharded, but an update needs whole weights; prune first, then shard the model"
            )
