"""One channel of a DRAM as events: when each read and write can be issued, given all commands before it.

Requests are served in order. Column commands (read, write) keep that order; the precharge and activate of a request may
go ahead of older column commands as far as the controller's window reaches. Rows stay open until another row of the bank
is requested or a refresh is due. The command bus is never the limit.
"""

from collections import deque
from dataclasses import dataclass, fields

from .spec import Cycles

__all__ = ["Channel", "DramStats"]

_LONG_AGO = -(1 << 40)


@dataclass(frozen=True)
class DramStats:
    """Counts of what a DRAM did, summed over channels. An energy model weighs activates, reads, writes and refreshes.

    Parameters
    ----------
    reads, writes
        Bursts read and written.
    hits, misses, conflicts
        Bursts that found their row open, their bank closed, or another row open.
    refreshes
        Refreshes, each of all banks of a channel.
    """

    reads: int = 0
    writes: int = 0
    hits: int = 0
    misses: int = 0
    conflicts: int = 0
    refreshes: int = 0

    @property
    def activates(self) -> int:
        """Rows opened."""
        return self.misses + self.conflicts

    @property
    def bursts(self) -> int:
        """Bursts read or written."""
        return self.reads + self.writes

    @property
    def hit_rate(self) -> float:
        """Hits over bursts; 0 without bursts."""
        return self.hits / self.bursts if self.bursts else 0.0

    def __add__(self, other: "DramStats") -> "DramStats":
        return DramStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "DramStats") -> "DramStats":
        return DramStats(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: int) -> "DramStats":
        return DramStats(*(getattr(self, f.name) * times for f in fields(self)))


class Channel:
    """The state of a channel: the open row of each bank, and the time of the last commands.

    Parameters
    ----------
    cycles
        Timings in command clocks.
    groups, banks
        Bank groups, and banks per group. Bank b of group g is number ``b * groups + g``.
    window
        Number of requests that the controller sees at once.
    """

    def __init__(self, cycles: Cycles, groups: int, banks: int, window: int) -> None:
        self.t, self.groups = cycles, groups
        count = groups * banks
        self.row = [-1] * count
        """Open row of each bank, -1 if closed."""
        self.activated = [_LONG_AGO] * count
        self.usable = [_LONG_AGO] * count
        """When the last column command of a bank allows its precharge."""
        self.closed = [0] * count
        """When the last precharge or refresh of a bank allows its activate."""
        self.activates: deque[int] = deque([_LONG_AGO] * 4, maxlen=4)
        self.activated_group = [_LONG_AGO] * groups
        self.last = dict.fromkeys((False, True), _LONG_AGO)
        """The last column command, by kind."""
        self.last_group = {write: [_LONG_AGO] * groups for write in (False, True)}
        self.recent: deque[int] = deque([0] * window, maxlen=window)
        """Times of the column commands of the last requests; the oldest frees a place in the window."""
        self.due, self.end, self.restarted = cycles.tREFI, 0, 0
        self.counts = {"reads": 0, "writes": 0, "hits": 0, "misses": 0, "conflicts": 0, "refreshes": 0}

    @property
    def stats(self) -> DramStats:
        """Counts so far."""
        return DramStats(**self.counts)

    def access(self, bank: int, row: int, write: bool, arrival: int = 0) -> int:
        """Serve one burst and return the clock at which its column command is issued."""
        at, activate, kind = self._plan(bank, row, write, arrival)
        while at >= self.due:
            self._refresh()
            at, activate, kind = self._plan(bank, row, write, arrival)
        group = bank % self.groups
        if kind != "hits":
            self.row[bank], self.activated[bank] = row, activate
            self.activates.append(activate)
            self.activated_group[group] = activate
        self._issue(bank, group, write, at)
        self.counts[kind] += 1
        self.counts["writes" if write else "reads"] += 1
        return at

    def _plan(self, bank: int, row: int, write: bool, arrival: int) -> tuple[int, int, str]:
        """Return the earliest time of the column command, the time of its activate, and the kind of access."""
        t, group, floor = self.t, bank % self.groups, max(self.recent[0], arrival)
        activate = self.activated[bank]
        if self.row[bank] == row:
            kind = "hits"
        else:
            activate = max(
                floor, self.activates[-1] + t.tRRD_S, self.activated_group[group] + t.tRRD_L, self.activates[0] + t.tFAW
            )
            if self.row[bank] < 0:
                kind, activate = "misses", max(activate, self.closed[bank])
            else:
                precharge = max(floor, self.activated[bank] + t.tRAS, self.usable[bank])
                kind, activate = "conflicts", max(activate, precharge + t.tRP)
        same, other = self.last_group[write][group], self.last_group[not write][group]
        turn, turn_group = (t.tRTW, t.tRTW) if write else (t.tCWL + t.burst + t.tWTR_S, t.tCWL + t.burst + t.tWTR_L)
        at = max(
            floor,
            activate + t.tRCD,
            self.last[write] + t.tCCD_S,
            same + t.tCCD_L,
            self.last[not write] + turn,
            other + turn_group,
        )
        return at, activate, kind

    def _issue(self, bank: int, group: int, write: bool, at: int) -> None:
        t = self.t
        self.last[write] = self.last_group[write][group] = at
        self.recent.append(at)
        data = at + (t.tCWL if write else t.tCL) + t.burst
        self.usable[bank] = max(self.usable[bank], data + t.tWR if write else at + t.tRTP)
        self.end = max(self.end, data)

    def _refresh(self) -> None:
        """Close every bank as soon as the refresh is due and its timings allow, and refresh."""
        t, start = self.t, self.due
        for bank, row in enumerate(self.row):
            ready = self.closed[bank]
            if row >= 0:
                ready = max(self.due, self.activated[bank] + t.tRAS, self.usable[bank]) + t.tRP
            start = max(start, ready)
        self.restarted = start + t.tRFC
        self.row = [-1] * len(self.row)
        self.closed = [self.restarted] * len(self.row)
        self.due += t.tREFI
        self.counts["refreshes"] += 1

    def hits(self, banks: list[int], count: int, write: bool) -> int:
        """Serve as many of `count` hits as come before the next refresh, cycling through the banks, and return their number.

        Equal to that many calls of `access`, in one step. It requires that the row is open in all of `banks`, which are
        one per group in order; that the last round of bursts went to them in that order; and that ``tCCD_L <= groups *
        tCCD_S``, so that tCCD_S alone sets the pace.
        """
        step, first = self.t.tCCD_S, self.last[write] + self.t.tCCD_S
        served = max(0, min(count, -(-(self.due - first) // step)))
        keep = min(served, len(self.recent))
        self.recent.extend(first + i * step for i in range(served - keep, served - min(keep, len(banks))))
        for i in range(max(0, served - len(banks)), served):
            bank = banks[i % len(banks)]
            self._issue(bank, bank % self.groups, write, first + i * step)
        self.counts["hits"] += served
        self.counts["writes" if write else "reads"] += served
        return served
