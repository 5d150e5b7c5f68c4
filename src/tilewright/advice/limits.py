"""The selection of least loss within a latency, a size or both, or the least that can be reached if there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..patterns import Pattern
from ..pruning import Candidate, Plan, plan
from .clocks import Clock

__all__ = ["Found", "meet"]

Offers = Mapping[str, Sequence[Candidate]]
_ROUNDS = 12
_SHARES = tuple(k / 16 for k in range(17))


@dataclass(frozen=True)
class Found:
    """A candidate for every layer, and why together they miss the limits.

    Parameters
    ----------
    chosen
        The selected candidate of each weight, by name.
    missed
        Why the limits are not met; empty if they are.
    """

    chosen: Mapping[str, Candidate]
    missed: str = ""

    @property
    def patterns(self) -> dict[str, Pattern]:
        """The pattern of every pruned layer, by weight name."""
        return {name: candidate.pattern for name, candidate in self.chosen.items() if candidate.pattern is not None}


def meet(offers: Offers, clock: Clock, latency: float | None, size: float | None, rest: float) -> Found:
    """Return the selection of least predicted loss within the limits.

    Layers are planned as if their times added up to that of the network. Where vector work hides behind products they do
    not: the time allowed for the layers is then reduced by the excess of the whole network, and the layers are planned
    again until the network fits.

    Parameters
    ----------
    offers
        The candidates of each weight, by name, dense first.
    clock
        The clock of the target.
    latency, size
        Limits in seconds per call and in bytes of the whole model; None for no limit. At least one is required.
    rest
        Bytes of the parameters that are not in `offers`.
    """
    layers_dense = sum(_of(candidates[0].seconds) for candidates in offers.values())
    room = None if latency is None else latency - (clock.network({}).seconds - layers_dense)
    for _ in range(_ROUNDS):
        best = _planned(offers, room, None if size is None else size - rest)
        if best is None:
            break
        if latency is None or room is None:
            return Found(best.chosen)
        excess = clock.network(best.targets).seconds - latency
        if excess <= 1e-9 * latency:
            return Found(best.chosen)
        room -= excess
    return _missed(offers, clock, latency, size, rest)


def _planned(offers: Offers, seconds: float | None, size: float | None) -> Plan | None:
    """Return the plan of least loss within one limit or both; None if nothing fits.

    Two limits are folded into one, ``share x seconds / limit + (1 - share) x bytes / limit <= 1``, which every plan
    within both limits satisfies. The best plan over several shares that meets both limits is returned; if it is also the
    best for its share, none is better.
    """
    if any(
        limit is not None and _least(offers, kind) > limit for kind, limit in (("seconds", seconds), ("bytes", size))
    ):
        return None
    if seconds is None or size is None:
        return plan(offers, latency=seconds, size=size)
    plans = []
    for share in _SHARES:
        folded = {
            name: [
                replace(c, seconds=share * _of(c.seconds) / seconds + (1 - share) * _of(c.bytes) / size) for c in row
            ]
            for name, row in offers.items()
        }
        if _least(folded, "seconds") > 1:
            continue
        chosen = plan(folded, latency=1.0).chosen
        real = {name: next(c for c in offers[name] if c.pattern == chosen[name].pattern) for name in offers}
        whole = Plan(real)
        if _of(whole.seconds) <= seconds * (1 + 1e-9) and _of(whole.bytes) <= size * (1 + 1e-9):
            plans.append(whole)
    return min(plans, key=lambda candidate: candidate.loss, default=None)


def _missed(offers: Offers, clock: Clock, latency: float | None, size: float | None, rest: float) -> Found:
    """Return the selection that comes nearest, with a sentence that names the least that can be reached."""
    fastest = {name: min(row, key=lambda c: (_of(c.seconds), c.loss)) for name, row in offers.items()}
    smallest = {name: min(row, key=lambda c: (_of(c.bytes), c.loss)) for name, row in offers.items()}
    if latency is not None:
        quick = Found(fastest)
        least = clock.network(quick.patterns).seconds
        if least > latency:
            why = (
                f"{latency:.4g} s cannot be met with these patterns: the least is {least:.4g} s, with every layer at its "
                "fastest"
            )
            return replace(quick, missed=why)
    if size is not None:
        least = rest + sum(_of(candidate.bytes) for candidate in smallest.values())
        if least > size:
            why = (
                f"{size:,.0f} bytes cannot be met with these patterns: the least is {least:,.0f}, {rest:,.0f} of them outside "
                "prunable layers"
            )
            return Found(smallest, why)
    return Found(fastest, "each limit can be met alone, but no selection was found that meets both")


def _least(offers: Offers, kind: str) -> float:
    return sum(min(_of(getattr(candidate, kind)) for candidate in row) for row in offers.values())


def _of(value: float | None) -> float:
    assert value is not None  # the candidates of `advise` have both costs
    return value
