"""Time of a plan's tiles on all cores: in closed form, or tile by tile with one queue per core."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...schedule import events
from .tiling import Tiling

__all__ = ["Elapsed", "analytical", "by_events"]


@dataclass(frozen=True)
class Elapsed:
    """Cycles until all tiles are done, and cycles in which the lanes of the last core to finish computed."""

    total: int
    busy: int


def analytical(plan: Tiling, cores: int) -> Elapsed:
    """Return the time of the fullest core, bounded by its busiest unit; cores take a new tile when they become free.

    With one tile per core at a time, it is ``load + computations + (n - 1) max(load, store) + store``, with n tiles on
    the fullest core. With two, it is the largest of the sums of loads, computations and stores, each with the first or
    last of the other two.
    """
    compute = plan.compute
    if len(compute) == 1 or bool((compute == compute[0]).all()):
        tiles = -(-plan.count // cores)
        busy, longest = tiles * int(compute[0]), int(compute[0])
    else:
        shares = _shares(plan, cores)
        work = shares @ compute
        fullest = int(work.argmax())
        tiles, busy, longest = int(shares[fullest].sum()), int(work[fullest]), int(compute.max())
    load, store = plan.load, plan.store
    if plan.buffers == 1:
        return Elapsed(load + busy + (tiles - 1) * max(load, store) + store, busy)
    sides = max(tiles * load + longest + store, load + longest + tiles * store)
    return Elapsed(max(load + busy + store, sides), busy)


def by_events(plan: Tiling, cores: int) -> Elapsed:
    """Return the time of the last core to finish, with every tile followed through loading, computing and storing."""
    compute = plan.compute
    last = Elapsed(0, 0)
    for queue in np.unique(_shares(plan, cores), axis=0):
        if queue.any():
            timing = events(plan.load, np.repeat(compute, queue), plan.store, plan.buffers)
            last = max(last, Elapsed(timing.total, timing.busy), key=lambda e: e.total)
    return last


def _shares(plan: Tiling, cores: int) -> NDArray[np.int64]:
    """Return the tiles of each group on each core, ``[cores, groups]``: the next tile goes to the core that is free first."""
    free = np.zeros(cores, np.int64)
    shares = np.zeros((cores, len(plan.tiles)), np.int64)
    for group, (tiles, cycles) in enumerate(zip(plan.tiles.tolist(), plan.compute.tolist(), strict=True)):
        behind = int(free.max() - free.min()) // max(1, cycles)
        turns = np.arange(-(-tiles // cores) + behind + 1, dtype=np.int64)
        starts = (free[:, None] + cycles * turns).ravel()
        owners = np.argsort(starts, kind="stable")[:tiles] // len(turns)
        shares[:, group] = np.bincount(owners, minlength=cores)
        free += shares[:, group] * cycles
    return shares
