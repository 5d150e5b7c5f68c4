"""Energy of multiply-accumulates, on-chip bytes and DRAM bytes, from published tables and one scaling rule.

The two ends of the table are Horowitz's figures at 45 nm (ISSCC 2014) and their update to 7 nm (Jouppi et al., ISCA 2021,
table 2). Between them, and up to 65 nm, energy follows the power law of the node through both: ``E(x) = E45 * (x / 45) **
a``, with ``a = log(E45 / E7) / log(45 / 7)``. SRAM between two sizes follows a power law of the size in the same way.
DRAM is not scaled: its energy per byte depends on its kind, interface included.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from ...errors import ArgumentError, unknown
from ..quantity import Quantity, derived, sourced

__all__ = ["DRAM", "byte_energy", "mac_energy", "sram_energy"]

_PICO = 1e-12
_TABLE = "Horowitz, ISSCC 2014 (45 nm) and Jouppi et al., ISCA 2021, table 2 (7 nm)"
_NODES = (7.0, 65.0)

_MULTIPLY = {"int8": (0.2, 0.07), "float16": (1.1, 0.34), "float32": (3.7, 1.31), "bfloat16": (1.1 * 0.21 / 0.34, 0.21)}
_INT32_ADD, _FLOAT32_ADD = (0.1, 0.03), (0.9, 0.38)
_MACS: Mapping[str, tuple[tuple[float, float], tuple[float, float], str]] = MappingProxyType(
    {
        "int8": (_MULTIPLY["int8"], _INT32_ADD, "int8 multiply and int32 add"),
        "int4": ((0.05, 0.0175), _INT32_ADD, "a quarter of an int8 multiply, which grows with the square of the bits, and int32 add"),
        "int16": ((0.8, 0.28), _INT32_ADD, "four int8 multiplies, as multipliers grow with the square of the bits, and int32 add"),
        "float16": (_MULTIPLY["float16"], _FLOAT32_ADD, "float16 multiply and float32 add"),
        "bfloat16": (
            _MULTIPLY["bfloat16"],
            _FLOAT32_ADD,
            "bfloat16 multiply, at 45 nm in the ratio to float16 that it has at 7 nm, and float32 add",
        ),
        "tf32": (_MULTIPLY["float16"], _FLOAT32_ADD, "as float16, whose significand it has, and float32 add"),
        "float32": (_MULTIPLY["float32"], _FLOAT32_ADD, "float32 multiply and add"),
    }
)  # fmt: skip

_SRAM = ((8 << 10, 10.0, 7.5), (32 << 10, 20.0, 8.5), (1 << 20, 100.0, 14.0))
"""Bytes, and picojoules of a 64-bit access at 45 and 7 nm."""

_FINE = "O'Connor et al., Fine-Grained DRAM, MICRO 2017"
_MICRON = "Micron, Ultra-Bandwidth Solutions: average device power"
DRAM: Mapping[str, Quantity] = MappingProxyType(
    {
        "hbm2": sourced(8 * 3.92 * _PICO, "J/byte", f"{_FINE}: 3.92 pJ/bit", low=8 * 3.9 * _PICO, high=8 * 7.0 * _PICO),
        "hbm2e": sourced(8 * 6.0 * _PICO, "J/byte", f"{_MICRON}, 6 pJ/bit", low=8 * 3.9 * _PICO, high=8 * 7.0 * _PICO),
        "gddr6": sourced(8 * 7.5 * _PICO, "J/byte", f"{_MICRON}, 7.5 pJ/bit", low=8 * 5.5 * _PICO, high=8 * 9.0 * _PICO),
        "gddr6x": sourced(8 * 7.25 * _PICO, "J/byte", f"{_MICRON}, 7.25 pJ/bit", low=8 * 5.5 * _PICO, high=8 * 9.0 * _PICO),
        "gddr5": sourced(8 * 14.0 * _PICO, "J/byte", f"{_FINE}: 14 pJ/bit"),
        "lpddr4x": Quantity(
            8 * 6.0 * _PICO, "J/byte", "assumed", "no table of ours gives it; device and interface of published mobile parts lie at 4 to 8 pJ/bit",
            8 * 4.0 * _PICO, 8 * 8.0 * _PICO,
        ),
        "ddr4": sourced(1300 * _PICO / 8, "J/byte", "Jouppi et al., ISCA 2021, table 2: 1300 pJ for 64 bits", low=8 * 13.0 * _PICO, high=8 * 22.0 * _PICO),
    }
)  # fmt: skip
"""Joules per byte of DRAM by kind: array, interface, and the controller's side of the interface."""


def mac_energy(dtype: str, nanometres: float) -> Quantity:
    """Return the energy of one multiply-accumulate in joules: arithmetic alone, accumulated in int32 or float32.

    Parameters
    ----------
    dtype
        ``"int8"``, ``"int16"``, ``"int4"``, ``"float16"``, ``"bfloat16"``, ``"tf32"`` or ``"float32"``.
    nanometres
        Process node in nanometres, as named.

    Raises
    ------
    ArgumentError
        If the table has no such type, or the node lies outside 7 to 65 nm.

    Notes
    -----
    The interval runs from three quarters of the value to twice the value: circuits differ, and operand registers and
    wiring, which the table leaves out, take about as much again.

    Examples
    --------
    >>> round(float(mac_energy("int8", 45)) * 1e12, 3), round(float(mac_energy("int8", 7)) * 1e12, 3)
    (0.3, 0.1)
    """
    if dtype not in _MACS:
        raise ArgumentError(unknown("data type", dtype, _MACS))
    multiply, add, how = _MACS[dtype]
    value = (_at(*multiply, nanometres) + _at(*add, nanometres)) * _PICO
    return derived(
        value, "J/MAC", f"{how}, {_TABLE}, at {nanometres:g} nm by a power law", low=0.75 * value, high=2 * value
    )


def sram_energy(size: float, nanometres: float) -> Quantity:
    """Return the energy per byte of an on-chip memory in joules, read or written in words of 64 bits.

    Parameters
    ----------
    size
        Bytes of one memory array, clamped to 8 KiB to 1 MiB.
    nanometres
        Process node in nanometres, as named.

    Raises
    ------
    ArgumentError
        If the size is not positive, or the node lies outside 7 to 65 nm.

    Examples
    --------
    >>> round(float(sram_energy(8 << 10, 45)) * 8e12, 3)  # a word of 8 bytes
    10.0
    """
    if size <= 0:
        raise ArgumentError(f"the size of a memory must be positive, got {size:g} bytes")
    points = [(math.log(bytes_), math.log(_at(old, new, nanometres))) for bytes_, old, new in _SRAM]
    place = min(max(math.log(size), points[0][0]), points[-1][0])
    below, above = (points[0], points[1]) if place <= points[1][0] else (points[1], points[2])
    share = (place - below[0]) / (above[0] - below[0])
    value = math.exp(below[1] + share * (above[1] - below[1])) / 8 * _PICO
    source = f"64-bit access of {size / 1024:g} KiB, {_TABLE}, at {nanometres:g} nm by a power law"
    return derived(value, "J/byte", source, low=0.6 * value, high=1.6 * value)


def byte_energy(level: str, nanometres: float | None = None, *, size: float | None = None) -> Quantity:
    """Return the energy per byte of one level of memory in joules.

    Parameters
    ----------
    level
        A kind of DRAM (see `DRAM`), or ``"sram"``.
    nanometres, size
        Process node and size, required for ``"sram"`` only; as for `sram_energy`.

    Raises
    ------
    ArgumentError
        If the level is unknown, or ``"sram"`` is given without node and size.

    Examples
    --------
    >>> float(byte_energy("gddr6")) > float(byte_energy("sram", 8, size=64 << 10))
    True
    """
    if level in DRAM:
        return DRAM[level]
    if level != "sram":
        raise ArgumentError(unknown("kind of memory", level, ("sram", *DRAM)))
    if nanometres is None or size is None:
        raise ArgumentError("the energy of on-chip memory depends on its node and size; pass nanometres= and size=")
    return sram_energy(size, nanometres)


def _at(old: float, new: float, nanometres: float) -> float:
    """Return a figure at a node, from its values at 45 and 7 nm."""
    if not _NODES[0] <= nanometres <= _NODES[1]:
        raise ArgumentError(f"energies are known from {_NODES[0]:g} to {_NODES[1]:g} nm, got {nanometres:g} nm")
    return float(old * (nanometres / 45) ** (math.log(old / new) / math.log(45 / 7)))
