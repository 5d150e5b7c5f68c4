"""`tilewright explain`: report how each layer runs on this machine, and why."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .output import emit, stdout_kept_clean

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a packed checkpoint.")],
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Typical number of tokens per call, batch times length. Default: 16 and 128."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Report for every layer whether it runs sparse or dense on this machine, with which kernel, and why."""
    with stdout_kept_clean():
        from ..runtime import explain

        report = explain(path, tokens=tokens)
    return emit(report, as_json=as_json)
