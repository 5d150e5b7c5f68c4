"""Confidence intervals of shares of dense: a paired bootstrap over held-out items, from the values in quality records."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Record

__all__ = ["DRAWS", "Interval", "lower_is_better", "share_interval"]

DRAWS, _LEVEL, _SEED = 2000, 0.95, 0


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % interval, and the number of items behind it."""

    low: float
    high: float
    items: int


def share_interval(records: Sequence[Record], dense: Sequence[Record]) -> Interval | None:
    """Return the interval of a model's share of the dense model's quality, over the items that both were evaluated on.

    Every draw uses the same items for both models, since an item that is hard for one is hard for the other. Seeds are averaged item by
    item first, so the interval covers items only.

    Parameters
    ----------
    records
        Quality records of one measure of a model, one per seed. ``extra`` holds ``each``, one value per item, and may hold ``weights`` and
        ``higher is better``. The measure is the mean of the values or its exponential, whichever matches the record.
    dense
        The same for the dense model.

    Returns
    -------
    Interval or None
        None if a record has no values, the items differ, or the record's value does not follow from them.
    """
    ours, theirs = _items(records), _items(dense)
    if ours is None or theirs is None or len(ours) != len(theirs) or len({_corpus(r) for r in (*records, *dense)}) > 1:
        return None
    weights = np.asarray(records[0].extra.get("weights") or np.ones(len(ours)), np.float64)
    of_mean = _of_mean(dense[0], weights)
    if of_mean is None:
        return None
    draws = np.random.default_rng(_SEED).integers(0, len(ours), (DRAWS, len(ours)))
    total = weights[draws].sum(axis=1)
    above, below = (of_mean((values * weights)[draws].sum(axis=1) / total) for values in (ours, theirs))
    if lower_is_better(records[0]):
        above, below = below, above
    if not (below > 0).all():
        return None
    low, high = np.quantile(above / below, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(low), float(high), len(ours))


def lower_is_better(record: Record) -> bool:
    """Return whether lower values of the measure are better."""
    return record.extra.get("higher is better") is False


def _of_mean(
    record: Record, weights: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """Return the function from the mean of a record's values to the record's value, or None if neither known one fits."""
    mean = np.average(np.asarray(record.extra["each"], np.float64), weights=weights)
    for function in (np.positive, np.exp):
        if abs(function(mean) - record.median) <= 1e-4 * abs(record.median):
            return function
    return None


def _items(records: Sequence[Record]) -> NDArray[np.float64] | None:
    """Return the value of each item, averaged over records, ``[items]``; None if they are missing or do not match."""
    columns = [record.extra.get("each") for record in records]
    if not columns or not all(isinstance(column, list) and column for column in columns):
        return None
    values = [np.asarray(column, np.float64) for column in columns]
    if len({len(column) for column in values}) > 1 or not all(map(math.isfinite, np.concatenate(values))):
        return None
    return np.asarray(np.mean(values, axis=0), np.float64)


def _corpus(record: Record) -> object:
    return record.inputs.get("corpus")
