"""`tilewright prune`: give a model a pattern, once, without recovery."""

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
            help="A model: a folder, package:NAME for one inside a Python package, or module:callable that builds a torch module."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write the packed checkpoint to.")],
    pattern: Annotated[str, typer.Option("--pattern", "-p", help="Such as 2:4, tw16@75%, bank64@16x.")],
    score: Annotated[
        str, typer.Option(help="What makes a weight worth keeping: magnitude, taylor, wanda or second-order.")
    ] = "magnitude",
    update: Annotated[
        str, typer.Option(help="What becomes of kept weights: none, or obs to make up for pruned ones.")
    ] = "none",
    budget: Annotated[
        str, typer.Option(help="How a target is split over layers: uniform, global or sensitivity.")
    ] = "uniform",
    passages: Annotated[
        int,
        typer.Option(
            min=1, help="Texts or other inputs to look at, for scores beyond magnitude, updates and sensitivity."
        ),
    ] = 512,
    inputs: Inputs = None,
    shape: Shape = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Prune only what this name or expression matches; may repeat.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Leave alone what this name or expression matches; may repeat.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse when a layer cannot take the pattern, instead of skipping it.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Prune a model in one shot and write it as a packed checkpoint. Recovery is the work of `run`."""
    from .. import jobs

    checked_pattern(pattern)
    jobs.require_choices(score, update, budget)
    jobs.require_model(model)
    form = shape_of(shape)
    with stdout_kept_clean(), progress(quiet or dry_run) as told:
        spared = tuple(ignore or ())
        if dry_run:
            report = jobs.forecast_prune(
                model,
                pattern,
                score=score,
                update=update,
                budget=budget,
                targets=target,
                ignore=spared,
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
                shape=form,
                targets=target,
                ignore=spared,
                strict=strict,
                progress=told,
            )
    return emit(report, as_json=as_json)
