"""`run`: a whole job from a recipe: prune, recover, pack, load back, measure, judge, report."""

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
    """Where a job left its results, and whether it kept its promises.

    Parameters
    ----------
    output
        The job's folder; the packed model stands in ``output / "model"``.
    report_path, records_path
        The report and the records it was made from.
    checks
        Every promise of the recipe with what was measured.
    ok
        True if all of them hold.
    summary
        One sentence.
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
    """Do the whole job of a recipe and write its model, records and report.

    Parameters
    ----------
    recipe
        From `load_recipe`.
    output
        Folder for everything; made if missing.
    resume
        Go on from the recovery's checkpoints in that folder, if they are of the same recipe. Otherwise they are removed first.
    progress
        Told about every stage.

    Raises
    ------
    TilewrightError
        If the model or the data is not available, another job is at work in the folder, or a check along the way fails. Until the new
        model is written, the model, records, recipe and report of an earlier job in the folder stay as they are.
    """
    told = progress or SilentProgress()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file; name a folder for the job's results")
    source = source_of(recipe.model)
    check_task(source, recipe.data)
    if source.folder and Path(source.folder).resolve() == folder.resolve():
        raise ArgumentError(f"{folder} is the folder of the dense model; choose another one for the job's results")
    check_output(source.folder or folder / "no model", *(folder / part for part in PARTS))
    require_engines(recipe.bench.peers)
    told.stage("read model and data")
    teacher = read_model(recipe.model)
    task = build_task(recipe.data, source, teacher)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return _run(Job(recipe, task, folder, told, resume), teacher)


def _run(job: Job, teacher: Any) -> JobResult:
    began = time.monotonic()
    recipe, task, folder, told = job.recipe, job.task, job.folder, job.told
    told.say(f"judged by {task.name}: {task.measures[0].meaning}")
    job.rate_dense(teacher)
    if recipe.permute is not None:
        job.permute_(teacher)
    students = [job.student(teacher, seed) for seed in recipe.seeds]
    told.stage("pack and load back")
    model = job.pack(students[0])
    job.add(*size_records(folder / "model", inner_model(teacher), inner_model(model)))
    told.stage("measure speed")
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
            progress=told,
        )
    )
    told.stage("explain and report")
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
        about=about(recipe, teacher, task, time.monotonic() - began),
    )
    summary = f"{recipe.name}: {'all' if ok else 'not all'} of {len(checks)} promises kept"
    return JobResult(folder, report, job.records_path, checks, ok, summary)
