"""The account of a product's cycles, multiply-accumulates and joules."""

import math
from collections.abc import Mapping

from ...machine.spec import AcceleratorSpec
from ...result import CAUSES
from ...workload import Operation
from .lowering import Lowered
from .tiling import Tiling
from .timing import Elapsed

__all__ = ["issued_macs", "joules", "product_parts", "whole"]


def issued_macs(plan: Tiling, lowered: Lowered) -> int:
    """Return the multiply-accumulates of all tiles at their full size."""
    rows, columns, depth = plan.shape
    return int(plan.issued * rows * columns * depth * lowered.executed)


def product_parts(
    spec: AcceleratorSpec, operation: Operation, lowered: Lowered, plan: Tiling, elapsed: Elapsed, dtype: str
) -> dict[str, float]:
    """Return the cycles of all tiles by cause, for the mean core; its wait for the fullest core is imbalance.

    The cycles of a step are attributed in order: lanes at their rate, instructions, shared memory and L2, DRAM,
    positions. While the fullest core does not compute, it waits for first operands or for its last stores, in proportion
    to the two.
    """
    cores, rate = int(spec.cores), float(spec.rate(dtype))
    lanes = cores * rate
    steps = plan.issued / cores
    useful = (operation.useful / operation.steps - operation.M * operation.copies * lowered.extra) / lanes
    groups = float((lowered.widths * lowered.depths).sum())
    ran = max(useful, operation.M * operation.copies * groups * lowered.executed / lanes)
    chip = max(plan.issue, min(plan.bare, max(plan.shared, plan.l2)))
    waiting = float(spec.costs["step"])
    stall = max(0, elapsed.total - elapsed.busy)
    sides = max(1, plan.load + plan.store)
    return {
        "useful": useful,
        "density step": ran - useful,
        "padding": max(0.0, steps * plan.ideal - ran),
        "issue": steps * (plan.issue - plan.ideal + waiting),
        "on-chip bandwidth": steps * (chip - plan.issue),
        "bandwidth": steps * (plan.bare - chip) + stall * plan.store / sides,
        "index": steps * (plan.step - waiting - plan.bare),
        "imbalance": max(0.0, elapsed.busy - steps * plan.step),
        "fill and drain": stall * plan.load / sides,
    }


def whole(parts: Mapping[str, float]) -> tuple[int, dict[str, int]]:
    """Return whole cycles, rounded up, and their causes; the rounding goes to the largest cause other than useful work."""
    cycles = math.ceil(sum(parts.values()) - 1e-6)
    causes = {cause: int(parts[cause] + 1e-9) for cause in CAUSES if parts.get(cause, 0) > 0}
    rest = cycles - sum(causes.values())
    if rest:
        bound = max((c for c in parts if c != "useful"), key=lambda cause: parts[cause])
        causes[bound] = causes.get(bound, 0) + rest
    return cycles, {cause: count for cause, count in causes.items() if count}


def joules(spec: AcceleratorSpec, dtype: str, macs: int, levels: Mapping[str, int], cycles: int) -> dict[str, float]:
    """Return the joules by part: arithmetic, bytes of each level, and static power."""
    parts = {"mac": macs * float(spec.energy[f"mac.{dtype}"])} if macs else {}
    parts |= {level: count * float(spec.energy[f"byte.{level}"]) for level, count in levels.items()}
    parts["static"] = float(spec.energy["static"]) * cycles / float(spec.clock)
    return parts
