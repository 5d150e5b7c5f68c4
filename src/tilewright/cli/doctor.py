"""`tilewright doctor`: report what works on this machine."""

from typing import Annotated

import typer

from .options import Json
from .output import emit, stdout_kept_clean

__all__ = ["command"]

Measure = Annotated[
    bool,
    typer.Option("--measure", help="Instead, measure again which remembered layers run faster sparse on this machine."),
]


def command(measure: Measure = False, as_json: Json = False) -> int:
    """Check this installation: machine, packages, and every kernel against its reference. Exit code 1 if anything is broken."""
    with stdout_kept_clean():
        if measure:
            from ..runtime import measure_again

            report = measure_again()
        else:
            from ..jobs import doctor

            report = doctor()
    return emit(report, as_json=as_json)
