"""DRAMs by name, each number with its source.

The timings of memory parts are in standards that are not public. Those without a public source are marked `assumed`, name
the standard they are recalled from, and have an interval that spans parts of their kind.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ...errors import ArgumentError, unknown
from ..quantity import Quantity, assumed, derived
from .spec import DramSpec

__all__ = ["DRAMS", "preset"]

Entry = float | tuple[float, float, float]
"""Nanoseconds: the value alone, or value, low and high."""


def _table(source: str, *, clocks: Mapping[str, int], **times: Entry) -> Mapping[str, Quantity]:
    timings = {name: assumed(number, "cycle", source) for name, number in clocks.items()}
    for name, entry in times.items():
        value, low, high = entry if isinstance(entry, tuple) else (entry, entry, entry)
        timings[name] = assumed(value, "ns", source, low=low, high=high)
    return MappingProxyType(timings)


def _hbm(name: str, channels: Quantity, clock: Quantity) -> DramSpec:
    source = "JEDEC JESD235, recalled; tRFC of 16 Gb parts"
    return DramSpec(
        name, channels, bank_groups=4, banks=4, row_bytes=1024, burst_bytes=32, clock=clock,
        timing=_table(
            source, clocks={"burst": 2, "tCCD_S": 2, "tCCD_L": 4, "tCWL": 8},
            tRCD=(14, 12, 16), tRP=(14, 12, 16), tRAS=(33, 28, 34), tCL=(14, 12, 20), tRRD_S=(4, 2, 5), tRRD_L=(5, 4, 6),
            tFAW=(16, 12, 20), tWR=(16, 14, 18), tRTP=(5, 4, 7.5), tWTR_S=(3, 2, 5), tWTR_L=(7.5, 5, 9), tRFC=(350, 260, 450),
            tREFI=3900,
        ),
    )  # fmt: skip


def _gddr(name: str, channels: Quantity, clock: Quantity, source: str) -> DramSpec:
    return DramSpec(
        name, channels, bank_groups=4, banks=4, row_bytes=2048, burst_bytes=32, clock=clock,
        timing=_table(
            source, clocks={"burst": 2, "tCCD_S": 2, "tCCD_L": 4, "tCWL": 6},
            tRCD=(14, 12, 18), tRP=(15, 12, 18), tRAS=(30, 26, 34), tCL=(14, 12, 18), tRRD_S=(5, 4, 7), tRRD_L=(5, 4, 7),
            tFAW=(20, 16, 28), tWR=(16, 14, 18), tRTP=(2.5, 2, 5), tWTR_S=(5, 4, 6), tWTR_L=(6.5, 5, 8), tRFC=(120, 100, 280),
            tREFI=1900,
        ),
    )  # fmt: skip


_PSEUDO = "5 stacks x 8 channels x 2 pseudo-channels of 64 bits: the 5,120-bit bus of the card"

DRAMS: Mapping[str, DramSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _hbm(
                "hbm2e",
                derived(80, "", f"A100 80 GB: {_PSEUDO}"),
                derived(1.593e9, "Hz", "A100 80 GB: 2,039 GB/s of the data sheet / 5,120 bits / 2 per clock"),
            ),
            _hbm(
                "hbm2",
                derived(64, "", "V100: 4 stacks x 8 channels x 2 pseudo-channels of 64 bits"),
                derived(0.877e9, "Hz", "V100: 898 GB/s / 4,096 bits / 2 per clock, the data sheet's 900 GB/s"),
            ),
            _gddr(
                "gddr6x",
                derived(24, "", "RTX 3090: 384-bit bus / channels of 16 bits"),
                derived(2.4375e9, "Hz", "RTX 3090: 19.5 Gb/s per pin, which is 936 GB/s, and 8 bits per pin and clock"),
                "no public standard; core timings of GDDR6 (JEDEC JESD250, recalled), which shares the memory core",
            ),
            _gddr(
                "gddr6",
                derived(16, "", "T4: 256-bit bus / channels of 16 bits"),
                derived(1.25e9, "Hz", "T4: 10 Gb/s per pin, which is the data sheet's 320 GB/s, and 8 bits per pin and clock"),
                "JEDEC JESD250, recalled",
            ),
            DramSpec(
                "lpddr4x",
                assumed(8, "", "S4: 128 bits in channels of 16, the width at which 4,266 Mb/s is 68.3 GB/s; 61.4 GB/s are measured"),
                bank_groups=1, banks=8, row_bytes=2048, burst_bytes=32,
                clock=assumed(2.133e9, "Hz", "LPDDR4X-4266, the fastest grade; MLPerf names LPDDR4X without a grade", low=1.6e9, high=2.133e9),
                timing=_table(
                    "JEDEC JESD209-4, recalled; tRFC of 8 Gb channels", clocks={"burst": 8, "tCCD_S": 8, "tCCD_L": 8, "tCL": 36, "tCWL": 18},
                    tRCD=18, tRP=(18, 18, 21), tRAS=42, tRRD_S=(7.5, 7.5, 10), tRRD_L=(7.5, 7.5, 10), tFAW=(30, 30, 40), tWR=18, tRTP=7.5,
                    tWTR_S=10, tWTR_L=10, tRFC=(280, 180, 380), tREFI=3904,
                ),
            ),
            DramSpec(
                "ddr4-2400",
                assumed(1, "", "one 64-bit channel; multiply for more"),
                bank_groups=4, banks=4, row_bytes=8192, burst_bytes=64,
                clock=assumed(1.2e9, "Hz", "2,400 Mb/s per pin, two per clock; the grade's name"),
                timing=_table(
                    "JEDEC JESD79-4, recalled; DDR4-2400T, 8 Gb parts of 8 bits",
                    clocks={"burst": 4, "tCCD_S": 4, "tCCD_L": 6, "tRCD": 17, "tRP": 17, "tCL": 17, "tCWL": 12, "tRRD_S": 4, "tRRD_L": 6},
                    tRAS=32, tFAW=21, tWR=15, tRTP=7.5, tWTR_S=2.5, tWTR_L=7.5, tRFC=350, tREFI=7800,
                ),
            ),
        )
    }
)  # fmt: skip
"""DRAMs by the name used in ``AcceleratorSpec.memories[...].kind``."""


def preset(name: str) -> DramSpec:
    """Return a DRAM by name: ``hbm2e``, ``hbm2``, ``gddr6x``, ``gddr6``, ``lpddr4x``, ``ddr4-2400``.

    Raises
    ------
    ArgumentError
        If the DRAM is unknown.

    Examples
    --------
    >>> round(preset("lpddr4x").peak / 1e9, 1)
    68.3
    """
    if name not in DRAMS:
        raise ArgumentError(unknown("DRAM", name, DRAMS))
    return DRAMS[name]
