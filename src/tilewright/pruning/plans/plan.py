"""`plan`: which pattern each layer should take so that the predicted loss is least for a latency or a size.

The prediction is additive: every layer pruned alone raises the loss by so much, and all of them together by the sum.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...patterns import Pattern, parse
from ...records import Report
from .knapsack import least_loss
from .scan import DENSE

__all__ = ["Candidate", "Costs", "Plan", "candidates", "plan"]

Costs = Mapping[tuple[str, str], float] | Callable[[str, Pattern | None], float]
"""Cost of a weight at a pattern: by (weight name, pattern text or ``"dense"``), or from a function of name and pattern."""


@dataclass(frozen=True)
class Candidate:
    """What one layer could be, and what that costs.

    Parameters
    ----------
    pattern
        None to leave the layer dense.
    loss
        By how much the loss rises.
    seconds, bytes
        Time of the layer and size of its weight, as far as they are known.
    """

    pattern: Pattern | None
    loss: float
    seconds: float | None = None
    bytes: float | None = None


@dataclass(frozen=True)
class Plan:
    """One candidate for each layer.

    Parameters
    ----------
    chosen
        By weight name.
    """

    chosen: Mapping[str, Candidate]

    @property
    def targets(self) -> dict[str, Pattern]:
        """The pattern of every layer that is pruned: what `sparsify_` takes as `targets`."""
        return {name: one.pattern for name, one in self.chosen.items() if one.pattern is not None}

    @property
    def loss(self) -> float:
        """Predicted rise of the loss."""
        return sum(one.loss for one in self.chosen.values())

    @property
    def seconds(self) -> float | None:
        """Time of all layers together; None if a layer's is not known."""
        return _total([one.seconds for one in self.chosen.values()])

    @property
    def bytes(self) -> float | None:
        """Size of all weights together; None if one is not known."""
        return _total([one.bytes for one in self.chosen.values()])

    def report(self) -> Report:
        """Return the plan as a report: one row a layer, the totals in the summary."""
        rows: list[dict[str, object]] = [
            {
                "name": name,
                "pattern": DENSE if one.pattern is None else str(one.pattern),
                "loss increase": one.loss,
                "seconds": one.seconds,
                "bytes": one.bytes,
            }
            for name, one in self.chosen.items()
        ]
        totals = {"predicted loss increase": self.loss, "seconds": self.seconds, "bytes": self.bytes}
        return Report("plan", tuple(rows), totals)


def candidates(
    scan: Report, *, seconds: Costs | None = None, bytes: Costs | None = None, dense: bool = True
) -> dict[str, tuple[Candidate, ...]]:
    """Make the choices that `plan` takes from a sensitivity scan.

    A measured rise below 0 counts as 0: on a few batches it is noise more often than a gift.

    Parameters
    ----------
    scan
        What `sensitivity_scan` returned.
    seconds
        Time of each layer, dense and at every pattern of the scan; `tilewright.runtime.measured_costs` measures it here.
    bytes
        Size of each weight; the bytes on disk that the scan counted, unless told.
    dense
        Whether a layer may stay dense.

    Raises
    ------
    ArgumentError
        If the report is no sensitivity scan, or a cost is missing or no finite number of at least 0.
    """
    if scan.kind != "sensitivity":
        raise ArgumentError(
            f"candidates come from a report of sensitivity_scan, and this is one of kind {scan.kind!r}; run the scan first"
        )
    found: dict[str, list[Candidate]] = {}
    for row in scan.rows:
        name, text, rise = str(row["name"]), str(row["pattern"]), row["loss increase"]
        if not isinstance(rise, float) or (text == DENSE and not dense):
            continue
        pattern = None if text == DENSE else parse(text)
        time = None if seconds is None else _cost(seconds, name, pattern, "seconds")
        size = float(str(row["bytes"])) if bytes is None else _cost(bytes, name, pattern, "bytes")
        found.setdefault(name, []).append(Candidate(pattern, max(0.0, rise), time, size))
    return {name: tuple(each) for name, each in found.items()}


def plan(
    choices: Mapping[str, Sequence[Candidate]], *, latency: float | None = None, size: float | None = None
) -> Plan:
    """Choose one candidate for each layer: the least predicted loss within a limit.

    Exact: no other choice within the limit has a smaller sum of losses, and none of equal loss costs less.

    Parameters
    ----------
    choices
        Candidates by weight name, from `candidates` or your own.
    latency
        Most seconds that the layers may take together.
    size
        Most bytes that the weights may take together. One of the two limits is given.

    Raises
    ------
    ArgumentError
        If not exactly one limit is given, a candidate lacks the cost that is limited, or the limit cannot be reached; the
        message says what can.

    Examples
    --------
    >>> from tilewright import NM
    >>> half, dense = Candidate(NM(2, 4), loss=0.1, bytes=60), Candidate(None, loss=0, bytes=100)
    >>> plan({"first": [half, dense], "second": [Candidate(NM(2, 4), loss=0.3, bytes=60), dense]}, size=160).targets
    {'first': NM(n=2, m=4, tile=1, transposable=False)}
    """
    if (latency is None) == (size is None):
        raise ArgumentError("a plan needs one limit: latency in seconds, or size in bytes")
    kind, limit = ("seconds", latency) if size is None else ("bytes", size)
    assert limit is not None
    if not choices or not all(choices.values()):
        empty = next((name for name, each in choices.items() if not each), "the model")
        raise ArgumentError(f"{empty} has no candidate to choose from; give every layer at least one")
    costs = [np.array([_known(name, one, kind) for one in each]) for name, each in choices.items()]
    losses = [np.array([one.loss for one in each]) for each in choices.values()]
    if not all(np.isfinite(loss).all() for loss in losses):
        raise ArgumentError("the losses of candidates must be finite")
    chosen = least_loss(losses, costs, limit)
    if chosen is None:
        least, most = sum(float(c.min()) for c in costs), sum(float(c.max()) for c in costs)
        raise ArgumentError(
            f"{limit:.6g} {kind} cannot be reached: the cheapest candidates take {least:.6g} together, the dearest {most:.6g}; "
            "allow more, or offer sparser candidates"
        )
    return Plan({name: each[at] for (name, each), at in zip(choices.items(), chosen, strict=True)})


def _known(name: str, one: Candidate, kind: str) -> float:
    value: Any = getattr(one, kind)
    text = DENSE if one.pattern is None else str(one.pattern)
    if value is None:
        raise ArgumentError(
            f"the {kind} of {name} at {text} are not known, and they are limited; give them to candidates(..., {kind}=...)"
        )
    if not (np.isfinite(value) and value >= 0):
        raise ArgumentError(f"the {kind} of {name} at {text} must be a finite number of at least 0; they are {value!r}")
    return float(value)


def _cost(costs: Costs, name: str, pattern: Pattern | None, kind: str) -> float:
    text = DENSE if pattern is None else str(pattern)
    if callable(costs):
        return float(costs(name, pattern))
    if pattern is not None and (name, text) not in costs:
        text = pattern.canonical
    if (name, text) not in costs:
        raise ArgumentError(f"no {kind} are given for {name} at {text}; the table needs an entry ({name!r}, {text!r})")
    return float(costs[name, text])


def _total(parts: Sequence[float | None]) -> float | None:
    return None if any(part is None for part in parts) else float(sum(part for part in parts if part is not None))
