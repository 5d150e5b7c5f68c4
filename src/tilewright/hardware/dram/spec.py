"""`DramSpec`: a DRAM as a frozen value, with its shape, its clock, and every timing with its source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ...errors import ArgumentError
from ..quantity import Quantity

__all__ = ["TIMINGS", "Cycles", "DramSpec"]


@dataclass(frozen=True)
class Cycles:
    """Timings in whole command clocks, with JEDEC's names; from command to command unless stated otherwise."""

    burst: int
    """Clocks that a burst occupies the data bus."""
    tRCD: int  # noqa: N815 (JEDEC's spelling)
    """Activate to read or write."""
    tRP: int  # noqa: N815 (JEDEC's spelling)
    """Precharge to activate."""
    tRAS: int  # noqa: N815 (JEDEC's spelling)
    """Activate to precharge."""
    tCL: int  # noqa: N815 (JEDEC's spelling)
    """Read to its first data."""
    tCWL: int  # noqa: N815 (JEDEC's spelling)
    """Write to its first data."""
    tCCD_S: int  # noqa: N815 (JEDEC's spelling)
    """Column command to the next, in another bank group."""
    tCCD_L: int  # noqa: N815 (JEDEC's spelling)
    """The same, in the same bank group."""
    tRRD_S: int  # noqa: N815 (JEDEC's spelling)
    """Activate to the next, in another bank group."""
    tRRD_L: int  # noqa: N815 (JEDEC's spelling)
    """The same, in the same bank group."""
    tFAW: int  # noqa: N815 (JEDEC's spelling)
    """Activate to the fourth activate after it."""
    tWR: int  # noqa: N815 (JEDEC's spelling)
    """End of written data to precharge."""
    tRTP: int  # noqa: N815 (JEDEC's spelling)
    """Read to precharge."""
    tWTR_S: int  # noqa: N815 (JEDEC's spelling)
    """End of written data to read, in another bank group."""
    tWTR_L: int  # noqa: N815 (JEDEC's spelling)
    """The same, in the same bank group."""
    tRFC: int  # noqa: N815 (JEDEC's spelling)
    """Refresh of all banks to activate."""
    tREFI: int  # noqa: N815 (JEDEC's spelling)
    """Interval at which refreshes are due."""

    @property
    def tRTW(self) -> int:  # noqa: N802
        """Read to write: latency and data of the read, two clocks of bus turnaround, less the write latency."""
        return max(self.tCL + self.burst + 2 - self.tCWL, self.tCCD_S)


TIMINGS = tuple(f.name for f in fields(Cycles))
"""The names that `DramSpec.timing` must have, and no others."""


@dataclass(frozen=True)
class DramSpec:
    """A DRAM: identical channels with a row buffer in every bank.

    Parameters
    ----------
    name
        Name of the DRAM, such as ``"hbm2e"``.
    channels
        Number of independent channels (of pseudo-channels where the part has them).
    bank_groups, banks
        Bank groups per channel, and banks per group.
    row_bytes
        Bytes of a row of one bank.
    burst_bytes
        Bytes moved by one read or write.
    clock
        Command clock in Hz.
    timing
        Every timing in `TIMINGS`, in ``"ns"`` or ``"cycle"``.
    window
        Requests that the controller of a channel sees at once: row commands of the newest may go ahead of column commands
        of the oldest. Default: 64.

    Raises
    ------
    ArgumentError
        If a number is missing, not positive, or inconsistent with another.
    """

    name: str
    channels: Quantity
    bank_groups: int
    banks: int
    row_bytes: int
    burst_bytes: int
    clock: Quantity
    timing: Mapping[str, Quantity]
    window: int = 64

    def __post_init__(self) -> None:
        missing, extra = set(TIMINGS) - set(self.timing), set(self.timing) - set(TIMINGS)
        if missing or extra:
            raise ArgumentError(
                f"the timings of DRAM {self.name} must be those of TIMINGS; missing {sorted(missing)}, unknown {sorted(extra)}"
            )
        sizes = (int(self.channels), self.bank_groups, self.banks, self.row_bytes, self.burst_bytes, self.window)
        if min(sizes) < 1 or self.row_bytes % self.burst_bytes or not float(self.clock) > 0:
            raise ArgumentError(
                f"DRAM {self.name} needs counts of at least 1, a positive clock and rows of whole bursts, got channels, bank groups, "
                f"banks, row bytes, burst bytes and window {sizes} at {float(self.clock):g} Hz"
            )
        t = self.cycles
        if not 1 <= t.burst <= t.tCCD_S <= t.tCCD_L or t.tRRD_S > t.tRRD_L or t.tWTR_S > t.tWTR_L:
            raise ArgumentError(
                f"DRAM {self.name} needs burst <= tCCD_S <= tCCD_L, tRRD_S <= tRRD_L and tWTR_S <= tWTR_L; got, in clocks, "
                f"{t.burst}, {t.tCCD_S}, {t.tCCD_L}; {t.tRRD_S}, {t.tRRD_L}; {t.tWTR_S}, {t.tWTR_L}"
            )
        slowest = max(t.tFAW, t.tCCD_L, t.tRRD_L, t.tCWL + t.burst + t.tWTR_L, t.tRTW)
        if t.tRFC < slowest or t.tREFI <= t.tRFC + t.tRP + t.tRCD + t.tRAS:
            raise ArgumentError(
                f"DRAM {self.name} refreshes for {t.tRFC} clocks every {t.tREFI}; a refresh must take longer than every other timing "
                f"({slowest}) and leave time for requests"
            )

    @property
    def cycles(self) -> Cycles:
        """The timings in command clocks, rounded up."""
        return Cycles(**{name: self._clocks(name) for name in TIMINGS})

    def _clocks(self, name: str) -> int:
        quantity = self.timing[name]
        if quantity.unit == "cycle":
            return int(quantity)
        if quantity.unit != "ns":
            raise ArgumentError(
                f"the timing {name} of DRAM {self.name} is in {quantity.unit!r}; expected 'ns' or 'cycle'"
            )
        # An excess of a millionth of a clock is rounding noise, not a reason to wait another clock.
        return max(math.ceil(float(quantity) * 1e-9 * float(self.clock) - 1e-6), 0)

    @property
    def peak(self) -> float:
        """Bytes per second while the data bus of every channel is busy."""
        return int(self.channels) * self.burst_bytes * float(self.clock) / self.cycles.burst

    @property
    def columns(self) -> int:
        """Bursts per row."""
        return self.row_bytes // self.burst_bytes
