"""`Job`: the state that the stages of a job share, and the stages that change a model."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from ..records import Progress, Record, replacing, write_record, write_whole
from ..training import Checkpoint
from .curve import ValidationCurve
from .learning import attention, fitted
from .models import inner_model
from .packing import load_packed, require_alike, save_packed
from .pruning import permute_dense_, prune_at_once_
from .recipe.recipe import Recipe
from .recipe.recover import Inherited, Progressive
from .recovery import Recovered, Setting, recover_student_
from .tasks import Scores, Split, Task

__all__ = ["PARTS", "Job"]

MODEL, CHECKPOINTS, FAMILY = PARTS = ("model", "checkpoints", "family")
"""Subfolders of a job's folder."""


class Job:
    """A running job: recipe, task, folder, records so far, and the dense model's quality.

    Parameters
    ----------
    recipe
        The recipe.
    task
        The task that models are evaluated on and trained for.
    folder
        Output folder of the job: the packed model, its records, recipe and report, and checkpoints for resuming. Records stay with the
        checkpoints until the model that they belong to is written.
    told
        Progress display.
    resume
        Whether to resume from an earlier run of the same recipe.
    """

    def __init__(self, recipe: Recipe, task: Task, folder: Path, told: Progress, resume: bool) -> None:
        self.recipe, self.task, self.folder, self.told, self.resume = recipe, task, folder, told, resume
        self.measure = task.measures[0]
        self.records: list[Record] = []
        self.records_path = folder / "records.jsonl"
        self.dense: dict[Split, float] = {}
        self.shares: list[float] = []
        self._log = folder / CHECKPOINTS / "records.jsonl"
        self._log.parent.mkdir(exist_ok=True)
        self._log.unlink(missing_ok=True)

    def add(self, *records: Record) -> None:
        """Store records and append them to the log file."""
        for record in records:
            self.records.append(record)
            write_record(self._log, record)

    def publish(self) -> None:
        """Replace an earlier job's records and recipe with the current ones. Call it once the model is written."""
        write_whole(self.folder / "recipe.yaml", yaml.safe_dump(self.recipe.resolved(), sort_keys=False))
        write_whole(self.records_path, self._log.read_bytes())
        self._log.unlink()
        self._log = self.records_path

    def rate_dense(self, teacher: Any) -> None:
        """Evaluate the dense model, the reference for everything after."""
        self.told.stage("rate the dense model")
        self.task.refer(teacher)
        self.dense["test"] = self._rated("dense", teacher, self.recipe.seeds[0])[self.measure.name]
        if self.recipe.recover is not None and self.recipe.recover.looks:
            scores = self.task.evaluate(teacher, "validation")
            self.dense["validation"], self._validation_items = scores[self.measure.name], len(scores)

    def permute_(self, teacher: Any) -> None:
        """Reorder the dense model's channels, or restore the order that an earlier run found."""
        assert self.recipe.permute is not None
        self.told.stage("permute channels")
        model, place = inner_model(teacher), self._place("permuted.safetensors")
        key = json.dumps(
            [self.recipe.model, self.recipe.prune.model_dump(mode="json"), self.recipe.permute.model_dump()]
        )
        if self.resume and _restored(model, place, key):
            self.told.say("reusing the order from an earlier run")
            return
        report = permute_dense_(teacher, self.recipe.permute, self.recipe.prune)
        _keep(model, place, key)
        before, after = (float(str(report.summary[name])) for name in ("kept before", "kept after"))
        self.told.say(f"{report.summary['folded groups']} groups folded; kept score up by {after / before - 1:.2%}")
        inputs = {"pattern": self.recipe.prune.pattern, "groups": report.summary["folded groups"]}
        gain = Record.measure("permutation", "kept score over unpermuted", after / before, "ratio", inputs=inputs)
        self.add(gain)

    def student(self, teacher: Any, seed: int) -> Any:
        """Prune a copy of the dense model and recover it, evaluating it after each stage."""
        recipe, student = self.recipe, copy.deepcopy(teacher)
        if recipe.prunes_at_once:
            self.told.stage(f"prune to {recipe.prune.patterns}")
            report = prune_at_once_(student, teacher, recipe.prune, self.task)
            self.told.say(", ".join(f"{key} {value}" for key, value in report.summary.items()))
            scores = self._rated("pruned", student, seed)
        if recipe.recover is not None:
            self._recover(student, teacher, seed)
            scores = self._rated("recovered", student, seed)
        self.shares.append(self.measure.share(scores[self.measure.name], self.dense["test"]))
        return student

    def pack(self, student: Any) -> Any:
        """Write the packed model, load it again, and check that its outputs are unchanged."""
        place = self.folder / MODEL
        save_packed(student, place, self.recipe)
        self.publish()
        model = load_packed(self.recipe.model, place)
        require_alike(inner_model(student), inner_model(model), self.task.example(32))
        self._rated("packed", model, self.recipe.seeds[0])
        return model

    def _recover(self, student: Any, teacher: Any, seed: int) -> None:
        recipe, name = self.recipe, self.measure.name
        recover = recipe.recover
        assert recover is not None
        self.told.stage(f"recover, seed {seed}: {recover.method}")
        curve = self._curve(student, seed)

        def progress(step: int, steps: int, loss: float, _: Mapping[str, float]) -> None:
            value = curve.at(step) if curve else None
            rated = "" if value is None else f", {name} {value:.3f} on the validation {self.task.unit}"
            self.told.step(step, steps, f"loss {loss:.4f}{rated}")

        inner = inner_model(student)
        setting = Setting(
            inner,
            inner_model(teacher),
            self.task.batches(recover.batch, tokens=recover.max_tokens, seed=seed),
            fitted(recipe.options(seed), self.task, inner, hidden="hidden" in recover.model_fields_set),
            self.task.output,
            Checkpoint(self._place(f"seed{seed}.safetensors"), seconds=recover.checkpoint_seconds),
            self._family(seed),
            lambda _: self.measure.share(self._validated(student), self.dense["validation"]),
            progress,
        )
        with attention(self._attention(), student, teacher):
            if curve:
                curve.at(0)
            recovered = recover_student_(recipe, setting)
        self._note(recovered, seed)
        points = curve.points if curve else [(step, self._value(share)) for step, share in recovered.ratings]
        if points:
            self._note_curve(points, seed)

    def _validated(self, model: Any) -> float:
        return self.task.evaluate(model, "validation")[self.measure.name]

    def _value(self, share: float) -> float:
        """Convert a share of the dense model's quality on the validation split back to the measure."""
        dense = self.dense["validation"]
        return share * dense if self.measure.higher_is_better or not share else dense / share

    def _curve(self, student: Any, seed: int) -> ValidationCurve | None:
        """Return the validation curve of a recovery, or None if the recipe disables it or family members are its points."""
        recover, recipe = self.recipe.recover, self.recipe
        assert recover is not None
        if isinstance(recover, Inherited) or not recover.curve:
            return None
        parts = (recipe.permute, recipe.prune, recover, recipe.data)
        key = json.dumps([recipe.model, recipe.task, seed, *(part and part.model_dump(mode="json") for part in parts)])
        place = self._place(f"seed{seed}.curve.json")
        return ValidationCurve(
            inner_model(student), lambda: self._validated(student), place, key, recover.total, recover.curve
        )

    def _note_curve(self, points: Sequence[tuple[int, float]], seed: int) -> None:
        """Record the measure on the validation split during a recovery."""
        inputs = {"split": "validation", self.task.unit: self._validation_items, "seed": seed}
        values = {"steps": [step for step, _ in points], "values": [value for _, value in points]}
        extra = {**values, "dense": self.dense["validation"]}
        name, last = self.measure.name, points[-1][1]
        self.add(Record.measure("curve", name, last, "1", inputs=inputs, seed=seed, checked=True, extra=extra))

    def _attention(self) -> str | None:
        """Return "eager" where fused attention is slow to differentiate (bfloat16 on CPUs) or hides the weights to compare."""
        recover = self.recipe.recover
        shown = isinstance(recover, Progressive) and bool(recover.attentions)
        return "eager" if shown or self.recipe.options(0).precision == "bfloat16" else None

    def _place(self, name: str) -> Path:
        """Return the path of a checkpoint file, deleting the file if the job does not resume."""
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
        """Record the losses, the time and the family of a recovery."""
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
            value, name = self._value(float(member.metric or 0.0)), self.measure.name
            self.add(Record.measure("member", name, value, "1", inputs=inputs, seed=seed, checked=True, extra=picked))
            size = f"{member.bytes / 1e6:.1f} MB"
            self.told.say(f"{member.name}: {name} {value:.3f} on the validation {self.task.unit}, {size}")

    def _rated(self, model: str, subject: Any, seed: int) -> Scores:
        """Evaluate a model on the test split, and record every measure with its value for each item."""
        scores = self.task.evaluate(subject)
        inputs = {"model": model, "seed": seed, "task": self.task.name, self.task.unit: len(scores)}
        inputs["corpus"] = self.task.digest[:16]
        for measure in self.task.measures:
            low, high = scores.interval(measure.name)
            extra: dict[str, object] = {
                "meaning": measure.meaning,
                "higher is better": measure.higher_is_better,
                "interval": [low, high],
                "each": [round(float(value), 6) for value in scores.items[measure.name]],
            }
            if scores.weights is not None:
                extra["weights"] = [float(weight) for weight in scores.weights]
            value = scores[measure.name]
            self.add(
                Record.measure(
                    "quality", measure.name, value, measure.unit, inputs=inputs, seed=seed, checked=True, extra=extra
                )
            )
        self.told.say(f"{model}: " + ", ".join(f"{m.name} {scores[m.name]:.3f}" for m in self.task.measures))
        return scores


def _keep(model: torch.nn.Module, place: Path, key: str) -> None:
    """Write a model's tensors atomically: the file is either complete or absent."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    with replacing(place) as file:
        save_file(tensors, file, {"recipe": key})


def _restored(model: torch.nn.Module, place: Path, key: str) -> bool:
    """Load stored tensors into the model if they exist and belong to the same recipe; return whether they did."""
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
