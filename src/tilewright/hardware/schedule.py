"""Time of a stream of tiles through loader, lanes and storer with a number of buffers: exact or in closed form.

A tile is loaded, computed and stored. The three units work in parallel on different tiles, and each takes tiles in order.
With b buffers the load of tile i may begin when tile i - b is computed, and the computation of tile i when tile i - b is
stored. All times are whole cycles.

`events` follows these rules tile by tile and is the definition. `closed_form` bounds the same machine by its busiest unit
plus the first load and the last store; with two or more buffers it is exact for identical tiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError

__all__ = ["Timing", "closed_form", "events"]


@dataclass(frozen=True)
class Timing:
    """The time of a stream of tiles, and what the lanes did in it.

    Parameters
    ----------
    total
        Cycles from the first load to the last store.
    busy
        Cycles in which the lanes computed.
    starved
        Cycles in which the lanes waited for a load.
    blocked
        Cycles in which the lanes waited for a store to make room.
    tail
        Cycles from the end of the last computation to the end. ``total == busy + starved + blocked + tail``.
    """

    total: int
    busy: int
    starved: int
    blocked: int
    tail: int


def events(load: ArrayLike, compute: ArrayLike, store: ArrayLike, buffers: int = 2) -> Timing:
    """Return the exact timing of a stream of tiles, following each through the three units.

    Parameters
    ----------
    load, compute, store
        Whole cycles of each tile in each unit, ``[tiles]``, or one number for all tiles.
    buffers
        Number of buffers for inputs, and for outputs. With 1, nothing overlaps with the lanes; 2 (the default) is double
        buffering.

    Raises
    ------
    ArgumentError
        If a time is negative or `buffers` is below 1.

    Examples
    --------
    >>> events([4, 4, 4], [10, 10, 10], [2, 2, 2]).total  # first load, three computations, last store
    36
    """
    loads, computes, stores = _tiles(load, compute, store, buffers)
    loaded = stored = free = starved = blocked = 0
    computed: list[int] = [0] * buffers  # ring buffers: ends of the last `buffers` computations and stores
    emptied: list[int] = [0] * buffers
    for index, (fetch, work, drain) in enumerate(zip(loads.tolist(), computes.tolist(), stores.tolist(), strict=True)):
        slot = index % buffers
        loaded = max(loaded, computed[slot]) + fetch
        ready = max(free, loaded)
        starved += ready - free
        begin = max(ready, emptied[slot])
        blocked += begin - ready
        free = begin + work
        computed[slot] = free
        stored = max(stored, free) + drain
        emptied[slot] = stored
    return Timing(stored, int(computes.sum()), starved, blocked, stored - free)


def closed_form(load: ArrayLike, compute: ArrayLike, store: ArrayLike) -> Timing:
    """Return a lower bound on the timing with two or more buffers: the busiest unit, the first load and the last store.

    Parameters
    ----------
    load, compute, store
        As for `events`.

    Examples
    --------
    >>> closed_form([4, 4, 4], [10, 10, 10], [2, 2, 2]).total
    36
    """
    loads, computes, stores = _tiles(load, compute, store, 2)
    if not len(loads):
        return Timing(0, 0, 0, 0, 0)
    busy = int(computes.sum())
    compute_bound = int(loads[0]) + busy + int(stores[-1])
    load_bound = int(loads.sum()) + int(computes[-1]) + int(stores[-1])
    store_bound = int(loads[0]) + int(computes[0]) + int(stores.sum())
    total = max(compute_bound, load_bound, store_bound)
    tail = int(stores[-1])
    idle = total - busy - tail
    if total == store_bound and store_bound > max(compute_bound, load_bound):
        return Timing(total, busy, int(loads[0]), idle - int(loads[0]), tail)
    return Timing(total, busy, idle, 0, tail)


def _tiles(
    load: ArrayLike, compute: ArrayLike, store: ArrayLike, buffers: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if buffers < 1:
        raise ArgumentError(f"buffers must be at least 1, got {buffers}")
    arrays = [np.atleast_1d(np.asarray(values, np.int64)) for values in (load, compute, store)]
    loads, computes, stores = (np.array(a) for a in np.broadcast_arrays(*arrays))
    if min(loads.min(initial=0), computes.min(initial=0), stores.min(initial=0)) < 0:
        raise ArgumentError("the cycles of a tile cannot be negative")
    return loads, computes, stores
