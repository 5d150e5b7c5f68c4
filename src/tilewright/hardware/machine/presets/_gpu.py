"""What the GPU presets share: tiles, selectors, memories, energies, and default costs."""

from collections.abc import Iterable

from ...quantity import Quantity, assumed, derived, sourced
from ..energy import byte_energy, mac_energy, sram_energy
from ..spec import Memory, Tile

__all__ = ["SPECIFICATIONS", "TILES", "chip_memories", "common_costs", "energies", "selectors"]

SPECIFICATIONS = "CUDA C++ programming guide, technical specifications by compute capability"

TILES: tuple[Tile, ...] = (
    (256, 128, 32),
    (128, 256, 32),
    (128, 128, 32),
    (128, 64, 32),
    (64, 128, 32),
    (64, 64, 32),
)
"""Thread-block tiles that CUTLASS instantiates: tokens, outputs, 16-bit inputs. Other types take the same bytes along K."""


def selectors(*dtypes: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the n:m of Ampere's selectors by type: 2:4, 1:2 for TF32, 4:8 in pairs for INT4 (CUTLASS, host_uncompress.h)."""
    steps: dict[str, tuple[tuple[int, int], ...]] = {"tf32": ((1, 2),), "int4": ((4, 8),)}
    return {dtype: steps.get(dtype, ((2, 4),)) for dtype in dtypes}


def chip_memories(
    shared: int, l2_size: Quantity, l2_rate: Quantity, cores: int, clock: Quantity
) -> tuple[Memory, Memory]:
    """Return the shared memory of each core and the L2 of the chip.

    Parameters
    ----------
    shared
        Bytes of shared memory available to the thread blocks of a core.
    l2_size, l2_rate
        Bytes of L2, and bytes per cycle that its readers get.
    cores, clock
        Cores of the chip, and its clock: on-chip memories move a fixed number of bytes per cycle.
    """
    hertz = float(clock)
    low, high = l2_rate.interval
    banks = derived(128 * hertz, "byte/s", "32 banks of 4 bytes per cycle (CUDA C++ programming guide)")
    lines = Quantity(
        float(l2_rate) * hertz, "byte/s", l2_rate.provenance, f"{l2_rate}, by the clock", low * hertz, high * hertz
    )
    return Memory("shared", sourced(shared, "byte", SPECIFICATIONS), banks, cores), Memory("l2", l2_size, lines)


def common_costs() -> dict[str, Quantity]:
    """Return the default costs; a preset overrides those it has a better source for."""
    return {
        "launch": assumed(
            4e-6, "s", "dependent kernels on one stream follow each other after 2 to 6 us", low=2e-6, high=6e-6
        ),
        "stream launch": assumed(5e-6, "s", "host time of one more launch on a stream of its own", low=3e-6, high=8e-6),
        "fill": assumed(
            1000, "cycle", "first operands from DRAM (400 to 600 cycles) through L2 to the lanes", low=600, high=1500
        ),
        "port": assumed(64, "byte/cycle", "L2 to one core, Volta to Ampere", low=32, high=64),
        "fused": assumed(
            0, "", "element-wise operations are kernels of their own, as in a framework's eager mode; 1: epilogues"
        ),
        "half accumulate": derived(
            1, "", "rate with float16 sums over the rate with float32 sums: data-centre cards have one rate"
        ),
    }


def energies(dtypes: Iterable[str], node: float, dram: str, static: Quantity) -> dict[str, Quantity]:
    """Return the joules per multiply-accumulate by type and per byte by level, and the static watts."""
    array = float(sram_energy(1 << 20, node))
    crossing = f"an array of 1 MiB at {node:g} nm, and three times that for the way across a large chip"
    return {
        **{f"mac.{dtype}": mac_energy(dtype, node) for dtype in dtypes},
        "byte.shared": sram_energy(32 << 10, node),
        "byte.l2": assumed(4 * array, "J/byte", crossing, low=array, high=8 * array),
        "byte.dram": byte_energy(dram),
        "static": static,
    }
