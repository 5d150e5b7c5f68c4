"""The evaluation of one design: its figures, or why it was refused."""

from typing import Any

from ...errors import TilewrightError
from ..machine.presets import preset
from ..simulate import simulate
from .area import area
from .design import Design

__all__ = ["MEASURES", "Jobs", "Result", "evaluate"]

Result = dict[str, Any]
Jobs = list[tuple[str, Design]]
MEASURES = ("seconds", "samples/s", "joules", "watts", "useful/peak", "area")


def evaluate(design: Design) -> Result:
    """Return the figures of one design, or the reason why it was refused."""
    try:
        spec = design.spec()
        run = simulate(
            design.workload(),
            spec,
            batch=design.batch,
            dtype=design.dtype,
            pattern=design.pattern,
            fidelity="analytical",
            interval=False,
        )
    except TilewrightError as error:
        return {"refused": str(error)}
    values = (
        run.seconds,
        run.throughput,
        run.joules,
        run.watts,
        run.utilisation["useful"],
        area(spec)["total"] / area(preset(design.arch))["total"],
    )
    return dict(zip(MEASURES, values, strict=True))
