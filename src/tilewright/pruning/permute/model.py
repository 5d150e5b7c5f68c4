"""`permute_`: reorder the channels of a model so that a pattern keeps more of it, with its outputs unchanged."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import ArgumentError, CheckFailed, PatternError, unknown
from ...patterns import NM, Pattern, TileElementWise, TileVectorWise, TileWise
from ...records import Report
from ..assignment import Targets, choose
from ..inputs.calibration import resting
from ..masks import masks_of
from ..scores import SCORES, Calibration
from .channels import Bounds, Channels, Chosen, Scores, best, find, improve, kept
from .coupling import Coupling, call, couple
from .folding import Group, unfold_
from .permutation import efficacy

__all__ = ["permute_"]

_ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest allowed difference of the outputs, relative to their largest value. Summing in another order changes them by about 1e-6 in
float32, more in deeper models; a channel in the wrong place changes them by far more."""

_Change = tuple[Group, NDArray[np.int64]]


def permute_(
    model: nn.Module,
    pattern: Pattern | str,
    *,
    example: Any = None,
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    seconds: float | None = 60.0,
    steps: int | None = None,
    seed: int = 0,
    score: str = "magnitude",
    data: Calibration | None = None,
) -> Report:
    """Reorder the channels of a model in place so that pruning to a pattern keeps more. Call it before `sparsify_`.

    The graph that the model runs on the example shows which channels belong together: a layer writes them, others read them, norms
    scale them and residual connections add them. Each such group is permuted everywhere at once, so the outputs are unchanged up to
    the rounding of sums in another order. Inputs and outputs of the model are never permuted, nor are channels that cannot be proved
    safe to permute; the report gives the reason. The outputs on the example are compared before and after.

    Parameters
    ----------
    model
        Model to permute, any module that `torch.export` can capture.
    pattern
        Pattern of every target that `targets` gives no pattern, as for `sparsify_`. n:m and banks permute inputs; tw, tew and tvw permute
        outputs.
    example
        One batch: a mapping is passed as keyword arguments, a tuple or list as positional arguments, anything else as a single argument.
        It should have more than one item, so that the batch axis can be recognized. Default: the dummy inputs of Hugging Face models.
    targets, ignore
        Expressions for the weights that will be pruned, as for `sparsify_`; only these count.
    seconds
        Time limit for all searches together, in seconds. Default: 60. None sets no limit. A search ends early when it stops improving:
        when an order keeps as much as any order could, or no better order was found during the second half of its steps so far and
        2,000 steps per channel.
    steps
        Maximum number of steps of each search. Default: 20,000 per channel. With ``seconds=None`` the result depends only on the
        arguments.
    seed
        Random seed of the searches. Default: 0.
    score, data
        Score whose kept total is increased, and its calibration data, as for `sparsify_`.

    Returns
    -------
    Report
        One row per group: the layers that will be pruned along it, the number of channels and of heads, what the pattern keeps before and
        after, the efficacy (Pool and Yu, NeurIPS 2021: the share of the distance to the best elements of each row, in percent), the
        seconds, and ``folded`` or the reason why not.

    Raises
    ------
    ArgumentError
        If there is no example, the model is already pruned, or `score` or `data` is invalid.
    PatternError
        If the pattern has neither groups of inputs nor tiles of outputs.
    TargetError
        If an expression matches nothing.
    NotSupportedError
        If torch cannot capture the graph.
    CheckFailed
        If the outputs changed by more than rounding; the model is restored.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 16))
    >>> report = permute_(model, "2:4", example=torch.randn(2, 8), steps=2000)
    >>> [row["state"] for row in report.rows]
    ['not folded: graph input', 'folded']
    """
    if score not in SCORES:
        raise ArgumentError(unknown("score", score, SCORES))
    if masks_of(model):
        raise ArgumentError(
            f"{type(model).__name__} is already pruned; call permute_ before sparsify_, while the model is dense"
        )
    chosen = [(c.weight, c.pattern) for c in choose(model, pattern, targets, list(ignore)) if c.pattern is not None]
    _require_order(p for _, p in chosen)
    example = _example(model, example)
    scorer = SCORES[score](model, [weight for weight, _ in chosen], data)
    scores = {id(weight.tensor): scorer(weight).detach().to(torch.float32, copy=True) for weight, _ in chosen}
    with _still(model):
        before = _tensors(call(model, example))
        coupling = couple(model, example)
        work = _Work(coupling, chosen, scores, (seconds, steps, seed))
        return work.run(find(coupling, chosen), lambda: _difference(before, _tensors(call(model, example))), model)


class _Work:
    """Permutation of one group after the other; all are undone if anything goes wrong."""

    def __init__(self, coupling: Coupling, chosen: Chosen, scores: Scores, bounds: Bounds) -> None:
        self._coupling, self._chosen, self._scores, self._bounds = coupling, chosen, scores, bounds
        self._done: list[_Change] = []

    def run(self, groups: list[Channels], check: Callable[[], float], model: nn.Module) -> Report:
        """Improve every group that may be permuted, check the outputs, and return the report."""
        begin, whole = time.perf_counter(), kept(self._chosen, self._scores)
        movable = [channels for channels in groups if channels.group is not None]
        rows = {id(channels): self._row(channels) for channels in groups}
        try:
            for index, channels in enumerate(movable):
                share = channels.work / sum(other.work for other in movable[index:])
                rows[id(channels)] |= self._improved(channels, time.perf_counter() - begin, share)
            difference = check()
        except BaseException:
            for group, orders in reversed(self._done):
                unfold_(self._coupling, group, orders, self._scores)
            raise
        summary = {
            "folded groups": len(self._done),
            "other groups": len(groups) - len(self._done),
            "kept before": whole,
            "kept after": kept(self._chosen, self._scores),
            "seconds": time.perf_counter() - begin,
            "largest relative difference of outputs": difference,
            "parameters the example does not reach": _unreached(model, self._coupling),
        }
        return Report("permute", tuple(rows.values()), summary, ok=bool(self._done))

    def _row(self, channels: Channels) -> dict[str, Any]:
        total = kept(channels.chosen, self._scores)
        names = dict.fromkeys(use.weight.name for use in channels.uses)
        return {
            "layers": _short(list(names)),
            "weights": len(names),
            "channels": channels.size,
            "heads": self._heads(channels),
            "before": total,
            "after": total,
            "efficacy": 0.0,
            "seconds": 0.0,
            "state": f"not folded: {channels.reason}" if channels.reason else "already in the best order found",
        }

    def _heads(self, channels: Channels) -> int:
        heads = channels.group.heads if channels.group else ()
        return int(np.prod([self._coupling.atoms.length(atom) for atom in heads]))

    def _improved(self, channels: Channels, spent: float, share: float) -> dict[str, Any]:
        seconds, steps, seed = self._bounds
        begin = time.perf_counter()
        before, most = kept(channels.chosen, self._scores), best(channels.chosen, self._scores)
        limit = None if seconds is None else max(seconds - spent, 0.01) * share
        orders = improve(self._coupling, channels, self._scores, (limit, steps, seed))
        if orders is None:
            return {"before": before, "after": before, "seconds": time.perf_counter() - begin}
        assert channels.group is not None
        self._done.append((channels.group, orders))
        after = kept(channels.chosen, self._scores)
        return {
            "before": before,
            "after": after,
            "efficacy": None if most is None else efficacy(after, before, most),
            "seconds": time.perf_counter() - begin,
            "state": "folded",
        }


def _require_order(patterns: Iterable[Pattern]) -> None:
    for pattern in patterns:
        if not isinstance(pattern, NM | TileWise | TileElementWise | TileVectorWise) or getattr(
            pattern, "transposable", False
        ):
            raise PatternError(f"permute_ does not support {pattern}; it supports n:m along K, banks, tw, tew and tvw")


def _example(model: nn.Module, example: Any) -> Any:
    if example is None:
        example = getattr(model, "dummy_inputs", None)  # provided by Hugging Face models
    if example is None:
        raise ArgumentError(
            f"permute_ runs {type(model).__name__} to find its channels; pass example=, one batch as the model takes it"
        )
    return example


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, without gradients, and keep the key-value cache of Hugging Face models out of their outputs."""
    every = [getattr(module, "config", None) for module in model.modules()]
    configs: dict[int, Any] = {id(config): config for config in every if getattr(config, "use_cache", False) is True}
    try:
        for config in configs.values():
            config.use_cache = False
        with resting(model), torch.no_grad():
            yield
    finally:
        for config in configs.values():
            config.use_cache = True


def _tensors(output: Any) -> list[Tensor]:
    """Return copies of the floating-point tensors in a model's output."""
    match output:
        case Tensor():
            return [output.detach().clone()] if output.is_floating_point() else []
        case Mapping():
            return [tensor for value in output.values() for tensor in _tensors(value)]
        case tuple() | list():
            return [tensor for value in output for tensor in _tensors(value)]
    return []


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest difference relative to the largest value of the tensor; raise if it exceeds rounding."""
    if not before:
        raise ArgumentError(
            "the model returns no floating-point tensor on the example, so its outputs cannot be checked; pass an example on which it does"
        )
    largest = 0.0
    for old, new in zip(before, after, strict=True):
        scale = float(old.nan_to_num(0, 0, 0).abs().max()) if old.numel() else 0.0
        error = float((new - old).nan_to_num(0, 0, 0).abs().max()) if old.numel() else 0.0
        same = torch.equal(new.isfinite(), old.isfinite())
        relative = error / scale if scale else error
        if not same or relative > _ROUNDING[old.dtype]:
            raise CheckFailed(
                f"the output changed by {relative:.2g} of its largest value, more than rounding in {old.dtype}; the model was restored. "
                "Some operation depends on the order of channels in a way that was not recognized; add its layers to ignore"
            )
        largest = max(largest, relative)
    return largest


def _unreached(model: nn.Module, coupling: Coupling) -> int:
    reached = {id(tensor) for tensor in coupling.tensors.values()}
    return sum(id(parameter) not in reached for parameter in model.parameters())


def _short(names: list[str]) -> str:
    """Return the names in one line; if there are several, numbers become ``*`` and duplicates are merged."""
    if len(names) == 1:
        return names[0]
    return ", ".join(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))
