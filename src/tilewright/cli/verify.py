"""`tilewright verify`: whether the weights obey their patterns."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, checked_pattern
from .output import emit, stdout_kept_clean

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    pattern: Annotated[
        str | None, typer.Option("--pattern", "-p", help="The pattern to look for; the one on record by default.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Require as many kept weights as the pattern allows, not fewer.")
    ] = False,
    target: Annotated[
        list[str] | None, typer.Option(help="Look only at what this name or expression matches; may repeat.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Leave out what this name or expression matches; may repeat.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Say for every pruned weight whether its pattern holds, and where it first fails. Exit code 1 when one does not."""
    if pattern is not None:
        checked_pattern(pattern)
    with stdout_kept_clean():
        from ..runtime import verify

        report = verify(path, pattern, exact=exact, targets=target or None, ignore=tuple(ignore or ()))
    return emit(report, as_json=as_json)
