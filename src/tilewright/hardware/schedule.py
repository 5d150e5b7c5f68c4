"""Time of a stream of tiles through loader, lanes and storer with stated buffering: exactly by events, or in closed form.

A tile is loaded, computed, stored. The three units work side by side on different tiles; a unit takes tiles in order. With b buffers the
load of tile i may begin when tile i - b is computed, and the computation of tile i when tile i - b is stored. All times are whole cycles.

`events` follows these rules tile by tile and is the definition. `closed_form` bounds the same machine by its busiest unit plus the
first load and the last store; for tiles that are all alike it is exact with two or more buffers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError

__all__ = ["Timing", "closed_form", "events"]


@dataclass(frozen=True)
class Timing:
    """When a stream of tiles was done, and what the lanes did meanwhile.

    Parameters
    ----------
    total
        Cycles from the first load to the last store.
    busy
        Cycles in which the lanes computed.
    starved
        Cycles in which the lanes waited for a load.
    blocked
        Cycles in which they waited for a store to make room.
    tail
        Cycles from the last computation to the end. ``total == busy + starved + blocked + tail``.
    """

    total: int
    busy: int
    starved: int
    blocked: int
    tail: int


def events(load: ArrayLike, compute: ArrayLike, store: ArrayLike, buffers: int = 2) -> Timing:
    """Follow every tile through the three units.

    Parameters
    ----------
    load, compute, store
        Whole cycles of each tile, one entry a tile, or one number for all.
    buffers
        Of inputs and of outputs: 1 lets nothing overlap with the lanes, 2 is double buffering.

    Raises
    ------
    ArgumentError
        If a time is negative or there is no buffer.

    Examples
    --------
    >>> events([4, 4, 4], [10, 10, 10], [2, 2, 2]).total  # first load, three computations, last store
    36
    """
    loads, computes, stores = _tiles(load, compute, store, buffers)
    loaded = stored = free = starved = blocked = 0
    computed: list[int] = [0] * buffers  # ends of the last `buffers` computations and stores: rings
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
    """Bound the time by the busiest unit, the first load and the last store; two or more buffers.

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
        raise ArgumentError(f"tiles need at least one buffer, and {buffers} were given")
    arrays = [np.atleast_1d(np.asarray(values, np.int64)) for values in (load, compute, store)]
    loads, computes, stores = (np.array(a) for a in np.broadcast_arrays(*arrays))
    if min(loads.min(initial=0), computes.min(initial=0), stores.min(initial=0)) < 0:
        raise ArgumentError("the cycles of a tile cannot be negative")
    return loads, computes, stores
