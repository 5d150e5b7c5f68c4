"""n:m masks computed on the weights' device, for methods that recompute them after every step.

`tilewright.mask` is the definition; this returns the same masks without copying to the host and back.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import PatternError
from ...patterns import NM, Layout
from ...pruning import Assignment, Scorer, solve

__all__ = ["group_mask", "solve_where_they_are"]


def group_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """Return the n:m mask ``[N, K]`` of ``scores[N, K]``: the best n of every m along K, ties to the lowest index.

    Examples
    --------
    >>> group_mask(torch.tensor([[1.0, 3.0, 3.0, 3.0, 2.0]]), 2, 4).int()
    tensor([[0, 1, 1, 0, 1]], dtype=torch.int32)
    """
    rows, inputs = scores.shape
    padding = -inputs % m
    padded = torch.nn.functional.pad(scores, (0, padding), value=-1.0)  # below every score, so padding is kept last
    groups = padded.reshape(rows, -1, m)
    order = torch.sort(groups, dim=-1, descending=True, stable=True).indices[..., :n]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, value=True)
    return mask.reshape(rows, -1)[:, :inputs]


def solve_where_they_are(choices: Sequence[Assignment], scorer: Scorer, budget: str) -> dict[str, Tensor]:
    """Return masks as `solve` does; plain n:m masks of weights on an accelerator are computed there."""
    near = [c for c in choices if c.weight.tensor.device.type != "cpu" and _plain(c)]
    names = {choice.weight.name for choice in near}
    masks = (
        solve([c for c in choices if c.weight.name not in names], scorer, budget) if len(near) < len(choices) else {}
    )
    for choice in near:
        pattern, scores = choice.pattern, scorer(choice.weight)
        assert isinstance(pattern, NM)
        if not bool(torch.isfinite(scores).all()):
            raise PatternError(
                f"scores of {choice.weight.name} contain NaN or infinite elements; scores must be finite"
            )
        matrix = _matrix(scores, choice.weight.layout)
        masks[choice.weight.name] = _stored(
            group_mask(matrix, pattern.n, pattern.m), choice.weight.layout, tuple(scores.shape)
        )
    return masks


def _plain(choice: Assignment) -> bool:
    return isinstance(choice.pattern, NM) and choice.pattern.tile == 1 and not choice.pattern.transposable


def _matrix(tensor: Tensor, layout: Layout) -> Tensor:
    """View a weight as ``[N, K]``, like `tilewright.patterns.as_matrix`."""
    match layout:
        case "conv":
            return tensor.movedim(1, -1).reshape(tensor.shape[0], -1)
        case "transposed":
            return tensor.T
    return tensor


def _stored(matrix: Tensor, layout: Layout, shape: tuple[int, ...]) -> Tensor:
    """Return the inverse of `_matrix`."""
    match layout:
        case "conv":
            return matrix.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
        case "transposed":
            return matrix.T.contiguous()
    return matrix
