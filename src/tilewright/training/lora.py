"""Low-rank adapters that keep a pattern: trained inside the mask, merged inside the mask, checked afterwards."""

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
"""Attribute of the model: the parameters that `lora_` has frozen."""


def lora_(
    model: nn.Module,
    rank: int = 8,
    *,
    alpha: float = 16.0,
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    seed: int = 0,
) -> Report:
    """Give masked layers low-rank adapters and freeze everything else, in place (Hu et al., arXiv 2106.09685).

    A layer then computes with ``(W + alpha / rank * B @ A) * mask``, the very weight that `merge_lora_` will store, down to the
    rounding of its dtype. Adapters are part of `state_dict` as ``lora_A`` and ``lora_B``; to load them, call `lora_` with the
    same arguments on a model with the same masks first. A and B are float32 where the weight has fewer bits.

    Parameters
    ----------
    model
        With masks, from `sparsify_`. Layers: Linear, Conv1d to Conv3d, and Hugging Face's ``Conv1D``.
    rank
        Of ``B @ A``, at most the smaller side of each weight.
    alpha
        The product counts ``alpha / rank`` times.
    targets, ignore
        As in `sparsify_`, among the masked layers; all of them where not given.
    seed
        Of A. B is zero, so that nothing changes at first.

    Returns
    -------
    Report
        One row a masked weight: name, rank (0 without an adapter), parameters of the adapter, and the reason if it has none.

    Raises
    ------
    ArgumentError
        If rank or alpha are out of range.
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
    fine = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 and isfinite(alpha)
    if not fine:
        raise ArgumentError(
            f"an adapter has a rank of at least 1 and a finite alpha; got rank {rank!r}, alpha {alpha!r}"
        )
    weights, rows = _wanted(model, targets, ignore)
    reasons = {weight.name: refusal(weight, model) for weight in weights}
    taken = [weight for weight in weights if not reasons[weight.name]]
    if not taken:
        raise TargetError(f"no masked weight can have an adapter: {weights[0].name}: {reasons[weights[0].name]}")
    for weight in taken:
        if rank > min(weight.matrix_shape):
            raise ArgumentError(
                f"rank {rank} is above the smaller side of {weight.name}, which is {list(weight.matrix_shape)}; take a smaller one"
            )
    _freeze(model)
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        parameters = 0
        if not reasons[weight.name]:
            adapt_(weight, rank, alpha / rank, generator)
            parameters = rank * sum(weight.matrix_shape)
        own = rank if parameters else 0
        rows.append({"name": weight.name, "rank": own, "parameters": parameters, "reason": reasons[weight.name]})
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Report(
        "lora", tuple(rows), {"adapters": len(taken), "trained parameters": trained, "share": trained / total}
    )


def merge_lora_(model: nn.Module) -> Report:
    """Put the adapters of `lora_` into the weights, in place; the masks stay and hold.

    The model gives the same results as before, and its layers and trainable parameters are those from before `lora_`.

    Parameters
    ----------
    model
        With adapters.

    Returns
    -------
    Report
        One row a merged weight: name, pattern, rank, and ``change``, the norm of what was added over that of the weight.

    Raises
    ------
    ArgumentError
        If there is no adapter.
    CheckFailed
        If a mask does not hold, or a merged weight is not finite or breaks its pattern. The message names it, and nothing is changed.
    """
    layers = {f"{name}.weight" if name else "weight": m for name, m in model.named_modules() if isinstance(m, LowRank)}
    if not layers:
        raise ArgumentError(
            "the model has no adapter to merge; lora_ makes them, and merge_into_mask_ merges those of others"
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
        zero_(model.get_parameter(name), mask)  # a negative zero may have come from the product
    frozen = set(model.__dict__.pop(_FROZEN, ()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in frozen)
    return Report("merge", tuple(rows), {"merged": len(rows)})


def merge_into_mask_(
    model: nn.Module, adapters: Mapping[str, tuple[Tensor, Tensor]], *, scale: float | Mapping[str, float] = 1.0
) -> Report:
    """Merge adapters that were trained elsewhere into a pruned model, in place, dropping what falls outside of the masks.

    Their training saw ``W + scale * B @ A`` whole, so what is dropped is an error; the report says how large it is. A large one is a
    reason to train with `lora_` instead.

    Parameters
    ----------
    model
        With masks, as the adapters' base model. Weights without a mask take the whole product.
    adapters
        ``(A, B)`` by name of the layer or its weight: A ``[rank, K]`` and B ``[N, rank]``; of convolutions also ``[rank, C, *kernel]`` and
        ``[N, rank, 1, ...]``, as PEFT stores them.
    scale
        What the products count: alpha / rank. One number, or one by name.

    Returns
    -------
    Report
        One row a weight: name, pattern, ``norm`` of ``scale * B @ A``, norm ``dropped``, and ``share``, the second over the first.

    Raises
    ------
    TargetError
        If the model has no such weight.
    ArgumentError
        If the shapes of A and B do not fit, or a scale is missing.
    CheckFailed
        If a mask does not hold, or a merged weight is not finite or breaks its pattern. Nothing is changed then.

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
    found = {weight.name: weight for weight in prunable(model)}
    named = {_weight_name(name, found, model): name for name in adapters}
    masks, patterns, merged, rows, worst = masks_of(model), patterns_of(model), dict[str, Tensor](), [], 0.0
    for name, given in named.items():
        factor = scale if isinstance(scale, float | int) else scale.get(given)
        if factor is None:
            raise ArgumentError(f"there is no scale for {given}; give one number for all, or one for each adapter")
        product = factor * _product(*adapters[given], found[name])
        mask = masks.get(name)
        kept = product if mask is None else product * mask
        wide = torch.promote_types(found[name].tensor.dtype, torch.float32)
        merged[name] = (found[name].tensor.detach().to(wide) + kept).to(found[name].tensor.dtype)
        _verify(name, merged[name], mask, patterns.get(name))
        norm, dropped = _norm(product), _norm(product - kept)
        row = {"name": name, "pattern": str(patterns[name]) if name in patterns else "dense", "norm": norm}
        share = dropped / norm if norm else 0.0
        rows.append(row | {"dropped": dropped, "share": share})
        worst = max(worst, share)
    with torch.no_grad():
        for name, value in merged.items():
            found[name].tensor.copy_(value)
            if name in masks:
                zero_(found[name].tensor, masks[name])
    return Report("merge", tuple(rows), {"merged": len(rows), "largest share dropped": worst})


def _wanted(
    model: nn.Module, targets: Targets | None, ignore: Iterable[str]
) -> tuple[list[Weight], list[dict[str, object]]]:
    """Return the masked weights that are meant, and rows for those that are not."""
    if isinstance(ignore, str):
        raise TargetError(f"ignore must be a list of expressions, and it is {ignore!r}; write [{ignore!r}]")
    masks = masks_of(model)
    if not masks:
        raise TargetError("the model has no masks for adapters to keep to; call sparsify_ on it first")
    # Every weight can take this pattern, so that targets and ignore alone decide.
    choices = [c for c in choose(model, Unstructured(0.0), targets, list(ignore)) if c.weight.name in masks]
    rows: list[dict[str, object]] = [
        {"name": choice.weight.name, "rank": 0, "parameters": 0, "reason": choice.reason}
        for choice in choices
        if choice.pattern is None
    ]
    wanted = [choice.weight for choice in choices if choice.pattern is not None]
    if not wanted:
        raise TargetError("targets and ignore leave no masked weight to adapt")
    return wanted, rows


def _freeze(model: nn.Module) -> None:
    """Freeze all but adapters, and remember what was not frozen before."""
    frozen = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.rpartition(".")[2] not in ("lora_A", "lora_B")
    ]
    setattr(model, _FROZEN, (*model.__dict__.get(_FROZEN, ()), *frozen))
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)


def _verify(name: str, merged: Tensor, mask: Tensor | None, pattern: Pattern | None) -> None:
    """Raise `CheckFailed` if a merged weight is not finite or leaves its mask, which has been held to its pattern before."""
    if not bool(torch.isfinite(merged).all()):
        raise CheckFailed(f"{name} would not be finite after the merge; its adapter holds infinite values or NaN")
    stray = 0 if mask is None else int((merged.ne(0) & ~mask.to(merged.device)).sum())
    if stray:
        raise CheckFailed(f"after the merge {name} would have {stray} elements outside of its mask, breaking {pattern}")


def _weight_name(name: str, found: Mapping[str, Weight], model: nn.Module) -> str:
    for candidate in (name, f"{name}.weight" if name else "weight"):
        if candidate in found:
            return candidate
    raise TargetError(
        f"adapters name {name!r}, and {type(model).__name__} has no such weight; it begins with {', '.join(list(found)[:3])}"
    )


def _product(A: Tensor, B: Tensor, weight: Weight) -> Tensor:
    """Return ``B @ A`` in the weight's stored shape, in at least float32."""
    N, K = weight.matrix_shape
    wide = torch.promote_types(weight.tensor.dtype, torch.float32)
    if A.ndim < 2 or B.ndim < 2 or B.numel() != N * A.shape[0] or A.numel() != A.shape[0] * K or B.shape[0] != N:
        raise ArgumentError(
            f"{weight.name} is [{N}, {K}], so A must be [rank, {K}] and B [{N}, rank]; A is {list(A.shape)} and B {list(B.shape)}"
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
