"""`plan`: choose a pattern for each layer so that the predicted loss is lowest within a latency or size limit.

The prediction is additive: pruning several layers is assumed to raise the loss by the sum of what pruning each of them alone does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...patterns import Pattern
from ...records import Report
from .knapsack import least_loss
from .result import DENSE, Scan

__all__ = ["Candidate", "Costs", "Plan", "candidates", "plan"]

Costs = Mapping[tuple[str, str], float] | Callable[[str, Pattern | None], float]
"""Cost of each weight at each pattern: a mapping from (weight name, pattern text or ``"dense"``), or a function of weight name and
pattern (None for dense)."""


@dataclass(frozen=True)
class Candidate:
    """One option for a layer: a pattern, or dense, and what it costs.

    Parameters
    ----------
    pattern
        Pattern of the layer's weight; None leaves it dense.
    loss
        Increase of the loss over the dense model.
    seconds
        Time of the layer in seconds; None (the default) if unknown.
    bytes
        Size of the weight in bytes; None (the default) if unknown.
    """

    pattern: Pattern | None
    loss: float
    seconds: float | None = None
    bytes: float | None = None


@dataclass(frozen=True)
class Plan:
    """One candidate for each layer, as chosen by `plan`.

    Parameters
    ----------
    chosen
        The chosen candidate of each layer, by weight name.
    """

    chosen: Mapping[str, Candidate]

    @property
    def targets(self) -> dict[str, Pattern]:
        """Patterns of the layers to prune, by weight name; pass it to `sparsify_` as `targets`."""
        return {name: candidate.pattern for name, candidate in self.chosen.items() if candidate.pattern is not None}

    @property
    def loss(self) -> float:
        """Predicted increase of the loss."""
        return sum(candidate.loss for candidate in self.chosen.values())

    @property
    def seconds(self) -> float | None:
        """Total time of all layers in seconds; None if the time of any layer is unknown."""
        return _total([candidate.seconds for candidate in self.chosen.values()])

    @property
    def bytes(self) -> float | None:
        """Total size of all weights in bytes; None if the size of any weight is unknown."""
        return _total([candidate.bytes for candidate in self.chosen.values()])

    def report(self) -> Report:
        """Return the plan as a report, with one row per layer and the totals in the summary."""
        rows: list[dict[str, object]] = [
            {
                "name": name,
                "pattern": DENSE if candidate.pattern is None else str(candidate.pattern),
                "loss increase": candidate.loss,
                "seconds": candidate.seconds,
                "bytes": candidate.bytes,
            }
            for name, candidate in self.chosen.items()
        ]
        totals = {"predicted loss increase": self.loss, "seconds": self.seconds, "bytes": self.bytes}
        return Report("plan", tuple(rows), totals)


def candidates(
    scan: Scan, *, seconds: Costs | None = None, bytes: Costs | None = None, dense: bool = True
) -> dict[str, tuple[Candidate, ...]]:
    """Return the candidates of each layer, by weight name, from a sensitivity scan; pass them to `plan`.

    A measured loss increase below 0 counts as 0, because on a few batches it is usually noise.

    Parameters
    ----------
    scan
        From `sensitivity_scan`.
    seconds
        Time of each layer in seconds, dense and at every pattern of the scan; `tilewright.runtime.measured_costs` measures it on this
        machine. Default: times stay unknown.
    bytes
        Size of each weight in bytes, dense and at every pattern of the scan. Default: the size on disk from the scan.
    dense
        Whether a layer may stay dense. Default: True.

    Raises
    ------
    ArgumentError
        If a cost is missing.
    """
    by_name: dict[str, list[Candidate]] = {}
    for point, rise in scan.measured():
        if point.pattern is None and not dense:
            continue
        time = None if seconds is None else _cost(seconds, point.name, point.pattern, "seconds")
        size = point.bytes if bytes is None else _cost(bytes, point.name, point.pattern, "bytes")
        by_name.setdefault(point.name, []).append(Candidate(point.pattern, max(0.0, rise), time, size))
    return {name: tuple(options) for name, options in by_name.items()}


def plan(
    choices: Mapping[str, Sequence[Candidate]], *, latency: float | None = None, size: float | None = None
) -> Plan:
    """Choose one candidate for each layer so that the predicted loss is lowest within a limit.

    The result is exact: no other selection within the limit has a lower total loss, and none with the same loss costs less.

    Parameters
    ----------
    choices
        Candidates of each layer, by weight name: from `candidates`, or your own.
    latency
        Limit on the total time of the layers, in seconds. Give either `latency` or `size`.
    size
        Limit on the total size of the weights, in bytes.

    Raises
    ------
    ArgumentError
        If not exactly one limit is given, a candidate lacks the limited cost, a cost is negative or not finite, or the limit cannot be
        met; the message then gives the lowest possible cost.

    Examples
    --------
    >>> from tilewright import NM
    >>> half, dense = Candidate(NM(2, 4), loss=0.1, bytes=60), Candidate(None, loss=0, bytes=100)
    >>> plan({"first": [half, dense], "second": [Candidate(NM(2, 4), loss=0.3, bytes=60), dense]}, size=160).targets
    {'first': NM(n=2, m=4, tile=1, transposable=False)}
    """
    if (latency is None) == (size is None):
        raise ArgumentError("plan needs exactly one limit: latency in seconds, or size in bytes")
    kind, limit = ("seconds", latency) if size is None else ("bytes", size)
    assert limit is not None
    if not choices or not all(choices.values()):
        empty = next((name for name, options in choices.items() if not options), "the model")
        raise ArgumentError(f"{empty} has no candidates; give every layer at least one")
    costs = [np.array([_known(name, candidate, kind) for candidate in options]) for name, options in choices.items()]
    losses = [np.array([candidate.loss for candidate in options]) for options in choices.values()]
    if not all(np.isfinite(loss).all() for loss in losses):
        raise ArgumentError("the losses of candidates must be finite")
    chosen = least_loss(losses, costs, limit)
    if chosen is None:
        least, most = sum(float(c.min()) for c in costs), sum(float(c.max()) for c in costs)
        raise ArgumentError(
            f"a limit of {limit:.6g} {kind} cannot be met: the candidates take {least:.6g} in total at least, and {most:.6g} at most; "
            "raise the limit, or offer sparser candidates"
        )
    return Plan({name: options[index] for (name, options), index in zip(choices.items(), chosen, strict=True)})


def _known(name: str, candidate: Candidate, kind: str) -> float:
    value: Any = getattr(candidate, kind)
    text = DENSE if candidate.pattern is None else str(candidate.pattern)
    if value is None:
        raise ArgumentError(
            f"the {kind} of {name} at {text} are unknown, but the limit is in {kind}; pass them to candidates(..., {kind}=...)"
        )
    if not (np.isfinite(value) and value >= 0):
        raise ArgumentError(f"the {kind} of {name} at {text} must be a finite number of at least 0; got {value!r}")
    return float(value)


def _cost(costs: Costs, name: str, pattern: Pattern | None, kind: str) -> float:
    text = DENSE if pattern is None else str(pattern)
    if callable(costs):
        return float(costs(name, pattern))
    if pattern is not None and (name, text) not in costs:
        text = pattern.canonical
    if (name, text) not in costs:
        raise ArgumentError(f"no {kind} given for {name} at {text}; add an entry for ({name!r}, {text!r})")
    return float(costs[name, text])


def _total(parts: Sequence[float | None]) -> float | None:
    return None if any(cost is None for cost in parts) else float(sum(cost for cost in parts if cost is not None))
