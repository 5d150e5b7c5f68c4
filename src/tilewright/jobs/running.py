"""`run`: a whole job from a recipe: prune, recover, pack, load back, measure, judge, report."""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml

from ..errors import ArgumentError, CheckFailed
from ..pruning import sparsify_
from ..reports import Check, Progress, Record, SilentProgress, write_record, write_report
from ..runtime import explain, load, save, sparse_layers
from ..training import Batches, Checkpoint, mean_pooled, recover_
from .bench import ratios, speed_records
from .corpus import Corpus, python_docs
from .models import inner_model, read_model
from .peers import require_engines
from .recipe import Recipe
from .retrieval import Quality, embed, rate
from .sizes import size_records, weights_ratio

__all__ = ["JobResult", "run"]

_PICTURES = 4
"""Masks shown in the report."""


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
        If the model or the data cannot be had, or a check along the way fails; what was written before stays.
    """
    told = progress or SilentProgress()
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file; name a folder for the job's results")
    folder.mkdir(parents=True, exist_ok=True)
    job = _Job(recipe, folder, told)
    require_engines(recipe.bench.peers)
    told.stage("read model and data")
    teacher = read_model(recipe.model)
    corpus = python_docs(recipe.data.pairs, recipe.data.seed)
    told.say(f"{len(corpus.passages)} passages to train on, {len(corpus.pairs)} held-out pairs")
    job.rate_dense(teacher, corpus)
    students = [job.student(teacher, corpus, seed, resume) for seed in recipe.seeds]
    told.stage("pack and load back")
    model = job.pack(students[0], corpus)
    job.add(*size_records(folder / "model", inner_model(teacher), inner_model(model)))
    told.stage("measure speed")
    fast = load(folder / "model", measure=False)
    bench = recipe.bench
    job.add(
        *speed_records(
            fast, bench.sentences, threads=bench.threads, peers=bench.peers, rounds=bench.rounds, progress=told
        )
    )
    told.stage("explain and report")
    job.add(*_layer_records(model))
    return job.finish(fast)


class _Job:
    """What the stages of a job share: recipe, folder, records so far, the dense model's embeddings."""

    def __init__(self, recipe: Recipe, folder: Path, told: Progress) -> None:
        self.recipe, self.folder, self.told = recipe, folder, told
        self.records: list[Record] = []
        self.records_path = folder / "records.jsonl"
        self.dense: Any = None
        self.shares: list[float] = []
        self.records_path.unlink(missing_ok=True)
        text = yaml.safe_dump(recipe.resolved(), sort_keys=False)
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")

    def add(self, *records: Record) -> None:
        """Keep records and append them to the file."""
        for record in records:
            self.records.append(record)
            write_record(self.records_path, record)

    def rate_dense(self, teacher: Any, corpus: Corpus) -> None:
        """Rate the dense model, which everything after is compared with."""
        self.told.stage("rate the dense model")
        self.dense = embed(teacher, corpus.pairs)
        self.dense_quality = rate(self.dense, self.dense)
        self._quality("dense", self.dense_quality, self.recipe.seeds[0], corpus)

    def student(self, teacher: Any, corpus: Corpus, seed: int, resume: bool) -> Any:
        """Prune a copy of the dense model, recover it, and rate it before and after."""
        recipe = self.recipe
        self.told.stage(f"prune to {recipe.prune.patterns}")
        student = copy.deepcopy(teacher)
        report = sparsify_(inner_model(student), **recipe.prune.arguments())
        self.told.say(", ".join(f"{key} {value}" for key, value in report.summary.items()))
        pruned = rate(embed(student, corpus.pairs), self.dense)
        self._quality("pruned", pruned, seed, corpus)
        if recipe.recover is not None:
            self._recover(student, teacher, corpus, seed, resume)
            pruned = rate(embed(student, corpus.pairs), self.dense)
            self._quality("recovered", pruned, seed, corpus)
        self.shares.append(pruned.mrr / self.dense_quality.mrr)
        return student

    def _recover(self, student: Any, teacher: Any, corpus: Corpus, seed: int, resume: bool) -> None:
        recover = self.recipe.recover
        assert recover is not None
        self.told.stage(f"recover, seed {seed}")
        place = self.folder / "checkpoints" / f"seed{seed}.safetensors"
        place.parent.mkdir(exist_ok=True)
        if not resume:
            place.unlink(missing_ok=True)
        batches = _batches(teacher, corpus, recover.batch, recover.max_tokens, seed)

        def progress(step: int, steps: int, loss: float, _: Mapping[str, float]) -> None:
            self.told.step(step, steps, f"loss {loss:.4f}")

        options = self.recipe.options(seed)
        with _attention("eager" if options.precision == "bfloat16" else None, student, teacher):
            recovery = recover_(
                inner_model(student),
                inner_model(teacher),
                batches,
                options=options,
                output=mean_pooled,
                checkpoint=Checkpoint(place, seconds=recover.checkpoint_seconds),
                progress=progress,
            )
        curve = {"steps": list(range(1, recovery.steps + 1)), "loss": list(recovery.losses)}
        self.add(
            Record.measure(
                "loss", "distillation", recovery.losses[-1], "1", inputs={"seed": seed}, seed=seed, extra=curve
            )
        )
        self.add(
            Record.measure(
                "time",
                "recovery",
                recovery.seconds,
                "s",
                inputs={"steps": recovery.steps - recovery.resumed_from, "threads": torch.get_num_threads()},
                seed=seed,
            )
        )

    def pack(self, student: Any, corpus: Corpus) -> Any:
        """Write the packed model, load it back, and check that it still says the same."""
        place = self.folder / "model"
        save(student, place, dtype=self.recipe.dtype, recipe=self.recipe.resolved(), recipe_hash=self.recipe.digest())
        model = load(place)
        packed = embed(model, corpus.pairs)
        quality = rate(packed, self.dense)
        agree = rate(packed, embed(student, corpus.pairs))
        if not agree.cosine >= 0.999:
            raise CheckFailed(
                f"the packed model's embeddings have a mean cosine of {agree.cosine:.4f} to those of the model that was packed; it should "
                "be 1 to rounding. Run the tests of formats and kernels on this machine"
            )
        self._quality("packed", quality, self.recipe.seeds[0], corpus, checked=True)
        return model

    def finish(self, fast: Any) -> JobResult:
        """Judge the promises and write the report."""
        checks = self._checks()
        ok = all(check.ok for check in checks)
        summary = f"{self.recipe.name}: {'all' if ok else 'not all'} of {len(checks)} promises kept"
        report = self.folder / "report.html"
        write_report(
            report,
            self.records,
            title=self.recipe.name,
            masks=_masks(fast),
            recipe=self.recipe.resolved(),
            summary=None,
            checks=checks,
        )
        return JobResult(self.folder, report, self.records_path, checks, ok, summary)

    def _quality(self, model: str, quality: Quality, seed: int, corpus: Corpus, checked: bool = True) -> None:
        inputs = {"model": model, "seed": seed, "pairs": len(corpus.pairs), "corpus": corpus.digest[:16]}
        for name, value in (("mrr", quality.mrr), ("recall@1", quality.recall), ("cosine", quality.cosine)):
            self.add(Record.measure("quality", name, value, "1", inputs=inputs, seed=seed, checked=checked))
        self.told.say(
            f"{model}: MRR {quality.mrr:.3f}, recall@1 {quality.recall:.3f}, cosine to dense {quality.cosine:.3f}"
        )

    def _checks(self) -> tuple[Check, ...]:
        require, speed = self.recipe.require, ratios(self.records)
        most = max(self.recipe.bench.sentences)
        checks = []

        def at_least(name: str, value: float, limit: float | None) -> None:
            if limit is not None:
                checks.append(Check(name, round(value, 3), f"at least {limit:g}", value >= limit))

        at_least("MRR, share of dense (median over seeds)", median(self.shares), require.mrr)
        at_least(
            f"linear layers, times the best dense engine at {most} sentences",
            speed["linear", most],
            require.linear_ratio,
        )
        at_least(
            f"whole model, times the best dense engine at {most} sentences", speed["encode", most], require.encode_ratio
        )
        if require.weights_size is not None:
            size = weights_ratio(self.records)
            checks.append(
                Check(
                    "pruned weights on disk, share of dense",
                    round(size, 3),
                    f"at most {require.weights_size:g}",
                    size <= require.weights_size,
                )
            )
        return tuple(checks)


def _batches(model: Any, corpus: Corpus, size: int, most: int, seed: int) -> Batches:
    tokenizer = model.tokenizer
    items = [ids[:most] for ids in tokenizer(list(corpus.passages), truncation=True, max_length=most)["input_ids"]]
    pad = tokenizer.pad_token_id or 0

    def collate(rows: list[list[int]]) -> dict[str, torch.Tensor]:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), pad)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    return Batches(items, size, seed=seed, collate=collate, lengths=[len(ids) for ids in items])


@contextmanager
def _attention(implementation: str | None, *models: Any) -> Iterator[None]:
    """Switch the attention of transformers for a while: torch's fused one is slow to differentiate in bfloat16 on CPUs."""
    inner = [
        inner_model(model)
        for model in models
        if implementation and hasattr(inner_model(model), "set_attn_implementation")
    ]
    before = [model.config._attn_implementation for model in inner]
    for model in inner:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        for model, name in zip(inner, before, strict=True):
            model.set_attn_implementation(name)


def _layer_records(model: Any) -> list[Record]:
    found = []
    for row in explain(inner_model(model)).rows:
        inputs = {"pattern": row["pattern"], "shape": row["shape"]}
        extra = {key: row[key] for key in ("density", "kernel", "reason")}
        if row["ratio"] is not None:
            extra["ratio"] = row["ratio"]
        density = row["density"]
        assert isinstance(density, float)
        found.append(Record.measure("layer", str(row["layer"]), density, "1", inputs=inputs, checked=True, extra=extra))
    return found


def _masks(model: Any) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the masks of the first layers of different shapes or places."""
    layers = list(sparse_layers(inner_model(model)).items())
    return {name: layer.packed().mask() for name, layer in layers[:_PICTURES]}
