"""Simulated annealing over swaps: the search behind channel permutation, for any objective that can price a swap."""

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Places", "anneal"]

_HOT, _COLD = 0.13, 0.05
"""First and last temperature, in root mean squares of the gains of random swaps at the start. Chosen on uniform scores and on layers
of MiniLM at 2:4, 1:8 and 4:64; half or double of either costs a tenth of what is gained."""

_STEPS_A_CHANNEL = 20_000
"""Steps after which a search ends by itself. With so many, every seed tried ends at the same score on the published example."""


_PATIENCE = 2_000
"""Steps a channel without a better order, at least, after which a search may end."""

_NOTABLE = 1e-3
"""Gain, in root mean squares of the gains of random swaps, from which on an order counts as a better one."""

_CLOSE = 1e-6
"""Share of the most that could be gained which rounding in float32 may hide."""


class Places(Protocol):
    """Channels in places, and what exchanging two of them would gain."""

    order: NDArray[np.int64]
    """Which channel stands in each place."""

    movable: int
    """Channels ``0 .. movable - 1`` may move."""

    window: int
    """Candidates to price at once, at most `movable`."""

    most: float
    """What no order can gain more than; infinity where that is not known."""

    def gains(self, channel: int, start: int, stop: int) -> NDArray[np.float64]:
        """Return what exchanging `channel` with each of ``start .. stop - 1`` would gain; minus infinity if it changes nothing."""

    def swap(self, channel: int, other: int) -> None:
        """Exchange two channels."""


def anneal(places: Places, *, seconds: float | None, steps: int | None, seed: int) -> NDArray[np.int64]:
    """Return the best order found, the given one if none is better.

    A step draws a channel and a window of candidates, prices all exchanges at once and draws one of them, or none, with probability
    proportional to ``exp(gain / temperature)``. The temperature falls geometrically with the steps, or with the time if that runs
    out sooner: without a limit of time the result depends on seed and steps alone.

    The search ends before its limits when nothing improves: when the best order gains all that any could, or has not become better
    during the last half of the steps so far and `_PATIENCE` steps a channel.
    """
    rng = np.random.default_rng(seed)
    begin = time.perf_counter()
    steps = _STEPS_A_CHANNEL * places.movable if steps is None else steps
    scale = _scale(places, rng)
    best, best_value, value = places.order.copy(), 0.0, 0.0
    progress, done, improved, marked = 0.0, 0, 0, 0.0
    enough = places.most * (1 - _CLOSE)
    while scale > 0.0 and progress < 1.0 and best_value < enough:
        if done > 2 * improved and done - improved > _PATIENCE * places.movable:
            break
        channel, start, stop = _draw(places, rng)
        gains = places.gains(channel, start, stop)
        temperature = scale * _HOT * (_COLD / _HOT) ** progress
        lottery = gains / temperature + rng.gumbel(
            size=stop - start
        )  # its largest entry is a draw by Boltzmann's weights
        pick = int(lottery.argmax())
        if lottery[pick] > rng.gumbel():  # the ticket of staying
            places.swap(channel, start + pick)
            value += float(gains[pick])
            if value > best_value:
                best, best_value = places.order.copy(), value
                if value > marked + _NOTABLE * scale:  # rounding adds up over many swaps, and is no improvement
                    marked, improved = value, done
        done += 1
        progress = done / steps
        if seconds is not None:
            progress = max(progress, (time.perf_counter() - begin) / seconds)
    return best


def _draw(places: Places, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a channel and a run of candidates. Channels wander over all places, so a run of numbers is no run of places."""
    start = int(rng.integers(places.movable - places.window + 1))
    return int(rng.integers(places.movable)), start, start + places.window


def _scale(places: Places, rng: np.random.Generator) -> float:
    """Return the root mean square of the gains of random swaps; 0 if none changes anything."""
    seen = np.concatenate([places.gains(*_draw(places, rng)) for _ in range(16)])
    gains = seen[np.isfinite(seen)]
    return float(np.sqrt(np.mean(gains**2))) if len(gains) else 0.0
