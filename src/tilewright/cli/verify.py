"""`tilewright verify`: check that weights satisfy their patterns."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, checked_pattern
from .output import emit, stdout_kept_clean

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", "-p", help="Pattern to check. Default: the one recorded in the checkpoint."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Require exactly as many kept weights as the pattern allows.")
    ] = False,
    target: Annotated[
        list[str] | None, typer.Option(help="Name or expression of weights to check; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Name or expression of weights to skip; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Check every pruned weight against its pattern, and report where it first fails. Exit code 1 if one does not hold."""
    if pattern is not None:
        checked_pattern(pattern)
    with stdout_kept_clean():
        from ..runtime import verify

        report = verify(path, pattern, exact=exact, targets=target or None, ignore=tuple(ignore or ()))
    return emit(report, as_json=as_json)
