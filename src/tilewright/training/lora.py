"""Low-rank adapters that keep a pattern: trained and merged inside the mask, then checked."""

from collections.abc import Iterable, Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, CheckFailed, TargetError
from ..patterns import Pattern, Unstructured
from ..pruning import Targets, Weight, choose, masks_of, patterns_of, prunable, zero_
from ..records import Report
from .guards import check_masks
from .lowrank import LowRank, adapt_, refusal, rest_

__all__ = ["lora_", "merge_into_mask_", "merge_lora_"]

_FROZEN = "tilewright_frozen"
"""Attribute of the model that names the parameters `lora_` has frozen."""


def lora_(
    model: nn.Module,
    rank: int = 8,
    *,
    alpha: float = 16.0,
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    seed: int = 0,
) -> Report:
    """Add low-rank adapters to masked layers and freeze everything else, in place (Hu et al., arXiv 2106.09685).

    A layer then computes with ``(W + alpha / rank * B @ A) * mask``, exactly the weight that `merge_lora_` will store, including
    the rounding to its dtype. Adapters are part of the model's `state_dict` as ``lora_A`` and ``lora_B``. To load them, first call
    `lora_` with the same arguments on a model with the same masks. A and B are float32 if the weight has lower precision.

    Parameters
    ----------
    model
        A model with masks from `sparsify_`. Supported layers: Linear, Conv1d to Conv3d, and Hugging Face's ``Conv1D``.
    rank
        Rank of ``B @ A``, at most the smaller dimension of each weight. Default: 8.
    alpha
        Scale of the adapters: the product is multiplied by ``alpha / rank``. Default: 16.
    targets, ignore
        Which masked layers get adapters, as in `sparsify_`. Default: all of them.
    seed
        Seed for the initial A. B starts at zero, so the model's outputs are unchanged at first. Default: 0.

    Returns
    -------
    Report
        One row per masked weight: name, rank (0 without an adapter), number of adapter parameters, and the reason if it has none.

    Raises
    ------
    ArgumentError
        If `rank` or `alpha` is out of range.
    TargetError
        If an expression matches nothing, or no masked weight can have an adapter.

    Examples
    --------
    >>> from tilewright.pruning import sparsify_
    >>> model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> pruned = sparsify_(model, "2:4")
    >>> report = lora_(model, rank=2)
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['0.lora_A', '0.lora_B', '2.lora_A', '2.lora_B']
    >>> merged = merge_lora_(model)
    >>> int((model[0].weight.view(16, 4, 4) != 0).sum(-1).max())
    2
    """
    valid = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 and isfinite(alpha)
    if not valid:
        raise ArgumentError(f"rank must be at least 1 and alpha finite; got rank={rank!r}, alpha={alpha!r}")
    weights, rows = _targeted(model, targets, ignore)
    reasons = {weight.name: refusal(weight, model) for weight in weights}
    adaptable = [weight for weight in weights if not reasons[weight.name]]
    if not adaptable:
        raise TargetError(f"no masked weight can have an adapter: {weights[0].name}: {reasons[weights[0].name]}")
    for weight in adaptable:
        if rank > min(weight.matrix_shape):
            raise ArgumentError(
                f"rank must be at most the smaller dimension of {weight.name}, {list(weight.matrix_shape)}; got {rank}"
            )
    _freeze(model)
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        parameters = 0
        if not reasons[weight.name]:
            adapt_(weight, rank, alpha / rank, generator)
            parameters = rank * sum(weight.matrix_shape)
        size = rank if parameters else 0
        rows.append({"name": weight.name, "rank": size, "parameters": parameters, "reason": reasons[weight.name]})
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Report(
        "lora", tuple(rows), {"adapters": len(adaptable), "trained parameters": trained, "share": trained / total}
    )


def merge_lora_(model: nn.Module) -> Report:
    """Merge the adapters of `lora_` into the weights, in place; the masks stay and still hold.

    The model's outputs are unchanged. Its layers and trainable parameters are restored to what they were before `lora_`.

    Parameters
    ----------
    model
        A model with adapters from `lora_`.

    Returns
    -------
    Report
        One row per merged weight: name, pattern, rank, and ``change``, the norm of the added product relative to the weight's norm.

    Raises
    ------
    ArgumentError
        If the model has no adapters.
    CheckFailed
        If a mask does not hold, or a merged weight is not finite or breaks its pattern. The message names the weight; the model is
        unchanged.
    """
    layers = {f"{name}.weight" if name else "weight": m for name, m in model.named_modules() if isinstance(m, LowRank)}
    if not layers:
        raise ArgumentError(
            "the model has no adapter to merge; add adapters with lora_, or merge external ones with merge_into_mask_"
        )
    check_masks(model)
    patterns, masks, rows = patterns_of(model), masks_of(model), []
    with torch.no_grad():
        for name, layer in layers.items():
            weight, merged = _stored_weight(layer), layer.effective()
            _verify(name, merged, masks[name], patterns[name])
            change = _norm(merged.double() - weight.double()) / max(_norm(weight), 1e-300)
            rank = layer.lora_A.shape[0]
            rows.append({"name": name, "pattern": str(patterns[name]), "rank": rank, "change": change})
        for layer in layers.values():
            weight = _stored_weight(layer)
            weight.copy_(layer.effective())
            rest_(layer)
    for name, mask in masks.items():
        zero_(model.get_parameter(name), mask)  # the product may have left negative zeros
    frozen = set(model.__dict__.pop(_FROZEN, ()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in frozen)
    return Report("merge", tuple(rows), {"merged": len(rows)})


def merge_into_mask_(
    model: nn.Module, adapters: Mapping[str, tuple[Tensor, Tensor]], *, scale: float | Mapping[str, float] = 1.0
) -> Report:
    """Merge externally trained adapters into a pruned model, in place, dropping the part outside the masks.

    The adapters were trained with the full ``W + scale * B @ A``, so the dropped part is an error, and the report says how large it
    is. If it is large, train with `lora_` instead.

    Parameters
    ----------
    model
        The adapters' base model, with masks. Weights without a mask get the full product.
    adapters
        ``(A, B)`` by name of the layer or its weight: A is ``[rank, K]`` and B ``[N, rank]``, or, for convolutions, also
        ``[rank, C, *kernel]`` and ``[N, rank, 1, ...]``, as stored by PEFT.
    scale
        Factor of each product, alpha / rank: one number for all adapters, or one per name. Default: 1.

    Returns
    -------
    Report
        One row per weight: name, pattern, ``norm`` of ``scale * B @ A``, norm ``dropped``, and ``share``, dropped over norm.

    Raises
    ------
    TargetError
        If an adapter names a weight that the model does not have.
    ArgumentError
        If the shapes of A and B do not match the weight, or a scale is missing.
    CheckFailed
        If a mask does not hold, or a merged weight is not finite or breaks its pattern. The model is then unchanged.

    Examples
    --------
    >>> from tilewright.pruning import sparsify_
    >>> model = nn.Linear(8, 4)
    >>> pruned = sparsify_(model, "2:4")
    >>> report = merge_into_mask_(model, {"weight": (torch.ones(1, 8), torch.ones(4, 1))}, scale=2.0)
    >>> [(row["norm"], round(row["share"] ** 2, 6)) for row in report.rows], int(model.weight.count_nonzero())
    ([(11.313708498984761, 0.5)], 16)
    """
    check_masks(model)
    weights = {weight.name: weight for weight in prunable(model)}
    sources = {_weight_name(name, weights, model): name for name in adapters}
    masks, patterns, merged, rows, worst = masks_of(model), patterns_of(model), dict[str, Tensor](), [], 0.0
    for name, source in sources.items():
        factor = scale if isinstance(scale, float | int) else scale.get(source)
        if factor is None:
            raise ArgumentError(
                f"scale has no entry for {source}; pass one number for all adapters, or one per adapter"
            )
        tensor = weights[name].tensor
        product = factor * _product(*adapters[source], weights[name])
        mask = masks.get(name)
        kept = product if mask is None else product * mask
        wide = torch.promote_types(tensor.dtype, torch.float32)
        merged[name] = (tensor.detach().to(wide) + kept).to(tensor.dtype)
        _verify(name, merged[name], mask, patterns.get(name))
        norm, dropped = _norm(product), _norm(product - kept)
        row = {"name": name, "pattern": str(patterns[name]) if name in patterns else "dense", "norm": norm}
        share = dropped / norm if norm else 0.0
        rows.append(row | {"dropped": dropped, "share": share})
        worst = max(worst, share)
    with torch.no_grad():
        for name, value in merged.items():
            weights[name].tensor.copy_(value)
            if name in masks:
                zero_(weights[name].tensor, masks[name])
    return Report("merge", tuple(rows), {"merged": len(rows), "largest share dropped": worst})


def _targeted(
    model: nn.Module, targets: Targets | None, ignore: Iterable[str]
) -> tuple[list[Weight], list[dict[str, object]]]:
    """Return the targeted masked weights, and report rows for the others."""
    if isinstance(ignore, str):
        raise TargetError(f"ignore must be a list of expressions; got {ignore!r}, use [{ignore!r}]")
    masks = masks_of(model)
    if not masks:
        raise TargetError("the model has no masks; call sparsify_ on it first")
    # Every weight can take this pattern, so only targets and ignore decide.
    assignments = [a for a in choose(model, Unstructured(0.0), targets, list(ignore)) if a.weight.name in masks]
    rows: list[dict[str, object]] = [
        {"name": assignment.weight.name, "rank": 0, "parameters": 0, "reason": assignment.reason}
        for assignment in assignments
        if assignment.pattern is None
    ]
    weights = [assignment.weight for assignment in assignments if assignment.pattern is not None]
    if not weights:
        raise TargetError("targets and ignore leave no masked weight to adapt")
    return weights, rows


def _freeze(model: nn.Module) -> None:
    """Freeze all parameters except adapters, and record which were trainable."""
    frozen = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.rpartition(".")[2] not in ("lora_A", "lora_B")
    ]
    setattr(model, _FROZEN, (*model.__dict__.get(_FROZEN, ()), *frozen))
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)


def _verify(name: str, merged: Tensor, mask: Tensor | None, pattern: Pattern | None) -> None:
    """Raise `CheckFailed` if a merged weight is not finite or is non-zero outside its mask, whose pattern is already checked."""
    if not bool(torch.isfinite(merged).all()):
        raise CheckFailed(f"{name} would not be finite after the merge; its adapter contains infinite or NaN values")
    stray = 0 if mask is None else int((merged.ne(0) & ~mask.to(merged.device)).sum())
    if stray:
        raise CheckFailed(
            f"after the merge, {name} would have {stray} non-zero elements outside its mask, breaking {pattern}"
        )


def _weight_name(name: str, weights: Mapping[str, Weight], model: nn.Module) -> str:
    for candidate in (name, f"{name}.weight" if name else "weight"):
        if candidate in weights:
            return candidate
    raise TargetError(
        f"adapters has an entry {name!r}, but {type(model).__name__} has no such weight; its first are {', '.join(list(weights)[:3])}"
    )


def _product(A: Tensor, B: Tensor, weight: Weight) -> Tensor:
    """Return ``B @ A`` in the weight's stored shape, in at least float32."""
    N, K = weight.matrix_shape
    wide = torch.promote_types(weight.tensor.dtype, torch.float32)
    if A.ndim < 2 or B.ndim < 2 or B.numel() != N * A.shape[0] or A.numel() != A.shape[0] * K or B.shape[0] != N:
        raise ArgumentError(
            f"{weight.name} is [{N}, {K}], so A must be [rank, {K}] and B [{N}, rank]; got A {list(A.shape)} and B {list(B.shape)}"
        )
    device = weight.tensor.device
    product = B.detach().reshape(N, -1).to(device, wide) @ A.detach().reshape(-1, K).to(device, wide)
    shaped: Tensor = product.T if weight.layout == "transposed" else product.view(weight.tensor.shape)
    return shaped


def _stored_weight(layer: LowRank) -> Tensor:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach().double()))
