"""`Dram`: the time of a DRAM for a list of requests, or for a stream of bytes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ArgumentError, unknown
from .channel import Channel, DramStats
from .spec import DramSpec

__all__ = ["Dram", "DramRun", "Kind", "Requests"]

Kind = Literal["read", "write"]


@dataclass(frozen=True, eq=False)
class Requests:
    """Bursts in the order in which they are requested; `of` builds them from anything array-like.

    Parameters
    ----------
    addresses
        Byte addresses, int64 ``[requests]``; a burst is the aligned block that holds its address.
    writes
        True for each write, bool ``[requests]``.
    arrivals
        Command clock at which each is requested, int64 ``[requests]``, in ascending order.
    """

    addresses: NDArray[np.int64]
    writes: NDArray[np.bool_]
    arrivals: NDArray[np.int64]

    @classmethod
    def of(cls, addresses: ArrayLike, writes: ArrayLike = False, arrivals: ArrayLike = 0) -> "Requests":
        """Return requests from array-likes.

        Parameters
        ----------
        addresses
            Byte addresses, ``[requests]``, at least 0.
        writes
            True for a write; one value for all requests or one for each. Default: all are reads.
        arrivals
            Command clock at which each is requested, in ascending order. Default: all at 0.

        Raises
        ------
        ArgumentError
            If lengths differ, an address is negative or arrivals descend.
        """
        places = np.asarray(addresses, dtype=np.int64)
        shape = places.shape
        try:
            kinds: NDArray[np.bool_] = np.broadcast_to(np.asarray(writes, np.bool_), shape)
            times: NDArray[np.int64] = np.broadcast_to(np.asarray(arrivals, np.int64), shape)
        except ValueError:
            raise ArgumentError(
                f"addresses, writes and arrivals must have one length, got shapes {list(shape)}, {list(np.shape(writes))} and "
                f"{list(np.shape(arrivals))}"
            ) from None
        if places.ndim != 1 or (places < 0).any() or (np.diff(times) < 0).any():
            raise ArgumentError("requests need a vector of addresses of at least 0, and arrivals in ascending order")
        return cls(places, kinds, times)

    @classmethod
    def sequential(cls, spec: DramSpec, size: int, kind: Kind = "read") -> "Requests":
        """Return the bursts of a stream of `size` bytes from address 0."""
        return cls.of(np.arange(0, size, spec.burst_bytes), _writes(kind))

    def trace(self) -> Iterator[str]:
        """Yield ``0x... R`` or ``0x... W`` for each request, the text trace of Ramulator-style simulators."""
        for address, write in zip(self.addresses.tolist(), self.writes.tolist(), strict=True):
            yield f"0x{address:x} {'W' if write else 'R'}"

    def __len__(self) -> int:
        return len(self.addresses)


@dataclass(frozen=True)
class DramRun:
    """The result of `Dram.time` and `Dram.stream`.

    Parameters
    ----------
    cycles
        Command clocks from 0 to the last data of the slowest channel.
    seconds
        The same time in seconds.
    bytes
        Bytes moved, in whole bursts.
    utilisation
        Share of the time that the data buses of all channels carried data: bytes / (seconds x peak).
    stats
        Counts of what the DRAM did.
    """

    cycles: int
    seconds: float
    bytes: int
    utilisation: float
    stats: DramStats


class Dram:
    """A DRAM with open rows that serves requests in order in every channel.

    Parameters
    ----------
    spec
        Shape and timings, such as ``dram.preset("hbm2e")``.

    Notes
    -----
    Address map, from the lowest bits of the burst number up: channel, bank group, column, bank, row. A stream thus passes
    through all channels and bank groups before it returns to a bank, and opens its next rows while it reads from the
    current ones.

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
        """Return the channel, the bank within the channel and the row of byte addresses."""
        spec = self.spec
        rest, channel = np.divmod(addresses // spec.burst_bytes, int(spec.channels))
        rest, group = np.divmod(rest, spec.bank_groups)
        row, bank = np.divmod(rest // spec.columns, spec.banks)
        return channel, bank * spec.bank_groups + group, row

    def time(self, requests: Requests | ArrayLike) -> DramRun:
        """Return the time of a list of requests, event by event.

        Parameters
        ----------
        requests
            Bursts, or byte addresses to read. About half a million are simulated per second.
        """
        bursts = requests if isinstance(requests, Requests) else Requests.of(requests)
        channel, bank, row = self.locate(bursts.addresses)
        runs = []
        for number in np.unique(channel).tolist():
            local = channel == number
            state = self._channel()
            columns: list[list[Any]] = [a[local].tolist() for a in (bank, row, bursts.writes, bursts.arrivals)]
            for burst in zip(*columns, strict=True):
                state.access(*burst)
            runs.append((state.end, state.stats))
        return self._run(runs)

    def stream(self, size: int, kind: Kind = "read") -> DramRun:
        """Return the time of a sequential stream from address 0: equal to `time` of its bursts, in far fewer steps.

        Parameters
        ----------
        size
            Bytes of the stream; the last burst is moved whole.
        kind
            ``"read"`` (the default) or ``"write"``.

        Raises
        ------
        ArgumentError
            If the size is negative, or the kind is neither of the two.
        """
        write = _writes(kind)
        if size < 0:
            raise ArgumentError(f"the size of a stream must be at least 0 bytes, got {size}")
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
    """Return the end and the counts of sequential bursts on one channel.

    Bursts of rows that are all open are served in one step. After a refresh, the state of a channel is only its place in
    the round of rows and the time since the refresh was due, as all banks are closed. If both have occurred before,
    everything since then repeats as often as it fits.
    """
    groups, sweep = spec.bank_groups, spec.bank_groups * spec.columns
    paced = channel.t.tCCD_L <= groups * channel.t.tCCD_S
    history: dict[tuple[int, int], tuple[int, int, DramStats]] = {}
    served = skipped_time = refreshes = 0
    skipped = DramStats()
    while served < bursts:
        place, group = divmod(served, groups)
        turn = place // spec.columns
        bank = turn % spec.banks * groups
        channel.access(bank + group, turn // spec.banks, write)
        first, served = served, served + 1
        left = min(sweep - served % sweep, bursts - served) if served % sweep else 0
        # A refresh in the middle of a row leaves only some banks open; a round of events opens the rest.
        same_row = all(row == turn // spec.banks for row in channel.row[bank : bank + groups])
        if served % groups == 0 and left and paced and same_row:
            served += channel.hits(list(range(bank, bank + groups)), left // groups * groups, write)
        if channel.counts["refreshes"] != refreshes and not skipped_time:
            refreshes = channel.counts["refreshes"]
            key = (first % sweep, channel.restarted - channel.due)
            if key in history:
                before, time, stats = history[key]
                times = (bursts - served) // (served - before)
                skipped_time = (channel.restarted - time) * times
                skipped = (channel.stats - stats) * times
                bursts -= (served - before) * times
            history[key] = (served, channel.restarted, channel.stats)
    return channel.end + skipped_time, channel.stats + skipped


def _writes(kind: Kind) -> bool:
    if kind not in ("read", "write"):
        raise ArgumentError(unknown("kind of stream", kind, get_args(Kind)))
    return kind == "write"
