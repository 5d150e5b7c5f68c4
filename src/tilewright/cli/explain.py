"""`tilewright explain`: how each layer runs here, and why."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .output import emit, stdout_kept_clean

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a packed checkpoint.")],
    as_json: Json = False,
) -> int:
    """Say for every layer whether it runs sparse or dense on this machine, with which kernel, and the reason."""
    with stdout_kept_clean():
        from ..runtime import explain

        report = explain(path)
    return emit(report, as_json=as_json)
