"""`tilewright doctor`: what works on this machine."""

from typing import Annotated

import typer

from .options import Json
from .output import emit, stdout_kept_clean

__all__ = ["command"]

Measure = Annotated[
    bool,
    typer.Option(
        "--measure", help="Measure anew which remembered layers run faster sparse here, in place of the examination."
    ),
]


def command(measure: Measure = False, as_json: Json = False) -> int:
    """Examine this installation: machine, packages, and every kernel against its definition. Exit code 1 when something is broken."""
    with stdout_kept_clean():
        if measure:
            from ..runtime import measure_again

            report = measure_again()
        else:
            from ..jobs import doctor

            report = doctor()
    return emit(report, as_json=as_json)
