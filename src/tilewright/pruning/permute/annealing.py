"""Simulated annealing over swaps: the search behind channel permutation, for any objective that can evaluate a swap."""

import time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Places", "anneal"]

_HOT, _COLD = 0.13, 0.05
"""First and last temperature, in units of the root mean square gain of random swaps at the start. Tuned on uniform scores and on layers
of MiniLM at 2:4, 1:8 and 4:64; halving or doubling either loses a tenth of the gain."""

_STEPS_A_CHANNEL = 20_000
"""Steps per channel after which a search ends. With this many, every seed tried ends at the same score on the published example."""


_PATIENCE = 2_000
"""Minimum number of steps per channel without a better order before a search may end early."""

_NOTABLE = 1e-3
"""Gain from which an order counts as better, in units of the root mean square gain of random swaps."""

_CLOSE = 1e-6
"""Share of the largest possible gain that float32 rounding may hide."""


class Places(Protocol):
    """Channels in places, and the gain of exchanging two of them."""

    order: NDArray[np.int64]
    """Channel in each place."""

    movable: int
    """Number of channels that may move, ``0 .. movable - 1``."""

    window: int
    """Number of candidates to evaluate at once, at most `movable`."""

    most: float
    """Upper bound on the gain of any order; infinity if none is known."""

    def gains(self, channel: int, start: int, stop: int) -> NDArray[np.float64]:
        """Return the gain of exchanging `channel` with each of ``start .. stop - 1``; minus infinity if nothing would change."""

    def swap(self, channel: int, other: int) -> None:
        """Exchange two channels."""


def anneal(places: Places, *, seconds: float | None, steps: int | None, seed: int) -> NDArray[np.int64]:
    """Return the best order found, or the initial one if none is better.

    Each step draws a channel and a window of candidates, evaluates all exchanges at once and picks one of them, or none, with probability
    proportional to ``exp(gain / temperature)``. The temperature falls geometrically with the steps, or with time if that runs
    out sooner; without a time limit the result depends only on the seed and the steps.

    The search ends early when it stops improving: when the best order gains as much as any could, or has not improved during the second
    half of the steps so far and `_PATIENCE` steps per channel.

    Parameters
    ----------
    places
        Channels in their initial order; changed by the search.
    seconds
        Time limit in seconds; None for no limit.
    steps
        Maximum number of steps; None for 20,000 per channel.
    seed
        Random seed.
    """
    rng = np.random.default_rng(seed)
    begin = time.perf_counter()
    steps = _STEPS_A_CHANNEL * places.movable if steps is None else steps
    scale = _scale(places, rng)
    best, best_value, value = places.order.copy(), 0.0, 0.0
    progress, step, improved, marked = 0.0, 0, 0, 0.0
    enough = places.most * (1 - _CLOSE)
    while scale > 0.0 and progress < 1.0 and best_value < enough:
        if step > 2 * improved and step - improved > _PATIENCE * places.movable:
            break
        channel, start, stop = _draw(places, rng)
        gains = places.gains(channel, start, stop)
        temperature = scale * _HOT * (_COLD / _HOT) ** progress
        # With Gumbel noise, the position of the maximum is a draw with Boltzmann weights.
        lottery = gains / temperature + rng.gumbel(size=stop - start)
        pick = int(lottery.argmax())
        if lottery[pick] > rng.gumbel():  # the draw for making no exchange
            places.swap(channel, start + pick)
            value += float(gains[pick])
            if value > best_value:
                best, best_value = places.order.copy(), value
                if value > marked + _NOTABLE * scale:  # rounding that accumulates over many swaps does not count
                    marked, improved = value, step
        step += 1
        progress = step / steps
        if seconds is not None:
            progress = max(progress, (time.perf_counter() - begin) / seconds)
    return best


def _draw(places: Places, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a channel and a run of candidates. Channels move over all places, so consecutive channels are not neighbours in place."""
    start = int(rng.integers(places.movable - places.window + 1))
    return int(rng.integers(places.movable)), start, start + places.window


def _scale(places: Places, rng: np.random.Generator) -> float:
    """Return the root mean square gain of random swaps; 0 if no swap changes anything."""
    drawn = np.concatenate([places.gains(*_draw(places, rng)) for _ in range(16)])
    gains = drawn[np.isfinite(drawn)]
    return float(np.sqrt(np.mean(gains**2))) if len(gains) else 0.0
