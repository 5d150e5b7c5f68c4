"""`tilewright doctor`: what works on this machine."""

from .options import Json
from .output import emit, stdout_kept_clean

__all__ = ["command"]


def command(as_json: Json = False) -> int:
    """Examine this installation: machine, packages, and every kernel against its definition. Exit code 1 when something is broken."""
    with stdout_kept_clean():
        from ..reports import doctor

        report = doctor()
    return emit(report, as_json=as_json)
