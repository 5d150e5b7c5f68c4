"""Silicon area of a machine's lanes, selectors and on-chip memories, for comparing variations of one machine.

::

    area = lanes x (multiply + add + (inputs of a selector - 1) x operand bits x multiplexer) + bits x SRAM bit

all at 45 nm. Lanes that serve several data types count as the largest of them. Registers, wiring, control, the vector
unit, caches that hold no operands, DRAM controllers and pads are left out, so the sum is below any real die. Ratios
between variations of one machine are meaningful; ratios between machines of different kinds mean little.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..machine.spec import BYTES, AcceleratorSpec
from ..quantity import Quantity, assumed

__all__ = ["AREAS", "area"]

_UNIT = "um2"
_SYNTHESIS = "45 nm synthesis as tabulated next to Horowitz's energies (Dally, tutorial, NIPS 2015), from memory"
_SIGNIFICAND = "a float16 multiplier scaled by the square of its significand"

AREAS: Mapping[str, Quantity] = MappingProxyType(
    {
        "multiply.int4": assumed(282 / 4, _UNIT, "a quarter of int8: multipliers grow with the square", low=50, high=140),
        "multiply.int8": assumed(282, _UNIT, _SYNTHESIS, low=200, high=400),
        "multiply.int16": assumed(4 * 282, _UNIT, "four of int8: multipliers grow with the square", low=800, high=1600),
        "multiply.float16": assumed(1640, _UNIT, _SYNTHESIS, low=1100, high=2300),
        "multiply.bfloat16": assumed(1640 * (8 / 11) ** 2, _UNIT, _SIGNIFICAND, low=600, high=1300),
        "multiply.tf32": assumed(1640, _UNIT, "the significand of float16", low=1100, high=2300),
        "multiply.float32": assumed(7700, _UNIT, _SYNTHESIS, low=5400, high=11000),
        "add.int32": assumed(137, _UNIT, _SYNTHESIS, low=95, high=195),
        "add.float32": assumed(4184, _UNIT, _SYNTHESIS, low=2900, high=5900),
        "multiplexer": assumed(1.9, _UNIT, "2:1, one bit, of the smallest drive in open 45 nm libraries", low=1.3, high=2.6),
        "sram.bit": assumed(
            0.6, _UNIT, "published bit cells of 45 nm take 0.25 to 0.35, and half of an array is cells", low=0.4, high=0.9
        ),
    }
)  # fmt: skip
"""Area of the parts of lanes and memories, in square micrometres at 45 nm."""


def area(spec: AcceleratorSpec) -> dict[str, float]:
    """Return the area of a card's ``"lanes"``, ``"selectors"`` and ``"memories"``, and their ``"total"``, in um2 at 45 nm.

    Parameters
    ----------
    spec
        The machine.

    Examples
    --------
    >>> from tilewright.hardware.machine.presets import preset
    >>> sparse, dense = area(preset("s4")), area(preset("s4-dense"))
    >>> dense["selectors"], sparse["lanes"] == dense["lanes"], sparse["total"] > dense["total"]
    (0.0, True, True)
    """
    units = float(spec.cores) * float(spec.chips)
    lanes = max(float(rate) * _lane(dtype) for dtype, rate in spec.macs.items())
    muxes = max((float(spec.macs[dtype]) * _selector(spec, dtype) for dtype in spec.selectors), default=0)
    bits = sum(8 * float(memory.size) * memory.instances for memory in spec.memories[:-1])
    parts = {
        "lanes": units * lanes,
        "selectors": units * muxes,
        "memories": float(spec.chips) * bits * float(AREAS["sram.bit"]),
    }
    return {**parts, "total": sum(parts.values())}


def _lane(dtype: str) -> float:
    kind = "int32" if dtype.startswith("int") else "float32"
    return float(AREAS[f"multiply.{dtype}"]) + float(AREAS[f"add.{kind}"])


def _selector(spec: AcceleratorSpec, dtype: str) -> float:
    """Return the area of the selector in front of a multiplier: over STA's window, S4's bank or a tensor core's group."""
    built = next((float(spec.costs[name]) for name in ("window", "bank") if name in spec.costs), 0)
    inputs = built or max((m for _, m in spec.selectors[dtype]), default=1)
    return (inputs - 1) * 8 * BYTES[dtype] * float(AREAS["multiplexer"])
