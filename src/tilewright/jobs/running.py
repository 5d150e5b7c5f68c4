"""`run`: a whole job from a recipe: prune, recover, pack, load, measure, check, report."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..pages import Check, write_report
from ..records import Progress, SilentProgress
from .job import PARTS, Job
from .judging import checks_of, layer_records, masks_to_show
from .models import inner_model, read_model
from .places import alone, check_output
from .recipe.recipe import Recipe
from .sizes import size_records
from .sources import source_of
from .speed.benching import loaded, speed_records
from .speed.peers import require_engines
from .tasks import build_task, check_task
from .telling import about

__all__ = ["JobResult", "run"]


@dataclass(frozen=True)
class JobResult:
    """Results of a job, and whether they meet its requirements.

    Parameters
    ----------
    output
        Folder of the job; the packed model is in ``output / "model"``.
    report_path
        The HTML report.
    records_path
        The records that the report is based on, as JSON lines.
    checks
        Every requirement of the recipe with the measured value.
    ok
        True if all checks pass.
    summary
        The outcome in one sentence.
    """

    output: Path
    report_path: Path
    records_path: Path
    checks: tuple[Check, ...]
    ok: bool
    summary: str


def run(
    recipe: Recipe, output: str | os.PathLike[str], *, resume: bool = True, progress: Progress | None = None
) -> JobResult:
    """Run the whole job that a recipe describes, and write its model, records and report.

    Parameters
    ----------
    recipe
        Recipe from `load_recipe`.
    output
        Output folder, created if missing.
    resume
        Whether to resume from checkpoints of the same recipe in `output`. If False, checkpoints are deleted first.
    progress
        Receives every stage. Default: none.

    Returns
    -------
    JobResult
        Paths of the results, and the outcome of every requirement.

    Raises
    ------
    TilewrightError
        If the model or the data is not available, another job is using the folder, or an intermediate check fails. An earlier job's
        model, records, recipe and report in the folder stay unchanged until the new model is written.
    """
    progress = progress or SilentProgress()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file; give a folder for the job's results")
    source = source_of(recipe.model)
    check_task(source, recipe.data)
    if source.folder and Path(source.folder).resolve() == folder.resolve():
        raise ArgumentError(f"{folder} is the folder of the dense model; choose another one for the job's results")
    check_output(source.folder or folder / "no model", *(folder / part for part in PARTS))
    require_engines(recipe.bench.peers)
    progress.stage("read model and data")
    teacher = read_model(recipe.model)
    task = build_task(recipe.data, source, teacher)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return _run(Job(recipe, task, folder, progress, resume), teacher)


def _run(job: Job, teacher: Any) -> JobResult:
    start = time.monotonic()
    recipe, task, folder, progress = job.recipe, job.task, job.folder, job.told
    progress.say(f"task {task.name}: {task.measures[0].meaning}")
    job.rate_dense(teacher)
    if recipe.permute is not None:
        job.permute_(teacher)
    students = [job.student(teacher, seed) for seed in recipe.seeds]
    progress.stage("pack and load")
    model = job.pack(students[0])
    job.add(*size_records(folder / "model", inner_model(teacher), inner_model(model)))
    progress.stage("measure speed")
    bench = recipe.bench
    fast = loaded(folder / "model", bench.threads, recipe.model)
    job.add(
        *speed_records(
            inner_model(fast),
            task.example,
            bench.sentences,
            threads=bench.threads,
            peers=bench.peers,
            rounds=bench.rounds,
            progress=progress,
        )
    )
    progress.stage("explain and report")
    job.add(*layer_records(model))
    checks = checks_of(recipe, job.records, job.shares, task.measures[0].name)
    ok = all(check.ok for check in checks)
    report = folder / "report.html"
    write_report(
        report,
        job.records,
        title=recipe.name,
        masks=masks_to_show(folder / "model"),
        recipe=recipe.resolved(),
        summary=None,
        checks=checks,
        about=about(recipe, teacher, task, time.monotonic() - start),
    )
    summary = f"{recipe.name}: {sum(check.ok for check in checks)} of {len(checks)} requirements met"
    return JobResult(folder, report, job.records_path, checks, ok, summary)
