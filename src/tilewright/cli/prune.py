"""`tilewright prune`: prune a model to a pattern in one shot, without recovery."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DryRun, Inputs, Json, Quiet, Shape, checked_pattern, shape_of
from .output import emit, stdout_kept_clean
from .progress import progress

__all__ = ["command"]


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="Model: a folder, package:NAME for one inside a Python package, or module:callable that builds a torch module."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write the packed checkpoint to.")],
    pattern: Annotated[str, typer.Option("--pattern", "-p", help="Pattern, such as 2:4, tw16@75% or bank64@16x.")],
    score: Annotated[
        str, typer.Option(help="Score that ranks weights: magnitude, taylor, wanda or second-order.")
    ] = "magnitude",
    update: Annotated[
        str, typer.Option(help="Update of kept weights: none, or obs to compensate for pruned ones.")
    ] = "none",
    budget: Annotated[
        str, typer.Option(help="How sparsity is distributed over layers: uniform, global or sensitivity.")
    ] = "uniform",
    passages: Annotated[
        int,
        typer.Option(
            min=1, help="Number of calibration items, for scores other than magnitude, updates and sensitivity."
        ),
    ] = 512,
    inputs: Inputs = None,
    shape: Shape = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Name or expression of layers to prune; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Name or expression of layers to leave dense; may be repeated.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a layer cannot take the pattern, instead of skipping it.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Prune a model in one shot and write it as a packed checkpoint. For recovery, use `run`."""
    from .. import jobs

    checked_pattern(pattern)
    jobs.require_choices(score, update, budget)
    jobs.require_model(model)
    sides = shape_of(shape)
    with stdout_kept_clean(), progress(quiet or dry_run) as display:
        ignored = tuple(ignore or ())
        if dry_run:
            report = jobs.forecast_prune(
                model,
                pattern,
                score=score,
                update=update,
                budget=budget,
                targets=target,
                ignore=ignored,
                strict=strict,
            )
        else:
            report = jobs.prune(
                model,
                out,
                pattern,
                score=score,
                update=update,
                budget=budget,
                passages=passages,
                inputs=None if inputs is None else str(inputs),
                shape=sides,
                targets=target,
                ignore=ignored,
                strict=strict,
                progress=display,
            )
    return emit(report, as_json=as_json)
