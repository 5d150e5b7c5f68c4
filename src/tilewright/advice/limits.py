"""The choice of least loss within a latency, a size, or both, and what is least where there is none."""

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
    """A choice, and why it does not meet what was asked for; empty if it does."""

    chosen: Mapping[str, Candidate]
    missed: str = ""

    @property
    def patterns(self) -> dict[str, Pattern]:
        """The pattern of every layer that is pruned."""
        return {name: one.pattern for name, one in self.chosen.items() if one.pattern is not None}


def meet(offers: Offers, clock: Clock, latency: float | None, size: float | None, rest: float) -> Found:
    """Return the choice of least predicted loss.

    Layers are planned as if their times added up to the network's. Where vector work hides behind products they do not quite; the time that
    is left to layers shrinks by what the whole then takes too long, until it fits.

    Parameters
    ----------
    offers
        Candidates by weight name.
    clock
        Of the target.
    latency, size
        Limits, in seconds of a call and bytes of the whole model; one at least.
    rest
        Bytes of what is not on offer.
    """
    layers_dense = sum(_of(each[0].seconds) for each in offers.values())
    room = None if latency is None else latency - (clock.network({}).seconds - layers_dense)
    for _ in range(_ROUNDS):
        found = _planned(offers, room, None if size is None else size - rest)
        if found is None:
            break
        if latency is None or room is None:
            return Found(found.chosen)
        excess = clock.network(found.targets).seconds - latency
        if excess <= 1e-9 * latency:
            return Found(found.chosen)
        room -= excess
    return _missed(offers, clock, latency, size, rest)


def _planned(offers: Offers, seconds: float | None, size: float | None) -> Plan | None:
    """Return the plan of least loss within one limit or both, None if nothing fits.

    Both: limits are folded into one, ``share x seconds / limit + (1 - share) x bytes / limit <= 1``, which every choice within both meets.
    Of the plans for several shares, the best that meets both is taken; it is the best there is where it is the best for its share.
    """
    if any(
        limit is not None and _least(offers, kind) > limit for kind, limit in (("seconds", seconds), ("bytes", size))
    ):
        return None
    if seconds is None or size is None:
        return plan(offers, latency=seconds, size=size)
    found = []
    for share in _SHARES:
        folded = {
            name: [
                replace(one, seconds=share * _of(one.seconds) / seconds + (1 - share) * _of(one.bytes) / size)
                for one in each
            ]
            for name, each in offers.items()
        }
        if sum(min(_of(one.seconds) for one in each) for each in folded.values()) > 1:
            continue
        chosen = plan(folded, latency=1.0).chosen
        real = {name: next(one for one in offers[name] if one.pattern == chosen[name].pattern) for name in offers}
        whole = Plan(real)
        if _of(whole.seconds) <= seconds * (1 + 1e-9) and _of(whole.bytes) <= size * (1 + 1e-9):
            found.append(whole)
    return min(found, key=lambda one: one.loss, default=None)


def _missed(offers: Offers, clock: Clock, latency: float | None, size: float | None, rest: float) -> Found:
    """Return the choice that comes nearest, and the sentence that says what is least."""
    fastest = {name: min(each, key=lambda one: (_of(one.seconds), one.loss)) for name, each in offers.items()}
    smallest = {name: min(each, key=lambda one: (_of(one.bytes), one.loss)) for name, each in offers.items()}
    if latency is not None:
        quick = Found(fastest)
        least = clock.network(quick.patterns).seconds
        if least > latency:
            why = f"{latency:.4g} s cannot be met with these patterns: the least is {least:.4g} s, every layer at its fastest"
            return replace(quick, missed=why)
    if size is not None:
        least = rest + sum(_of(one.bytes) for one in smallest.values())
        if least > size:
            why = f"{size:,.0f} bytes cannot be met with these patterns: the least is {least:,.0f}, {rest:,.0f} of them outside prunable layers"
            return Found(smallest, why)
    return Found(fastest, "no choice was found that meets all that was asked for together; each limit alone can be met")


def _least(offers: Offers, kind: str) -> float:
    return sum(min(_of(getattr(one, kind)) for one in each) for each in offers.values())


def _of(value: float | None) -> float:
    assert value is not None  # candidates of advise have seconds and bytes
    return value
