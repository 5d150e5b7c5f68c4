"""`tilewright run`: run the whole job that a recipe describes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..records import json_text
from .faults import NOT_OK
from .options import DryRun, Json, Quiet
from .output import emit, emit_text, stdout_kept_clean
from .progress import progress

if TYPE_CHECKING:
    from ..jobs import JobResult

__all__ = ["as_text", "command"]


def _schema(asked: bool) -> None:
    if asked:
        with stdout_kept_clean():
            from .. import jobs

            text = json.dumps(jobs.recipe_schema(), indent=2)
        emit_text(text)
        raise typer.Exit


def command(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as examples/minilm.yaml.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the results. Default: runs/ and the name of the recipe file."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Resume where an earlier run stopped, or start over.")
    ] = True,
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_schema, is_eager=True, help="Print the JSON schema of recipes and exit."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Prune, recover, verify, pack and measure a model as a recipe describes, and write a report."""
    from .. import jobs

    job = jobs.load_recipe(recipe)
    jobs.require_data(job)
    with stdout_kept_clean(), progress(quiet or dry_run) as display:
        if dry_run:
            forecast = jobs.forecast(job)
        else:
            result = jobs.run(job, output or Path("runs") / recipe.stem, resume=resume, progress=display)
    if dry_run:
        return emit(forecast, as_json=as_json)
    emit_text(_to_json(result) if as_json else as_text(result))
    return 0 if result.ok else NOT_OK


def _to_json(result: "JobResult") -> str:
    body = {
        "kind": "run",
        "ok": result.ok,
        "summary": result.summary,
        "checks": [check.to_dict() for check in result.checks],
        "output": str(result.output),
        "report": str(result.report_path),
        "records": str(result.records_path),
    }
    return json_text(body)


def as_text(result: "JobResult") -> str:
    """Return a finished job as text: the summary, every requirement, and the paths of the results."""
    lines = [result.summary, ""]
    for check in result.checks:
        value = f"{check.value:.4g}" if isinstance(check.value, float) else str(check.value)
        lines.append(f"{'pass' if check.ok else 'FAIL'}  {check.name}: {value} ({check.limit})")
    if result.checks:
        lines.append("")
    return "\n".join([*lines, f"report: {result.report_path}", f"records: {result.records_path}"])
