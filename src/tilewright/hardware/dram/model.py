"""`Dram`: how long a DRAM takes for a list of requests, or for a stream of bytes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ArgumentError
from .channel import Channel, DramStats
from .spec import DramSpec

__all__ = ["Dram", "DramRun", "Kind", "Requests"]

Kind = Literal["read", "write"]


@dataclass(frozen=True, eq=False)
class Requests:
    """Bursts in the order in which they are asked for.

    Parameters
    ----------
    addresses
        int64 byte addresses; a burst is the aligned block that holds its address.
    writes
        True for a write; one for all, or one for each.
    arrivals
        Command clock at which each is asked for, not falling; all at 0 unless told.

    Raises
    ------
    ArgumentError
        If lengths differ, an address is negative or arrivals fall.
    """

    addresses: NDArray[np.int64]
    writes: NDArray[np.bool_]
    arrivals: NDArray[np.int64]

    @classmethod
    def of(cls, addresses: ArrayLike, writes: ArrayLike = False, arrivals: ArrayLike = 0) -> "Requests":
        """Return requests from anything like arrays."""
        where = np.asarray(addresses, dtype=np.int64)
        shape = where.shape
        try:
            kinds: NDArray[np.bool_] = np.broadcast_to(np.asarray(writes, np.bool_), shape)
            times: NDArray[np.int64] = np.broadcast_to(np.asarray(arrivals, np.int64), shape)
        except ValueError:
            raise ArgumentError(
                f"{list(shape)} addresses need as many writes and arrivals, and got {list(np.shape(writes))} and "
                f"{list(np.shape(arrivals))}"
            ) from None
        if where.ndim != 1 or (where < 0).any() or (np.diff(times) < 0).any():
            raise ArgumentError("requests need one row of addresses of at least 0, and arrivals that do not fall")
        return cls(where, kinds, times)

    @classmethod
    def sequential(cls, spec: DramSpec, size: int, kind: Kind = "read") -> "Requests":
        """Return the bursts of a stream of `size` bytes from address 0."""
        return cls.of(np.arange(0, size, spec.burst_bytes), _writes(kind))

    def trace(self) -> Iterator[str]:
        """Yield ``0x... R`` or ``0x... W`` for each request: the text trace that Ramulator-style simulators read."""
        for address, write in zip(self.addresses.tolist(), self.writes.tolist(), strict=True):
            yield f"0x{address:x} {'W' if write else 'R'}"

    def __len__(self) -> int:
        return len(self.addresses)


@dataclass(frozen=True)
class DramRun:
    """What a run took.

    Parameters
    ----------
    cycles
        Command clocks from 0 to the last data of the slowest channel.
    seconds
        The same as time.
    bytes
        Moved, whole bursts.
    utilisation
        Share of the data buses' time that carried data, all channels, until the slowest is done: bytes / (seconds x peak).
    stats
        Counts.
    """

    cycles: int
    seconds: float
    bytes: int
    utilisation: float
    stats: DramStats


class Dram:
    """A DRAM with open rows, served in order in every channel.

    Parameters
    ----------
    spec
        Shape and timings, such as ``dram.preset("hbm2e")``.

    Notes
    -----
    Address map, from the lowest bits of the burst's number up: channel, bank group, column, bank, row. A stream thus goes over all channels
    and bank groups before it comes back to a bank, and opens its next rows while it reads from the present ones.

    Examples
    --------
    >>> from tilewright.hardware.dram import Dram, preset
    >>> memory = Dram(preset("ddr4-2400"))
    >>> run = memory.time([0, 64, 1 << 20])
    >>> run.cycles, run.stats.misses, run.stats.conflicts
    (94, 2, 1)
    >>> 0.9 < memory.efficiency(1 << 20) < 1
    True
    """

    def __init__(self, spec: DramSpec) -> None:
        self.spec, self._cycles = spec, spec.cycles

    def locate(self, addresses: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the channel, the bank in it and the row of byte addresses."""
        spec = self.spec
        rest, channel = np.divmod(addresses // spec.burst_bytes, int(spec.channels))
        rest, group = np.divmod(rest, spec.bank_groups)
        row, bank = np.divmod(rest // spec.columns, spec.banks)
        return channel, bank * spec.bank_groups + group, row

    def time(self, requests: Requests | ArrayLike) -> DramRun:
        """Return what a list of requests takes, event by event.

        Parameters
        ----------
        requests
            Bursts, or plain byte addresses to read. About half a million a second are simulated.
        """
        asked = requests if isinstance(requests, Requests) else Requests.of(requests)
        channel, bank, row = self.locate(asked.addresses)
        runs = []
        for number in np.unique(channel).tolist():
            mine = channel == number
            state = self._channel()
            columns: list[list[Any]] = [a[mine].tolist() for a in (bank, row, asked.writes, asked.arrivals)]
            for one in zip(*columns, strict=True):
                state.access(*one)
            runs.append((state.end, state.stats))
        return self._run(runs)

    def stream(self, size: int, kind: Kind = "read") -> DramRun:
        """Return what a stream of neighbouring bytes from address 0 takes: equal to `time` of its bursts, in far fewer steps.

        Parameters
        ----------
        size
            Bytes; the last burst is moved whole.
        kind
            ``"read"`` or ``"write"``.

        Raises
        ------
        ArgumentError
            If the size is negative or the kind another.
        """
        write = _writes(kind)
        if size < 0:
            raise ArgumentError(f"a stream has at least 0 bytes, and {size} was given")
        share, more = divmod(math.ceil(size / self.spec.burst_bytes), int(self.spec.channels))
        runs: list[tuple[int, DramStats]] = []
        for bursts, channels in ((share + 1, more), (share, int(self.spec.channels) - more)):
            if bursts and channels:
                end, stats = _stream(self._channel(), self.spec, bursts, write)
                runs.append((end, stats * channels))
        return self._run(runs)

    def efficiency(self, size: int, kind: Kind = "read") -> float:
        """Return the share of the peak bandwidth that a stream of `size` bytes reaches."""
        return self.stream(size, kind).utilisation

    def _channel(self) -> Channel:
        return Channel(self._cycles, self.spec.bank_groups, self.spec.banks, self.spec.window)

    def _run(self, channels: list[tuple[int, DramStats]]) -> DramRun:
        cycles = max((end for end, _ in channels), default=0)
        stats = sum((stats for _, stats in channels), DramStats())
        moved = stats.bursts * self.spec.burst_bytes
        slots = cycles * int(self.spec.channels)
        share = stats.bursts * self._cycles.burst / slots if slots else 0.0
        return DramRun(cycles, cycles / float(self.spec.clock), moved, share, stats)


def _stream(channel: Channel, spec: DramSpec, bursts: int, write: bool) -> tuple[int, DramStats]:
    """Return the end and the counts of neighbouring bursts on one channel.

    Bursts of rows that are all open are taken in one step. A refresh resets a channel but for the place in the
    round of rows and the time since it was due (which bank is next is all the same to closed banks), so the same place and time again mean
    that everything since repeats, as often as it fits.
    """
    groups, sweep = spec.bank_groups, spec.bank_groups * spec.columns
    paced = channel.t.tCCD_L <= groups * channel.t.tCCD_S
    seen: dict[tuple[int, int], tuple[int, int, DramStats]] = {}
    done = skipped_time = refreshes = 0
    skipped = DramStats()
    while done < bursts:
        place, group = divmod(done, groups)
        turn = place // spec.columns
        bank = turn % spec.banks * groups
        channel.access(bank + group, turn // spec.banks, write)
        first, done = done, done + 1
        left = min(sweep - done % sweep, bursts - done) if done % sweep else 0
        # After a refresh in the middle of a row only some banks are open: a round of events opens the rest.
        same_row = all(row == turn // spec.banks for row in channel.row[bank : bank + groups])
        if done % groups == 0 and left and paced and same_row:
            done += channel.hits(list(range(bank, bank + groups)), left // groups * groups, write)
        if channel.counts["refreshes"] != refreshes and not skipped_time:
            refreshes = channel.counts["refreshes"]
            key = (first % sweep, channel.restarted - channel.due)
            if key in seen:
                before, time, stats = seen[key]
                times = (bursts - done) // (done - before)
                skipped_time = (channel.restarted - time) * times
                skipped = (channel.stats - stats) * times
                bursts -= (done - before) * times
            seen[key] = (done, channel.restarted, channel.stats)
    return channel.end + skipped_time, channel.stats + skipped


def _writes(kind: Kind) -> bool:
    if kind not in ("read", "write"):
        raise ArgumentError(f"a stream is a read or a write, and {kind!r} was given")
    return kind == "write"
