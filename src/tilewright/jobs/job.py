"""`Job`: what the stages of a job share, and the stages that change a model."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from ..errors import CheckFailed
from ..files import replacing, write_whole
from ..reports import Progress, Record, write_record
from ..runtime import load, save
from ..training import Checkpoint
from .corpus import Corpus
from .curve import ValidationCurve
from .models import inner_model
from .pruning import permute_dense_, prune_at_once_
from .recipe import Recipe
from .recipe_recover import Inherited, Progressive
from .recovery import Recovered, Setting, recover_student_
from .retrieval import MEANINGS, Quality, embed, rate
from .texts import attention, batches_of

__all__ = ["PARTS", "Job"]

MODEL, CHECKPOINTS, FAMILY = PARTS = ("model", "checkpoints", "family")
"""Folders inside a job's."""

Pairs = tuple[tuple[str, str], ...]


class Job:
    """Recipe, folder, records so far, and the dense model's embeddings.

    Parameters
    ----------
    recipe
        What to do.
    folder
        The job's own: the packed model, its records, recipe and report, and what a resumed run goes on from. Records stand among the
        checkpoints until the model they belong to is written.
    told
        Told about every stage.
    resume
        Whether to go on from what an earlier run of the same recipe left.
    """

    def __init__(self, recipe: Recipe, folder: Path, told: Progress, resume: bool) -> None:
        self.recipe, self.folder, self.told, self.resume = recipe, folder, told, resume
        self.records: list[Record] = []
        self.records_path = folder / "records.jsonl"
        self.dense: Any = None
        self.shares: list[float] = []
        self._log = folder / CHECKPOINTS / "records.jsonl"
        self._log.parent.mkdir(exist_ok=True)
        self._log.unlink(missing_ok=True)

    def add(self, *records: Record) -> None:
        """Keep records and append them to the file."""
        for record in records:
            self.records.append(record)
            write_record(self._log, record)

    def publish(self) -> None:
        """Put the records so far and the recipe in the place of an earlier job's: the model they belong to is written."""
        write_whole(self.folder / "recipe.yaml", yaml.safe_dump(self.recipe.resolved(), sort_keys=False))
        write_whole(self.records_path, self._log.read_bytes())
        self._log.unlink()
        self._log = self.records_path

    def rate_dense(self, teacher: Any, corpus: Corpus) -> None:
        """Rate the dense model, which everything after is compared with."""
        self.told.stage("rate the dense model")
        self.dense = embed(teacher, corpus.pairs)
        self.dense_quality = rate(self.dense, self.dense)
        self._quality("dense", self.dense_quality, self.recipe.seeds[0], corpus)

    def permute_(self, teacher: Any) -> None:
        """Reorder the dense model's channels, or take the order that an earlier run has found."""
        assert self.recipe.permute is not None
        self.told.stage("permute channels")
        model, place = inner_model(teacher), self._place("permuted.safetensors")
        key = json.dumps(
            [self.recipe.model, self.recipe.prune.model_dump(mode="json"), self.recipe.permute.model_dump()]
        )
        if self.resume and _restored(model, place, key):
            self.told.say("the order of an earlier run")
            return
        report = permute_dense_(teacher, self.recipe.permute, self.recipe.prune)
        _keep(model, place, key)
        before, after = (float(str(report.summary[name])) for name in ("kept before", "kept after"))
        self.told.say(f"{report.summary['folded groups']} groups folded; kept score up by {after / before - 1:.2%}")
        inputs = {"pattern": self.recipe.prune.pattern, "groups": report.summary["folded groups"]}
        gain = Record.measure("permutation", "kept score over unpermuted", after / before, "ratio", inputs=inputs)
        self.add(gain)

    def student(self, teacher: Any, corpus: Corpus, validation: Pairs, seed: int) -> Any:
        """Prune a copy of the dense model, recover it, and rate it after each."""
        recipe, student = self.recipe, copy.deepcopy(teacher)
        if recipe.prunes_at_once:
            self.told.stage(f"prune to {recipe.prune.patterns}")
            report = prune_at_once_(student, teacher, recipe.prune, corpus)
            self.told.say(", ".join(f"{key} {value}" for key, value in report.summary.items()))
            found = self._rated("pruned", student, corpus, seed)
        if recipe.recover is not None:
            self._recover(student, teacher, corpus, validation, seed)
            found = self._rated("recovered", student, corpus, seed)
        self.shares.append(found.mrr / self.dense_quality.mrr)
        return student

    def pack(self, student: Any, corpus: Corpus) -> Any:
        """Write the packed model, load it back, and check that it still says the same."""
        place = self.folder / MODEL
        save(student, place, dtype=self.recipe.dtype, recipe=self.recipe.resolved(), recipe_hash=self.recipe.digest())
        self.publish()
        model = load(place)
        packed = embed(model, corpus.pairs)
        quality = rate(packed, self.dense)
        agree = rate(packed, embed(student, corpus.pairs))
        if not agree.cosine >= 0.999:
            raise CheckFailed(
                f"the packed model's embeddings have a mean cosine of {agree.cosine:.4f} to those of the model that was packed; it should "
                "be 1 to rounding. Run the tests of formats and kernels on this machine"
            )
        self._quality("packed", quality, self.recipe.seeds[0], corpus)
        return model

    def _recover(self, student: Any, teacher: Any, corpus: Corpus, validation: Pairs, seed: int) -> None:
        recipe = self.recipe
        recover = recipe.recover
        assert recover is not None
        self.told.stage(f"recover, seed {seed}: {recover.method}")
        curve = self._curve(student, validation, seed)

        def progress(step: int, steps: int, loss: float, _: Mapping[str, float]) -> None:
            value = curve.at(step) if curve else None
            rated = "" if value is None else f", MRR {value:.3f} on {len(validation)} validation pairs"
            self.told.step(step, steps, f"loss {loss:.4f}{rated}")

        setting = Setting(
            inner_model(student),
            inner_model(teacher),
            batches_of(teacher, corpus, recover.batch, recover.max_tokens, seed),
            seed,
            Checkpoint(self._place(f"seed{seed}.safetensors"), seconds=recover.checkpoint_seconds),
            self._family(seed),
            lambda _: _mrr(student, validation),
            progress,
        )
        with attention(self._attention(), student, teacher):
            if curve:
                curve.at(0)
            recovered = recover_student_(recipe, setting)
        self._note(recovered, seed)
        points = curve.points if curve else recovered.ratings
        if points:
            self._note_curve(points, _mrr(teacher, validation), len(validation), seed)

    def _curve(self, student: Any, validation: Pairs, seed: int) -> ValidationCurve | None:
        """Return the curve of a recovery, None where the recipe wants none or the members of a family are its points."""
        recover, recipe = self.recipe.recover, self.recipe
        assert recover is not None
        if isinstance(recover, Inherited) or not recover.curve:
            return None
        parts = (recipe.permute, recipe.prune, recover, recipe.data)
        key = json.dumps([recipe.model, seed, *(part and part.model_dump(mode="json") for part in parts)])
        place = self._place(f"seed{seed}.curve.json")
        return ValidationCurve(
            inner_model(student), lambda: _mrr(student, validation), place, key, recover.total, recover.curve
        )

    def _note_curve(self, points: Sequence[tuple[int, float]], dense: float, pairs: int, seed: int) -> None:
        """Record the measure on the validation pairs along a recovery."""
        inputs = {"split": "validation", "pairs": pairs, "seed": seed}
        extra = {"steps": [step for step, _ in points], "values": [value for _, value in points], "dense": dense}
        last = points[-1][1]
        self.add(Record.measure("curve", "mrr", last, "1", inputs=inputs, seed=seed, checked=True, extra=extra))

    def _attention(self) -> str | None:
        """Eager attention where the fused one is slow to differentiate (bfloat16 on CPUs) or hides what is compared."""
        recover = self.recipe.recover
        shown = isinstance(recover, Progressive) and bool(recover.attentions)
        return "eager" if shown or self.recipe.options(0).precision == "bfloat16" else None

    def _place(self, name: str) -> Path:
        """Return a file among the checkpoints, removed if the job begins anew."""
        place = self.folder / CHECKPOINTS / name
        place.parent.mkdir(exist_ok=True)
        if not self.resume:
            place.unlink(missing_ok=True)
        return place

    def _family(self, seed: int) -> Path:
        place = self.folder / FAMILY / f"seed{seed}"
        if not self.resume and (place / "family.json").is_file():
            shutil.rmtree(place)
        return place

    def _note(self, recovered: Recovered, seed: int) -> None:
        """Record what a recovery did: its losses, its time, its family."""
        if recovered.losses:
            curve = {"steps": list(recovered.at), "loss": list(recovered.losses)}
            last = recovered.losses[-1]
            self.add(Record.measure("loss", "distillation", last, "1", inputs={"seed": seed}, seed=seed, extra=curve))
        if recovered.seconds is not None:
            inputs: dict[str, object] = {"steps": recovered.done, "threads": torch.get_num_threads()}
            self.add(Record.measure("time", "recovery", recovered.seconds, "s", inputs=inputs, seed=seed))
        for member in recovered.family.members if recovered.family else ():
            inputs = {"member": member.name, "density": member.density, "steps": member.steps, "bytes": member.bytes}
            picked = {"picked": member == recovered.picked}
            value = float(member.metric or 0.0)
            self.add(Record.measure("member", "mrr", value, "1", inputs=inputs, seed=seed, checked=True, extra=picked))
            self.told.say(f"{member.name}: MRR {value:.3f} on the validation pairs, {member.bytes / 1e6:.1f} MB")

    def _rated(self, model: str, student: Any, corpus: Corpus, seed: int) -> Quality:
        quality = rate(embed(student, corpus.pairs), self.dense)
        self._quality(model, quality, seed, corpus)
        return quality

    def _quality(self, model: str, quality: Quality, seed: int, corpus: Corpus) -> None:
        inputs = {"model": model, "seed": seed, "pairs": len(corpus.pairs), "corpus": corpus.digest[:16]}
        each = quality.each()
        for name, value in (("mrr", quality.mrr), ("recall@1", quality.recall), ("cosine", quality.cosine)):
            extra = {"each": each[name], "meaning": MEANINGS[name]}
            self.add(Record.measure("quality", name, value, "1", inputs=inputs, seed=seed, checked=True, extra=extra))
        self.told.say(
            f"{model}: MRR {quality.mrr:.3f}, recall@1 {quality.recall:.3f}, cosine to dense {quality.cosine:.3f}"
        )


def _mrr(student: Any, pairs: Pairs) -> float:
    embedded = embed(student, pairs)
    return rate(embedded, embedded).mrr


def _keep(model: torch.nn.Module, place: Path, key: str) -> None:
    """Write a model's tensors so that at any instant the file is whole or absent."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    with replacing(place) as file:
        save_file(tensors, file, {"recipe": key})


def _restored(model: torch.nn.Module, place: Path, key: str) -> bool:
    """Put kept tensors into the model if they are there and of the same recipe."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as file:
            if (file.metadata() or {}).get("recipe") != key:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError):
        return False
    model.load_state_dict(tensors)
    return True
